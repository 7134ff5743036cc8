//! Who reads the log, what they may ask for, and the files that they take away.

use super::{actions, log};
use crate::common::Server;
use crate::common::client::{Owner, code};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::Role;
use ztna_proto::audit::{AuditPage, AuditSettings};
use ztna_proto::error::ErrorCode;

#[tokio::test]
async fn owners_admins_and_auditors_read_and_owners_set_how_long() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let paths = ["", "/export", "/verify", "/settings"];
    for (name, role, reads) in [
        ("ann", Role::Admin, true),
        ("aud", Role::Auditor, true),
        ("mem", Role::Member, false),
    ] {
        let client = owner.add(&server, name, role).await;
        for path in paths {
            let path = owner.path(&format!("/audit{path}"));
            let response = client.request(Method::GET, &path).send().await.unwrap();
            let expected = if reads { 200 } else { 403 };
            assert_eq!(response.status().as_u16(), expected, "{name} {path}");
        }
        let path = owner.path("/audit/settings");
        let body = json!({"retention_days": 90});
        let refused = client.call::<Value>(Method::PUT, &path, body).await;
        assert_eq!(code(refused), ErrorCode::Forbidden);
    }
    let path = owner.path("/audit/settings");
    let set = async |days: u32| {
        let body = json!({ "retention_days": days });
        let set = owner.client.call::<AuditSettings>(Method::PUT, &path, body);
        set.await
    };
    for days in [0, 29, 3651] {
        assert_eq!(code(set(days).await), ErrorCode::ValidationError);
    }
    assert_eq!(set(90).await.unwrap().retention_days, 90);
    let now: AuditSettings = owner.client.get(&path).await.unwrap();
    assert_eq!(now.retention_days, 90);
    let rows = log(&owner).await;
    let changed = super::last(&rows, "org.update");
    assert_eq!(super::after(changed), json!({"audit_retention_days": 90}));
}

#[tokio::test]
async fn filters_and_pages_give_what_was_asked_for() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Admin).await;
    let me: ztna_proto::api::Me = bob.get("/api/auth/me").await.unwrap();
    let (_, machine) = owner.enrol("laptop").await;
    let path = owner.path(&format!("/machines/{}", machine.machine_id));
    let _: Value = bob
        .call(Method::PATCH, &path, json!({"name": "desk-1"}))
        .await
        .unwrap();
    let all = log(&owner).await;
    let find = async |query: &str| {
        let path = owner.path(&format!("/audit?{query}"));
        let page: AuditPage = owner.client.get(&path).await.unwrap();
        let found: Vec<_> = page.entries.into_iter().map(|entry| entry.action).collect();
        found
    };
    assert_eq!(
        find("action=machine").await,
        ["machine.update", "machine.create"]
    );
    assert_eq!(find("action=machine.create").await, ["machine.create"]);
    assert!(find("action=mach").await.is_empty());
    assert_eq!(
        find("text=LAPTOP").await,
        ["machine.update", "machine.create"]
    );
    assert!(find("text=100%25").await.is_empty());
    assert_eq!(
        find(&format!("actor={}", me.id)).await,
        ["machine.update", "invitation.delete", "member.create"]
    );
    assert_eq!(
        find(&format!("target={}&actor={}", machine.machine_id, me.id)).await,
        ["machine.update"]
    );
    let middle = &all[4];
    let time = middle.at.to_string();
    assert_eq!(find(&format!("since={time}")).await.len(), all.len() - 4);
    assert_eq!(find(&format!("until={time}")).await.len(), 4);

    // Page by page: everything once, the newest first.
    let mut paged = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let path = owner.path(&format!("/audit?{query}"));
        let page: AuditPage = owner.client.get(&path).await.unwrap();
        assert!(page.entries.len() <= 2);
        paged.extend(page.entries);
        let Some(next) = page.next else { break };
        query = format!("limit=2&cursor={next}");
    }
    paged.reverse();
    assert_eq!(actions(&paged), actions(&all));

    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "actor=bob",
        "since=yesterday",
        "cursor=a",
        "text=%00",
        &format!("text={}", "x".repeat(101)),
    ] {
        let path = owner.path(&format!("/audit?{bad}"));
        let refused = owner.client.get::<Value>(&path).await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{bad}");
    }
    for odd in [
        "cursor=-1",
        "cursor=9223372036854775807",
        "since=-009998-01-01T00:00:00Z",
    ] {
        find(odd).await;
    }
}

#[tokio::test]
async fn exports_are_files_that_spreadsheets_read_and_do_not_run() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let evil = "=HYPERLINK(\"http://evil.example\",\"x\"),\r\n\"quoted\"";
    let body = json!({"description": evil});
    let _: Value = owner
        .client
        .post(&owner.path("/auth-keys"), body)
        .await
        .unwrap();
    let fetch = async |query: &str| {
        let path = owner.path(&format!("/audit/export{query}"));
        let response = owner.client.request(Method::GET, &path).send().await;
        let response = response.unwrap();
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(response.headers().contains_key("content-disposition"));
        (kind, response.text().await.unwrap())
    };
    let (kind, text) = fetch("").await;
    assert!(kind.starts_with("text/csv"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
    let expected = log(&owner).await;
    // Of the two, the second has the first's own row.
    assert_eq!(rows.len() + 1, expected.len());
    let column = |name: &str| header.iter().position(|cell| cell == name).unwrap();
    for (row, entry) in rows.iter().zip(&expected) {
        assert_eq!(row[column("seq")], entry.seq.to_string());
        assert_eq!(row[column("action")], entry.action);
        assert_eq!(row[column("hash")], entry.hash);
        for cell in row {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{cell}"
            );
        }
    }
    assert_eq!(
        rows.last().unwrap()[column("target_name")],
        format!("'{evil}")
    );
    assert!(text.lines().next().unwrap().ends_with(",hash"));
    assert!(text.contains(",hash\r\n"));

    let (kind, text) = fetch("?format=json&action=auth_key").await;
    assert_eq!(kind, "application/json");
    let rows: Vec<ztna_proto::audit::AuditEntry> = serde_json::from_str(&text).unwrap();
    assert_eq!(actions(&rows), ["auth_key.create", "auth_key.create"]);
    let (_, text) = fetch("?format=json&action=nothing").await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!([]));
    let (_, text) = fetch("?format=csv&action=nothing").await;
    assert_eq!(text.lines().count(), 1);
    let exports = log(&owner).await;
    let exports = actions(&exports)
        .into_iter()
        .filter(|action| *action == "audit.export");
    assert_eq!(exports.count(), 4);
}

#[tokio::test]
async fn a_long_log_is_exported_whole() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let app = crate::common::connect(server.database.app.as_ref().unwrap()).await;
    app.batch_execute(&format!(
        "BEGIN; SELECT set_config('ztna.org', '{org}', true);
         DO $$ BEGIN FOR n IN 1..3000 LOOP
             UPDATE auth_keys SET revoked_at = now() + n * interval '1 second' WHERE org_id = '{org}';
         END LOOP; END $$; COMMIT",
        org = owner.org.id
    ))
    .await
    .unwrap();
    let path = owner.path("/audit/export?format=json");
    let response = owner.client.request(Method::GET, &path).send().await;
    let rows: Vec<ztna_proto::audit::AuditEntry> = response.unwrap().json().await.unwrap();
    assert_eq!(rows.len(), 3004);
    assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq));
}
