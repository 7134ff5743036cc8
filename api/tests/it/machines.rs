//! Orgs, auth keys, registration, machines: rules, and what happens when many come at once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{AuthKeyInfo, CreatedAuthKey, Machine, Member, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::tokens::AuthKey;

#[tokio::test]
async fn a_one_shot_key_enrols_one_of_twenty_at_once() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let key = owner.client.new_auth_key(owner.org.id, false).await;
    let with_key = owner.client.bearer(key.key.expose());
    let machines: Vec<_> = (0..20).map(|n| machine(&format!("m{n}"))).collect();
    let results = join_all(machines.iter().map(|m| with_key.register(m))).await;
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 19));
    for refused in bad {
        assert_eq!(code(refused), ErrorCode::KeyUsed);
    }
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(list.len(), 1);
    let keys: Vec<AuthKeyInfo> = owner.client.get(&owner.path("/auth-keys")).await.unwrap();
    let info = keys.iter().find(|info| info.id == key.info.id).unwrap();
    assert_eq!(info.uses, 1);
}

#[tokio::test]
async fn a_failed_registration_does_not_use_the_key_up() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (taken, _) = owner.enrol("a").await;
    let key = owner.client.new_auth_key(owner.org.id, false).await;
    let with_key = owner.client.bearer(key.key.expose());
    let mut thief = machine("b");
    thief.wg_key = taken.wg_key;
    assert_eq!(
        code(with_key.register(&thief).await),
        ErrorCode::RegistrationConflict
    );
    with_key.register(&machine("b")).await.unwrap();
}

#[tokio::test]
async fn who_is_refused_does_not_hold_up_those_that_come_at_the_same_time() {
    let server = Server::start_with(|config| config.limits.registration.count = 100).await;
    let owner = Owner::new(&server, "acme").await;
    let (taken, joined) = owner.enrol("a").await;
    // In another org, where this one's transactions do not see it.
    let other = Owner::new(&server, "other").await;
    let (elsewhere, _) = other.enrol("b").await;
    let mut fleet: Vec<_> = (0..40).map(|n| machine(&format!("m{n}"))).collect();
    fleet[7].wg_key = taken.wg_key;
    fleet[21].wg_key = elsewhere.wg_key;
    fleet[33].wg_key = fleet[32].wg_key;
    fleet[38] = taken.clone();
    fleet[38].node_key = Some(joined.node_key);
    let with_key = owner.client.bearer(owner.key.key.expose());
    let mut results = join_all(fleet.iter().map(|m| with_key.register(m))).await;
    let again = results.remove(38).unwrap();
    assert_eq!(again.machine_id, joined.machine_id);
    let twins = results.drain(32..34).filter(Result::is_ok).count();
    assert_eq!(twins, 1);
    assert_eq!(code(results.remove(21)), ErrorCode::RegistrationConflict);
    assert_eq!(code(results.remove(7)), ErrorCode::RegistrationConflict);
    let addresses: BTreeSet<_> = results.into_iter().map(|it| it.unwrap().ipv4).collect();
    assert_eq!(addresses.len(), 35);
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(list.len(), 37);
    let keys: Vec<AuthKeyInfo> = owner.client.get(&owner.path("/auth-keys")).await.unwrap();
    assert_eq!(keys[0].uses, 38, "with the one that registered again");
}

#[tokio::test]
async fn a_fleet_at_once_gets_names_and_addresses_of_its_own() {
    let server = Server::start_with(|config| config.limits.registration.count = 10).await;
    let owner = Owner::new(&server, "acme").await;
    let with_key = owner.client.bearer(owner.key.key.expose());
    // With one of them connected, every registration is passed on as well.
    let (_, watcher) = owner.enrol("watcher").await;
    let mut stream = Stream::connect(&server, &watcher.node_key).await;
    let machines: Vec<_> = (0..50).map(|_| machine("node")).collect();
    let results = join_all(machines.iter().map(|m| with_key.register(m))).await;
    let registered: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let distinct = |f: &dyn Fn(usize) -> String| (0..50).map(f).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&|n| registered[n].ipv4.to_string()), 50);
    assert_eq!(distinct(&|n| registered[n].ipv6.to_string()), 50);
    let names: BTreeSet<_> = registered.iter().map(|r| r.name.clone()).collect();
    assert_eq!(names.len(), 50);
    assert!(names.contains("node") && names.contains("node-1") && names.contains("node-49"));
    let lowest = registered.iter().map(|r| r.ipv4).min();
    assert_eq!(lowest, Some(Ipv4Addr::new(100, 64, 0, 2)));
    stream.until("all", |s| s.peers().len() == 50).await;
    assert!(registered.iter().all(|r| r.ipv6.is_unique_local()));
}

#[tokio::test]
async fn addresses_are_free_again_only_when_the_network_is_used_up() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, first) = owner.enrol("first").await;
    let (_, second) = owner.enrol("second").await;
    owner
        .client
        .delete(&owner.path(&format!("/machines/{}", first.machine_id)))
        .await
        .unwrap();
    let (_, third) = owner.enrol("third").await;
    assert_eq!(
        third.ipv4,
        Ipv4Addr::new(100, 64, 0, 3),
        "not the freed one"
    );

    // The last number, then round again.
    let admin = connect(&server.database.setup).await;
    let last = (1i64 << 22) - 2;
    admin
        .execute("UPDATE orgs SET ipv4_next = $1", &[&last])
        .await
        .unwrap();
    let (_, end) = owner.enrol("end").await;
    assert_eq!(end.ipv4, Ipv4Addr::new(100, 127, 255, 254));
    let (_, again) = owner.enrol("again").await;
    assert_eq!(again.ipv4, first.ipv4);
    let with_key = owner.client.bearer(owner.key.key.expose());
    let several: Vec<_> = (0..5).map(|n| machine(&format!("at-once-{n}"))).collect();
    let several = join_all(several.iter().map(|it| with_key.register(it))).await;
    let several: BTreeSet<_> = several.into_iter().map(|it| it.unwrap().ipv4).collect();
    let lowest = (4..9).map(|n| Ipv4Addr::new(100, 64, 0, n));
    assert_eq!(several, lowest.collect());
    let (_, next) = owner.enrol("next").await;
    assert_eq!(next.ipv4, Ipv4Addr::new(100, 64, 0, 9));
    assert_ne!(next.ipv4, second.ipv4);

    // Two numbers are left, and three come at once; nothing is handed out twice.
    let path = owner.path(&format!("/machines/{}", end.machine_id));
    owner.client.delete(&path).await.unwrap();
    admin
        .execute("UPDATE orgs SET ipv4_next = $1", &[&(last - 1)])
        .await
        .unwrap();
    let three = [machine("tail-1"), machine("tail-2"), machine("tail-3")];
    let three = join_all(three.iter().map(|it| with_key.register(it))).await;
    let three: BTreeSet<_> = three.into_iter().map(|it| it.unwrap().ipv4).collect();
    assert_eq!(three.len(), 3);
    owner.enrol("after").await;

    // The address of the machines' own DNS service is nobody's.
    let reserved = i64::from(Ipv4Addr::new(100, 100, 100, 100).to_bits())
        - i64::from(Ipv4Addr::new(100, 64, 0, 0).to_bits());
    admin
        .execute("UPDATE orgs SET ipv4_next = $1", &[&reserved])
        .await
        .unwrap();
    let (_, beside) = owner.enrol("beside").await;
    assert_eq!(beside.ipv4, Ipv4Addr::new(100, 100, 100, 101));
}

#[tokio::test]
async fn every_bad_key_says_what_is_wrong_and_what_to_do() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let register = async |bearer: &str| {
        let client = owner.client.bearer(bearer);
        client.register(&machine("m")).await.err().unwrap()
    };
    let malformed = register("ztna-auth-cut-off").await;
    assert_eq!(malformed.code, ErrorCode::InvalidKey);
    assert!(
        malformed.message.contains("copy the whole key"),
        "{malformed}"
    );
    assert_eq!(register("nonsense").await.code, ErrorCode::InvalidKey);
    let unknown = AuthKey::generate(&mut rand::rng());
    let unknown = register(unknown.expose()).await;
    assert_eq!(unknown.code, ErrorCode::InvalidKey);
    assert!(unknown.message.contains("new key"), "{unknown}");
    assert_eq!(register("a.b.c").await.code, ErrorCode::Unauthorized);

    let make = async || owner.client.new_auth_key(owner.org.id, true).await;
    let revoked = make().await;
    let path = owner.path(&format!("/auth-keys/{}", revoked.info.id));
    owner.client.delete(&path).await.unwrap();
    let revoked = register(revoked.key.expose()).await;
    assert_eq!(revoked.code, ErrorCode::InvalidKey);
    assert!(revoked.message.contains("revoked"), "{revoked}");

    let expired = make().await;
    let admin = connect(&server.database.setup).await;
    admin
        .execute(
            "UPDATE auth_keys SET expires_at = now() WHERE id = $1",
            &[&expired.info.id.0],
        )
        .await
        .unwrap();
    assert_eq!(
        register(expired.key.expose()).await.code,
        ErrorCode::KeyExpired
    );

    let used = owner.client.new_auth_key(owner.org.id, false).await;
    owner
        .client
        .bearer(used.key.expose())
        .register(&machine("m"))
        .await
        .unwrap();
    assert_eq!(register(used.key.expose()).await.code, ErrorCode::KeyUsed);

    for body in [
        json!({"expires_in": 10}),
        json!({"expires_in": 100_000_000}),
        json!({"description": "x".repeat(256)}),
        json!({"unknown": 1}),
    ] {
        let refused = owner
            .client
            .post::<CreatedAuthKey>(&owner.path("/auth-keys"), body)
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
}

#[tokio::test]
async fn guessing_keys_is_slow_and_a_valid_key_is_not_blocked_by_its_own_success() {
    let server = Server::start_with(|config| config.limits.registration.count = 3).await;
    let owner = Owner::new(&server, "acme").await;
    for n in 0..5 {
        owner.enrol(&format!("m{n}")).await;
    }
    let stranger = owner.client.bearer("ztna-auth-guess");
    for _ in 0..3 {
        let refused = stranger.register(&machine("m")).await;
        assert_eq!(code(refused), ErrorCode::InvalidKey);
    }
    assert_eq!(
        code(stranger.register(&machine("m")).await),
        ErrorCode::RateLimited
    );
}

#[tokio::test]
async fn only_the_machine_itself_registers_again() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let with_key = owner.client.bearer(owner.key.key.expose());
    let (mut request, first) = owner.enrol("a").await;
    assert_eq!(
        code(with_key.register(&request).await),
        ErrorCode::RegistrationConflict
    );
    let (_, other) = owner.enrol("b").await;
    request.node_key = Some(other.node_key);
    assert_eq!(
        code(with_key.register(&request).await),
        ErrorCode::RegistrationConflict
    );

    // The right token, though the answer to the first try was lost: it still holds the old one.
    request.node_key = Some(first.node_key.clone());
    let second = with_key.register(&request).await.unwrap();
    let third = with_key.register(&request).await.unwrap();
    assert_eq!(
        (second.machine_id, third.machine_id),
        (first.machine_id, first.machine_id)
    );
    assert_eq!(
        (third.ipv4, third.ipv6, &third.name),
        (first.ipv4, first.ipv6, &first.name)
    );
    // Only the newest opens anything.
    let hash = format!("/api/kem-keys/{}", ztna_proto::KemKeyHash([0; 32]));
    let by = async |token: &ztna_proto::tokens::MachineToken| {
        code(owner.as_machine(token).get::<Value>(&hash).await)
    };
    assert_eq!(by(&first.node_key).await, ErrorCode::Unauthorized);
    assert_eq!(by(&second.node_key).await, ErrorCode::Unauthorized);
    assert_eq!(by(&third.node_key).await, ErrorCode::NotFound);

    // In another org the key is taken too.
    let rival = Owner::new(&server, "rival").await;
    let refused = rival
        .client
        .bearer(rival.key.key.expose())
        .register(&request)
        .await;
    assert_eq!(code(refused), ErrorCode::RegistrationConflict);
}

#[tokio::test]
async fn people_enrol_their_own_machines() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let registered = owner.client.register(&machine("laptop")).await.unwrap();
    assert!(registered.key_expires_at.is_some());
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(list[0].user.as_deref(), Some("acme@example.com"));

    let loner = Client::new_user(&server, "loner@example.com").await;
    let refused = loner.register(&machine("m")).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::ValidationError);
    assert!(refused.message.contains("no org"), "{refused}");
    let mut foreign = machine("m");
    foreign.org = Some(owner.org.id);
    assert_eq!(code(loner.register(&foreign).await), ErrorCode::NotFound);

    let second = owner.client.new_org("Second").await;
    let refused = owner.client.register(&machine("m")).await.err().unwrap();
    assert!(
        refused.message.contains(&second.id.to_string()),
        "{refused}"
    );
    let mut chosen = machine("m");
    chosen.org = Some(second.id);
    let registered = owner.client.register(&chosen).await.unwrap();
    assert_eq!(registered.org, second.id);
    assert_eq!(registered.dns_name, "m.second.ztna.internal");

    for name in ["", "a.b", "-x", "a b"] {
        let refused = owner.client.register(&machine(name)).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
}

#[tokio::test]
async fn orgs_members_and_what_their_roles_allow() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let twin = owner.client.new_org("ACME").await;
    assert_eq!(twin.slug, "acme-1");
    for name in ["", "  ", &"x".repeat(65)] {
        let refused = owner
            .client
            .post::<Value>("/api/orgs", json!({"name": name}))
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }

    let admin = owner.add(&server, "admin", Role::Admin).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    let member = owner.add(&server, "member", Role::Member).await;
    let members: Vec<Member> = member.get(&owner.path("/members")).await.unwrap();
    assert_eq!(members.len(), 4);

    let mut own = machine("own");
    own.org = Some(owner.org.id);
    let own = member.register(&own).await.unwrap();
    let (_, shared) = owner.enrol("shared").await;
    let names = async |who: &Client| {
        let list: Vec<Machine> = who.get(&owner.path("/machines")).await.unwrap();
        list.into_iter().map(|m| m.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&member).await, ["own"]);
    assert_eq!(names(&auditor).await, ["own", "shared"]);
    let at = |id| owner.path(&format!("/machines/{id}"));
    for who in [&member, &auditor] {
        let rename = who
            .call::<Value>(Method::PATCH, &at(own.machine_id), json!({"name": "x"}))
            .await;
        assert_eq!(code(rename), ErrorCode::Forbidden);
        assert_eq!(
            code(who.delete(&at(shared.machine_id)).await),
            ErrorCode::NotFound
        );
        let key = who
            .post::<Value>(&owner.path("/auth-keys"), json!({}))
            .await;
        assert_eq!(code(key), ErrorCode::Forbidden);
    }
    let rename = async |name: &str| {
        let body = json!({"name": name});
        admin
            .call::<Machine>(Method::PATCH, &at(own.machine_id), body)
            .await
    };
    assert_eq!(code(rename("shared").await), ErrorCode::Conflict);
    assert_eq!(
        code(rename("not a label").await),
        ErrorCode::ValidationError
    );
    assert_eq!(rename("Renamed").await.unwrap().name, "renamed");
    member.delete(&at(own.machine_id)).await.unwrap();
    admin.delete(&at(shared.machine_id)).await.unwrap();
    assert_eq!(
        code(admin.delete(&at(shared.machine_id)).await),
        ErrorCode::NotFound
    );
    assert!(names(&owner.client).await.is_empty());
}
