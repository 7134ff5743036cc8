//! What an honest pair does in the course of its life.

use std::time::Duration;

use ztna_proto::netmap::PqMode;

use super::*;
use crate::wire::{INIT_FULL_LEN, INIT_LIGHT_LEN};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn first_contact_is_full_and_takes_two_round_trips() {
    let mut world = World::new(1);
    world.want(A);
    world.run(SECOND);
    world.assert_agreed();
    for index in [A, B] {
        let [install] = world.machines[index].installs.as_slice() else {
            panic!("one install expected");
        };
        assert!(install.full);
        assert_eq!(install.epoch, 1);
        assert_eq!(install.role == Role::Initiator, index == A);
        assert_eq!(world.machines[index].asked.len(), 1, "each asks once");
        let peer = world.machines[1 - index].name;
        let info = world.machines[index].engine.epoch(&peer).unwrap();
        assert_eq!((info.epoch, info.full), (1, true));
        assert_eq!(info.installed_at, install.at);
    }
    // Two fetches of a key, 10 ms each, and four messages.
    let took = world.machines[A].installs[0].at - world.start;
    assert_eq!(took, 4 * DELAY + Duration::from_millis(20));
    // The key is not the fingerprint's prefix or anything so simple.
    let install = &world.machines[A].installs[0];
    assert_ne!(install.fingerprint, install.psk[..8]);
}

#[test]
fn epochs_rotate_under_traffic_and_light_ones_follow_a_full_one() {
    let mut world = World::new(2);
    world.run_busy(600);
    world.assert_agreed();
    world.assert_never_differ();
    let installs = &world.machines[A].installs;
    assert_eq!(installs.len(), 5);
    let mut keys: Vec<_> = installs.iter().map(|install| install.psk).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5, "every epoch has a key of its own");
    for (index, install) in installs.iter().enumerate() {
        assert_eq!(install.full, index == 0);
        assert_eq!(install.epoch, index as u64 + 1);
    }
    for pair in installs.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart >= world.config.rotation && apart < world.config.rotation + 2 * SECOND);
    }
    assert!(world.machines[A].expired.is_empty() && world.machines[B].expired.is_empty());
}

/// Else each pair that exchanged a packet would have one more handshake two minutes later.
#[test]
fn traffic_that_ended_long_before_renews_no_key_and_the_next_packet_does() {
    let mut world = World::connected(9);
    let made = world.machines[A].installs[0].at;
    let lately = world.config.lately;
    world.run(Duration::from_secs(10));
    let early = world.config.rotation - lately - Duration::from_secs(20);
    world.run(early);
    world.run_busy(5);
    let sent = world.sent.len();
    while world.now < made + world.config.expiry - Duration::from_secs(1) {
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.sent.len(), sent, "the pair was silent");
    // The old key still holds, so nothing is lost meanwhile.
    world.run_busy(2);
    assert_eq!(world.installs(A), 2);
    world.assert_agreed();
    assert!(world.machines[A].expired.is_empty() && world.machines[B].expired.is_empty());
}

#[test]
fn a_pair_without_traffic_falls_silent_and_its_key_expires() {
    let mut world = World::connected(3);
    let sent = world.sent.len();
    world.run(Duration::from_secs(1000));
    assert_eq!(world.sent.len(), sent, "an idle pair sends nothing");
    for index in [A, B] {
        let machine = &world.machines[index];
        assert_eq!(machine.expired.len(), 1);
        assert_eq!(
            machine.expired[0] - machine.installs[0].at,
            world.config.expiry
        );
        let peer = world.machines[1 - index].name;
        assert!(machine.engine.epoch(&peer).is_none());
    }
    // The chain outlives the epoch: the next one is LIGHT.
    world.want(B);
    world.run(SECOND);
    world.assert_agreed();
    assert!(!world.machines[A].installs[1].full);
}

#[test]
fn an_epoch_that_cannot_be_replaced_expires_on_time() {
    let mut world = World::connected(4);
    world.meddler = Box::new(|_| Vec::new());
    world.run_busy(200);
    for machine in &world.machines {
        assert_eq!(machine.expired.len(), 1);
        assert_eq!(
            machine.expired[0] - machine.installs[0].at,
            world.config.expiry
        );
    }
    world.meddler = Box::new(|packet| vec![packet]);
    world.run_busy(70);
    world.assert_agreed();
    world.assert_never_differ();
}

#[test]
fn after_the_chains_lifetime_a_full_handshake_follows() {
    let mut world = World::connected(5);
    world.run(world.config.chain_lifetime - Duration::from_secs(60));
    world.want(A);
    world.run(SECOND);
    assert!(!world.machines[A].installs[1].full);
    world.run(Duration::from_secs(200));
    assert_eq!(world.machines[A].engine.poll_timeout(), None, "all erased");
    world.want(A);
    world.run(SECOND);
    world.assert_agreed();
    assert!(world.machines[A].installs[2].full);
}

#[test]
fn both_sides_starting_at_once_end_with_one_key() {
    for seed in 0..20 {
        let mut world = World::new(100 + seed);
        world.want(A);
        world.want(B);
        world.run(3 * SECOND);
        world.assert_agreed();
        assert_eq!(world.installs(A), 1, "the smaller key's Init wins");
        assert_eq!(world.machines[A].installs[0].role, Role::Initiator);
        // And again with LIGHT ones, both due at once.
        world.run(world.config.expiry);
        world.want(B);
        world.want(A);
        world.run(3 * SECOND);
        world.assert_agreed();
        assert_eq!(world.installs(A), 2);
        assert_eq!(world.machines[A].installs[1].role, Role::Initiator);
    }
}

#[test]
fn a_start_shortly_after_the_peers_ends_with_one_key() {
    for (first, second) in [(A, B), (B, A)] {
        for gap in 0..140 {
            let mut world = World::new(200 + gap);
            world.want(first);
            world.run(Duration::from_millis(gap));
            world.want(second);
            world.run(3 * SECOND);
            world.assert_agreed();
            world.assert_never_differ();
        }
    }
}

#[test]
fn either_side_restarted_recovers_by_itself() {
    for restarted in [A, B] {
        for wants in [A, B] {
            let mut world = World::before_light(300);
            world.restart(restarted);
            world.want(wants);
            world.run(10 * SECOND);
            world.assert_agreed();
            assert!(world.machines[A].installs.last().unwrap().full);
            if restarted != wants {
                let light: Vec<_> = world
                    .sent
                    .iter()
                    .filter(|packet| packet.bytes.len() == INIT_LIGHT_LEN)
                    .collect();
                assert_eq!(light.len(), 3, "three LIGHT tries, then FULL");
            }
            // The number goes on from where the one that remembers it was.
            assert_eq!(world.machines[A].installs.last().unwrap().epoch, 2);
        }
    }
}

#[test]
fn a_restart_while_both_send_recovers() {
    for restarted in [A, B] {
        let mut world = World::before_light(310);
        world.restart(restarted);
        world.want(1 - restarted);
        world.want(restarted);
        world.run(10 * SECOND);
        world.assert_agreed();
        assert_eq!(world.machines[A].installs.last().unwrap().epoch, 2);
    }
}

#[test]
fn a_restart_at_any_moment_of_a_handshake_recovers() {
    for restarted in [A, B] {
        for after in (0..200).step_by(10) {
            let mut world = World::connected(320);
            world.run(world.config.rotation);
            world.want(A);
            world.run(Duration::from_millis(after));
            world.restart(restarted);
            world.run_busy(20);
            world.assert_agreed();
        }
    }
}

#[test]
fn the_kem_key_is_asked_for_with_back_off_and_used_when_it_comes() {
    let mut world = World::new(6);
    world.keys_come = false;
    world.want(A);
    world.run(Duration::from_secs(40));
    let asked = &world.machines[A].asked;
    assert_eq!(asked[0], world.start);
    let gaps: Vec<_> = asked
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(gaps, [1, 2, 4, 8, 16]);
    assert!(world.sent.is_empty());

    let (a, b) = (world.machines[A].kem.clone(), world.machines[B].kem.clone());
    let now = world.now;
    world.machines[A].engine.provide_kem_key(&a, now);
    world.run(SECOND);
    assert!(
        world.sent.is_empty(),
        "a key of another hash changes nothing"
    );
    let now = world.now;
    world.machines[A].engine.provide_kem_key(&b, now);
    world.keys_come = true;
    world.run(SECOND);
    world.assert_agreed();
}

#[test]
fn a_kem_key_goes_to_those_who_have_its_hash_now() {
    let mut world = World::new(6);
    let mut rng = StdRng::seed_from_u64(6);
    let keys = [A, B].map(|owner| identity(owner).kem.public());
    let configs = [A, B].map(|owner| peer_config(&identity(owner)));
    let peers = [(); 4].map(|()| WgPrivateKey::generate(&mut rng).public());
    let now = world.now;
    let engine = &mut world.machines[A].engine;
    for (peer, first) in peers.iter().zip([0, 0, 0, 1]) {
        engine.upsert_peer(*peer, configs[first]);
    }
    let has_key = |engine: &mut Handshakes, peer: &WgPublicKey| {
        engine.want_epoch(peer, now);
        matches!(engine.poll_output(), Some(Output::Send { .. }))
    };
    // The third has another key by the time that its first one comes; the last is gone and back.
    engine.upsert_peer(peers[2], configs[1]);
    engine.remove_peer(&peers[3]);
    engine.upsert_peer(peers[3], configs[0]);
    engine.provide_kem_key(&keys[0], now);
    let have = peers.map(|peer| has_key(engine, &peer));
    assert_eq!(have, [true, true, false, true]);
    engine.provide_kem_key(&keys[1], now);
    assert!(matches!(engine.poll_output(), Some(Output::Send { .. })));
}

#[test]
fn attempts_and_retransmissions_are_bounded_in_time() {
    let mut world = World::new(7);
    world.meddler = Box::new(|_| Vec::new());
    world.want(A);
    world.run(Duration::from_secs(600));
    let times: Vec<_> = world.sent.iter().map(|packet| packet.at).collect();
    let last = *times.last().unwrap() - DELAY - world.start;
    assert!(last <= world.config.attempt, "{last:?}");
    assert!((12..=18).contains(&times.len()), "{} Inits", times.len());
    let first = times[1] - times[0];
    assert!(first >= Duration::from_millis(375) && first <= Duration::from_millis(625));
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] <= world.config.retry_max.mul_f64(1.25));
    }
    assert_eq!(world.machines[A].engine.poll_timeout(), None);
}

#[test]
fn fragments_carry_a_full_handshake_on_a_direct_path_in_any_order() {
    for reversed in [false, true] {
        let mut world = World::new(8);
        world.direct = true;
        let mut held: Option<Packet> = None;
        world.meddler = Box::new(move |packet| {
            if !reversed || packet.bytes[4] != 6 {
                return vec![packet];
            }
            match held.take() {
                None => {
                    held = Some(packet);
                    Vec::new()
                }
                Some(first) => vec![packet, first],
            }
        });
        world.want(A);
        world.run(SECOND);
        world.assert_agreed();
        assert!(
            world
                .sent
                .iter()
                .all(|packet| packet.bytes.len() <= crate::MAX_DATAGRAM)
        );
    }
}

#[test]
fn a_peer_that_is_removed_or_changed_starts_over() {
    let mut world = World::connected(9);
    let b = identity(B);
    let name = b.wg.public();
    world.machines[A].engine.upsert_peer(name, peer_config(&b));
    assert!(
        world.machines[A].engine.epoch(&name).is_some(),
        "the same record again changes nothing"
    );
    let preferred = PeerConfig {
        pq: PqMode::Preferred,
        ..peer_config(&b)
    };
    world.machines[A].engine.upsert_peer(name, preferred);
    world.collect(A);
    assert_eq!(world.machines[A].expired.len(), 1);
    assert!(world.machines[A].engine.epoch(&name).is_none());
    world.machines[A].engine.remove_peer(&name);
    assert_eq!(world.machines[A].engine.poll_timeout(), None);
    world.want(A);
    assert_eq!(world.installs(A), 1);
}

#[test]
fn the_initiators_pending_key_is_the_one_that_the_responder_installed() {
    let mut world = World::new(10);
    world.meddler = Box::new(|packet| {
        // Conf arrives, Ack does not.
        if packet.bytes[4] == 4 {
            Vec::new()
        } else {
            vec![packet]
        }
    });
    world.want(A);
    world.run(SECOND);
    assert_eq!((world.installs(A), world.installs(B)), (0, 1));
    let name = world.machines[B].name;
    let pending = world.machines[A].engine.pending_psk(&name).unwrap();
    assert_eq!(*pending.expose(), world.machines[B].installs[0].psk);
    world.meddler = Box::new(|packet| vec![packet]);
    world.run(5 * SECOND);
    world.assert_agreed();
    assert!(world.machines[A].engine.pending_psk(&name).is_none());
}

#[test]
fn a_lost_ack_leaves_a_chain_that_both_still_have() {
    let mut world = World::before_light(11);
    world.meddler = Box::new(|packet| {
        if packet.bytes[4] == 4 {
            Vec::new()
        } else {
            vec![packet]
        }
    });
    // B installs on each Conf; A never hears so, and tries again under the old chain.
    world.want(A);
    world.run(Duration::from_secs(20));
    assert_eq!(world.installs(A), 1);
    assert!(world.installs(B) >= 3);
    assert!(world.machines[B].installs.iter().skip(1).all(|i| !i.full));
    world.meddler = Box::new(|packet| vec![packet]);
    world.run(Duration::from_secs(20));
    world.assert_agreed();
    let full = world
        .sent
        .iter()
        .filter(|packet| packet.bytes.len() == INIT_FULL_LEN);
    // A's first one went out before and after B had A's key, or once: never again since.
    assert!(full.count() <= 2);
}

#[test]
fn two_runs_with_one_seed_are_the_same_to_the_byte() {
    let run = || {
        let mut world = World::new(12);
        world.run_busy(300);
        world
            .sent
            .into_iter()
            .map(|packet| (packet.at - world.start, packet.bytes))
            .collect::<Vec<_>>()
    };
    assert!(run() == run());
}
