//! Relays of one region: their clients reach each other.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Client, PATIENCE, Relay, data, new_key};
use tokio_util::sync::CancellationToken;
use ztna_derp::client::Event;
use ztna_derp::frame::GoneReason;
use ztna_derp::server::{Limits, Mesh};
use ztna_proto::{OrgId, RegionId, WgPublicKey};

const SEED: [u8; 32] = [5; 32];

async fn relay(key: &str, region: u32) -> Relay {
    let identity = common::self_signed();
    let tls = identity.server_config().unwrap();
    let mesh = Mesh {
        key: key.repeat(32).parse().unwrap(),
        region: Some(RegionId(region)),
    };
    Relay::with_mesh(Limits::default(), &identity, tls, Some(mesh), SEED).await
}

/// Links one relay to another.
fn link(from: &Relay, to: &Relay) -> CancellationToken {
    let stop = from.shutdown.child_token();
    let link = Arc::clone(&from.server).link(to.node.clone(), stop.clone());
    tokio::spawn(link);
    stop
}

/// Two relays of one region that know each other, and serve one org.
async fn region() -> (Relay, Relay) {
    let (a, mut b) = (relay("ab", 1).await, relay("ab", 1).await);
    b.org = a.org;
    link(&a, &b);
    link(&b, &a);
    (a, b)
}

/// Sends until a packet arrives: a relay learns of new clients a moment after they come.
async fn reaches(from: &Client, to: &mut Client) -> bool {
    let packet = data(1, 300);
    for _ in 0..20 {
        from.send(to, &packet);
        let arrived = tokio::time::timeout(Duration::from_millis(250), to.packet());
        if let Ok((sender, arrived)) = arrived.await {
            assert_eq!((sender, arrived), (from.key, packet.into()));
            return true;
        }
    }
    false
}

async fn gone(client: &mut Client) -> (WgPublicKey, GoneReason) {
    loop {
        let event = tokio::time::timeout(PATIENCE, client.event()).await;
        if let Event::PeerGone { peer, reason } = event.unwrap() {
            return (peer, reason);
        }
    }
}

#[tokio::test]
async fn clients_of_two_relays_reach_each_other_and_miss_each_other() {
    let (one, two) = region().await;
    let (mut a, mut b) = (one.join().await, two.join().await);
    assert!(reaches(&a, &mut b).await);
    assert!(reaches(&b, &mut a).await);
    let left = b.key;
    drop(b);
    assert_eq!(gone(&mut a).await, (left, GoneReason::Disconnected));
}

#[tokio::test]
async fn a_client_that_moves_within_the_region_is_reached_where_it_is() {
    let (one, two) = region().await;
    let (a, key) = (one.join().await, new_key());
    let mut moving = two.join_as(&key).await;
    assert!(reaches(&a, &mut moving).await);
    let mut moved = one.join_as(&key).await;
    drop(moving);
    assert!(reaches(&a, &mut moved).await);
}

#[tokio::test]
async fn a_lost_relay_is_linked_again() {
    let (one, two) = (relay("ab", 1).await, relay("ab", 1).await);
    let stop = link(&one, &two);
    link(&two, &one);
    let mut two = two;
    two.org = one.org;
    let (a, mut b) = (one.join().await, two.join().await);
    assert!(reaches(&a, &mut b).await);
    stop.cancel();
    link(&one, &two);
    assert!(reaches(&a, &mut b).await);
}

#[tokio::test]
async fn orgs_stay_apart_across_relays() {
    let (one, mut two) = region().await;
    let (mut a, mut same) = (one.join().await, two.join().await);
    two.org = OrgId::generate();
    let mut other = two.join().await;
    // Both are known at the first relay once the one that came first is.
    assert!(reaches(&a, &mut same).await);
    assert!(!reaches_at_once(&a, &mut other).await);
    // And, as for a key that nobody has, it is told so.
    a.sender
        .try_send(other.key, bytes::Bytes::from_static(b"@discovery"))
        .unwrap();
    assert_eq!(gone(&mut a).await, (other.key, GoneReason::NotHere));
}

async fn reaches_at_once(from: &Client, to: &mut Client) -> bool {
    from.send(to, &data(1, 300));
    let arrived = tokio::time::timeout(Duration::from_millis(300), to.packet());
    arrived.await.is_ok()
}

#[tokio::test]
async fn another_region_and_another_key_stay_apart() {
    for (key, region) in [("ab", 2), ("cd", 1)] {
        let (one, mut two) = (relay("ab", 1).await, relay(key, region).await);
        two.org = one.org;
        link(&one, &two);
        link(&two, &one);
        let (a, mut b) = (one.join().await, two.join().await);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!reaches_at_once(&a, &mut b).await, "{key} {region}");
    }
}

#[tokio::test]
async fn a_relay_does_not_link_to_itself() {
    let one = relay("ab", 1).await;
    let link = Arc::clone(&one.server).link(one.node.clone(), one.shutdown.clone());
    tokio::time::timeout(PATIENCE, link).await.unwrap();
}

#[tokio::test]
async fn a_relay_that_stops_sends_its_clients_away_one_after_another() {
    let one = relay("ab", 1).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(one.join().await);
    }
    one.shutdown.cancel();
    for client in &mut clients {
        let told = loop {
            match client.event().await {
                Event::Restarting { reconnect_in, .. } => break reconnect_in,
                _ => continue,
            }
        };
        assert!(told <= Duration::from_secs(2));
    }
    tokio::time::timeout(PATIENCE, one.task)
        .await
        .unwrap()
        .unwrap();
}
