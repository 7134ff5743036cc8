//! Nobody changes the log: the API may not, and whoever may is found.

use super::log;
use crate::common::client::Owner;
use crate::common::{Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio_postgres::Client as Postgres;
use ztna_proto::audit::{AuditEntry, AuditVerification};
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{hex, parse_hex};

async fn verify(owner: &Owner) -> AuditVerification {
    let path = owner.path("/audit/verify");
    owner.client.get(&path).await.unwrap()
}

/// The number of the first broken row.
async fn broken(owner: &Owner) -> Option<i64> {
    let found = verify(owner).await;
    assert_eq!(found.intact, found.broken.is_none());
    found.broken.map(|fault| fault.seq)
}

/// An org with some twenty rows.
async fn busy(server: &Server, name: &str) -> Owner {
    let owner = Owner::new(server, name).await;
    let (_, machine) = owner.enrol("m").await;
    let path = owner.path(&format!("/machines/{}", machine.machine_id));
    for number in 0..15 {
        let body = json!({"name": format!("m-{number}")});
        let _: Value = owner.client.call(Method::PATCH, &path, body).await.unwrap();
    }
    owner
}

#[tokio::test]
async fn the_api_may_add_rows_by_changes_alone() {
    let server = Server::start().await;
    let owner = busy(&server, "acme").await;
    let app = connect(server.database.app.as_ref().unwrap()).await;
    let org = owner.org.id.0;
    let enter = format!("BEGIN; SELECT set_config('ztna.org', '{org}', true)");
    for forbidden in [
        "INSERT INTO audit_log SELECT * FROM audit_log LIMIT 1",
        "UPDATE audit_log SET action = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT INTO audit_heads (org_id) VALUES (gen_random_uuid())",
        "UPDATE audit_heads SET seq = 0",
        "DELETE FROM audit_heads",
        "ALTER TABLE audit_log DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE machines DISABLE TRIGGER audit_update",
        "DROP TRIGGER audit_update ON machines",
        "SET LOCAL session_replication_role = replica",
        "SELECT audit_append(current_org(), 'machine.delete', NULL, NULL, NULL, NULL)",
        "SELECT audit_of_person(gen_random_uuid(), 'machine.delete', NULL, NULL, NULL, NULL)",
        "SELECT audit_table('changes', 'x')",
        "SET ROLE ztna_audit",
    ] {
        app.batch_execute(&enter).await.unwrap();
        let error = app.batch_execute(forbidden).await.unwrap_err();
        let state = error.code().map(|state| state.code().to_owned());
        assert_eq!(state.as_deref(), Some("42501"), "{forbidden}: {error}");
        app.batch_execute("ROLLBACK").await.unwrap();
    }
    // The one way to remove rows goes by the org's setting, which has a bound.
    app.batch_execute(&enter).await.unwrap();
    let row = app.query_one("SELECT audit_cut($1)", &[&org]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 0);
    app.batch_execute("ROLLBACK").await.unwrap();
    app.batch_execute(&enter).await.unwrap();
    let short = "UPDATE orgs SET audit_retention_days = 1";
    assert!(app.batch_execute(short).await.is_err());
    app.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(broken(&owner).await, None);
}

#[tokio::test]
async fn the_exported_rows_make_their_hashes() {
    let server = Server::start().await;
    let owner = busy(&server, "acme").await;
    let path = owner.path("/audit/export?format=json");
    let response = owner.client.request(Method::GET, &path).send().await;
    let rows: Vec<AuditEntry> = response.unwrap().json().await.unwrap();
    assert!(rows.len() > 15);
    let mut before = [0; 32];
    for row in rows {
        let mut sha = Sha256::new();
        sha.update(before);
        let mut value = |text: Option<String>| match text {
            Some(text) => {
                sha.update(u32::try_from(text.len()).unwrap().to_be_bytes());
                sha.update(text);
            }
            None => sha.update([0xff; 4]),
        };
        let kind = serde_json::to_value(row.actor.kind).unwrap();
        value(Some("ztna audit 1".to_owned()));
        value(Some(owner.org.id.to_string()));
        value(Some(row.seq.to_string()));
        value(Some(row.at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()));
        value(Some(kind.as_str().unwrap().to_owned()));
        value(row.actor.id.map(|id| id.to_string()));
        value(row.actor.on_behalf_of.map(|id| id.to_string()));
        value(row.actor.name);
        value(Some(row.action));
        value(row.target.id);
        value(row.target.name);
        value(row.before.map(|raw| raw.get().to_owned()));
        value(row.after.map(|raw| raw.get().to_owned()));
        value(row.ip.map(|ip| ip.to_string()));
        value(row.client);
        value(row.route);
        value(row.request_id);
        before = sha.finalize().into();
        assert_eq!(hex(&before), row.hash, "row {}", row.seq);
    }
}

async fn alter(admin: &Postgres, org: OrgId, change: &str) {
    let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {change}");
    admin
        .batch_execute(&sql.replace("$org", &format!("'{org}'")))
        .await
        .unwrap();
    admin.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn what_a_superuser_alters_is_found() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let cases: [(&str, &str, i64); 11] = [
        ("actor", "UPDATE audit_log SET actor_name = 'eve@example.com' WHERE org_id = $org AND seq = 7", 7),
        ("value", "UPDATE audit_log SET after = '{\"name\": \"m-x\"}' WHERE org_id = $org AND seq = 9", 9),
        ("space in a value", "UPDATE audit_log SET after = (after::text || ' ')::json WHERE org_id = $org AND seq = 9", 9),
        ("time", "UPDATE audit_log SET at = at - interval '1 microsecond' WHERE org_id = $org AND seq = 3", 3),
        ("missing value", "UPDATE audit_log SET client = '' WHERE org_id = $org AND seq = 8", 8),
        ("hash", "UPDATE audit_log SET hash = sha256(hash) WHERE org_id = $org AND seq = 10", 10),
        ("row gone", "DELETE FROM audit_log WHERE org_id = $org AND seq = 11", 11),
        ("first row gone", "DELETE FROM audit_log WHERE org_id = $org AND seq = 1", 1),
        ("last row gone", "DELETE FROM audit_log WHERE org_id = $org AND seq = (SELECT max(seq) FROM audit_log WHERE org_id = $org)", 20),
        (
            "last row gone, and the end set back",
            "DELETE FROM audit_log WHERE org_id = $org AND seq = 20; UPDATE audit_heads SET seq = 19 WHERE org_id = $org",
            19,
        ),
        (
            "the beginning cut off by hand",
            "UPDATE audit_heads SET cut_seq = 4, cut_hash = (SELECT hash FROM audit_log WHERE org_id = $org AND seq = 4)
                 WHERE org_id = $org; DELETE FROM audit_log WHERE org_id = $org AND seq <= 4",
            5,
        ),
    ];
    for (number, (what, change, row)) in cases.into_iter().enumerate() {
        let owner = busy(&server, &format!("org-{number}")).await;
        let found = verify(&owner).await;
        assert!(found.intact, "{what}: {:?}", found.broken);
        assert_eq!((found.checked, found.head.seq, found.begins), (20, 20, 1));
        alter(&admin, owner.org.id, change).await;
        assert_eq!(broken(&owner).await, Some(row), "{what}");
    }
}

/// Lets time pass for an org's rows: those up to `seq` become `days` older, and the chain is made anew,
/// as if they had been written then.
async fn age(admin: &Postgres, org: OrgId, seq: i64, days: i32) {
    admin
        .batch_execute(&format!(
            "DO $$
             DECLARE
                 entry ztna.audit_log%ROWTYPE;
                 link bytea := decode(repeat('00', 32), 'hex');
             BEGIN
                 FOR entry IN SELECT * FROM ztna.audit_log WHERE org_id = '{org}' ORDER BY seq LOOP
                     IF entry.seq <= {seq} THEN
                         entry.at := entry.at - interval '{days} days';
                     END IF;
                     link := sha256(link || ztna.audit_encode(ztna.audit_fields(entry)));
                     UPDATE ztna.audit_log l SET at = entry.at, hash = link
                      WHERE l.org_id = entry.org_id AND l.seq = entry.seq;
                 END LOOP;
                 UPDATE ztna.audit_heads h SET hash = link WHERE h.org_id = '{org}';
             END $$"
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn old_rows_are_cut_off_and_the_rest_still_verifies() {
    let server = Server::start().await;
    let owner = busy(&server, "acme").await;
    let admin = connect(&server.database.setup).await;
    let org = owner.org.id;
    let path = owner.path("/audit/settings");
    let body = json!({"retention_days": 30});
    let _: Value = owner.client.call(Method::PUT, &path, body).await.unwrap();
    age(&admin, org, 12, 31).await;
    assert_eq!(broken(&owner).await, None);

    // A start looks after it at once.
    let server = server.restart().await;
    let rows = loop {
        let rows = log_of(&server, &owner).await;
        if rows.first().is_some_and(|row| row["seq"] == 13) {
            break rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let cut = rows.last().unwrap();
    assert_eq!(cut["action"], "audit.cut");
    assert_eq!(cut["actor"]["kind"], "system");
    assert_eq!(
        (&cut["after"]["from"], &cut["after"]["to"]),
        (&json!(1), &json!(12))
    );
    let here = client_of(&server, &owner);
    let verify =
        async || -> AuditVerification { here.get(&owner.path("/audit/verify")).await.unwrap() };
    let found = verify().await;
    assert!(found.intact, "{:?}", found.broken);
    assert_eq!((found.begins, found.checked), (13, 10));
    // Of a cut that was moved, the log says otherwise.
    alter(
        &admin,
        org,
        "UPDATE audit_heads SET cut_seq = 14, cut_hash = (SELECT hash FROM audit_log WHERE org_id = $org AND seq = 14)
             WHERE org_id = $org; DELETE FROM audit_log WHERE org_id = $org AND seq <= 14",
    )
    .await;
    assert_eq!(verify().await.broken.unwrap().seq, 15);
}

fn client_of(server: &Server, owner: &Owner) -> crate::common::Client {
    owner.client.at(server)
}

async fn log_of(server: &Server, owner: &Owner) -> Vec<Value> {
    let path = owner.path("/audit?limit=500");
    let page: Value = client_of(server, owner).get(&path).await.unwrap();
    let mut rows = page["entries"].as_array().unwrap().clone();
    rows.reverse();
    rows
}

#[tokio::test]
async fn verification_goes_on_where_it_stopped() {
    let server = Server::start().await;
    let owner = busy(&server, "acme").await;
    let admin = connect(&server.database.setup).await;
    let app = connect(server.database.app.as_ref().unwrap()).await;
    // A log of some size, by the trigger.
    app.batch_execute(&format!(
        "BEGIN; SELECT set_config('ztna.org', '{org}', true);
         DO $$ BEGIN FOR n IN 1..10100 LOOP
             UPDATE auth_keys SET revoked_at = now() + n * interval '1 second' WHERE org_id = '{org}';
         END LOOP; END $$; COMMIT",
        org = owner.org.id
    ))
    .await
    .unwrap();
    let first = verify(&owner).await;
    assert_eq!(
        (first.intact, first.checked, first.next),
        (true, 10_000, Some(10_001))
    );
    let path = owner.path("/audit/verify?from=10001");
    let second: AuditVerification = owner.client.get(&path).await.unwrap();
    assert_eq!(
        (second.intact, second.checked, second.next),
        (true, 120, None)
    );
    assert_eq!(second.head.seq, 10_120);
    assert!(parse_hex::<32>(&second.head.hash).is_some());
    alter(
        &admin,
        owner.org.id,
        "UPDATE audit_log SET action = 'x' WHERE org_id = $org AND seq = 10050",
    )
    .await;
    let second: AuditVerification = owner.client.get(&path).await.unwrap();
    assert_eq!(second.broken.unwrap().seq, 10_050);
    for odd in ["-5", "9223372036854775807", "10121"] {
        let path = owner.path(&format!("/audit/verify?from={odd}"));
        let _: AuditVerification = owner.client.get(&path).await.unwrap();
    }
}

#[tokio::test]
async fn changes_at_once_wait_for_each_other_and_never_in_a_circle() {
    let server = Server::start().await;
    let first = Owner::new(&server, "first").await;
    let second = Owner::new(&server, "second").await;
    let mut calls = Vec::new();
    for number in 0..20 {
        for owner in [&first, &second] {
            // Some hold the org's row, some do not; sign-ins touch both orgs' logs.
            let (client, path) = (owner.client.clone(), owner.path("/auth-keys"));
            calls.push(tokio::spawn(async move {
                client.post::<Value>(&path, json!({})).await.unwrap();
            }));
            let request = crate::common::client::machine(&format!("m-{number}"));
            let client = owner.client.bearer(owner.key.key.expose());
            calls.push(tokio::spawn(async move {
                client.register(&request).await.unwrap();
            }));
        }
    }
    let both = second
        .add(&server, "both", ztna_proto::api::Role::Member)
        .await;
    let token = first
        .invite(
            &first.client,
            "both@example.com",
            ztna_proto::api::Role::Member,
        )
        .await
        .unwrap();
    let _: Value = both
        .post("/api/accept-invitation", json!({"token": token}))
        .await
        .unwrap();
    for _ in 0..10 {
        let anonymous = crate::common::Client::anonymous(&server);
        calls.push(tokio::spawn(async move {
            anonymous
                .login("both@example.com", crate::common::client::PASSWORD)
                .await
                .unwrap();
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    for owner in [&first, &second] {
        let rows = log(owner).await;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (row, seq) in rows.iter().zip(1..) {
            assert_eq!(row.seq, seq);
            *counts.entry(&row.action).or_default() += 1;
        }
        assert_eq!(counts["machine.create"], 20);
        assert_eq!(counts["auth_key.create"], 21);
        assert_eq!(counts["session.sign_in"], 10);
        assert!(rows.is_sorted_by_key(|row| row.at));
        assert_eq!(broken(owner).await, None);
    }
}
