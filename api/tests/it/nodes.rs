//! Several nodes of one deployment: what one does, the others' machines hear of, and machines move
//! between them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use ztna_proto::api::{Health, HeartbeatAnswer, HeartbeatRequest, Machine};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::RegionId;
use ztna_proto::netmap::{ClientMessage, VolatileReport};
use ztna_proto::tokens::MachineToken;

use crate::common::client::Owner;
use crate::common::redis::Redis;
use crate::common::stream::{Begun, Stream};
use crate::common::{Client, Server, connect};

/// Nodes look into the database this often at any rate; what comes much sooner was told.
const LOOKED_UP: Duration = Duration::from_secs(30);

fn report(region: u32) -> ClientMessage {
    ClientMessage::Report(VolatileReport {
        home_region: Some(RegionId(region)),
        ..VolatileReport::default()
    })
}

async fn two_nodes(redis: &Redis) -> (Server, Server) {
    let one = Server::start_with(|config| config.kv_url = Some(redis.url())).await;
    let two = one.beside(|config| config.kv_url = Some(redis.url())).await;
    (one, two)
}

async fn rename(owner: &Client, path: &str, name: &str) {
    let body = json!({ "name": name });
    let _: Machine = owner.call(Method::PATCH, path, body).await.unwrap();
}

async fn is_degraded(client: &Client) -> bool {
    let response = client.request(Method::GET, "/health").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let health: Health = response.json().await.unwrap();
    health.status.starts_with("degraded: ")
}

/// A machine's map is what a node would tell it from nothing.
async fn assert_whole(server: &Server, stream: &Stream, token: &MachineToken) {
    let fresh = Stream::connect(server, token).await;
    assert_eq!(fresh.map, stream.map);
    assert_eq!(fresh.map.hash(), stream.map.hash());
}

#[tokio::test]
async fn changes_and_endpoints_cross_and_machines_move() {
    let redis = Redis::start();
    let (one, two) = two_nodes(&redis).await;
    let owner = Owner::new(&one, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&one, &alice.node_key).await;
    let mut at_bob = Stream::connect(&two, &bob.node_key).await;
    assert_eq!(
        (at_alice.peer_names(), at_bob.peer_names()),
        (vec!["bob".to_owned()], vec!["alice".to_owned()])
    );

    // Endpoints, in both directions.
    let begin = Instant::now();
    at_alice.send(&report(1)).await;
    at_bob.send(&report(2)).await;
    let home = |s: &Stream, id| {
        s.volatile
            .get(id)
            .and_then(|peer: &ztna_proto::netmap::PeerVolatile| peer.report.home_region)
    };
    at_bob
        .until("alice's home", |s| {
            home(s, &alice.machine_id) == Some(RegionId(1))
        })
        .await;
    at_alice
        .until("bob's home", |s| {
            home(s, &bob.machine_id) == Some(RegionId(2))
        })
        .await;
    eprintln!("endpoints crossed in {:?}", begin.elapsed());
    assert!(begin.elapsed() < LOOKED_UP / 2);

    // Durable changes, made at either.
    let path = owner.path(&format!("/machines/{}", alice.machine_id));
    let begin = Instant::now();
    rename(&owner.client, &path, "alicia").await;
    at_bob
        .until("alicia", |s| s.peer_names() == ["alicia"])
        .await;
    eprintln!("a change crossed in {:?}", begin.elapsed());
    rename(&owner.client.at(&two), &path, "alice").await;
    at_bob.until("alice", |s| s.peer_names() == ["alice"]).await;
    at_alice
        .until("own name", |s| {
            s.map.this().raw().get().contains("\"alice\"")
        })
        .await;
    assert!(begin.elapsed() < LOOKED_UP / 2);

    // Alice moves. Its old connection ends, and nobody takes it for offline.
    let held = Stream::again(&two, &alice.node_key, at_alice).await;
    let (mut at_alice, begun) = held;
    assert_eq!(begun, Begun::InSync);
    at_alice.send(&report(3)).await;
    at_bob
        .until("alice's new home", |s| {
            home(s, &alice.machine_id) == Some(RegionId(3))
        })
        .await;
    assert!(at_bob.volatile[&alice.machine_id].online);
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert!(list.iter().all(|machine| machine.online));

    // Its goodbye is heard where it was before.
    let carol = owner.enrol("carol").await.1;
    let mut at_carol = Stream::connect(&one, &carol.node_key).await;
    at_carol
        .until("alice", |s| {
            s.volatile.get(&alice.machine_id).is_some_and(|a| a.online)
        })
        .await;
    at_alice.leave().await;
    at_carol
        .until("alice offline", |s| !s.volatile[&alice.machine_id].online)
        .await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_node_goes_and_its_machines_go_on_at_another() {
    let redis = Redis::start();
    let (one, two) = two_nodes(&redis).await;
    let owner = Owner::new(&one, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let at_alice = Stream::connect(&one, &alice.node_key).await;
    let mut at_bob = Stream::connect(&two, &bob.node_key).await;
    one.stop().await;

    let there = owner.client.at(&two);
    let machine = bob.machine_id;
    rename(
        &there,
        &owner.path(&format!("/machines/{machine}")),
        "robert",
    )
    .await;
    let (mut at_alice, begun) = Stream::again(&two, &alice.node_key, at_alice).await;
    assert_eq!(begun, Begun::Delta);
    assert_eq!(at_alice.peer_names(), ["robert"]);
    // What comes next comes once: a delta that was applied already would not fit.
    rename(&there, &owner.path(&format!("/machines/{machine}")), "bob").await;
    at_alice.until("bob", |s| s.peer_names() == ["bob"]).await;
    at_bob
        .until("own name", |s| s.map.this().raw().get().contains("\"bob\""))
        .await;
    assert_whole(&two, &at_alice, &alice.node_key).await;
    two.stop().await;
}

#[tokio::test]
async fn without_the_store_nodes_hear_of_each_other_later() {
    let mut redis = Redis::start();
    let (one, two) = two_nodes(&redis).await;
    let owner = Owner::new(&one, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&one, &alice.node_key).await;
    let mut at_bob = Stream::connect(&two, &bob.node_key).await;
    let path = owner.path(&format!("/machines/{}", alice.machine_id));
    redis.stop();
    let begin = Instant::now();
    rename(&owner.client, &path, "alicia").await;
    at_bob
        .until("alicia", |s| s.peer_names() == ["alicia"])
        .await;
    at_alice.send(&report(4)).await;
    at_bob
        .until("alice's home", |s| {
            let alice = s.volatile.get(&alice.machine_id);
            alice.is_some_and(|alice| alice.report.home_region == Some(RegionId(4)))
        })
        .await;
    eprintln!("without the store, both crossed in {:?}", begin.elapsed());
    assert!(is_degraded(&owner.client).await && is_degraded(&owner.client.at(&two)).await);
    assert_whole(&one, &at_bob, &bob.node_key).await;

    // It comes back empty, and all is as before.
    redis.resume();
    let mut at_bob = Stream::connect(&two, &bob.node_key).await;
    while is_degraded(&owner.client).await || is_degraded(&owner.client.at(&two)).await {
        assert!(
            begin.elapsed() < LOOKED_UP * 2,
            "the store is not found again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let begin = Instant::now();
    rename(&owner.client, &path, "alice").await;
    at_bob.until("alice", |s| s.peer_names() == ["alice"]).await;
    assert!(begin.elapsed() < LOOKED_UP / 2);
    one.stop().await;
    two.stop().await;
}

/// Who may write to the store invents neither presence nor changes, not by playing back what was said
/// either.
#[tokio::test]
async fn words_of_others_are_not_heard() {
    use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
    let redis = Redis::start();
    let (one, two) = two_nodes(&redis).await;
    let owner = Owner::new(&one, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let config = fred::prelude::Config::from_url(&redis.url()).unwrap();
    let intruder = fred::prelude::Builder::from_config(config).build().unwrap();
    let recorder = intruder.clone_new();
    intruder.init().await.unwrap();
    recorder.init().await.unwrap();
    let channel = format!("ztna:org:{}", owner.org.id);
    let mut recorded = recorder.message_rx();
    recorder.subscribe(&channel).await.unwrap();

    let mut at_alice = Stream::connect(&one, &alice.node_key).await;
    let mut at_bob = Stream::connect(&two, &bob.node_key).await;
    at_alice.send(&report(1)).await;
    at_bob.send(&report(2)).await;
    let home = |s: &Stream| {
        let bob = s.volatile.get(&bob.machine_id)?;
        Some((bob.online, bob.report.home_region))
    };
    at_alice
        .until("bob", |s| home(s) == Some((true, Some(RegionId(2)))))
        .await;
    at_bob.leave().await;
    at_alice
        .until("bob offline", |s| {
            home(s) == Some((false, Some(RegionId(2))))
        })
        .await;
    let version = at_alice.volatile[&bob.machine_id].version;

    // All that was said, once more; and that bob is there, at home elsewhere.
    let mut words = Vec::new();
    while let Ok(word) = recorded.try_recv() {
        words.push(word.value.as_bytes().unwrap().to_vec());
    }
    assert!(words.len() >= 3, "{}", words.len());
    let forged = json!({
        "node": uuid::Uuid::now_v7(),
        "word": {"type": "machines", "machines": [{
            "id": bob.machine_id, "version": version + 1_000_000, "online": true,
            "stream": version + 1, "silent_ms": 0,
            "report": VolatileReport { home_region: Some(RegionId(9)), ..VolatileReport::default() },
        }]},
    });
    words.push(serde_json::to_vec(&forged).unwrap());
    for word in words {
        let word = bytes::Bytes::from(word);
        let listeners: i64 = intruder.publish(&channel, word).await.unwrap();
        assert!(listeners >= 2);
    }
    // A change that is told behind them has overtaken none.
    let path = owner.path(&format!("/machines/{}", bob.machine_id));
    rename(&owner.client.at(&two), &path, "robert").await;
    at_alice
        .until("robert", |s| s.peer_names() == ["robert"])
        .await;
    assert_eq!(home(&at_alice), Some((false, Some(RegionId(2)))));
    assert_eq!(at_alice.volatile[&bob.machine_id].version, version);
    let fresh = Stream::connect(&one, &alice.node_key).await;
    assert_eq!(home(&fresh), Some((false, Some(RegionId(2)))));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn who_comes_back_is_told_what_it_missed() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (_, bob) = owner.enrol("bob").await;
    let held = Stream::connect(&server, &alice.node_key).await;
    let (held, begun) = Stream::again(&server, &alice.node_key, held).await;
    assert_eq!(begun, Begun::InSync);

    // A node that has just started knows of changes from the log.
    let path = owner.path(&format!("/machines/{}", bob.machine_id));
    rename(&owner.client, &path, "robert").await;
    let server = server.restart().await;
    let owner_client = owner.client.at(&server);
    let (held, begun) = Stream::again(&server, &alice.node_key, held).await;
    assert_eq!(
        (begun, held.peer_names()),
        (Begun::Delta, vec!["robert".to_owned()])
    );
    assert_whole(&server, &held, &alice.node_key).await;

    // The log is not kept for ever.
    rename(&owner_client, &path, "bob").await;
    let admin = connect(&server.database.setup).await;
    admin.execute("DELETE FROM changes", &[]).await.unwrap();
    let server = server.restart().await;
    let (held, begun) = Stream::again(&server, &alice.node_key, held).await;
    assert_eq!(
        (begun, held.peer_names()),
        (Begun::Full, vec!["bob".to_owned()])
    );
    server.stop().await;
}

#[tokio::test]
async fn what_one_node_ends_is_refused_at_another_that_knows_the_machine() {
    let redis = Redis::start();
    let (one, two) = two_nodes(&redis).await;
    let owner = Owner::new(&one, "acme").await;
    let (mut request, alice) = owner.enrol("alice").await;
    let beat = async |token: &MachineToken| {
        let body = HeartbeatRequest {
            agent_version: "0.3.0".to_owned(),
            report: VolatileReport::default(),
            posture: None,
        };
        let there = owner.as_machine(token).at(&two);
        there
            .post::<HeartbeatAnswer>("/api/machine-heartbeat", body)
            .await
    };
    let refused = async |token: &MachineToken| {
        let begin = Instant::now();
        loop {
            match beat(token).await {
                Err(refused) => return refused.code,
                Ok(_) => assert!(begin.elapsed() < LOOKED_UP / 2, "it is still served"),
            }
        }
    };
    // The second call is answered from what the first has found out, ticket and all.
    let first = beat(&alice.node_key).await.unwrap();
    let second = beat(&alice.node_key).await.unwrap();
    assert_eq!(first.relay_ticket, second.relay_ticket);
    assert!(first.relay_ticket.is_some());

    owner
        .does(alice.machine_id, json!({"action": "disable"}))
        .await;
    assert_eq!(refused(&alice.node_key).await, ErrorCode::MachineDisabled);
    owner
        .does(alice.machine_id, json!({"action": "enable"}))
        .await;
    // What was revoked with the machine is not handed out again.
    let again = beat(&alice.node_key).await.unwrap();
    assert_ne!(again.relay_ticket, first.relay_ticket);

    // A machine that registers again has one token that calls.
    request.node_key = Some(alice.node_key.clone());
    let key = owner.client.bearer(owner.key.key.expose());
    let renewed = key.register(&request).await.unwrap();
    assert_eq!(renewed.machine_id, alice.machine_id);
    assert_eq!(refused(&alice.node_key).await, ErrorCode::Unauthorized);

    // The version is the one that was told last, wherever, as soon as the node has heard of the one before.
    let version = async || owner.look(alice.machine_id).await.agent_version;
    let told = async || {
        let begin = Instant::now();
        loop {
            beat(&renewed.node_key).await.unwrap();
            if version().await == "0.3.0" {
                return;
            }
            let is_late = begin.elapsed() >= LOOKED_UP / 2;
            assert!(!is_late, "the version is not written");
        }
    };
    told().await;
    let stream = Stream::connect(&one, &renewed.node_key).await;
    assert_ne!(version().await, "0.3.0");
    told().await;
    stream.leave().await;

    let path = owner.path(&format!("/machines/{}", alice.machine_id));
    owner.client.delete(&path).await.unwrap();
    assert_eq!(refused(&renewed.node_key).await, ErrorCode::MachineDeleted);
    one.stop().await;
    two.stop().await;
}
