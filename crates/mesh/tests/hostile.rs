//! Members of the org that mean ill: what they tell, send and replay.

// Each file uses a part of the harness, and the lints' leave for tests ends at test functions.
#[allow(dead_code, clippy::unwrap_used)]
mod harness;

use std::time::Duration;

use harness::Net;
use ztna_mesh::SourceFilter;

const VICTIM: usize = 0;
const FRIEND: usize = 1;
const THIEF: usize = 2;

/// Both directions work, directly, `rounds` times.
fn talks_directly(net: &mut Net, rounds: u8) {
    for round in 0..rounds {
        net.send(VICTIM, FRIEND, &[round]);
        net.send(FRIEND, VICTIM, &[round]);
        net.run(Duration::from_millis(500));
        assert_eq!(net.delivered(FRIEND), [vec![round]]);
        assert_eq!(net.delivered(VICTIM), [vec![round]]);
        assert!(net.is_direct(VICTIM, FRIEND) && net.is_direct(FRIEND, VICTIM));
    }
}

#[test]
fn who_tells_anothers_discovery_key_cuts_nobody_off() {
    let mut net = Net::of(3, SourceFilter::On);
    net.send(VICTIM, FRIEND, b"hello");
    net.run(Duration::from_secs(3));
    net.delivered(FRIEND);
    talks_directly(&mut net, 1);

    net.claim_disco_key(THIEF, VICTIM);
    talks_directly(&mut net, 60);
    net.forget(FRIEND, THIEF);
    talks_directly(&mut net, 60);
}

#[test]
fn a_discovery_key_that_was_told_before_its_owner_told_it_is_the_owners() {
    let mut net = Net::of(3, SourceFilter::On);
    net.restart(VICTIM);
    net.claim_disco_key(THIEF, VICTIM);
    net.announce_to(VICTIM, FRIEND);
    net.send(VICTIM, FRIEND, b"hello");
    net.run(Duration::from_secs(3));
    net.delivered(FRIEND);
    talks_directly(&mut net, 10);
}

#[test]
fn a_route_is_no_way_to_another_machines_address() {
    for source_filter in [SourceFilter::On, SourceFilter::Off] {
        let mut net = Net::of(3, source_filter);
        // The control plane let these through; the machine that looks at them need not.
        let mut record = net.record(THIEF);
        record.routes = vec![
            "0.0.0.0/0".parse().unwrap(),
            "100.64.0.1/32".parse().unwrap(),
        ];
        net.tell(FRIEND, &record);
        net.send(FRIEND, VICTIM, b"for the victim");
        net.run(Duration::from_secs(1));
        assert_eq!(net.delivered(VICTIM), [b"for the victim".to_vec()]);

        net.send(THIEF, FRIEND, b"under its own name");
        net.run(Duration::from_secs(1));
        net.send_as(THIEF, Net::ipv4(VICTIM), FRIEND, b"as the victim");
        net.send_as(THIEF, Net::ipv4(FRIEND), FRIEND, b"as the receiver");
        net.run(Duration::from_secs(1));
        assert_eq!(net.delivered(FRIEND), [b"under its own name".to_vec()]);
        let dropped = match source_filter {
            SourceFilter::On => net.drop_count(THIEF, FRIEND),
            SourceFilter::Off => net.drop_count(FRIEND, THIEF),
        };
        assert_eq!(dropped, 2);
    }
}

#[test]
fn without_a_hybrid_key_there_is_no_session() {
    let mut net = Net::pair();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(1).len(), 1);
    assert!(net.fingerprint(0, 1).is_some());

    // The peer's agent is gone from its record; what was agreed with it is void at once.
    let mut record = net.record(1);
    record.kem_key = None;
    net.tell(0, &record);
    assert_eq!(net.fingerprint(0, 1), None);
    net.send(0, 1, b"out");
    net.send(1, 0, b"in");
    net.run(Duration::from_secs(20));
    assert!(net.delivered(0).is_empty());
    assert!(net.delivered(1).is_empty());
}

/// An initiation that the restarted machine has never seen is fresh to it.
#[test]
fn a_replayed_initiation_takes_no_packet() {
    let mut net = Net::pair();
    let recorded = net.record_initiations();
    net.send(0, 1, b"hello");
    net.run(Duration::from_secs(1));
    assert!(!recorded.borrow().is_empty());
    net.restart(1);
    for round in 0..50_u8 {
        for initiation in recorded.borrow().iter().take(3) {
            net.throw(1, initiation);
        }
        net.send(1, 0, &[round]);
        net.run(Duration::from_millis(7));
    }
    net.run(Duration::from_secs(1));
    let sent: Vec<_> = (0..50_u8).map(|round| vec![round]).collect();
    assert_eq!(net.delivered(0), sent);
}
