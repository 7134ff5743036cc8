//! What machines are: tags, when their sign-in ends, and what auth keys say of them.

use std::time::Duration;

use crate::common::acts::{hold, this};
use crate::common::client::{Owner, code, machine};
use crate::common::stream::{self, Stream};
use crate::common::{Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{AuthKeyInfo, Machine, Registered, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::machines::MachineState;

/// Who may give which tag.
const TAGS: &str = r#"{
    "tagOwners": {"tag:web": [], "tag:lab": ["autogroup:member"]},
    "acls": [{"action": "accept", "src": ["tag:web"], "dst": ["tag:web:*"]},
             {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:member:*"]}],
}"#;

#[tokio::test]
async fn tags_are_given_by_their_owners_and_change_who_is_seen() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(TAGS).await.unwrap();
    let member = owner.add(&server, "member", Role::Member).await;
    let mut laptop = machine("laptop");
    laptop.org = Some(owner.org.id);
    let laptop = member.register(&laptop).await.unwrap();
    let (_, web) = owner.enrol("web").await;
    let mut at_laptop = Stream::connect(&server, &laptop.node_key).await;
    at_laptop.until("web", |s| s.peer_names() == ["web"]).await;

    let tagged = owner.change(
        &owner.client,
        web.machine_id,
        json!({"tags": ["tag:web", "tag:web"]}),
    );
    let tagged = tagged.await.unwrap();
    assert_eq!(tagged.life.tags, ["tag:web"]);
    assert!(!tagged.life.key_expiry && tagged.key_expires_at.is_none());
    at_laptop.until("web gone", |s| s.peers().is_empty()).await;
    let key = owner.key(json!({"tags": ["tag:web"]})).await;
    let second = owner.enrol_with(&key, "web2").await;
    assert!(second.key_expires_at.is_none());
    let at_second = Stream::connect(&server, &second.node_key).await;
    assert_eq!(at_second.peer_names(), ["web"]);
    let seen = owner.look(second.machine_id).await;
    assert_eq!(
        (seen.life.tags, seen.user),
        (vec!["tag:web".to_owned()], None)
    );
    assert_eq!(seen.life.auth_key, Some(key.info.id));

    for (tags, refusal) in [
        (json!(["tag:none"]), ErrorCode::ValidationError),
        (json!(["web"]), ErrorCode::ValidationError),
    ] {
        let refused = owner
            .change(&owner.client, web.machine_id, json!({"tags": tags.clone()}))
            .await;
        assert_eq!(code(refused), refusal);
        let refused = owner
            .client
            .post::<Value>(&owner.path("/auth-keys"), json!({"tags": tags}))
            .await;
        assert_eq!(code(refused), refusal);
    }
    let expiry = json!({"key_expires_at": "2030-01-01T00:00:00Z"});
    let refused = owner.change(&owner.client, web.machine_id, expiry).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);

    // A member: tags that are listed for them, on machines that are theirs.
    let id = laptop.machine_id;
    let refused = owner
        .change(&member, id, json!({"tags": ["tag:web"]}))
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let refused = owner
        .change(&member, web.machine_id, json!({"tags": ["tag:lab"]}))
        .await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    let refused = owner
        .change(&member, id, json!({"tags": ["tag:lab"], "name": "x"}))
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let given = owner
        .change(&member, id, json!({"tags": ["tag:lab"]}))
        .await
        .unwrap();
    assert_eq!(given.user, None, "a machine with tags is nobody's");
    let back = owner.change(&member, id, json!({"tags": []})).await;
    assert_eq!(code(back), ErrorCode::NotFound);

    // Without tags it expires again.
    let bare = owner
        .change(&owner.client, id, json!({"tags": []}))
        .await
        .unwrap();
    assert!(bare.life.key_expiry && bare.key_expires_at.is_some());
}

#[tokio::test]
async fn a_machine_that_has_tags_outlives_its_users_membership() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(TAGS).await.unwrap();
    let member = owner.add(&server, "member", Role::Member).await;
    let me: ztna_proto::api::Me = member.get("/api/auth/me").await.unwrap();
    let mut names = Vec::new();
    for name in ["own", "given"] {
        let mut request = machine(name);
        request.org = Some(owner.org.id);
        names.push(member.register(&request).await.unwrap().machine_id);
    }
    owner
        .change(&member, names[1], json!({"tags": ["tag:lab"]}))
        .await
        .unwrap();
    owner
        .client
        .delete(&owner.path(&format!("/members/{}", me.id)))
        .await
        .unwrap();
    let left: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(left.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["given"]);
}

#[tokio::test]
async fn sign_ins_end_as_the_org_and_the_machine_say() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    for days in [0, 366] {
        let refused = owner
            .client
            .call::<Value>(
                Method::PATCH,
                &owner.path("/settings"),
                json!({"key_expiry_days": days}),
            )
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
    assert_eq!(
        owner
            .set(json!({"key_expiry_days": 7}))
            .await
            .key_expiry_days,
        7
    );
    let (mut request, m) = owner.enrol("m").await;
    let days = |until: jiff::Timestamp| {
        let left = until.duration_since(jiff::Timestamp::now());
        (left.as_secs() + 3600) / 86_400
    };
    assert_eq!(days(m.key_expires_at.unwrap()), 7);
    let mut stream = Stream::connect(&server, &m.node_key).await;

    // Registered again, it goes on: same machine, same stream, another end.
    owner.set(json!({"key_expiry_days": 30})).await;
    request.node_key = Some(m.node_key.clone());
    let with_key = owner.client.bearer(owner.key.key.expose());
    let renewed = with_key.register(&request).await.unwrap();
    assert_eq!((renewed.machine_id, renewed.ipv4), (m.machine_id, m.ipv4));
    stream
        .until("the new end", |s| {
            this(s).key_expires_at == renewed.key_expires_at
        })
        .await;
    assert_eq!(days(renewed.key_expires_at.unwrap()), 30);

    let off = owner
        .change(&owner.client, m.machine_id, json!({"key_expiry": false}))
        .await
        .unwrap();
    assert_eq!((off.life.key_expiry, off.key_expires_at), (false, None));
    request.node_key = Some(renewed.node_key);
    let renewed = with_key.register(&request).await.unwrap();
    assert_eq!(
        renewed.key_expires_at, None,
        "the switch outlives a sign-in"
    );
    let on = owner
        .change(&owner.client, m.machine_id, json!({"key_expiry": true}))
        .await
        .unwrap();
    assert_eq!(days(on.key_expires_at.unwrap()), 30);

    // Expired, and switched off: it is back without another sign-in.
    let past = json!({"key_expires_at": "2020-01-01T00:00:00Z"});
    let over = owner
        .change(&owner.client, m.machine_id, past)
        .await
        .unwrap();
    assert_eq!(over.life.state, MachineState::Expired);
    assert_eq!(stream.ends().await.code, ErrorCode::KeyExpired);
    let off = owner
        .change(&owner.client, m.machine_id, json!({"key_expiry": false}))
        .await
        .unwrap();
    assert_eq!(off.life.state, MachineState::Offline);
    Stream::connect(&server, &renewed.node_key).await;
}

#[tokio::test]
async fn keys_tell_what_they_are_and_take_their_machines_along_if_asked() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(TAGS).await.unwrap();
    let body = json!({"reusable": true, "description": "ci", "tags": ["tag:web"], "ephemeral": true,
        "preapproved": true});
    let key = owner.key(body).await;
    let (a, b) = (
        owner.enrol_with(&key, "a").await,
        owner.enrol_with(&key, "b").await,
    );
    let (_, other) = owner.enrol("other").await;
    let keys: Vec<AuthKeyInfo> = owner.client.get(&owner.path("/auth-keys")).await.unwrap();
    let info = keys.iter().find(|info| info.id == key.info.id).unwrap();
    assert_eq!((info.uses, &*info.description), (2, "ci"));
    assert_eq!(info.tags, ["tag:web"]);
    assert!(info.ephemeral && info.preapproved && info.reusable);
    assert_eq!(info.created_by.as_deref(), Some("acme@example.com"));
    let state = async |m: &Registered| owner.look(m.machine_id).await.life.state;

    let path = owner.path(&format!("/auth-keys/{}", key.info.id));
    owner.client.delete(&path).await.unwrap();
    assert_eq!(state(&a).await, MachineState::Offline, "its machines stay");
    let bad = owner
        .client
        .delete(&format!("{path}?quarantine=perhaps"))
        .await;
    assert_eq!(code(bad), ErrorCode::ValidationError);
    let mut at_a = Stream::connect(&server, &a.node_key).await;
    owner
        .client
        .delete(&format!("{path}?quarantine=true"))
        .await
        .unwrap();
    for machine in [&a, &b] {
        assert_eq!(state(machine).await, MachineState::Quarantined);
    }
    assert_eq!(state(&other).await, MachineState::Offline);
    at_a.until("the hold", |s| {
        hold(s).is_some_and(|(_, why)| why.contains("revoked"))
    })
    .await;
    assert_eq!(server.cut.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn ephemeral_machines_go_after_silence_and_others_stay() {
    let silence = Duration::from_secs(2);
    let server = Server::start_with(|config| config.ephemeral_silence = silence).await;
    let owner = Owner::new(&server, "acme").await;
    let key = owner
        .key(json!({"reusable": true, "ephemeral": true}))
        .await;
    let (_, lasting) = owner.enrol("lasting").await;
    let apart = owner
        .key(json!({"reusable": true, "ephemeral": true}))
        .await;
    let held = owner.enrol_with(&apart, "held").await;
    owner.does(held.machine_id, json!({"action": "lock"})).await;
    let job = owner.enrol_with(&key, "job").await;
    let busy = owner.enrol_with(&key, "busy").await;
    assert!(owner.look(job.machine_id).await.life.ephemeral);
    let mut at_busy = Stream::connect(&server, &busy.node_key).await;
    at_busy
        .until("job gone", |s| s.peer_names() == ["lasting"])
        .await;
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    let names: Vec<_> = list.iter().map(|m| (&*m.name, m.life.ephemeral)).collect();
    assert_eq!(names, [("busy", true), ("held", true), ("lasting", false)]);
    let (status, _) = stream::open(&server, &job.node_key).await.unwrap_err();
    assert_eq!(status, 410);
    assert_eq!(
        owner.look(lasting.machine_id).await.life.state,
        MachineState::Offline
    );
}

#[tokio::test]
async fn members_tags_bring_no_machine_back_and_owners_may_be_groups_of_the_provider() {
    const POLICY: &str = r#"{
        "groups": {"group:lab": []}, "tagOwners": {"tag:lab": ["group:lab"]},
        "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    }"#;
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.put_policy(POLICY).await.unwrap();
    let member = owner.add(&server, "member", Role::Member).await;
    let me: ztna_proto::api::Me = member.get("/api/auth/me").await.unwrap();
    let mut laptop = machine("laptop");
    laptop.org = Some(owner.org.id);
    let id = member.register(&laptop).await.unwrap().machine_id;
    let tag = async || {
        owner
            .change(&member, id, json!({"tags": ["tag:lab"]}))
            .await
    };
    assert_eq!(code(tag().await), ErrorCode::Forbidden);
    let admin = connect(&server.database.setup).await;
    let changed = admin
        .execute(
            "UPDATE members SET provider_groups = '{lab}' WHERE user_id = $1",
            &[&me.id.0],
        )
        .await
        .unwrap();
    assert_eq!(changed, 1);

    owner.does(id, json!({"action": "quarantine"})).await;
    assert_eq!(code(tag().await), ErrorCode::Forbidden);
    owner.does(id, json!({"action": "release"})).await;
    let past = json!({"key_expires_at": "2020-01-01T00:00:00Z"});
    owner.change(&owner.client, id, past).await.unwrap();
    assert_eq!(code(tag().await), ErrorCode::Forbidden);
    assert_eq!(owner.look(id).await.life.state, MachineState::Expired);
    let ahead = json!({"key_expires_at": "2100-01-01T00:00:00Z"});
    owner.change(&owner.client, id, ahead).await.unwrap();
    assert_eq!(tag().await.unwrap().life.tags, ["tag:lab"]);
}

#[tokio::test]
async fn a_reusable_key_enrols_as_many_as_it_may() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    assert_eq!(owner.key.info.max_uses, Some(1000));
    let key = owner.key(json!({"reusable": true, "max_uses": 3})).await;
    assert_eq!(key.info.max_uses, Some(3));
    // At once, on all connections that there are.
    let who = owner.client.bearer(key.key.expose());
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let (who, request) = (who.clone(), machine(&format!("box{number}")));
            tokio::spawn(async move { who.register(&request).await })
        })
        .collect();
    let mut joined = 0;
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(_) => joined += 1,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::KeyUsed);
                assert!(
                    error.message.contains("as many machines as it may"),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(joined, 3);
    let path = owner.path("/auth-keys");
    let keys: Vec<AuthKeyInfo> = owner.client.get(&path).await.unwrap();
    let found = keys.iter().find(|info| info.id == key.info.id).unwrap();
    assert_eq!((found.uses, found.max_uses), (3, Some(3)));
    let one = owner.key(json!({})).await;
    assert_eq!(one.info.max_uses, Some(1));
    for body in [
        json!({"reusable": true, "max_uses": 0}),
        json!({"reusable": true, "max_uses": 100_001}),
        json!({"max_uses": 2}),
    ] {
        let refused = owner.client.post::<Value>(&path, body).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
}
