//! API keys: what their scopes name, as far as their maker's role goes, in their org.

use crate::common::client::{Owner, code};
use crate::common::{Client, Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{ApiKeyInfo, CreatedApiKey, Machine, Me, Member, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};

async fn make(owner: &Owner, who: &Client, scopes: &[&str]) -> Result<CreatedApiKey, ErrorBody> {
    let body = json!({"scopes": scopes, "expires_in_days": 30, "description": "a program"});
    who.post(&owner.path("/api-keys"), body).await
}

async fn key(owner: &Owner, who: &Client, scopes: &[&str]) -> Client {
    let made = make(owner, who, scopes).await.unwrap();
    who.bearer(made.key.expose())
}

async fn list(owner: &Owner) -> Vec<ApiKeyInfo> {
    owner.client.get(&owner.path("/api-keys")).await.unwrap()
}

#[tokio::test]
async fn keys_do_what_their_scopes_name_and_no_more() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let (_, machine) = owner.enrol("a").await;
    let machines = owner.path("/machines");
    let one = owner.path(&format!("/machines/{}", machine.machine_id));
    let rename = json!({"name": "b"});

    let reader = key(&owner, &owner.client, &["machines:read"]).await;
    let read: Vec<Machine> = reader.get(&machines).await.unwrap();
    assert_eq!(read.len(), 1);
    let refused = reader.call::<Value>(Method::PATCH, &one, &rename).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let refused = reader.get::<Value>(&owner.path("/policy")).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);

    let writer = key(&owner, &owner.client, &["write"]).await;
    let changed: Machine = writer.call(Method::PATCH, &one, &rename).await.unwrap();
    assert_eq!(changed.name, "b");
    let members: Vec<Member> = writer.get(&owner.path("/members")).await.unwrap();
    assert_eq!(members.len(), 1);

    // In its org, for its org, and not for what is the person's alone.
    let refused = writer.get::<Value>(&rival.path("/machines")).await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    for path in ["/api/auth/me", "/api/auth/sessions"] {
        assert!(writer.get::<Value>(path).await.is_err(), "{path}");
    }
    let refused = writer
        .post::<Value>("/api/orgs", json!({"name": "x"}))
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    assert_eq!(
        code(make(&owner, &writer, &["write"]).await),
        ErrorCode::Forbidden,
        "no key makes another"
    );
    let refused = writer
        .post::<Value>(
            "/api/auth/change-password",
            json!({"current_password": "", "password": ""}),
        )
        .await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    let unknown = owner
        .client
        .bearer("ztna-api-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(
        code(unknown.get::<Value>(&machines).await),
        ErrorCode::Unauthorized
    );
}

#[tokio::test]
async fn keys_are_made_listed_revoked_and_end() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bad = [
        json!({"scopes": [], "expires_in_days": 1}),
        json!({"scopes": ["everything"], "expires_in_days": 1}),
        json!({"scopes": ["read"], "expires_in_days": 0}),
        json!({"scopes": ["read"], "expires_in_days": 366}),
        json!({"scopes": vec!["read"; 33], "expires_in_days": 1}),
        json!({"scopes": ["read"], "expires_in_days": 1, "description": "x".repeat(256)}),
        json!({"scopes": ["read"]}),
    ];
    for body in bad {
        let refused = owner
            .client
            .post::<Value>(&owner.path("/api-keys"), &body)
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{body}");
    }
    let made = make(&owner, &owner.client, &["read", "machines:write"])
        .await
        .unwrap();
    let seconds = made.info.expires_at.duration_since(made.info.created_at);
    assert_eq!(seconds.as_hours(), 30 * 24);
    let client = owner.client.bearer(made.key.expose());
    assert!(list(&owner).await[0].last_used_at.is_none());
    let _: Value = client.get(&owner.path("/machines")).await.unwrap();
    let entry = &list(&owner).await[0];
    assert!(entry.last_used_at.is_some());
    assert_eq!(entry.scopes, ["read", "machines:write"]);
    let admin = connect(&server.database.setup).await;
    let row = admin
        .query_one("SELECT api_keys::text FROM api_keys", &[])
        .await
        .unwrap();
    assert!(!row.get::<_, &str>(0).contains(made.key.expose()));

    let path = owner.path(&format!("/api-keys/{}", made.info.id));
    owner.client.delete(&path).await.unwrap();
    let refused = client.get::<Value>(&owner.path("/machines")).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    assert!(list(&owner).await[0].revoked_at.is_some());

    let over = key(&owner, &owner.client, &["read"]).await;
    admin
        .execute("UPDATE api_keys SET expires_at = now()", &[])
        .await
        .unwrap();
    let refused = over.get::<Value>(&owner.path("/machines")).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn a_key_reaches_as_far_as_its_maker_and_leaves_with_them() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = owner.add(&server, "admin", Role::Admin).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    assert_eq!(
        code(make(&owner, &auditor, &["read"]).await),
        ErrorCode::Forbidden
    );
    let program = key(&owner, &admin, &["write"]).await;
    let make_auth_key = async || {
        program
            .post::<Value>(&owner.path("/auth-keys"), json!({}))
            .await
    };
    make_auth_key().await.unwrap();
    let me: Me = admin.get("/api/auth/me").await.unwrap();
    let member = owner.path(&format!("/members/{}", me.id));
    let _: Member = owner
        .client
        .call(Method::PATCH, &member, json!({"role": "auditor"}))
        .await
        .unwrap();
    assert_eq!(code(make_auth_key().await), ErrorCode::Forbidden);
    let _: Value = program.get(&owner.path("/auth-keys")).await.unwrap();
    owner.client.delete(&member).await.unwrap();
    let refused = program.get::<Value>(&owner.path("/auth-keys")).await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    assert!(list(&owner).await.is_empty());
}

#[tokio::test]
async fn a_key_has_its_calls_a_minute() {
    let server = Server::start_with(|config| config.limits.api_key.count = 3).await;
    let owner = Owner::new(&server, "acme").await;
    let one = key(&owner, &owner.client, &["read"]).await;
    let two = key(&owner, &owner.client, &["read"]).await;
    for _ in 0..3 {
        let _: Value = one.get(&owner.path("/machines")).await.unwrap();
    }
    let refused = one.get::<Value>(&owner.path("/machines")).await;
    assert_eq!(code(refused), ErrorCode::RateLimited);
    let _: Value = two.get(&owner.path("/machines")).await.unwrap();
}
