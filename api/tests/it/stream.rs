//! The machine stream: full map, deltas, volatile state, ends.

use crate::common::client::{Owner, code};
use crate::common::stream::{self, Stream};
use crate::common::{Client, Server};
use crate::relays::bare;
use reqwest::Method;
use serde_json::json;
use ztna_proto::CAPABILITY;
use ztna_proto::api::{HeartbeatAnswer, HeartbeatRequest, KemKeyAnswer, Machine};
use ztna_proto::error::ErrorCode;
use ztna_proto::filter::PacketFilter;
use ztna_proto::ids::RegionId;
use ztna_proto::keys::KemKeyHash;
use ztna_proto::netmap::{
    ClientMessage, Endpoint, EndpointKind, SelfRecord, ServerMessage, VolatileReport,
};

fn report(region: u32) -> VolatileReport {
    VolatileReport {
        endpoints: vec![Endpoint {
            addr: "192.0.2.1:41641".parse().unwrap(),
            kind: EndpointKind::Local,
        }],
        home_region: Some(RegionId(region)),
        disco_key: None,
    }
}

/// A control plane with regions 1 and 2, which tickets open.
async fn with_regions() -> Server {
    let regions = [bare(1, "lon"), bare(2, "nyc")];
    Server::start_with(|config| config.relays = regions.map(Into::into).into()).await
}

#[tokio::test]
async fn a_machine_joins_is_seen_changes_and_goes() {
    let server = with_regions().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    assert!(at_alice.peers().is_empty());
    let this: SelfRecord = serde_json::from_str(at_alice.map.this().raw().get()).unwrap();
    assert_eq!(this.dns_name, "alice.acme.ztna.internal");
    assert_eq!(
        (this.id, this.ipv4, this.ipv6),
        (alice.machine_id, alice.ipv4, alice.ipv6)
    );
    let filter: PacketFilter = serde_json::from_str(at_alice.map.filter().raw().get()).unwrap();
    // Towards machines, and towards what is behind them.
    assert_eq!((filter.inbound.len(), filter.outbound.len()), (1, 2));
    let ticket = at_alice.ticket.clone().unwrap();
    let claims = server
        .ticket_verifier()
        .verify(&ticket, &this.wg_key, RegionId(1), jiff::Timestamp::now())
        .unwrap();
    assert_eq!(claims.machine, alice.machine_id);

    // Bob joins: Alice gets a delta, Bob a full map.
    at_alice.send(&ClientMessage::Report(report(1))).await;
    let (_, bob) = owner.enrol("bob").await;
    at_alice.until("bob", |s| s.peer_names() == ["bob"]).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    assert_eq!(at_bob.peer_names(), ["alice"]);
    at_bob
        .until("alice's report", |s| {
            s.volatile
                .get(&alice.machine_id)
                .is_some_and(|alice| alice.online && alice.report == report(1))
        })
        .await;

    // Bob tells where it is.
    at_bob.send(&ClientMessage::Report(report(3))).await;
    at_alice
        .until("bob's report", |s| {
            s.volatile
                .get(&bob.machine_id)
                .is_some_and(|bob| bob.online && bob.report == report(3))
        })
        .await;

    // Bob gets another name.
    let path = owner.path(&format!("/machines/{}", bob.machine_id));
    let renamed: Machine = owner
        .client
        .call(Method::PATCH, &path, json!({"name": "robert"}))
        .await
        .unwrap();
    assert_eq!(renamed.dns_name, "robert.acme.ztna.internal");
    assert!(renamed.online);
    at_alice
        .until("robert", |s| s.peer_names() == ["robert"])
        .await;
    at_bob
        .until("own name", |s| {
            s.map.this().raw().get().contains("robert.acme")
        })
        .await;

    // Bob says goodbye, and is offline at once; then it comes back.
    at_bob.leave().await;
    at_alice
        .until("bob offline", |s| !s.volatile[&bob.machine_id].online)
        .await;
    assert!(at_alice.volatile[&bob.machine_id].last_seen.is_some());
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    at_alice
        .until("bob online again", |s| s.volatile[&bob.machine_id].online)
        .await;

    // Bob is deleted: its stream ends with the reason, Alice forgets it, the relay is told.
    owner.client.delete(&path).await.unwrap();
    assert_eq!(at_bob.ends().await.code, ErrorCode::MachineDeleted);
    at_alice.until("bob gone", |s| s.peers().is_empty()).await;
    let (status, body) = stream::open(&server, &bob.node_key).await.unwrap_err();
    assert_eq!(status, 410, "{body}");
    assert!(body.contains("MACHINE_DELETED"));
    assert_eq!(server.cut.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_machine_is_cut_off_and_signs_in_again() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (request, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    let path = owner.path(&format!("/machines/{}", bob.machine_id));
    // Due in a moment: the sweep ends it.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let _: Machine = owner
        .client
        .call(Method::PATCH, &path, json!({"key_expires_at": soon}))
        .await
        .unwrap();
    assert_eq!(at_bob.ends().await.code, ErrorCode::KeyExpired);
    at_alice.until("bob gone", |s| s.peers().is_empty()).await;
    let (status, body) = stream::open(&server, &bob.node_key).await.unwrap_err();
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("KEY_EXPIRED"));
    assert_eq!(*server.cut.lock().unwrap(), [request.wg_key]);

    // It proves to be itself with its old token, and keeps id and addresses.
    let mut again = request.clone();
    again.node_key = Some(bob.node_key.clone());
    let renewed = owner
        .client
        .bearer(owner.key.key.expose())
        .register(&again)
        .await
        .unwrap();
    assert_eq!(renewed.machine_id, bob.machine_id);
    assert_eq!((renewed.ipv4, renewed.ipv6), (bob.ipv4, bob.ipv6));
    at_alice
        .until("bob back", |s| s.peer_names() == ["bob"])
        .await;

    // A time in the past ends it at once.
    let mut at_bob = Stream::connect(&server, &renewed.node_key).await;
    let _: Machine = owner
        .client
        .call(
            Method::PATCH,
            &path,
            json!({"key_expires_at": "2020-01-01T00:00:00Z"}),
        )
        .await
        .unwrap();
    assert_eq!(at_bob.ends().await.code, ErrorCode::KeyExpired);
}

#[tokio::test]
async fn rules_decide_who_is_seen() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (bob_keys, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    let hash = KemKeyHash::of(&bob_keys.kem_key);
    let key_path = format!("/api/kem-keys/{hash}");
    let as_alice = owner.as_machine(&alice.node_key);
    let answer: KemKeyAnswer = as_alice.get(&key_path).await.unwrap();
    assert_eq!(KemKeyHash::of(&answer.kem_key), hash);

    let policy = owner.policy().await;
    at_bob.send(&ClientMessage::Report(report(1))).await;
    at_alice
        .until("bob's state", |s| s.volatile.contains_key(&bob.machine_id))
        .await;
    at_alice.volatile.clear();
    owner.put_policy("{}").await.unwrap();
    at_alice.until("nobody", |s| s.peers().is_empty()).await;
    at_bob.until("nobody", |s| s.peers().is_empty()).await;
    let refused = as_alice.get::<KemKeyAnswer>(&key_path).await;
    assert_eq!(code(refused), ErrorCode::NotFound);

    owner.put_policy(&policy.text).await.unwrap();
    at_alice.until("bob", |s| s.peer_names() == ["bob"]).await;
    at_alice
        .until("bob's state", |s| s.volatile.contains_key(&bob.machine_id))
        .await;
}

#[tokio::test]
async fn another_orgs_machine_sees_nothing() {
    let server = Server::start().await;
    let acme = Owner::new(&server, "acme").await;
    let evil = Owner::new(&server, "evil").await;
    let (alice_keys, alice) = acme.enrol("alice").await;
    let (_, eve) = evil.enrol("alice").await;
    assert_eq!(eve.ipv4, alice.ipv4, "each org has the whole network");
    assert_ne!(eve.ipv6, alice.ipv6);
    let mut at_eve = Stream::connect(&server, &eve.node_key).await;
    let _at_alice = Stream::connect(&server, &alice.node_key).await;
    acme.enrol("bob").await;
    evil.enrol("mallory").await;
    at_eve
        .until("its own", |s| s.peer_names() == ["mallory"])
        .await;
    assert!(!at_eve.volatile.contains_key(&alice.machine_id));
    let hash = KemKeyHash::of(&alice_keys.kem_key);
    let refused = evil
        .as_machine(&eve.node_key)
        .get::<KemKeyAnswer>(&format!("/api/kem-keys/{hash}"))
        .await;
    assert_eq!(code(refused), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_restart_loses_neither_maps_nor_reports() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    at_bob.send(&ClientMessage::Report(report(7))).await;
    at_alice
        .until("bob's report", |s| {
            s.volatile
                .get(&bob.machine_id)
                .is_some_and(|bob| bob.report == report(7))
        })
        .await;
    let (seq, hash) = (at_alice.seq, at_alice.map.hash());
    let version = at_alice.volatile[&bob.machine_id].version;

    let server = server.restart().await;
    assert!(at_alice.is_cut().await);
    let at_alice = Stream::connect(&server, &alice.node_key).await;
    assert_eq!((at_alice.seq, at_alice.map.hash()), (seq, hash));
    let bob = &at_alice.volatile[&bob.machine_id];
    assert_eq!(bob.report, report(7));
    assert!(bob.online, "it was there a moment ago");
    assert!(bob.version >= version);
}

#[tokio::test]
async fn the_stream_keeps_to_its_rules() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;

    // An agent that is too old.
    let mut socket = stream::open(&server, &alice.node_key).await.unwrap();
    stream::send(&mut socket, &stream::hello(0)).await;
    let ServerMessage::Error(error) = stream::receive(&mut socket).await else {
        panic!("no error");
    };
    assert_eq!(error.code, ErrorCode::UpgradeRequired);

    // No hello.
    let mut socket = stream::open(&server, &alice.node_key).await.unwrap();
    stream::send(&mut socket, &ClientMessage::Resync).await;
    let ServerMessage::Error(error) = stream::receive(&mut socket).await else {
        panic!("no error");
    };
    assert_eq!(error.code, ErrorCode::ValidationError);

    // A newer agent's messages are skipped; a resync sends the whole map again.
    let mut first = Stream::connect(&server, &alice.node_key).await;
    first.send(&ClientMessage::Unknown).await;
    first.send(&ClientMessage::Resync).await;
    let ServerMessage::Full(full) = first.next().await else {
        panic!("no full map");
    };
    assert_eq!((full.seq, full.hash), (first.seq, first.map.hash()));

    // A second stream of the machine ends the first.
    let mut second = Stream::connect(&server, &alice.node_key).await;
    assert!(first.is_cut().await);

    // Too many endpoints.
    let mut flood = report(1);
    flood.endpoints = vec![flood.endpoints[0]; 33];
    second.send(&ClientMessage::Report(flood.clone())).await;
    assert_eq!(second.ends().await.code, ErrorCode::ValidationError);
    let refused = owner
        .as_machine(&alice.node_key)
        .post::<HeartbeatAnswer>(
            "/api/machine-heartbeat",
            HeartbeatRequest {
                agent_version: "0.1.0".to_owned(),
                report: flood,
                posture: None,
            },
        )
        .await;
    assert_eq!(code(refused), ErrorCode::ValidationError);

    // Without a token, and with one that is no machine's.
    let anonymous = Client::anonymous(&server);
    let refused = anonymous
        .get::<serde_json::Value>("/api/machine-stream")
        .await;
    assert_eq!(code(refused), ErrorCode::Unauthorized);
    assert_eq!(CAPABILITY, 1);
}

#[tokio::test]
async fn heartbeats_carry_reports_and_tickets() {
    let server = with_regions().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (bob_keys, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let answer: HeartbeatAnswer = owner
        .as_machine(&bob.node_key)
        .post(
            "/api/machine-heartbeat",
            HeartbeatRequest {
                agent_version: "0.2.0".to_owned(),
                report: report(2),
                posture: None,
            },
        )
        .await
        .unwrap();
    server
        .ticket_verifier()
        .verify(
            answer.relay_ticket.as_ref().unwrap(),
            &bob_keys.wg_key,
            RegionId(2),
            answer.server_time,
        )
        .unwrap();
    at_alice
        .until("bob's report", |s| {
            s.volatile
                .get(&bob.machine_id)
                .is_some_and(|bob| bob.online && bob.report == report(2))
        })
        .await;
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    let online: Vec<_> = list.iter().map(|m| (m.name.as_str(), m.online)).collect();
    assert_eq!(online, [("alice", true), ("bob", true)]);
    assert_eq!(list[1].agent_version, "0.2.0");
}
