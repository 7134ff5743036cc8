//! The audit log: what it says, who may read it, and that nobody changes it unseen.

mod chain;
mod coverage;
mod sharing;

use crate::common::client::{Owner, PASSWORD, code, machine};
use crate::common::{Client, Server};
use crate::mfa;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use ztna_proto::api::{CreatedApiKey, Me, Role};
use ztna_proto::audit::{AuditActorKind, AuditEntry, AuditPage};
use ztna_proto::error::ErrorCode;

/// The org's rows, the oldest first.
async fn log(owner: &Owner) -> Vec<AuditEntry> {
    let path = owner.path("/audit?limit=500");
    let page: AuditPage = owner.client.get(&path).await.unwrap();
    assert_eq!(page.next, None, "more than a page");
    page.entries.into_iter().rev().collect()
}

fn actions(log: &[AuditEntry]) -> Vec<&str> {
    log.iter().map(|entry| entry.action.as_str()).collect()
}

fn value(raw: Option<&serde_json::value::RawValue>) -> Value {
    raw.map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap())
}

fn before(entry: &AuditEntry) -> Value {
    value(entry.before.as_deref())
}

fn after(entry: &AuditEntry) -> Value {
    value(entry.after.as_deref())
}

/// The last row of an action.
fn last<'a>(log: &'a [AuditEntry], action: &str) -> &'a AuditEntry {
    let found = log.iter().rev().find(|entry| entry.action == action);
    found.unwrap_or_else(|| panic!("no {action} in {:?}", actions(log)))
}

/// The log, once it has so many rows of an action: refusals are written beside the answer.
async fn log_with(owner: &Owner, action: &str, count: usize) -> Vec<AuditEntry> {
    let begin = Instant::now();
    loop {
        let log = log(owner).await;
        if log.iter().filter(|entry| entry.action == action).count() >= count {
            return log;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?}",
            actions(&log)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_says_who_what_before_and_after_and_from_where() {
    let server = Server::start_with(|config| config.trusted_proxies = 1).await;
    let owner = Owner::new(&server, "acme").await;
    let me: Me = owner.client.get("/api/auth/me").await.unwrap();
    let rows = log(&owner).await;
    assert_eq!(
        actions(&rows),
        [
            "org.create",
            "member.create",
            "policy.save",
            "auth_key.create"
        ]
    );
    for (entry, seq) in rows.iter().zip(1..) {
        assert_eq!(entry.seq, seq);
        assert_eq!(entry.actor.kind, AuditActorKind::User);
        assert_eq!(entry.actor.id, Some(me.id.0));
        assert_eq!(entry.actor.name.as_deref(), Some("acme@example.com"));
    }
    let made = last(&rows, "member.create");
    assert_eq!(made.target.id, Some(me.id.to_string()));
    assert_eq!(made.target.name.as_deref(), Some("acme@example.com"));
    assert_eq!(after(made)["role"], "owner");
    assert_eq!(made.route.as_deref(), Some("POST /api/orgs"));

    // A machine by an auth key; renamed by a person from afar; deleted by a program.
    let (_, machine) = owner.enrol("a").await;
    let path = owner.path(&format!("/machines/{}", machine.machine_id));
    let response = owner
        .client
        .request(Method::PATCH, &path)
        .json(&json!({"name": "b"}))
        .header("x-forwarded-for", "198.51.100.7")
        .header("user-agent", "a browser")
        .send()
        .await
        .unwrap();
    let request_id = response.headers()["x-request-id"].to_str().unwrap();
    let body = json!({"scopes": ["machines:write"], "expires_in_days": 1, "description": "robot"});
    let key: CreatedApiKey = owner
        .client
        .post(&owner.path("/api-keys"), body)
        .await
        .unwrap();
    let robot = owner.client.bearer(key.key.expose());
    robot.delete(&path).await.unwrap();

    let rows = log(&owner).await;
    assert_eq!(
        actions(&rows)[4..],
        [
            "machine.create",
            "machine.update",
            "api_key.create",
            "machine.delete"
        ]
    );
    let joined = last(&rows, "machine.create");
    assert_eq!(joined.actor.kind, AuditActorKind::AuthKey);
    assert_eq!(joined.actor.id, Some(owner.key.info.id.0));
    assert_eq!(after(joined)["token_hash"], "[secret]");
    assert_eq!(after(joined)["name"], "a");
    let renamed = last(&rows, "machine.update");
    assert_eq!(before(renamed), json!({"name": "a"}));
    assert_eq!(after(renamed), json!({"name": "b"}));
    assert_eq!(renamed.ip, Some("198.51.100.7".parse().unwrap()));
    assert_eq!(renamed.client.as_deref(), Some("a browser"));
    assert_eq!(
        renamed.route.as_deref(),
        Some("PATCH /api/orgs/{org}/machines/{machine}")
    );
    assert_eq!(renamed.request_id.as_deref(), Some(request_id));
    let deleted = last(&rows, "machine.delete");
    assert_eq!(deleted.actor.kind, AuditActorKind::ApiKey);
    assert_eq!(deleted.actor.id, Some(key.info.id.0));
    assert_eq!(deleted.actor.on_behalf_of, Some(me.id));
    assert_eq!(deleted.actor.name.as_deref(), Some("robot"));
    assert_eq!(deleted.target.name.as_deref(), Some("b"));
    assert_eq!(before(deleted)["name"], "b");
    assert_eq!(after(deleted), Value::Null);

    // What changes nothing leaves nothing, nor do counts that tick.
    owner.enrol("c").await;
    let path = owner.path(&format!("/api-keys/{}", key.info.id));
    owner.client.delete(&path).await.unwrap();
    owner.client.delete(&path).await.unwrap();
    let rows = log(&owner).await;
    assert_eq!(actions(&rows)[8..], ["machine.create", "api_key.revoke"]);
    // Of an ML-KEM key, which is long, there is a digest.
    let key = &after(last(&rows, "machine.create"))["kem_key"];
    assert!(key.as_str().unwrap().starts_with("sha256:"), "{key}");
}

#[tokio::test]
async fn machines_that_come_at_once_are_told_apart() {
    let server = Server::start_with(|config| config.trusted_proxies = 1).await;
    let owner = Owner::new(&server, "acme").await;
    let with_key = owner.client.bearer(owner.key.key.expose());
    let come = (1..=40).map(|n| {
        let with_key = &with_key;
        async move {
            let from = format!("198.51.100.{n}");
            let response = with_key
                .request(Method::POST, "/api/register-machine")
                .json(&machine(&format!("m{n}")))
                .header("x-forwarded-for", &from)
                .send()
                .await
                .unwrap();
            let request_id = response.headers()["x-request-id"].to_str().unwrap();
            (format!("m{n}"), from, request_id.to_owned())
        }
    });
    let came: BTreeSet<_> = join_all(come).await.into_iter().collect();
    let rows = log_with(&owner, "machine.create", 40).await;
    let rows = rows.iter().filter(|row| row.action == "machine.create");
    let told: BTreeSet<_> = rows
        .map(|row| {
            assert_eq!(row.actor.kind, AuditActorKind::AuthKey);
            assert_eq!(row.actor.id, Some(owner.key.info.id.0));
            assert_eq!(row.route.as_deref(), Some("POST /api/register-machine"));
            let (name, id) = (row.target.name.clone(), row.request_id.clone());
            (name.unwrap(), row.ip.unwrap().to_string(), id.unwrap())
        })
        .collect();
    assert_eq!(told, came);
}

#[tokio::test]
async fn the_machine_and_the_system_act_too() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, machine) = owner.enrol("a").await;
    let alive = json!({
        "agent_version": "9.9.9",
        "report": {"endpoints": [], "home_region": null, "disco_key": null},
    });
    let _: Value = owner
        .as_machine(&machine.node_key)
        .post("/api/machine-heartbeat", alive)
        .await
        .unwrap();
    let rows = log(&owner).await;
    let told = last(&rows, "machine.update");
    assert_eq!(told.actor.kind, AuditActorKind::Machine);
    assert_eq!(told.actor.id, Some(machine.machine_id.0));
    assert_eq!(told.actor.name.as_deref(), Some("a"));
    assert_eq!(after(told), json!({"agent_version": "9.9.9"}));

    // Its time is over, and nobody did that.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300);
    let path = owner.path(&format!("/machines/{}", machine.machine_id));
    let body = json!({"key_expires_at": soon});
    let _: Value = owner.client.call(Method::PATCH, &path, body).await.unwrap();
    let rows = log_with(&owner, "machine.update", 3).await;
    let expired = last(&rows, "machine.update");
    assert_eq!(expired.actor.kind, AuditActorKind::System);
    assert_eq!((expired.actor.id, expired.ip), (None, None));
    assert_eq!(after(expired), json!({"expired": true}));
}

#[tokio::test]
async fn sign_ins_and_refusals_are_in_each_org_of_the_person() {
    let server = Server::start_with(|config| {
        config.limits.credentials.count = 100;
        config.limits.account.count = 5;
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let alice = Client::new_user(&server, mfa::EMAIL).await;
    for org in [&owner, &rival] {
        let token = org
            .invite(&org.client, mfa::EMAIL, Role::Member)
            .await
            .unwrap();
        let body = json!({"token": token});
        let _: Value = alice.post("/api/accept-invitation", body).await.unwrap();
    }
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    let (phone, _, backup) = mfa::set_up(&alice).await;
    let anonymous = Client::anonymous(&server);
    let login = async |password: &str, code: Option<&str>| {
        let body = json!({"email": mfa::EMAIL, "password": password, "totp_code": code});
        anonymous.post::<Value>("/api/auth/login", body).await
    };
    login(PASSWORD, Some(&phone.code(1))).await.unwrap();
    login(PASSWORD, Some(&backup[0])).await.unwrap();
    assert!(login(PASSWORD, None).await.is_err());
    assert!(login(PASSWORD, Some("000000")).await.is_err());
    assert!(login("wrong password", None).await.is_err());
    // Nobody's account: in nobody's log.
    assert!(anonymous.login("nobody@example.com", "x").await.is_err());
    for org in [&owner, &rival] {
        let rows = log_with(org, "session.refused", 2).await;
        let good: Vec<_> = rows
            .iter()
            .filter(|entry| entry.action == "session.sign_in")
            .collect();
        let ways: Vec<_> = good
            .iter()
            .map(|entry| after(entry)["way"].clone())
            .collect();
        assert_eq!(ways, ["password and code", "password and backup code"]);
        for entry in good {
            assert_eq!(entry.actor.id, Some(me.id.0));
            assert_eq!(entry.target.name.as_deref(), Some(mfa::EMAIL));
        }
        let mut reasons: Vec<_> = rows
            .iter()
            .filter(|entry| entry.action == "session.refused")
            .map(|entry| {
                assert_eq!(entry.actor.kind, AuditActorKind::Anonymous);
                assert_eq!(entry.actor.id, None);
                assert_eq!(entry.target.id, Some(me.id.to_string()));
                assert_eq!(entry.ip, Some("127.0.0.1".parse().unwrap()));
                after(entry)["reason"].as_str().unwrap().to_owned()
            })
            .collect();
        reasons.sort();
        assert_eq!(reasons, ["wrong code", "wrong password"]);
        let mfa = last(&rows, "mfa.create");
        assert_eq!(after(mfa)["secret"], "[secret]");
        last(&rows, "mfa.update");
    }

    // The lock is said once, however long somebody tries.
    for _ in 0..12 {
        assert!(login("wrong password", None).await.is_err());
    }
    let locked = |entry: &&AuditEntry| {
        entry.action == "session.refused" && after(entry)["reason"] == "too many failures: locked"
    };
    // Two of before, two more, and the lock.
    let rows = log_with(&owner, "session.refused", 5).await;
    assert_eq!(rows.iter().filter(locked).count(), 1);

    // A new password, and the sessions that it ends.
    let body = json!({"current_password": PASSWORD, "password": "another long password"});
    let _: Value = alice.post("/api/auth/change-password", body).await.unwrap();
    let rows = log(&owner).await;
    let changed = last(&rows, "user.update");
    assert_eq!(before(changed), json!({"password_hash": "[secret]"}));
    assert_eq!(after(changed), json!({"password_hash": "[secret]"}));
    let ended = last(&rows, "session.end");
    assert_eq!(ended.actor.id, Some(me.id.0));
    assert_eq!(before(ended)["hash"], "[secret]");
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_is_told() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let anonymous = Client::anonymous(&server);
    let session = anonymous.login("acme@example.com", PASSWORD).await.unwrap();
    let body = json!({"refresh_token": session.refresh_token});
    let _: Value = anonymous.post("/api/auth/refresh", &body).await.unwrap();
    assert_eq!(
        code(anonymous.post::<Value>("/api/auth/refresh", &body).await),
        ErrorCode::Unauthorized
    );
    let rows = log(&owner).await;
    let ended = last(&rows, "session.end");
    assert_eq!(ended.actor.kind, AuditActorKind::Anonymous);
    assert_eq!(ended.route.as_deref(), Some("POST /api/auth/refresh"));
}

#[tokio::test]
async fn who_leaves_is_named_in_the_log_that_stays() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Admin).await;
    let body = json!({"password": PASSWORD});
    let _: Value = bob.post("/api/auth/delete-account", body).await.unwrap();
    let rows = log(&owner).await;
    let left = last(&rows, "member.delete");
    assert_eq!(left.actor.name.as_deref(), Some("bob@example.com"));
    assert_eq!(before(left)["role"], "admin");
}
