//! What peers cost that nobody talks with: nothing. With gotatun, whose clock moves with the network's.
#![cfg(target_os = "linux")]

#[path = "../../mesh/tests/harness/clock.rs"]
mod clock;
// Each file uses a part of the harness, and the lints' leave for tests ends at test functions.
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../mesh/tests/harness/mod.rs"]
mod harness;

use std::time::Duration;

use harness::Net;
use ztna_mesh::SourceFilter;

/// Peers of machine 0.
const PEERS: usize = 100;

/// From the last packet until the paths rest and the tunnels have sent their last keepalives.
const FALLS_SILENT: Duration = Duration::from_secs(50);

/// From then on until nothing is held that would end: sessions and epochs last 180 s.
const FORGETS: Duration = Duration::from_secs(150);

/// A machine that has spoken with all its peers, a moment ago.
fn star() -> Net {
    clock::start();
    let mut net = Net::of(u8::try_from(PEERS + 1).unwrap_or(u8::MAX), SourceFilter::On);
    net.clock = clock::pass;
    for peer in 1..=PEERS {
        net.send(0, peer, b"there");
        net.run(Duration::from_millis(30));
    }
    net.run(Duration::from_secs(3));
    for peer in 1..=PEERS {
        assert_eq!(net.delivered(peer), [b"there".to_vec()]);
        assert!(net.is_direct(0, peer));
        net.send(peer, 0, b"and back");
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(0).len(), PEERS);
    net
}

#[test]
fn a_hundred_idle_peers_cost_no_packet_and_no_timer() {
    let mut net = star();
    net.run(FALLS_SILENT);

    // What ends, ends in silence: a peer's epoch and its sessions.
    (net.sent, net.wakes[0]) = (0, 0);
    net.run(FORGETS);
    assert_eq!(net.sent, 0, "datagrams while keys grow old");
    let woken = net.wakes[0];
    assert!(woken <= 2 * PEERS as u64 + 10, "{woken} wake-ups");

    (net.sent, net.wakes[0]) = (0, 0);
    net.run(Duration::from_secs(600));
    assert_eq!((net.sent, net.wakes[0]), (0, 0), "datagrams, wake-ups");
    // What is left is the end of the keys' chains.
    let next = net.timer(0);
    assert!(
        next.is_none_or(|next| next > Duration::from_secs(20 * 3600)),
        "{next:?}"
    );

    for peer in 1..=PEERS {
        net.send(0, peer, b"again");
    }
    net.run(Duration::from_secs(1));
    for peer in 1..=PEERS {
        assert_eq!(net.delivered(peer), [b"again".to_vec()]);
    }
}

#[test]
fn an_idle_pair_whose_keys_are_old_loses_nothing_when_it_speaks_again() {
    // Across the ends of session and epoch, at 180 s after their making.
    for idle in (100..200).step_by(5) {
        clock::start();
        let mut net = Net::pair();
        net.clock = clock::pass;
        net.send(0, 1, b"there");
        net.run(Duration::from_secs(3));
        net.send(1, 0, b"and back");
        net.run(Duration::from_secs(idle));
        net.delivered(0);
        net.delivered(1);
        for round in 0..100_u8 {
            net.send(0, 1, &[round]);
            net.send(1, 0, &[round]);
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(1));
        let all: Vec<Vec<u8>> = (0..100).map(|round| vec![round]).collect();
        assert_eq!(net.delivered(0), all, "after {idle} s");
        assert_eq!(net.delivered(1), all, "after {idle} s");
    }
}

#[test]
fn a_peer_that_is_gone_is_given_up_and_found_again() {
    clock::start();
    let mut net = Net::pair();
    net.clock = clock::pass;
    net.send(0, 1, b"there");
    net.run(Duration::from_secs(3));
    net.passes = Box::new(|_, _| false);
    net.run(Duration::from_secs(150));
    net.send(0, 1, b"into silence");
    net.run(Duration::from_secs(250));
    (net.sent, net.wakes[0]) = (0, 0);
    net.run(Duration::from_secs(600));
    assert_eq!((net.sent, net.wakes[0]), (0, 0), "datagrams, wake-ups");

    net.passes = Box::new(|_, _| true);
    net.delivered(1);
    net.send(0, 1, b"back");
    net.run(Duration::from_secs(3));
    assert_eq!(net.delivered(1), [b"back".to_vec()]);
}

#[test]
fn peers_that_nobody_speaks_with_have_no_timer_at_all() {
    let net = Net::of(101, SourceFilter::On);
    for machine in 0..=PEERS {
        assert_eq!(net.timer(machine), None);
    }
}
