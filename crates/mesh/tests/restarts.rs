//! Restarts, moves and losses, in every order of events.

// Each file uses a part of the harness, and the lints' leave for tests ends at test functions.
#[allow(dead_code, clippy::unwrap_used)]
mod harness;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use harness::Net;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ztna_disco::PING_LEN;
use ztna_mesh::demux::{Kind, classify};

const STEP: Duration = Duration::from_millis(100);

/// A pair with a trusted direct path.
fn direct_pair() -> Net {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(3));
    assert!(net.is_direct(0, 1) && net.is_direct(1, 0));
    net.delivered(1);
    net
}

/// Lets the machines in `senders` send each step; gives the time until both of them get through.
fn recovery(net: &mut Net, senders: &[usize]) -> Duration {
    let mut open = senders.to_vec();
    let mut taken = Duration::ZERO;
    while !open.is_empty() {
        assert!(
            taken < Duration::from_secs(60),
            "{open:?} do not get through"
        );
        for from in senders {
            net.send(*from, 1 - from, b"again");
        }
        net.run(STEP);
        taken += STEP;
        open.retain(|from| net.delivered(1 - from).is_empty());
    }
    taken
}

#[test]
fn both_ends_start_at_once() {
    let mut net = Net::pair();
    net.send(0, 1, b"from 0");
    net.send(1, 0, b"from 1");
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(0), [b"from 1".to_vec()]);
    assert_eq!(net.delivered(1), [b"from 0".to_vec()]);
    assert_eq!(net.fingerprint(0, 1), net.fingerprint(1, 0));
}

/// Whoever speaks first, and whenever the others hear of it.
#[test]
fn a_restarted_machine_is_back_within_seconds() {
    for senders in [&[0][..], &[1], &[0, 1]] {
        for told_after in [0, 1, 4, 10, 40] {
            for udp_blocked in [false, true] {
                let mut net = direct_pair();
                net.udp_blocked = udp_blocked;
                if udp_blocked {
                    net.run(Duration::from_secs(60));
                }
                net.restart(1);
                for _ in 0..told_after {
                    for from in senders {
                        net.send(*from, 1 - from, b"early");
                    }
                    net.run(STEP);
                }
                net.announce_to(1, 0);
                let taken = recovery(&mut net, senders);
                assert!(
                    taken <= Duration::from_secs(1),
                    "{senders:?} told after {told_after} steps, blocked {udp_blocked}: {taken:?}"
                );
            }
        }
    }
}

/// The control plane is away: nobody tells that the machine is another now.
#[test]
fn a_restarted_machine_is_back_though_nobody_is_told() {
    for senders in [&[0][..], &[1], &[0, 1]] {
        let mut net = direct_pair();
        net.restart(1);
        let taken = recovery(&mut net, senders);
        assert!(taken <= Duration::from_secs(1), "{senders:?}: {taken:?}");
    }
}

#[test]
fn both_machines_restart() {
    for senders in [&[0][..], &[1], &[0, 1]] {
        let mut net = direct_pair();
        net.restart(0);
        net.restart(1);
        net.announce_to(0, 1);
        net.announce_to(1, 0);
        let taken = recovery(&mut net, senders);
        assert!(taken <= Duration::from_secs(1), "{senders:?}: {taken:?}");
    }
}

#[test]
fn a_machine_that_moves_loses_nothing_of_what_it_gets_by_relay() {
    let mut net = direct_pair();
    for round in 0..100_u8 {
        net.send(1, 0, &[round]);
        net.run(STEP);
        if round == 20 {
            net.roam(1);
        }
    }
    assert_eq!(net.delivered(0).len(), 100);
    assert!(net.is_direct(0, 1) && net.is_direct(1, 0));
}

#[test]
fn losses_and_disorder_cost_only_what_was_lost() {
    let mut net = direct_pair();
    let lost = Rc::new(RefCell::new(0_u32));
    let (counter, mut rng) = (Rc::clone(&lost), StdRng::seed_from_u64(3));
    net.jitter = Duration::from_millis(30);
    net.passes = Box::new(move |from, datagram| {
        // Data of machine 0 alone; what is lost of handshakes waits for a timer of the real clock.
        let is_lost = from == 0 && datagram[0] == 4 && rng.random_ratio(1, 5);
        *counter.borrow_mut() += u32::from(is_lost);
        !is_lost
    });
    for _ in 0..2_000 {
        net.send(0, 1, b"x");
        net.run(Duration::from_millis(10));
    }
    net.run(Duration::from_secs(1));
    let lost = *lost.borrow() as usize;
    assert!((300..500).contains(&lost), "{lost}");
    assert!(net.delivered(1).len() + lost >= 2_000);
}

#[test]
fn a_relay_that_is_away_does_no_harm_to_a_direct_path() {
    let mut net = direct_pair();
    net.relay_down = true;
    for round in 0..200_u16 {
        net.send(0, 1, &round.to_be_bytes());
        net.send(1, 0, &round.to_be_bytes());
        net.run(Duration::from_secs(2));
    }
    assert_eq!(net.delivered(0).len(), 200);
    assert_eq!(net.delivered(1).len(), 200);
}

#[test]
fn machines_without_a_relay_find_each_other_and_again_after_a_restart() {
    for senders in [&[0][..], &[1], &[0, 1]] {
        let mut net = Net::pair();
        net.relay_down = true;
        net.without_relay();
        let taken = recovery(&mut net, senders);
        assert!(taken <= Duration::from_secs(2), "{senders:?}: {taken:?}");
        net.restart(1);
        net.without_relay();
        let taken = recovery(&mut net, senders);
        assert!(
            taken <= Duration::from_secs(2),
            "{senders:?} again: {taken:?}"
        );
    }
}

/// One end has a path before the other does: what it begins is answered the way it came.
#[test]
fn a_peer_that_comes_first_is_answered_where_it_came_from() {
    let mut net = Net::pair();
    net.relay_down = true;
    net.without_relay();
    // No ping of machine 0 is ever answered.
    net.passes = Box::new(|from, datagram| {
        let is_disco = classify(datagram) == Kind::Disco;
        from != 1 || !is_disco || datagram.len() == PING_LEN
    });
    net.send(1, 0, b"hello");
    net.run(Duration::from_secs(2));
    assert_eq!(net.delivered(0), [b"hello".to_vec()]);
}

/// Somebody else's key, address or name is no reason to forget this peer.
#[test]
fn a_peer_whose_record_changes_keeps_its_session() {
    let mut net = direct_pair();
    let mut record = net.record(1);
    let key = net.fingerprint(0, 1);
    for change in 0..20_u8 {
        record.name = format!("name-{change}");
        record.routes = vec![format!("10.{change}.0.0/16").parse().unwrap()];
        net.tell(0, &record);
        net.send(0, 1, &[change]);
        net.send(1, 0, &[change]);
        net.run(STEP);
    }
    assert_eq!(net.delivered(0).len(), 20);
    assert_eq!(net.delivered(1).len(), 20);
    assert_eq!(net.fingerprint(0, 1), key);
}

/// A peer that is removed and comes back (a policy that changes to and fro) is reached at once.
#[test]
fn a_peer_that_comes_back_is_reached_again() {
    for senders in [&[0][..], &[1], &[0, 1]] {
        let mut net = direct_pair();
        let record = net.record(1);
        net.forget(0, 1);
        net.run(STEP);
        net.tell(0, &record);
        net.announce_to(1, 0);
        let taken = recovery(&mut net, senders);
        assert!(taken <= Duration::from_secs(1), "{senders:?}: {taken:?}");
    }
}
