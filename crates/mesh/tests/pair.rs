//! Meshes wired to each other in memory: the whole data plane without sockets.

// Each file uses a part of the harness, and the lints' leave for tests ends at test functions.
#[allow(dead_code, clippy::unwrap_used)]
mod harness;

use std::time::Duration;

use harness::Net;
use ztna_mesh::SourceFilter;
use ztna_path::Selected;
use ztna_proto::filter::{Action, PacketFilter, Protocol};

#[test]
fn the_first_packet_arrives_by_relay_and_the_next_ones_directly() {
    let mut net = Net::pair();
    net.send(0, 1, b"first");
    net.run(Duration::from_secs(3));
    assert_eq!(net.delivered(1), [b"first".to_vec()]);
    assert!(
        matches!(net.selected(0, 1), Selected::Direct { .. }),
        "{:?}",
        net.selected(0, 1)
    );

    let relayed = net.relayed;
    for round in 0..20_u8 {
        net.send(0, 1, &[round]);
        net.send(1, 0, &[round]);
        net.run(Duration::from_millis(50));
    }
    assert_eq!(net.delivered(1).len(), 20);
    assert_eq!(net.delivered(0).len(), 20);
    assert_eq!(
        net.relayed, relayed,
        "a trusted direct path carries everything"
    );
}

#[test]
fn without_udp_everything_goes_by_relay() {
    let mut net = Net::pair();
    net.udp_blocked = true;
    for round in 0..50_u8 {
        net.send(0, 1, &[round]);
        net.run(Duration::from_millis(100));
    }
    assert_eq!(net.delivered(1).len(), 50);
    assert!(
        matches!(net.selected(0, 1), Selected::Relay(_)),
        "{:?}",
        net.selected(0, 1)
    );
}

#[test]
fn both_ends_hold_the_same_key_and_it_changes_without_loss() {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(1));
    let mut fingerprints = vec![net.fingerprint(0, 1)];
    assert!(fingerprints[0].is_some());
    assert_eq!(net.fingerprint(1, 0), fingerprints[0]);
    net.delivered(1);

    let mut sent = 0_u32;
    for _ in 0..400 {
        for _ in 0..5 {
            net.send(0, 1, &sent.to_be_bytes());
            net.send(1, 0, &sent.to_be_bytes());
            sent += 1;
        }
        net.run(Duration::from_secs(1));
        let fingerprint = net.fingerprint(0, 1);
        assert_eq!(net.fingerprint(1, 0), fingerprint);
        if fingerprints.last() != Some(&fingerprint) {
            fingerprints.push(fingerprint);
        }
    }
    assert!(fingerprints.len() >= 3, "{} epochs", fingerprints.len());
    for at in [0, 1] {
        let delivered = net.delivered(at);
        assert_eq!(
            delivered.len(),
            sent as usize,
            "packets of a stream that runs through epochs"
        );
    }
}

#[test]
fn a_packet_without_a_rule_does_not_leave() {
    let mut net = Net::pair();
    net.set_filter(0, &PacketFilter::default());
    net.set_filter(1, &PacketFilter::default());
    net.send(0, 1, b"no");
    net.run(Duration::from_secs(2));
    assert!(net.delivered(1).is_empty());
    assert_eq!(net.drop_count(0, 1), 1);
    assert_eq!(net.fingerprint(0, 1), None, "no reason to talk at all");
}

#[test]
fn a_sender_that_does_not_filter_gains_nothing() {
    for udp_blocked in [false, true] {
        let mut net = Net::pair_with(SourceFilter::Off);
        net.udp_blocked = udp_blocked;
        let mut only_tcp = net.allow_all();
        only_tcp.inbound[0].protocols = vec![Protocol::Tcp];
        net.set_filter(1, &only_tcp);
        net.send(0, 1, b"forbidden");
        net.run(Duration::from_secs(3));
        assert!(net.delivered(1).is_empty());
        assert_eq!(net.drop_count(1, 0), 1);
        assert!(
            net.fingerprint(1, 0).is_some(),
            "it was the filter that dropped it"
        );
    }
}

#[test]
fn deny_beats_allow() {
    let mut net = Net::pair();
    let mut rules = net.allow_all();
    let mut deny = rules.inbound[0].clone();
    deny.action = Action::Deny;
    rules.inbound.push(deny);
    net.set_filter(1, &rules);
    net.send(0, 1, b"denied");
    net.run(Duration::from_secs(2));
    assert!(net.delivered(1).is_empty());
}

#[test]
fn a_removed_peer_gets_nothing_and_reaches_nothing() {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(1));
    net.delivered(1);
    net.forget(1, 0);
    net.send(0, 1, b"after");
    net.send(1, 0, b"after");
    net.run(Duration::from_secs(2));
    assert!(net.delivered(0).is_empty());
    assert!(net.delivered(1).is_empty());
}

#[test]
fn a_restarted_peer_is_reached_again() {
    let mut net = Net::pair();
    net.send(0, 1, b"before");
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(1).len(), 1);
    net.restart(1);
    net.announce_to(1, 0);
    for _ in 0..100 {
        net.send(1, 0, b"back");
        net.send(0, 1, b"again");
        net.run(Duration::from_millis(500));
    }
    assert!(
        !net.delivered(0).is_empty(),
        "the restarted one reaches the other"
    );
    assert!(!net.delivered(1).is_empty(), "and is reached");
    assert_eq!(net.fingerprint(0, 1), net.fingerprint(1, 0));
}

#[test]
fn a_dead_direct_path_falls_back_to_the_relay() {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(3));
    assert!(matches!(net.selected(0, 1), Selected::Direct { .. }));
    net.delivered(1);
    net.udp_blocked = true;
    for _ in 0..60 {
        net.send(0, 1, b"x");
        net.run(Duration::from_millis(100));
    }
    let late = {
        net.delivered(1);
        for _ in 0..10 {
            net.send(0, 1, b"y");
            net.run(Duration::from_millis(100));
        }
        net.delivered(1).len()
    };
    assert_eq!(late, 10, "by then the relay carries everything");
}

#[test]
fn garbage_does_no_harm() {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(1));
    net.delivered(1);
    net.throw_garbage(1, 20_000);
    net.send(0, 1, b"still here");
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(1), [b"still here".to_vec()]);
}
