//! Posture: reports that rules see, policies with grace, what follows, and release.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::types::Json;
use ztna_proto::api::{Machine, Registered, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::MachineId;
use ztna_proto::machines::{HoldKind, MachineState};
use ztna_proto::netmap::{PeerRecord, SelfRecord};
use ztna_proto::policy::Evaluation;
use ztna_proto::posture::{
    Known, MAX_POSTURE_TEXT, MachinePosture, OnFailure, PosturePolicy, PostureResult,
};

use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Server, connect};

/// A report; the firewall is as named.
fn report(firewall: &str) -> Value {
    json!({
        "os_name": "Debian GNU/Linux 12 (bookworm)", "os_version": "6.1.0-18-amd64",
        "distro": "debian", "distro_version": "12", "agent_version": "0.1.0",
        "disk_encryption": {"state": "yes", "detail": "dm-crypt under /"},
        "firewall": {"state": firewall, "detail": "as it is"},
        "screen_lock": {"state": "unknown", "detail": "each user decides"},
        "auto_update": {"state": "yes", "detail": "unattended-upgrades is on"},
        "from_a_newer_agent": {"x": [1, 2]},
    })
}

/// A heartbeat with a report.
async fn tell(owner: &Owner, machine: &Registered, posture: Value) -> Result<Value, ErrorBody> {
    let beat = json!({
        "agent_version": "0.1.0",
        "report": {"endpoints": [], "home_region": null, "disco_key": null},
        "posture": posture,
    });
    let machine = owner.as_machine(&machine.node_key);
    machine.post("/api/machine-heartbeat", beat).await
}

async fn posture_of(owner: &Owner, machine: MachineId) -> MachinePosture {
    let path = owner.path(&format!("/posture/machines/{machine}"));
    owner.client.get(&path).await.unwrap()
}

/// Waits until a machine's posture is as wanted.
async fn until(
    owner: &Owner,
    machine: MachineId,
    what: &str,
    wanted: impl Fn(&MachinePosture) -> bool,
) -> MachinePosture {
    for _ in 0..600 {
        let posture = posture_of(owner, machine).await;
        if wanted(&posture) {
            return posture;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: {:?}", posture_of(owner, machine).await);
}

/// A policy that asks for a firewall.
fn firewall(name: &str, on_failure: &str, grace_minutes: u32) -> Value {
    json!({"name": name, "requires": {"firewall": true}, "on_failure": on_failure,
        "grace_minutes": grace_minutes})
}

async fn add(owner: &Owner, policy: Value) -> PosturePolicy {
    let path = owner.path("/posture/policies");
    owner.client.post(&path, policy).await.unwrap()
}

/// As many minutes pass for what is known of a machine.
async fn pass(server: &Server, machine: MachineId, minutes: i64) {
    let admin = connect(&server.database.setup).await;
    let row = admin
        .query_one(
            "SELECT results FROM machine_posture WHERE machine_id = $1",
            &[&machine.0],
        )
        .await
        .unwrap();
    let Json(mut results): Json<Vec<PostureResult>> = row.get(0);
    let earlier = |at: Timestamp| at - SignedDuration::from_mins(minutes);
    for result in &mut results {
        result.failing_since = result.failing_since.map(earlier);
        result.enforced_at = result.enforced_at.map(earlier);
    }
    let changed = admin
        .execute(
            "UPDATE machine_posture SET results = $2, due_at = now() WHERE machine_id = $1",
            &[&machine.0, &Json(results)],
        )
        .await
        .unwrap();
    assert_eq!(changed, 1);
}

async fn seq(server: &Server, owner: &Owner) -> i64 {
    let admin = connect(&server.database.setup).await;
    let row = admin
        .query_one("SELECT seq FROM orgs WHERE id = $1", &[&owner.org.id.0])
        .await
        .unwrap();
    row.get(0)
}

async fn evaluate(owner: &Owner, src: &str, dst: &str) -> Evaluation {
    let question = json!({"src": src, "dst": dst, "protocol": "tcp", "port": 22});
    let path = owner.path("/acl-evaluate");
    owner.client.post(&path, question).await.unwrap()
}

fn this(stream: &Stream) -> SelfRecord {
    serde_json::from_str(stream.map.this().raw().get()).unwrap()
}

fn peer(stream: &Stream, name: &str) -> Option<PeerRecord> {
    stream.peers().into_iter().find(|peer| peer.name == name)
}

const SAFE: &str = r#"{
  "postures": { "posture:safe": ["posture:firewall == true", "node:osVersion >= '6.1'", "node:distro == 'debian'"] },
  "acls": [{ "id": "ssh", "action": "accept", "src": ["*"], "dst": ["*:22"], "srcPosture": ["posture:safe"] }],
}"#;

#[tokio::test]
async fn rules_see_what_machines_report_and_peers_follow() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(SAFE).await.unwrap();
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    let mut at_b = Stream::connect(&server, &b.node_key).await;
    assert!(at_b.peers().is_empty());
    assert!(!evaluate(&owner, "a", "b").await.verdict.allowed);

    tell(&owner, &a, report("yes")).await.unwrap();
    at_b.until("a may come", |b| b.peer_names() == ["a"]).await;
    assert!(evaluate(&owner, "a", "b").await.verdict.allowed);
    assert!(!evaluate(&owner, "b", "a").await.verdict.allowed);
    let posture = posture_of(&owner, a.machine_id).await;
    assert!(posture.current && posture.consequence.is_none() && posture.results.is_empty());
    assert_eq!(posture.report.unwrap().distro.as_deref(), Some("debian"));

    // The same again is no change of the org; other words for people are none either.
    let before = seq(&server, &owner).await;
    tell(&owner, &a, report("yes")).await.unwrap();
    let mut reworded = report("yes");
    reworded["firewall"]["detail"] = json!("said otherwise");
    tell(&owner, &a, reworded).await.unwrap();
    assert_eq!(seq(&server, &owner).await, before);
    let told = posture_of(&owner, a.machine_id).await.report.unwrap();
    assert_eq!(told.firewall.detail, "said otherwise");

    for closed in ["no", "unknown", "teleported"] {
        tell(&owner, &a, report(closed)).await.unwrap();
        at_b.until("a may not come", |b| b.peers().is_empty()).await;
        tell(&owner, &a, report("yes")).await.unwrap();
        at_b.until("a may come", |b| b.peer_names() == ["a"]).await;
    }
    let mut old = report("yes");
    old["os_version"] = json!("5.10.0");
    tell(&owner, &a, old).await.unwrap();
    at_b.until("a is too old", |b| b.peers().is_empty()).await;
    assert!(seq(&server, &owner).await > before);
}

#[tokio::test]
async fn a_report_that_is_too_old_opens_nothing() {
    let server = Server::start_with(|config| config.posture_stale = Duration::from_secs(3)).await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(SAFE).await.unwrap();
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    let mut at_b = Stream::connect(&server, &b.node_key).await;
    tell(&owner, &a, report("yes")).await.unwrap();
    at_b.until("a may come", |b| b.peer_names() == ["a"]).await;
    at_b.until("the report is old", |b| b.peers().is_empty())
        .await;
    assert!(!posture_of(&owner, a.machine_id).await.current);
    tell(&owner, &a, report("yes")).await.unwrap();
    at_b.until("a reports again", |b| b.peer_names() == ["a"])
        .await;
}

#[tokio::test]
async fn reports_have_bounds() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    for text in ["x".repeat(MAX_POSTURE_TEXT + 1), "a\u{7}b".to_owned()] {
        let mut bad = report("yes");
        bad["distro"] = json!(text);
        let error = tell(&owner, &a, bad).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError);
        assert!(error.message.contains("posture.distro"), "{error}");
        let mut bad = report("yes");
        bad["firewall"]["detail"] = json!(text);
        let error = tell(&owner, &a, bad).await.unwrap_err();
        assert!(error.message.contains("posture.firewall"), "{error}");
    }
    assert!(posture_of(&owner, a.machine_id).await.report.is_none());
    let widest = "é".repeat(MAX_POSTURE_TEXT);
    let mut wide = report("yes");
    for field in [
        "disk_encryption",
        "firewall",
        "screen_lock",
        "auto_update",
        "reboot_pending",
    ] {
        wide[field] = json!({"state": "yes", "detail": widest});
    }
    tell(&owner, &a, wide).await.unwrap();
    assert!(posture_of(&owner, a.machine_id).await.report.is_some());
}

#[tokio::test]
async fn after_grace_a_machine_opens_nothing_until_its_next_good_report() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    let mut at_a = Stream::connect(&server, &a.node_key).await;
    let mut at_b = Stream::connect(&server, &b.node_key).await;
    for machine in [&a, &b] {
        tell(&owner, machine, report("no")).await.unwrap();
    }
    tell(&owner, &b, report("yes")).await.unwrap();
    let policy = add(&owner, firewall("laptops", "restrict", 30)).await;

    // Judged at once, by what it reported last; nothing follows yet, and its user hears what to do.
    let posture = posture_of(&owner, a.machine_id).await;
    assert_eq!(posture.consequence, None);
    let result = &posture.results[0];
    assert_eq!(
        (result.policy, result.on_failure),
        (policy.id, OnFailure::Restrict)
    );
    let grace = result.enforced_at.unwrap() - result.failing_since.unwrap();
    assert_eq!(grace.get_seconds() + grace.get_minutes() * 60, 30 * 60);
    assert_eq!(result.checks[0].passed, Known::No);
    assert!(result.checks[0].mend.contains("ufw"));
    at_a.until("a is told", |a| !this(a).posture.is_empty())
        .await;
    let notice = this(&at_a).posture.remove(0);
    assert_eq!(
        (notice.policy.as_str(), notice.on_failure.as_str()),
        ("laptops", "restrict")
    );
    assert_eq!(notice.failures[0].detail, "firewall is off (as it is)");
    assert!(evaluate(&owner, "a", "b").await.verdict.allowed);
    assert!(
        posture_of(&owner, b.machine_id).await.results[0]
            .failing_since
            .is_none()
    );
    assert!(this(&at_b).posture.is_empty());

    // Reports that say the same do not begin the grace anew.
    tell(&owner, &a, report("no")).await.unwrap();
    pass(&server, a.machine_id, 29).await;
    tell(&owner, &a, report("no")).await.unwrap();
    assert_eq!(posture_of(&owner, a.machine_id).await.consequence, None);
    pass(&server, a.machine_id, 2).await;
    // Its peers' filters keep it out; the way to it stays open.
    let verdict = loop {
        let verdict = evaluate(&owner, "a", "b").await.verdict;
        if !verdict.allowed {
            break verdict;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let posture = posture_of(&owner, a.machine_id).await;
    assert_eq!(posture.consequence, Some(OnFailure::Restrict));
    assert_eq!(
        verdict.matched[0].name.as_deref(),
        Some("posture:restricted")
    );
    assert!(evaluate(&owner, "b", "a").await.verdict.allowed);
    let label = format!("src:{}", verdict.matched[0].rule);
    let carries = |b: &Stream| peer(b, "a").unwrap().groups.contains(&label);
    at_b.until("a carries the label", carries).await;
    let filter: Value = serde_json::from_str(at_b.map.filter().raw().get()).unwrap();
    let keeps_out = filter["inbound"]
        .as_array()
        .unwrap()
        .iter()
        .any(|rule| rule["action"] == "deny" && rule["peers"].to_string().contains(&label));
    assert!(keeps_out, "{filter}");

    tell(&owner, &a, report("yes")).await.unwrap();
    let posture = posture_of(&owner, a.machine_id).await;
    assert_eq!(
        (posture.consequence, posture.results[0].failing_since),
        (None, None)
    );
    at_b.until("a is released", |b| !carries(b)).await;
    at_a.until("a is told", |a| this(a).posture.is_empty())
        .await;
    assert!(evaluate(&owner, "a", "b").await.verdict.allowed);
}

#[tokio::test]
async fn a_policys_quarantine_ends_with_a_good_report_and_an_admins_does_not() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (keys, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    let mut at_a = Stream::connect(&server, &a.node_key).await;
    let mut at_b = Stream::connect(&server, &b.node_key).await;
    assert_eq!(at_b.peer_names(), ["a"]);
    let path = owner.path(&format!("/machines/{}", a.machine_id));
    let actions = format!("{path}/actions");
    let shown = async || owner.client.get::<Machine>(&path).await.unwrap().life;
    for machine in [&a, &b] {
        tell(&owner, machine, report("yes")).await.unwrap();
    }
    add(&owner, firewall("laptops", "quarantine", 0)).await;

    for round in 0..2 {
        let refused = tell(&owner, &a, report("no")).await.unwrap();
        assert!(refused["relay_ticket"].is_null(), "{refused}");
        at_b.until("a is gone", |b| b.peers().is_empty()).await;
        at_a.until("a is held", |a| this(a).hold.is_some()).await;
        let hold = this(&at_a).hold.unwrap();
        assert_eq!(hold.kind, HoldKind::Quarantined);
        assert!(hold.message.contains("\"laptops\"") && hold.message.contains("ztna posture"));
        assert!(at_a.peers().is_empty() && this(&at_a).posture.len() == 1);
        let life = shown().await;
        assert_eq!(life.state, MachineState::Quarantined);
        assert!(life.reason.unwrap().contains("laptops"));
        assert_eq!(
            server.cut.lock().unwrap().clone(),
            vec![keys.wg_key; round + 1]
        );
        let release = json!({"action": "release"});
        let refused = owner.client.post::<Value>(&actions, release).await;
        assert_eq!(code(refused), ErrorCode::Conflict);

        tell(&owner, &a, report("yes")).await.unwrap();
        at_b.until("a is back", |b| b.peer_names() == ["a"]).await;
        at_a.until("a is released", |a| this(a).hold.is_none())
            .await;
        assert_ne!(shown().await.state, MachineState::Quarantined);
    }

    tell(&owner, &a, report("no")).await.unwrap();
    let also = json!({"action": "quarantine", "reason": "a worm"});
    owner.client.post::<Machine>(&actions, also).await.unwrap();
    tell(&owner, &a, report("yes")).await.unwrap();
    assert_eq!(posture_of(&owner, a.machine_id).await.consequence, None);
    let life = shown().await;
    assert_eq!(
        (life.state, life.reason.as_deref()),
        (MachineState::Quarantined, Some("a worm"))
    );
    let release = json!({"action": "release"});
    let released: Machine = owner.client.post(&actions, release).await.unwrap();
    assert_ne!(released.life.state, MachineState::Quarantined);
    at_b.until("a is back", |b| b.peer_names() == ["a"]).await;
}

#[tokio::test]
async fn a_machine_that_does_not_report_fails() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, old) = owner.enrol("old").await;
    add(&owner, firewall("all", "restrict", 0)).await;
    let (_, new) = owner.enrol("new").await;
    let posture = posture_of(&owner, old.machine_id).await;
    assert_eq!(posture.consequence, Some(OnFailure::Restrict));
    assert!(
        posture.results[0].checks[0]
            .detail
            .contains("no posture report")
    );
    // The new one has a moment for its first report.
    assert!(posture_of(&owner, new.machine_id).await.results.is_empty());
    pass(&server, new.machine_id, 0).await;
    let restricted = |posture: &MachinePosture| posture.consequence == Some(OnFailure::Restrict);
    until(&owner, new.machine_id, "it is judged", restricted).await;
    for machine in [&old, &new] {
        tell(&owner, machine, report("yes")).await.unwrap();
        assert_eq!(
            posture_of(&owner, machine.machine_id).await.consequence,
            None
        );
    }
    assert!(evaluate(&owner, "old", "new").await.verdict.allowed);
}

#[tokio::test]
async fn a_new_machine_waits_for_its_report_where_there_is_no_grace() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    add(&owner, firewall("all", "quarantine", 0)).await;
    let path = |m: &Registered| owner.path(&format!("/machines/{}", m.machine_id));
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    for machine in [&a, &b] {
        let shown: Machine = owner.client.get(&path(machine)).await.unwrap();
        assert_eq!(shown.life.state, MachineState::Quarantined);
        tell(&owner, machine, report("yes")).await.unwrap();
        let shown: Machine = owner.client.get(&path(machine)).await.unwrap();
        assert_eq!(shown.life.state, MachineState::Online);
    }
    // One that fails holds up what joins by the same key.
    tell(&owner, &a, report("no")).await.unwrap();
    let (_, c) = owner.enrol("c").await;
    tell(&owner, &c, report("yes")).await.unwrap();
    let shown: Machine = owner.client.get(&path(&c)).await.unwrap();
    assert_eq!(shown.life.state, MachineState::Pending);
}

#[tokio::test]
async fn a_machine_opens_nothing_by_falling_silent() {
    let server = Server::start_with(|config| config.posture_stale = Duration::from_secs(3)).await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    owner.enrol("b").await;
    add(&owner, firewall("laptops", "restrict", 60)).await;
    tell(&owner, &a, report("yes")).await.unwrap();
    assert!(evaluate(&owner, "a", "b").await.verdict.allowed);
    let restricted = |posture: &MachinePosture| posture.consequence == Some(OnFailure::Restrict);
    until(&owner, a.machine_id, "it reports no more", restricted).await;
    let admin = connect(&server.database.setup).await;
    let away =
        "UPDATE machine_presence SET last_seen = now() - interval '1 hour' WHERE machine_id = $1";
    while admin.execute(away, &[&a.machine_id.0]).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pass(&server, a.machine_id, 0).await;
    let away = |posture: &MachinePosture| posture.results[0].failing_since.is_none();
    let posture = until(&owner, a.machine_id, "it is away", away).await;
    assert!(restricted(&posture) && !posture.current);
    assert!(!evaluate(&owner, "a", "b").await.verdict.allowed);
}

#[tokio::test]
async fn policies_are_for_the_groups_that_they_name_as_the_document_says() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let a = owner.client.register(&machine("a")).await.unwrap();
    let (_, b) = owner.enrol("b").await;
    let mut policy = firewall("dev", "warn", 0);
    policy["scope"] = json!(["group:dev", "tag:none"]);
    let dev = add(&owner, policy.clone()).await;
    for machine in [&a, &b] {
        tell(&owner, machine, report("no")).await.unwrap();
        assert!(
            posture_of(&owner, machine.machine_id)
                .await
                .results
                .is_empty()
        );
    }
    let grouped = r#"{ "groups": { "group:dev": ["acme@example.com"] } }"#;
    owner.put_policy(grouped).await.unwrap();
    let failing = |posture: &MachinePosture| posture.consequence == Some(OnFailure::Warn);
    until(&owner, a.machine_id, "a is in the group", failing).await;
    assert!(posture_of(&owner, b.machine_id).await.results.is_empty());
    // A warning closes nothing.
    let path = owner.path(&format!("/posture/policies/{}", dev.id));
    policy["enabled"] = json!(false);
    let off: PosturePolicy = owner
        .client
        .call(Method::PUT, &path, &policy)
        .await
        .unwrap();
    assert!(!off.policy.enabled && off.updated_at > off.created_at);
    assert!(posture_of(&owner, a.machine_id).await.results.is_empty());
}

#[tokio::test]
async fn policies_are_made_changed_and_deleted_by_admins() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    tell(&owner, &a, report("no")).await.unwrap();
    let path = owner.path("/posture/policies");
    let first = add(&owner, firewall("one", "restrict", 0)).await;
    add(&owner, firewall("two", "warn", 5)).await;
    let listed: Vec<PosturePolicy> = owner.client.get(&path).await.unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|policy| policy.policy.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"]);
    let twice = owner
        .client
        .post::<Value>(&path, firewall("one", "warn", 0))
        .await;
    assert_eq!(code(twice), ErrorCode::Conflict);
    let one = format!("{path}/{}", first.id);
    let taken = firewall("two", "warn", 0);
    let taken = owner.client.call::<Value>(Method::PUT, &one, taken).await;
    assert_eq!(code(taken), ErrorCode::Conflict);
    assert_eq!(
        owner.client.get::<PosturePolicy>(&one).await.unwrap(),
        first
    );

    let bad: [(&str, Value); 12] = [
        ("name", json!("")),
        ("name", json!("x".repeat(65))),
        ("grace_minutes", json!(43_201)),
        ("grace_minutes", json!(-1)),
        ("scope", json!(["laptops"])),
        ("scope", json!(["tag:"])),
        ("requires", json!({})),
        ("requires", json!({"min_os_version": {"Debian": "12"}})),
        (
            "requires",
            json!({"min_os_version": {"debian": "bookworm"}}),
        ),
        ("requires", json!({"min_agent_version": "new"})),
        ("on_failure", json!("explode")),
        ("surprise", json!(1)),
    ];
    for (field, value) in bad {
        let mut policy = firewall("bad", "warn", 0);
        policy[field] = value;
        let refused = owner.client.post::<Value>(&path, policy.clone()).await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{policy}");
    }

    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    let member = owner.add(&server, "member", Role::Member).await;
    assert_eq!(
        auditor
            .get::<Vec<PosturePolicy>>(&path)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(code(member.get::<Value>(&path).await), ErrorCode::Forbidden);
    for who in [&auditor, &member] {
        let refused = who.post::<Value>(&path, firewall("x", "warn", 0)).await;
        assert_eq!(code(refused), ErrorCode::Forbidden);
        assert_eq!(code(who.delete(&one).await), ErrorCode::Forbidden);
    }
    let machines = owner.path("/posture/machines");
    assert_eq!(
        auditor
            .get::<Vec<MachinePosture>>(&machines)
            .await
            .unwrap()
            .len(),
        1
    );
    // A member sees the own machines only.
    assert!(
        member
            .get::<Vec<MachinePosture>>(&machines)
            .await
            .unwrap()
            .is_empty()
    );
    let own = format!("{machines}/{}", a.machine_id);
    assert_eq!(code(member.get::<Value>(&own).await), ErrorCode::NotFound);

    // Another org's ids name nothing, in either place.
    let rival = Owner::new(&server, "rival").await;
    for path in [one.clone(), own.clone(), machines.clone()] {
        assert_eq!(
            code(rival.client.get::<Value>(&path).await),
            ErrorCode::NotFound
        );
    }
    let theirs = rival.path(&format!("/posture/policies/{}", first.id));
    assert_eq!(
        code(rival.client.get::<Value>(&theirs).await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(rival.client.delete(&theirs).await),
        ErrorCode::NotFound
    );

    let restricted = posture_of(&owner, a.machine_id).await;
    assert_eq!(restricted.consequence, Some(OnFailure::Restrict));
    owner.client.delete(&one).await.unwrap();
    assert_eq!(code(owner.client.delete(&one).await), ErrorCode::NotFound);
    let warned = posture_of(&owner, a.machine_id).await;
    assert_eq!((warned.consequence, warned.results.len()), (None, 1));
}
