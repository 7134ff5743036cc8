//! The policy through the API: versions, refusals, dry runs, single rules, verdicts.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use ztna_policy::Document;
use ztna_policy::document::Selector;
use ztna_proto::api::{Me, RegisterRequest, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::filter::{Action, Protocol};
use ztna_proto::ids::MachineId;
use ztna_proto::policy::{
    DryRun, Evaluation, PolicyDocument, PolicyRule, PolicyVersion, PolicyVersionText,
};

use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Server, connect};

/// Alice's machines and Bob's in one org: both enrolled by the owner's key.
const TWO: &str = r#"{
  // Everybody reaches the web.
  "acls": [
    { "id": "web", "action": "accept", "proto": "tcp", "src": ["autogroup:member"], "dst": ["autogroup:member:80"] }, // keep me
  ],
}
"#;

#[tokio::test]
async fn versions_have_authors_and_differences_and_come_back() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let first = owner.policy().await;
    assert_eq!(first.info.version, 1);
    assert_eq!(first.info.author.as_deref(), Some("acme@example.com"));
    assert!(first.text.contains("// Members reach every machine"));

    let second = owner.put_policy(TWO).await.unwrap();
    assert_eq!((second.info.version, second.text.as_str()), (2, TWO));

    // Made of a version that is not in force any more: nothing happens.
    let stale = json!({"version": 1, "text": "{}"});
    let path = owner.path("/policy");
    let refused = owner
        .client
        .call::<PolicyDocument>(Method::PUT, &path, stale)
        .await;
    let error: ErrorBody = refused.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("at version 2"), "{error}");
    assert_eq!(owner.policy().await, second);

    let shown: PolicyVersionText = owner
        .client
        .get(&owner.path("/policy/versions/2"))
        .await
        .unwrap();
    assert!(
        shown.diff.contains("+  // Everybody reaches the web."),
        "{}",
        shown.diff
    );
    assert!(
        shown.diff.contains("-    // Members reach every machine"),
        "{}",
        shown.diff
    );

    let path = owner.path("/policy/versions/1/rollback");
    let back: PolicyDocument = owner
        .client
        .post(&path, json!({"version": 2}))
        .await
        .unwrap();
    assert_eq!((back.info.version, &back.text), (3, &first.text));
    assert_eq!(back.info.note, "version 1 again");
    let refused = owner
        .client
        .post::<PolicyDocument>(&path, json!({"version": 2}))
        .await;
    assert_eq!(code(refused), ErrorCode::Conflict);
    let path = owner.path("/policy/versions/9/rollback");
    let refused = owner
        .client
        .post::<PolicyDocument>(&path, json!({"version": 3}))
        .await;
    assert_eq!(code(refused), ErrorCode::NotFound);

    let versions: Vec<PolicyVersion> = owner
        .client
        .get(&owner.path("/policy/versions"))
        .await
        .unwrap();
    let numbers: Vec<_> = versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, [3, 2, 1]);
}

#[tokio::test]
async fn of_changes_at_once_one_is_made() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let path = owner.path("/policy");
    let put = |n: usize| {
        let text = format!("{{}} // {n}");
        owner
            .client
            .call::<PolicyDocument>(Method::PUT, &path, json!({"version": 1, "text": text}))
    };
    let answers = futures_util::future::join_all((0..8).map(put)).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 7));
    for answer in refused {
        assert_eq!(answer.unwrap_err().code, ErrorCode::Conflict);
    }
    assert_eq!(owner.policy().await.info.version, 2);
}

#[tokio::test]
async fn what_cannot_be_read_or_fails_its_tests_is_not_saved() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let first = owner.policy().await;
    let cases = [
        ("{\n  \"acls\": [}\n", "line 2, column 12"),
        (
            "{\n  \"ssh\": []\n}",
            "line 2, column 3: SSH access has no rules",
        ),
        (
            r#"{
  "acls": [{ "id": "admins", "action": "accept", "src": ["autogroup:owner"], "dst": ["*:22"] }],
  "tests": [
    { "src": "acme@example.com", "accept": ["100.64.0.9:22"] },
    { "src": "stranger@example.com",
      "accept": ["100.64.0.9:22"] },
  ],
}"#,
            "line 6, column 18: the test expects that `stranger@example.com` reaches",
        ),
    ];
    for (text, expected) in cases {
        let error = owner.put_policy(text).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError);
        assert!(error.message.contains(expected), "{error}");
        assert!(!error.message.contains("line 4"), "{error}");
        let dry: DryRun = owner
            .client
            .post(&owner.path("/policy/dry-run"), json!({"text": text}))
            .await
            .unwrap();
        assert_eq!(dry.faults.len(), 1, "{dry:?}");
        assert!(
            expected.starts_with(&format!("line {}", dry.faults[0].at.line)),
            "{dry:?}"
        );
    }
    assert_eq!(owner.policy().await, first);
}

#[tokio::test]
async fn a_dry_run_tells_whom_it_would_connect_and_cut_off_and_changes_nothing() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    let (_, c) = owner.enrol("c").await;
    let (a, b, c) = (a.machine_id, b.machine_id, c.machine_id);
    let only = format!(
        r#"{{"acls": [{{"action": "accept", "src": ["machine:{a}"], "dst": ["machine:{b}:22"]}}]}}"#
    );
    let path = owner.path("/policy/dry-run");
    let dry: DryRun = owner
        .client
        .post(&path, json!({"text": only}))
        .await
        .unwrap();
    let impact = dry.impact.unwrap();
    assert!(dry.faults.is_empty() && impact.connects.count == 0);
    assert_eq!(impact.changes.count, 1);
    assert_eq!(
        (impact.changes.pairs[0].src, impact.changes.pairs[0].dst),
        (a, b)
    );
    assert_eq!(impact.cuts.count, 5);
    assert!(
        impact
            .cuts
            .pairs
            .iter()
            .any(|pair| (pair.src, pair.dst) == (b, c))
    );
    assert_eq!(owner.policy().await.info.version, 1);

    owner.put_policy(&only).await.unwrap();
    let dry: DryRun = owner
        .client
        .post(&path, json!({"text": TWO}))
        .await
        .unwrap();
    let impact = dry.impact.unwrap();
    assert_eq!(
        (
            impact.connects.count,
            impact.changes.count,
            impact.cuts.count
        ),
        (5, 1, 0)
    );
}

#[tokio::test]
async fn single_rules_change_and_comments_stay() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(TWO).await.unwrap();
    let path = owner.path("/policy/rules");
    let rules: Vec<PolicyRule> = owner.client.get(&path).await.unwrap();
    assert_eq!(rules.len(), 1);
    assert!(rules[0].in_force);
    assert_eq!(rules[0].rule["dst"], json!(["autogroup:member:80"]));

    let rule = json!({"action": "deny", "src": ["*"], "dst": ["*:25"], "description": "no mail"});
    let added: PolicyDocument = owner
        .client
        .post(&path, json!({"section": "acls", "rule": rule}))
        .await
        .unwrap();
    assert!(
        added.text.contains("// Everybody reaches the web.") && added.text.contains("// keep me")
    );
    let rules: Vec<PolicyRule> = owner.client.get(&path).await.unwrap();
    assert_eq!(
        (rules.len(), &rules[1].rule["description"]),
        (2, &json!("no mail"))
    );

    let mut web = rules[0].rule.clone();
    web["dst"] = json!(["autogroup:member:443"]);
    let one = format!("{path}/{}", rules[0].id);
    let changed: PolicyDocument = owner
        .client
        .call(Method::PUT, &one, json!({"rule": web}))
        .await
        .unwrap();
    assert!(changed.text.contains("autogroup:member:443") && changed.text.contains("// keep me"));
    let bad = json!({"rule": {"action": "accept", "src": ["group:nobody"], "dst": ["*:*"]}});
    let refused = owner
        .client
        .call::<PolicyDocument>(Method::PUT, &one, bad)
        .await;
    assert_eq!(code(refused), ErrorCode::ValidationError);

    owner
        .client
        .delete(&format!("{path}/{}", rules[1].id))
        .await
        .unwrap();
    let gone = owner
        .client
        .delete(&format!("{path}/{}", rules[1].id))
        .await;
    assert_eq!(gone.unwrap_err().code, ErrorCode::NotFound);
    let last = owner.policy().await;
    assert_eq!(last.info.version, 5);
    // The rule that came is gone again; the other, and every comment, is as it was left.
    assert_eq!(last.text, TWO.replace("member:80", "member:443"));
}

#[tokio::test]
async fn a_verdict_is_explained() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    let (_, b) = owner.enrol("b").await;
    owner
        .put_policy(&TWO.replace("\"proto\"", "\"srcOS\": [\"linux\"], \"proto\""))
        .await
        .unwrap();
    let path = owner.path("/acl-evaluate");
    let ask = |body: Value| owner.client.post::<Evaluation>(&path, body);
    let yes = ask(json!({"src": "a", "dst": b.ipv4, "port": 80}))
        .await
        .unwrap();
    assert!(yes.verdict.allowed && yes.dst == "b", "{yes:?}");
    let matched = &yes.verdict.matched[0];
    assert_eq!(matched.name.as_deref(), Some("web"));
    assert!(matched.conditions.iter().all(|condition| condition.holds));
    assert!(
        matched
            .conditions
            .iter()
            .any(|condition| condition.field == "srcOS")
    );

    let no = ask(json!({"src": a.machine_id, "dst": "b", "port": 22}))
        .await
        .unwrap();
    assert!(!no.verdict.allowed && no.verdict.matched.is_empty());
    let closest = no.verdict.closest.unwrap();
    assert_eq!(closest.name.as_deref(), Some("web"));
    let failed: Vec<_> = closest.conditions.iter().filter(|c| !c.holds).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].field.as_str(), failed[0].detail.as_str()),
        ("port", "port 22 is not among 80")
    );
    assert!(
        no.verdict.reason.contains("line 4"),
        "{}",
        no.verdict.reason
    );

    for (body, expected) in [
        (
            json!({"src": "nobody", "dst": "b", "port": 80}),
            ErrorCode::NotFound,
        ),
        (
            json!({"src": "a", "dst": "8.8.8.8", "port": 80}),
            ErrorCode::NotFound,
        ),
        (json!({"src": "a", "dst": "b"}), ErrorCode::ValidationError),
        (
            json!({"src": "a", "dst": "b", "port": 80, "protocol": "icmp"}),
            ErrorCode::ValidationError,
        ),
        (
            json!({"src": "a", "dst": "b", "protocol": "quic"}),
            ErrorCode::ValidationError,
        ),
    ] {
        assert_eq!(code(ask(body).await), expected);
    }
}

#[tokio::test]
async fn members_look_at_no_policy_and_auditors_change_none() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    for (name, role, reads) in [("m", Role::Member, false), ("a", Role::Auditor, true)] {
        let other = owner.add(&server, name, role).await;
        let read = other.get::<PolicyDocument>(&owner.path("/policy")).await;
        assert_eq!(read.is_ok(), reads, "{role:?}");
        let body = json!({"version": 1, "text": "{}"});
        let write = other
            .call::<PolicyDocument>(Method::PUT, &owner.path("/policy"), body)
            .await;
        assert_eq!(code(write), ErrorCode::Forbidden, "{role:?}");
    }
}

/// A rule that ends is news for the machines that it concerned, without anybody's call.
#[tokio::test]
async fn a_rule_ends_by_itself() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, a) = owner.enrol("a").await;
    owner.enrol("b").await;
    let mut at_a = Stream::connect(&server, &a.node_key).await;
    at_a.until("b", |s| s.peer_names() == ["b"]).await;
    let end = jiff::Timestamp::now() + Duration::from_secs(3);
    let text = format!(
        r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["*:80"], "expires": "{end}"}}]}}"#
    );
    owner.put_policy(&text).await.unwrap();
    at_a.until("nobody", |s| s.peers().is_empty()).await;
    assert!(jiff::Timestamp::now() >= end);
}

/// The migration that made rules a document, run on tables as they were before it.
#[tokio::test]
async fn rules_of_before_become_the_first_version() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let (with, without) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let machine = Uuid::from_u128(9);
    admin
        .batch_execute(&format!(
            r#"CREATE SCHEMA before AUTHORIZATION ztna_owner; SET ROLE ztna_owner; SET search_path = before, ztna;
            CREATE TABLE before.orgs (id uuid PRIMARY KEY);
            CREATE TABLE before.rules (org_id uuid, id uuid, position integer, rule jsonb);
            INSERT INTO before.orgs VALUES ('{with}'), ('{without}');
            INSERT INTO before.rules VALUES
            ('{with}', '{with}', 1, '{{"id": "{with}", "action": "deny", "src": [{{"machine": "{machine}"}}, "any"],
                "dst": ["any"], "protocols": ["tcp", {{"number": 47}}], "ports": []}}'),
            ('{with}', '{without}', 0, '{{"id": "{without}", "action": "allow", "src": ["member"], "dst": ["any"],
                "protocols": ["tcp", "udp"], "ports": [{{"first": 22, "last": 22}}, {{"first": 80, "last": 90}}]}}');
            ALTER TABLE before.orgs ENABLE ROW LEVEL SECURITY; ALTER TABLE before.orgs FORCE ROW LEVEL SECURITY;
            ALTER TABLE before.rules ENABLE ROW LEVEL SECURITY; ALTER TABLE before.rules FORCE ROW LEVEL SECURITY;"#
        ))
        .await
        .unwrap();
    admin
        .batch_execute(include_str!("../../../migrations/V4__policy.sql"))
        .await
        .unwrap();
    admin.batch_execute("RESET ROLE").await.unwrap();
    let query = "SELECT text FROM before.policy_versions WHERE org_id = $1 AND version = 1";
    let text: String = admin.query_one(query, &[&with]).await.unwrap().get(0);
    let document = Document::parse(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    assert_eq!(document.rules.len(), 2);
    let [first, second] = &document.rules[..] else {
        panic!("{text}");
    };
    assert_eq!(
        (first.id.0, second.id.0),
        (without, with),
        "ids and order stay"
    );
    assert_eq!((first.action, second.action), (Action::Allow, Action::Deny));
    assert_eq!(first.src, [Selector::Member]);
    let services = &first.dst[0].services;
    assert_eq!(services.len(), 2);
    assert_eq!(services[1].protocols, [Protocol::Udp]);
    let ports: Vec<_> = services[1]
        .ports
        .iter()
        .map(|p| (p.first, p.last))
        .collect();
    assert_eq!(ports, [(22, 22), (80, 90)]);
    assert_eq!(
        second.src,
        [Selector::Machine(MachineId(machine)), Selector::Any]
    );
    let protocols: Vec<_> = second.dst[0]
        .services
        .iter()
        .map(|s| s.protocols.clone())
        .collect();
    assert_eq!(protocols, [[Protocol::Tcp], [Protocol::Number(47)]]);
    assert!(
        second.dst[0]
            .services
            .iter()
            .all(|service| service.ports.is_empty())
    );

    let text: String = admin.query_one(query, &[&without]).await.unwrap().get(0);
    assert!(Document::parse(&text).unwrap().rules.is_empty());
    let forced = "SELECT relforcerowsecurity FROM pg_class WHERE oid = 'before.orgs'::regclass";
    assert!(
        admin
            .query_one(forced, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );
}

/// Who is admin no longer opens no longer what the rules open to admins.
#[tokio::test]
async fn a_role_that_changes_changes_who_is_seen() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = owner.add(&server, "adm", Role::Admin).await;
    let laptop = RegisterRequest {
        org: Some(owner.org.id),
        ..machine("laptop")
    };
    admin.register(&laptop).await.unwrap();
    let (_, b) = owner.enrol("b").await;
    owner
        .put_policy(
            r#"{"acls": [{"action": "accept", "src": ["autogroup:admin"], "dst": ["*:22"]}]}"#,
        )
        .await
        .unwrap();
    let mut at_b = Stream::connect(&server, &b.node_key).await;
    at_b.until("the admin's", |s| s.peer_names() == ["laptop"])
        .await;
    let me: Me = admin.get("/api/auth/me").await.unwrap();
    let path = owner.path(&format!("/members/{}", me.id));
    let _: Value = owner
        .client
        .call(Method::PATCH, &path, json!({"role": "auditor"}))
        .await
        .unwrap();
    at_b.until("nobody", |s| s.peers().is_empty()).await;
}
