//! Connections to real relays that fail in every way.

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use ztna_proto::relay::{CertificatePin, RelayNode};

use super::link::IDLE;
use super::*;
use crate::testing::relay::{Realm, TestRelay, region};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const ONE: RegionId = RegionId(1);
const TWO: RegionId = RegionId(2);

struct Agent {
    relays: Relays,
    events: mpsc::Receiver<RelayEvent>,
    key: WgPublicKey,
}

impl Agent {
    fn new(realm: &Realm, regions: Vec<(RegionId, RelayRegion)>) -> Self {
        let key = WgPrivateKey::generate(&mut rand::rng());
        let public = key.public();
        let (sender, events) = mpsc::channel(64);
        let mut relays = Relays::new(key, sender);
        relays.set_ticket(realm.ticket(public, &[1, 2]));
        let map = RelayMap {
            regions: regions.into_iter().collect(),
        };
        assert!(relays.set_map(&map));
        Self {
            relays,
            events,
            key: public,
        }
    }

    /// Does what the engine does with these regions in this order, sending to itself through home
    /// now and then if there is to be traffic, until `done`. Says how long that took.
    async fn until(
        &mut self,
        ranked: &[RegionId],
        traffic: bool,
        done: impl Fn(&Relays) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        let run = async {
            loop {
                let now = Instant::now();
                let fit = self.relays.home_candidates(now);
                let fit = ranked.iter().filter(|region| fit.contains(region));
                let fit: Vec<RegionId> = fit.copied().collect();
                let home = self.relays.choose_home(&fit, now);
                if done(&self.relays) {
                    return;
                }
                if let (Some(home), true) = (home, traffic) {
                    let packet = Bytes::from_static(b"packet");
                    self.relays.send(home, self.key, packet);
                }
                // Like the engine, it hears of changes and looks by itself now and then.
                let _ = timeout(Duration::from_millis(50), self.events.recv()).await;
            }
        };
        timeout(PATIENCE, run).await.expect("it does not happen");
        begun.elapsed()
    }
}

/// Two regions of a relay each, and an agent that may use both.
async fn two_regions() -> (TestRelay, TestRelay, Agent) {
    let realm = Realm::new();
    let near = TestRelay::start(&realm, 1).await;
    let far = TestRelay::start(&realm, 2).await;
    let regions = vec![
        region(1, vec![near.node.clone()]),
        region(2, vec![far.node.clone()]),
    ];
    let agent = Agent::new(&realm, regions);
    (near, far, agent)
}

fn is_home(region: RegionId) -> impl Fn(&Relays) -> bool {
    move |relays| relays.home == Some(region) && relays.is_home_up()
}

#[tokio::test]
async fn a_killed_relay_gives_way_to_the_next_of_its_region() {
    let realm = Realm::new();
    let nodes = [
        TestRelay::start(&realm, 1).await,
        TestRelay::start(&realm, 1).await,
    ];
    let other = TestRelay::start(&realm, 2).await;
    let both = nodes.iter().map(|relay| relay.node.clone()).collect();
    let regions = vec![region(1, both), region(2, vec![other.node.clone()])];
    let mut agent = Agent::new(&realm, regions);
    agent.until(&[ONE, TWO], false, is_home(ONE)).await;
    assert_eq!(nodes[0].server.connections(), 1);
    nodes[0].kill();
    let second = std::sync::Arc::clone(&nodes[1].server);
    let took = agent
        .until(&[ONE, TWO], false, |relays| {
            is_home(ONE)(relays) && second.connections() == 1
        })
        .await;
    eprintln!("at the region's next relay after {took:?}");
}

#[tokio::test]
async fn a_killed_region_gives_way_to_the_next_region_and_is_left_alone_for_a_while() {
    let (near, _far, mut agent) = two_regions().await;
    agent.until(&[ONE, TWO], false, is_home(ONE)).await;
    near.kill();
    let took = agent.until(&[ONE, TWO], false, is_home(TWO)).await;
    eprintln!("at the next region after {took:?}");
    let now = Instant::now();
    assert_eq!(agent.relays.home_candidates(now), [TWO]);
    assert_eq!(
        agent.relays.home_candidates(now + AVOID_FOR * 2),
        [ONE, TWO]
    );
    agent.relays.avoid(ONE, now);
    agent.relays.avoid(TWO, now);
    assert_eq!(
        agent.relays.home_candidates(now),
        [ONE, TWO],
        "none is better"
    );
    agent.relays.network_changed();
    assert!(agent.relays.avoided.is_empty());
}

#[tokio::test]
async fn a_region_that_was_lost_before_is_better_than_none() {
    let (near, _far, mut agent) = two_regions().await;
    agent.relays.avoid(TWO, Instant::now());
    agent.until(&[ONE, TWO], false, is_home(ONE)).await;
    near.kill();
    agent.until(&[ONE, TWO], false, is_home(TWO)).await;
}

#[tokio::test]
async fn a_vanished_relay_is_noticed_by_those_who_send() {
    let (near, _far, mut agent) = two_regions().await;
    agent.until(&[ONE, TWO], true, is_home(ONE)).await;
    near.vanish();
    let took = agent.until(&[ONE, TWO], true, is_home(TWO)).await;
    // Sooner than TCP itself would have noticed.
    assert!(took < Duration::from_secs(10), "{took:?}");
    eprintln!("at the next region after {took:?}");
}

#[tokio::test]
async fn traffic_by_another_region_has_the_home_relay_watched() {
    let (near, _far, mut agent) = two_regions().await;
    agent.until(&[ONE, TWO], false, is_home(ONE)).await;
    near.vanish();
    let run = async {
        while !is_home(TWO)(&agent.relays) {
            let peer = WgPublicKey([9; 32]);
            agent.relays.send(TWO, peer, Bytes::from_static(b"packet"));
            agent.relays.choose_home(&[ONE, TWO], Instant::now());
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, run).await.unwrap();
}

#[tokio::test]
async fn machines_that_lose_the_same_region_meet_in_the_next_before_they_can_say_where_they_are() {
    let realm = Realm::new();
    let near = TestRelay::start(&realm, 1).await;
    let far = TestRelay::start(&realm, 2).await;
    let machine = || {
        let of = |id, relay: &TestRelay| region(id, vec![relay.node.clone()]);
        Agent::new(&realm, vec![of(1, &near), of(2, &far)])
    };
    let (mut a, mut b) = (machine(), machine());
    for agent in [&mut a, &mut b] {
        agent.until(&[ONE, TWO], true, is_home(ONE)).await;
    }
    near.kill();
    for agent in [&mut a, &mut b] {
        agent.until(&[ONE, TWO], false, is_home(TWO)).await;
    }
    let run = async {
        loop {
            // As far as anybody told it, the other is still at home in the first region.
            a.relays.send(ONE, b.key, Bytes::from_static(b"hello"));
            let event = timeout(Duration::from_millis(50), b.events.recv()).await;
            if let Ok(Some(RelayEvent::Packet {
                region,
                from,
                packet,
            })) = event
                && from == a.key
            {
                return (region, packet);
            }
        }
    };
    let (region, packet) = timeout(PATIENCE, run).await.expect("nothing arrives");
    assert_eq!((region, &packet[..]), (TWO, &b"hello"[..]));
}

#[tokio::test]
async fn a_draining_relay_gives_way_to_the_next_of_its_region() {
    let realm = Realm::new();
    let nodes = [
        TestRelay::start(&realm, 1).await,
        TestRelay::start(&realm, 1).await,
    ];
    let both = nodes.iter().map(|relay| relay.node.clone()).collect();
    let mut agent = Agent::new(&realm, vec![region(1, both)]);
    agent.until(&[ONE], false, is_home(ONE)).await;
    assert_eq!(nodes[0].server.connections(), 1);
    nodes[0].drain();
    let second = std::sync::Arc::clone(&nodes[1].server);
    agent
        .until(&[ONE], true, |relays| {
            is_home(ONE)(relays) && second.connections() == 1
        })
        .await;
}

#[tokio::test]
async fn a_better_region_is_home_when_the_connection_to_it_stands_and_not_before() {
    let realm = Realm::new();
    let present = TestRelay::start(&realm, 1).await;
    let better = TestRelay::start(&realm, 2).await;
    better.vanish();
    let regions = vec![
        region(1, vec![present.node.clone()]),
        region(2, vec![better.node.clone()]),
    ];
    let mut agent = Agent::new(&realm, regions);
    agent.until(&[ONE, TWO], false, is_home(ONE)).await;
    for _ in 0..10 {
        assert_eq!(
            agent.relays.choose_home(&[TWO, ONE], Instant::now()),
            Some(ONE)
        );
        sleep(Duration::from_millis(20)).await;
    }
    assert!(agent.relays.is_home_up());
    // In the end it is left alone for a while.
    let later = Instant::now() + BETTER_PATIENCE;
    assert_eq!(agent.relays.choose_home(&[TWO, ONE], later), Some(ONE));
    assert_eq!(agent.relays.home_candidates(later), [ONE]);

    let good = TestRelay::start(&realm, 2).await;
    let map = RelayMap {
        regions: [
            region(1, vec![present.node.clone()]),
            region(2, vec![good.node.clone()]),
        ]
        .into(),
    };
    assert!(agent.relays.set_map(&map));
    agent.relays.network_changed();
    agent.until(&[TWO, ONE], false, is_home(TWO)).await;
}

#[tokio::test]
async fn with_nowhere_to_go_home_stays_and_is_found_again() {
    let realm = Realm::new();
    let relay = TestRelay::start(&realm, 1).await;
    let mut agent = Agent::new(&realm, vec![region(1, vec![relay.node.clone()])]);
    agent.until(&[ONE], true, is_home(ONE)).await;
    relay.vanish();
    agent
        .until(&[ONE], true, |relays| !relays.is_home_up())
        .await;
    assert_eq!(agent.relays.home, Some(ONE));
    assert!(agent.relays.home_state().error.is_some());
}

/// A region whose relay nobody listens at.
fn dead(id: u32) -> (RegionId, RelayRegion) {
    let node = RelayNode {
        name: "node".into(),
        host: "127.0.0.1".into(),
        addresses: Vec::new(),
        derp_port: Some(1),
        stun_port: None,
        quic_port: None,
        http_port: None,
        certificate: CertificatePin::WebPki,
    };
    region(id, vec![node])
}

fn is_tried(relays: &Relays, region: RegionId) -> bool {
    let connection = relays.connections.get(&region);
    connection.is_some_and(|connection| !connection.task.is_finished())
}

#[tokio::test(start_paused = true)]
async fn a_region_that_nobody_needs_is_not_tried_for_ever() {
    let mut agent = Agent::new(&Realm::new(), vec![dead(1), dead(2)]);
    let relays = &mut agent.relays;
    relays.set_home(Some(ONE));
    relays.send(TWO, WgPublicKey([8; 32]), Bytes::from_static(b"packet"));
    sleep(IDLE / 2).await;
    assert!(is_tried(relays, ONE) && is_tried(relays, TWO));
    sleep(IDLE).await;
    assert!(is_tried(relays, ONE) && !is_tried(relays, TWO));

    // Home is another region now, and the connection to it, which ended, is made anew.
    relays.set_home(Some(TWO));
    sleep(IDLE * 2).await;
    assert!(!is_tried(relays, ONE) && is_tried(relays, TWO));
}
