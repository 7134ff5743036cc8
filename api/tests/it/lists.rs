//! The list of machines page by page, and whom a machine reaches.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use ztna_proto::api::{Machine, Role};
use ztna_proto::audit::AuditPage;
use ztna_proto::error::{Envelope, ErrorCode};
use ztna_proto::ids::{MachineId, RegionId};
use ztna_proto::machines::{Facet, MachineFacets};
use ztna_proto::policy::{Reach, ReachList};

use crate::common::client::{Owner, code};
use crate::common::{Client, Server, connect};

/// The names, and the number of machines on all pages.
async fn list(owner: &Owner, who: &Client, query: &str) -> (Vec<String>, u64) {
    let path = owner.path(&format!("/machines{query}"));
    let response = who.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200, "{query}");
    let total = response.headers()["x-total-count"].to_str().unwrap();
    let total = total.parse().unwrap();
    let page: Envelope<Vec<Machine>> = response.json().await.unwrap();
    let page = page.into_result().unwrap();
    (
        page.into_iter().map(|machine| machine.name).collect(),
        total,
    )
}

#[tokio::test]
async fn machines_come_page_by_page_as_they_are_asked_for() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    for name in ["delta", "alpha", "charlie", "bravo"] {
        owner.enrol(name).await;
    }
    let laptop = member
        .register(&crate::common::client::machine("laptop"))
        .await
        .unwrap();
    let admin = connect(&server.database.setup).await;
    for (name, version) in [
        ("alpha", "0.9.0"),
        ("bravo", "0.10.0"),
        ("charlie", "0.2.1"),
    ] {
        admin
            .execute(
                "UPDATE machines SET agent_version = $2, os = 'windows-x86_64' WHERE name = $1",
                &[&name, &version],
            )
            .await
            .unwrap();
    }
    let all = ["alpha", "bravo", "charlie", "delta", "laptop"];
    let cases: [(&str, &[&str], u64); 22] = [
        ("", &all, 5),
        ("?limit=2", &["alpha", "bravo"], 5),
        ("?limit=2&offset=4", &["laptop"], 5),
        ("?offset=9", &[], 5),
        ("?descending=true&limit=1", &["laptop"], 5),
        ("?sort=created_at&limit=2", &["delta", "alpha"], 5),
        (
            "?sort=version&search=windows",
            &["charlie", "alpha", "bravo"],
            3,
        ),
        ("?search=MEMBER@", &["laptop"], 1),
        ("?search=windows%20ALPHA", &["alpha"], 1),
        ("?search=100.64.0.1", &["delta"], 1),
        ("?search=nothing", &[], 0),
        ("?state=offline&limit=1", &["alpha"], 5),
        ("?state=quarantined", &[], 0),
        ("?state=quarantined,offline&limit=1", &["alpha"], 5),
        ("?os=windows&limit=2", &["alpha", "bravo"], 3),
        ("?os=windows", &["alpha", "bravo", "charlie"], 3),
        ("?os=linux,windows&limit=1&descending=true", &["laptop"], 5),
        ("?tag=tag:none&limit=2", &[], 0),
        ("?limit=1&search=windows%20ALPHA", &["alpha"], 1),
        ("?limit=9&search=MEMBER@", &["laptop"], 1),
        ("?limit=9&search=alpha.acme.ztna.internal", &["alpha"], 1),
        ("?limit=1&sort=user&descending=true", &["laptop"], 5),
    ];
    for (query, names, total) in cases {
        let (found, count) = list(&owner, &owner.client, query).await;
        assert_eq!(found, names, "{query}");
        assert_eq!(count, total, "{query}");
    }
    assert_eq!(
        list(&owner, &member, "?limit=1").await,
        (vec!["laptop".to_owned()], 1)
    );
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "sort=colour",
        "state=gone",
        "state=offline,gone",
        "posture=bad",
        "offset=-1",
    ] {
        let path = owner.path(&format!("/machines?{bad}"));
        let refused = owner.client.get::<Value>(&path).await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{bad}");
    }

    // Where it is reached, it tells by itself.
    let body = json!({"agent_version": "0.3.0", "report": {"endpoints": [], "home_region": 7}});
    let machine = owner.as_machine(&laptop.node_key);
    let _: Value = machine.post("/api/machine-heartbeat", body).await.unwrap();
    let path = owner.path(&format!("/machines/{}", laptop.machine_id));
    let shown: Machine = owner.client.get(&path).await.unwrap();
    assert_eq!(shown.home_region, Some(RegionId(7)));
    assert_eq!(shown.agent_version, "0.3.0");
    // A restart writes it down, and reads it again.
    let server = server.restart().await;
    let client = Client::anonymous(&server);
    let session = client.login("acme@example.com", crate::common::client::PASSWORD);
    let client = client.bearer(&session.await.unwrap().access_token);
    let shown: Machine = client.get(&path).await.unwrap();
    assert_eq!(shown.home_region, Some(RegionId(7)));
    assert!(shown.online, "it was heard of a moment ago");
}

#[tokio::test]
async fn machines_are_found_and_sorted_by_posture_tags_and_tunnels() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = connect(&server.database.setup).await;
    for (name, tags, fails, path) in [
        ("all-well", &["tag:web"][..], Some(false), Some("direct")),
        (
            "by-relay",
            &["tag:db", "tag:web"],
            Some(true),
            Some("relay"),
        ),
        ("new", &[], None, None),
    ] {
        let (_, machine) = owner.enrol(name).await;
        let id = machine.machine_id.0;
        let peer = owner.enrol(&format!("peer-of-{name}")).await.1.machine_id;
        let tagged = "UPDATE machines SET tags = $2 WHERE id = $1";
        admin.execute(tagged, &[&id, &tags]).await.unwrap();
        if let Some(fails) = fails {
            let judged =
                "INSERT INTO machine_posture (org_id, machine_id, report, reported_at, results)
                VALUES ($1, $2, '{}', now(), $3)";
            let result = json!([{"policy": uuid::Uuid::now_v7(), "name": "p", "on_failure": "warn", "checks": [],
                "failing_since": fails.then(jiff::Timestamp::now)}]);
            let of: [&(dyn ToSql + Sync); 3] = [&owner.org.id.0, &id, &result];
            admin.execute(judged, &of).await.unwrap();
        }
        if let Some(path) = path {
            let tunnel = json!({"peer": peer, "path": path, "why": "", "epoch": 1,
                "post_quantum": path == "relay", "heard": true});
            let body = json!({"connections": [tunnel], "count": 1});
            let machine = owner.as_machine(&machine.node_key);
            let told = machine.call::<Value>(Method::PUT, "/api/machine-connections", body);
            told.await.unwrap();
        }
    }
    let all = ["all-well", "by-relay", "new"];
    let cases: [(&str, &[&str]); 13] = [
        ("posture=failing", &["by-relay"]),
        ("posture=passing,none", &["all-well", "new"]),
        ("posture=none&limit=1", &["new"]),
        ("posture=stale", &[]),
        ("sort=posture", &["by-relay", "new", "all-well"]),
        (
            "sort=posture&descending=true",
            &["all-well", "new", "by-relay"],
        ),
        ("sort=tags&limit=9", &["by-relay", "all-well", "new"]),
        ("sort=tags", &["by-relay", "all-well", "new"]),
        ("sort=tags&descending=true", &all),
        ("sort=tags&descending=true&limit=9", &all),
        ("sort=path&descending=true", &all),
        ("sort=post_quantum", &all),
        (
            "sort=post_quantum&descending=true&limit=2",
            &["by-relay", "all-well"],
        ),
    ];
    for (query, names) in cases {
        let (mut found, _) = list(&owner, &owner.client, &format!("?{query}")).await;
        found.retain(|name| !name.starts_with("peer-of"));
        assert_eq!(found, names, "{query}");
    }
}

fn named(list: &ReachList) -> Vec<&str> {
    list.machines
        .iter()
        .map(|other| other.name.as_str())
        .collect()
}

#[tokio::test]
async fn whom_a_machine_reaches_is_told_with_the_rules() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    owner
        .put_policy(
            r#"{
  "tagOwners": {"tag:web": [], "tag:db": [], "tag:old": []},
  "acls": [
    {"id": "shops", "action": "accept", "src": ["autogroup:member"], "dst": ["tag:web:443"]},
    {"id": "data", "action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]},
    {"id": "backup", "action": "accept", "src": ["tag:web"], "dst": ["tag:db:22"]},
    {"id": "old", "action": "deny", "src": ["tag:old"], "dst": ["*:*"]},
    {"id": "retired", "action": "accept", "src": ["tag:old"], "dst": ["tag:db:5432"]},
  ],
}"#,
        )
        .await
        .unwrap();
    let mut ids: Vec<MachineId> = Vec::new();
    for (name, tag) in [
        ("web-1", "tag:web"),
        ("web-2", "tag:web"),
        ("db", "tag:db"),
        ("relic", "tag:old"),
    ] {
        let key = owner.key(json!({"tags": [tag]})).await;
        ids.push(owner.enrol_with(&key, name).await.machine_id);
    }
    let laptop = member
        .register(&crate::common::client::machine("laptop"))
        .await
        .unwrap();
    let reach = async |who: &Client, id: MachineId| {
        let path = owner.path(&format!("/machines/{id}/reach"));
        who.get::<Reach>(&path).await
    };
    let of_web = reach(&auditor, ids[0]).await.unwrap();
    assert_eq!(named(&of_web.reaches), ["db"]);
    assert_eq!(named(&of_web.reached_by), ["laptop"]);
    assert_eq!((of_web.reaches.count, of_web.reached_by.count), (1, 1));
    let rules: Vec<_> = of_web
        .rules
        .iter()
        .map(|rule| rule.name.as_deref().unwrap())
        .collect();
    assert_eq!(rules, ["shops", "data", "backup"]);
    assert_eq!(of_web.reaches.machines[0].rules.len(), 2);
    let by: Vec<_> = of_web
        .rules
        .iter()
        .filter(|rule| of_web.reached_by.machines[0].rules.contains(&rule.rule))
        .collect();
    assert_eq!(
        (by.len(), by[0].name.as_deref(), by[0].at.line),
        (1, Some("shops"), 4)
    );

    let of_laptop = reach(&owner.client, laptop.machine_id).await.unwrap();
    assert_eq!(named(&of_laptop.reaches), ["web-1", "web-2"]);
    assert_eq!(of_laptop.reached_by, ReachList::default());
    let of_db = reach(&owner.client, ids[2]).await.unwrap();
    assert_eq!(named(&of_db.reached_by), ["web-1", "web-2"]);
    // What a deny takes away whole is not there.
    let of_relic = reach(&owner.client, ids[3]).await.unwrap();
    assert_eq!(of_relic.reaches, ReachList::default());
    assert!(of_relic.rules.is_empty());

    assert_eq!(
        code(reach(&member, laptop.machine_id).await),
        ErrorCode::Forbidden
    );
    let nothing = reach(&owner.client, MachineId::generate()).await;
    assert_eq!(code(nothing), ErrorCode::NotFound);
    owner.does(ids[0], json!({"action": "quarantine"})).await;
    let held = reach(&owner.client, ids[0]).await.unwrap();
    assert_eq!((held.reaches.count, held.reached_by.count), (0, 0));
}

#[tokio::test]
async fn the_audit_log_names_the_machine_of_a_route_and_of_a_verdict() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let machine = owner.as_machine(&gate.node_key);
    let offer = json!({"routes": ["10.0.0.0/24"]});
    let _: Value = machine
        .call(Method::PUT, "/api/machine-routes", offer)
        .await
        .unwrap();
    let approve = json!({"approved": ["10.0.0.0/24"]});
    let path = owner.path(&format!("/machines/{}/routes", gate.machine_id));
    let _: Value = owner
        .client
        .call(Method::PUT, &path, approve)
        .await
        .unwrap();
    let page: AuditPage = owner
        .client
        .get(&owner.path("/audit?action=route"))
        .await
        .unwrap();
    assert_eq!(page.entries.len(), 2);
    for entry in &page.entries {
        assert_eq!(
            entry.target.name.as_deref(),
            Some("gate"),
            "{}",
            entry.action
        );
    }
    let verified: Value = owner
        .client
        .get(&owner.path("/audit/verify"))
        .await
        .unwrap();
    assert_eq!(verified["intact"], true, "{verified}");
}

#[tokio::test]
async fn pages_of_thousands_are_as_those_of_few() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = connect(&server.database.setup).await;
    let rows = "INSERT INTO machines (org_id, id, name, os, agent_version, wg_key, kem_key, kem_hash, token_hash,
                        ipv4, ipv6, auth_key_id)
                SELECT org_id, gen_random_uuid(), 'm-' || n, os, agent_version, sha256(('w' || n)::bytea), kem_key,
                        kem_hash, sha256(('t' || n)::bytea), ipv4 + n, ipv6 + n, auth_key_id
                FROM machines, generate_series(1, 5000) n WHERE name = 'first'";
    owner.enrol("first").await;
    admin.execute(rows, &[]).await.unwrap();
    admin.batch_execute("ANALYZE machines").await.unwrap();
    let (names, total) = list(&owner, &owner.client, "?limit=3&offset=1").await;
    assert_eq!(total, 5_001);
    assert_eq!(names, ["m-1", "m-10", "m-100"]);
    let (names, total) = list(&owner, &owner.client, "?limit=3&search=m-4999").await;
    assert_eq!((names.len(), total), (1, 1));
}

#[tokio::test]
async fn facets_count_what_a_list_may_be_narrowed_by() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    owner
        .put_policy(r#"{"tagOwners": {"tag:web": [], "tag:db": []}}"#)
        .await
        .unwrap();
    let key = owner.key(json!({"tags": ["tag:web", "tag:db"]})).await;
    owner.enrol_with(&key, "one").await;
    let key = owner.key(json!({"tags": ["tag:web"]})).await;
    owner.enrol_with(&key, "two").await;
    owner.set(json!({"machine_approval": true})).await;
    let new = crate::common::client::machine("laptop");
    member.register(&new).await.unwrap();
    let path = owner.path("/machine-facets");
    let told: MachineFacets = owner.client.get(&path).await.unwrap();
    let pairs = |facets: &[Facet]| -> Vec<(String, u64)> {
        let pairs = facets.iter();
        pairs.map(|one| (one.value.clone(), one.count)).collect()
    };
    assert_eq!((told.count, told.pending), (3, 1));
    assert_eq!(pairs(&told.systems), [("linux".to_owned(), 3)]);
    let tags = [("tag:web".to_owned(), 2), ("tag:db".to_owned(), 1)];
    assert_eq!(pairs(&told.tags), tags);
    let (names, _) = list(&owner, &owner.client, "?tag=tag:db,tag:none&limit=5").await;
    assert_eq!(names, ["one"]);
    let told: MachineFacets = member.get(&path).await.unwrap();
    assert_eq!((told.count, told.pending, told.tags.len()), (1, 1, 0));
}
