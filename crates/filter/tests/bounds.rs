//! What the filter remembers is bounded, ends, and cannot be taken from one peer by another; and
//! fragments follow their first.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;

use std::time::Duration;

use common::{
    Bench, ME, ME6, PEER, PEER6, allow, fragments, ip, machine, ping, tcp, udp, udp_with,
};
use proptest::collection::vec;
use proptest::prelude::*;
use ztna_filter::Verdict::{Allow, Drop};
use ztna_filter::flows::{EVICT_ESTABLISHED_AFTER, UDP_TIMEOUT};
use ztna_filter::fragments::FRAGMENT_TIMEOUT;
use ztna_filter::{Direction, Limits, Reason};

const SMALL: Limits = Limits {
    flows: 20,
    flows_per_peer: 8,
    fragments: 6,
    fragments_per_peer: 4,
};

fn small() -> Bench {
    Bench::with_limits(vec![], vec![allow(&[], &[])], SMALL)
}

/// Makes the bench speak to another peer.
fn turn_to(bench: &mut Bench, n: u8) -> String {
    let address = format!("100.64.1.{n}");
    bench.peer = machine(u128::from(n) + 100);
    bench
        .filter
        .set_peer(bench.peer, &[], &[ip(&address).into()]);
    address
}

fn connect(bench: &mut Bench, port: u16) -> ztna_filter::Verdict {
    match bench.outbound(&tcp((ME, port), (PEER, 22), "S")) {
        Allow => bench.inbound(&tcp((PEER, 22), (ME, port), "SA")),
        drop => drop,
    }
}

#[test]
fn a_peer_with_too_many_flows_loses_its_least() {
    let mut bench = small();
    assert_eq!(connect(&mut bench, 1), Allow);
    assert_eq!(bench.outbound(&udp((ME, 1), (PEER, 53))), Allow);
    assert_eq!(bench.outbound(&ping(ME, PEER, 1, false)), Allow);
    for port in 1000..1100 {
        assert_eq!(bench.outbound(&udp((ME, port), (PEER, 53))), Allow);
        assert!(bench.filter.counters().flows <= SMALL.flows_per_peer);
    }
    assert_eq!(bench.filter.counters().flows_evicted, 95);
    assert_eq!(
        bench.inbound(&tcp((PEER, 22), (ME, 1), "A")),
        Allow,
        "connections stay"
    );
    assert_eq!(
        bench.inbound(&ping(PEER, ME, 1, true)),
        Drop(Reason::NoRule),
        "pings go first"
    );
    assert_eq!(
        bench.inbound(&udp((PEER, 53), (ME, 1))),
        Drop(Reason::NoRule)
    );
    assert_eq!(bench.inbound(&udp((PEER, 53), (ME, 1099))), Allow);
}

#[test]
fn connections_in_use_do_not_give_way() {
    let mut bench = small();
    for port in 0..8 {
        assert_eq!(connect(&mut bench, port), Allow);
    }
    assert_eq!(connect(&mut bench, 8), Drop(Reason::TableFull));
    assert_eq!(
        bench.outbound(&udp((ME, 1), (PEER, 53))),
        Drop(Reason::TableFull)
    );
    bench.pass(EVICT_ESTABLISHED_AFTER);
    assert_eq!(bench.inbound(&tcp((PEER, 22), (ME, 0), "A")), Allow);
    assert_eq!(connect(&mut bench, 8), Allow);
    assert_eq!(
        bench.inbound(&tcp((PEER, 22), (ME, 0), "A")),
        Allow,
        "in use"
    );
    assert_eq!(
        bench.inbound(&tcp((PEER, 22), (ME, 1), "A")),
        Drop(Reason::NoRule),
        "oldest idle"
    );
}

#[test]
fn the_fullest_peer_makes_room_for_others() {
    let mut bench = small();
    for n in 0..2 {
        let peer = turn_to(&mut bench, n);
        for port in 0..8 {
            assert_eq!(bench.outbound(&udp((ME, port), (&peer, 53))), Allow);
        }
    }
    for n in 2..20 {
        let peer = turn_to(&mut bench, n);
        assert_eq!(bench.outbound(&udp((ME, 1), (&peer, 53))), Allow);
        assert_eq!(bench.inbound(&udp((&peer, 53), (ME, 1))), Allow);
        assert!(bench.filter.counters().flows <= SMALL.flows);
    }
    for n in 2..20 {
        let peer = turn_to(&mut bench, n);
        assert_eq!(
            bench.inbound(&udp((&peer, 53), (ME, 1))),
            Allow,
            "peer {n} kept its flow"
        );
    }
}

#[test]
fn memory_is_given_back() {
    let mut bench = small();
    assert_eq!(bench.filter.poll_timeout(), None);
    let start = bench.now;
    bench.outbound(&udp((ME, 1), (PEER, 53)));
    bench.outbound(&fragments(&udp_with((ME, 1), (PEER, 53), &[0; 64]), 1, 32)[0]);
    let due = bench.filter.poll_timeout().unwrap();
    assert!(due > start + FRAGMENT_TIMEOUT && due <= start + FRAGMENT_TIMEOUT * 2);
    bench.filter.handle_timeout(due);
    assert_eq!(
        (
            bench.filter.counters().flows,
            bench.filter.counters().fragments
        ),
        (1, 0)
    );
    let due = bench.filter.poll_timeout().unwrap();
    assert!(due > start + UDP_TIMEOUT);
    bench.filter.handle_timeout(due);
    assert_eq!(bench.filter.counters().flows, 0);
    assert_eq!(bench.filter.poll_timeout(), None);
}

#[test]
fn fragments_follow_their_first() {
    for (me, peer) in [(ME, PEER), (ME6, PEER6)] {
        let mut bench = Bench::new(vec![], vec![allow(&[], &[53])]);
        let pieces = fragments(&udp_with((me, 999), (peer, 53), &[0; 96]), 7, 32);
        assert_eq!(
            bench.outbound(&pieces[1]),
            Drop(Reason::Fragment),
            "before its first"
        );
        assert_eq!(bench.outbound(&pieces[0]), Allow);
        assert_eq!(bench.outbound(&pieces[2]), Allow);
        assert_eq!(
            bench.inbound(&pieces[1]),
            Drop(Reason::Fragment),
            "the other direction"
        );
        assert_eq!(bench.outbound(&pieces[1]), Allow);
        assert_eq!(bench.outbound(&pieces[3]), Allow);
        assert_eq!(bench.filter.counters().fragments, 0, "all there");
        assert_eq!(bench.outbound(&pieces[1]), Drop(Reason::Fragment));

        let replies = fragments(&udp_with((peer, 53), (me, 999), &[0; 96]), 9, 32);
        for piece in &replies {
            assert_eq!(bench.inbound(piece), Allow, "of a reply");
        }
        let denied = fragments(&udp_with((me, 999), (peer, 54), &[0; 96]), 8, 32);
        assert_eq!(bench.outbound(&denied[0]), Drop(Reason::NoRule));
        assert_eq!(bench.outbound(&denied[1]), Drop(Reason::Fragment));
        assert_eq!(bench.outbound(&pieces[0]), Allow);
        assert_eq!(
            bench.outbound(&denied[1]),
            Drop(Reason::Fragment),
            "another packet's"
        );
    }
}

#[test]
fn fragments_that_overlap_spoil_their_packet() {
    for (me, peer) in [(ME, PEER), (ME6, PEER6)] {
        let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
        let packet = udp_with((me, 999), (peer, 53), &[0; 96]);
        let (pieces, small) = (fragments(&packet, 7, 32), fragments(&packet, 7, 16));
        assert_eq!(bench.outbound(&pieces[0]), Allow);
        assert_eq!(
            bench.outbound(&small[1]),
            Drop(Reason::Fragment),
            "inside the first"
        );
        assert_eq!(bench.outbound(&pieces[1]), Drop(Reason::Fragment));
        assert_eq!(bench.outbound(&pieces[0]), Drop(Reason::Fragment));
        bench.pass(FRAGMENT_TIMEOUT);
        assert_eq!(
            (bench.outbound(&pieces[0]), bench.outbound(&pieces[1])),
            (Allow, Allow)
        );

        bench.pass(FRAGMENT_TIMEOUT);
        assert_eq!(
            (bench.outbound(&pieces[0]), bench.outbound(&pieces[0])),
            (Allow, Allow)
        );
        assert_eq!(
            bench.outbound(&small[0]),
            Drop(Reason::Fragment),
            "another first"
        );
        assert_eq!(bench.outbound(&pieces[1]), Drop(Reason::Fragment));

        bench.pass(FRAGMENT_TIMEOUT);
        let longer = fragments(&udp_with((me, 999), (peer, 53), &[0; 160]), 7, 32);
        assert_eq!(
            (bench.outbound(&pieces[0]), bench.outbound(&pieces[3])),
            (Allow, Allow)
        );
        assert_eq!(
            bench.outbound(&longer[5]),
            Drop(Reason::Fragment),
            "after the last"
        );
    }
}

#[test]
fn fragments_are_bounded_and_end() {
    let mut bench = small();
    let first = |id: u16, peer: &str| {
        fragments(&udp_with((ME, 999), (peer, 53), &[0; 96]), id, 32).swap_remove(0)
    };
    for id in 0..4 {
        assert_eq!(bench.outbound(&first(id, PEER)), Allow);
    }
    assert_eq!(bench.outbound(&first(4, PEER)), Drop(Reason::TableFull));
    let peer = turn_to(&mut bench, 1);
    for id in 0..2 {
        assert_eq!(bench.outbound(&first(id, &peer)), Allow);
    }
    assert_eq!(
        bench.outbound(&first(2, &peer)),
        Drop(Reason::TableFull),
        "all together"
    );
    bench.pass(FRAGMENT_TIMEOUT);
    assert_eq!(bench.outbound(&first(2, &peer)), Allow);
    assert_eq!(bench.filter.counters().fragments, 1);
    bench.filter.remove_peer(bench.peer);
    assert_eq!(bench.filter.counters().fragments, 0);
}

#[test]
fn new_rules_end_packets_under_way() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    let pieces = fragments(&udp_with((ME, 999), (PEER, 53), &[0; 96]), 7, 32);
    assert_eq!(bench.outbound(&pieces[0]), Allow);
    bench.set_rules(vec![], vec![allow(&[], &[])]);
    assert_eq!(bench.outbound(&pieces[1]), Allow, "the same rules");
    bench.set_rules(vec![], vec![]);
    assert_eq!(bench.outbound(&pieces[2]), Drop(Reason::Fragment));
}

/// What a random peer does: which peer, direction, kind of packet, ports, and how time passes.
type Step = (u8, bool, u8, u16, u16, u64);

fn step() -> impl Strategy<Value = Step> {
    (0..4u8, any::<bool>(), 0..8u8, 0..6u16, 0..6u16, 0..40u64)
}

fn packet(kind: u8, src: (&str, u16), dst: (&str, u16)) -> Vec<u8> {
    match kind {
        0 => tcp(src, dst, "S"),
        1 => tcp(src, dst, "SA"),
        2 => tcp(src, dst, "FA"),
        3 => tcp(src, dst, "R"),
        4 => ping(src.0, dst.0, src.1, false),
        5 => ping(src.0, dst.0, dst.1, true),
        6 => {
            fragments(&udp_with(src, dst, &[0; 64]), src.1, 32).swap_remove(usize::from(dst.1 % 2))
        }
        _ => udp(src, dst),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tables_keep_their_bounds_and_empty_themselves(steps in vec(step(), 1..200)) {
        let mut bench = small();
        bench.set_rules(vec![allow(&[], &[1, 2, 3])], vec![allow(&[], &[])]);
        for (n, inbound, kind, src, dst, seconds) in steps {
            let peer = turn_to(&mut bench, n);
            if inbound {
                bench.inbound(&packet(kind, (&peer, src), (ME, dst)));
            } else {
                bench.outbound(&packet(kind, (ME, src), (&peer, dst)));
            }
            let counters = bench.filter.counters();
            prop_assert!(counters.flows <= SMALL.flows && counters.fragments <= SMALL.fragments);
            bench.pass(Duration::from_millis(seconds * 100));
        }
        while let Some(due) = bench.filter.poll_timeout() {
            bench.filter.handle_timeout(due);
        }
        let counters = bench.filter.counters();
        prop_assert_eq!((counters.flows, counters.fragments), (0, 0));
    }

    /// With nothing allowed inbound, what comes in has to answer something that went out.
    #[test]
    fn replies_pass_and_nothing_else_does(steps in vec(step(), 1..100)) {
        let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
        let mut opened = std::collections::BTreeSet::new();
        for (n, inbound, _, src, dst, _) in steps {
            let peer = turn_to(&mut bench, n);
            if inbound {
                let verdict = bench.inbound(&udp((&peer, src), (ME, dst)));
                prop_assert_eq!(verdict == Allow, opened.contains(&(n, dst, src)));
            } else {
                prop_assert_eq!(bench.outbound(&udp((ME, src), (&peer, dst))), Allow);
                opened.insert((n, src, dst));
            }
        }
    }

    #[test]
    fn random_packets_never_panic(
        packets in vec((any::<bool>(), vec(any::<u8>(), 0..96), 0..3u8), 1..50),
    ) {
        let mut bench = Bench::new(vec![allow(&[], &[])], vec![allow(&[], &[])]);
        for (inbound, mut bytes, version) in packets {
            // Mostly of the right addresses, so that they get behind the first checks.
            if bytes.len() >= 40 && version > 0 {
                let (v4, src, dst) = match (version, inbound) {
                    (1, true) => (true, ip(PEER), ip(ME)),
                    (1, false) => (true, ip(ME), ip(PEER)),
                    (_, true) => (false, ip(PEER6), ip(ME6)),
                    (_, false) => (false, ip(ME6), ip(PEER6)),
                };
                let length = u16::try_from(bytes.len()).unwrap();
                if v4 {
                    bytes[0] = 0x45;
                    bytes[2..4].copy_from_slice(&length.to_be_bytes());
                } else {
                    bytes[0] = 0x60;
                    bytes[4..6].copy_from_slice(&(length - 40).to_be_bytes());
                }
                for (at, address) in [(if v4 { 12 } else { 8 }, src), (if v4 { 16 } else { 24 }, dst)] {
                    let octets = match address {
                        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                    };
                    bytes[at..at + octets.len()].copy_from_slice(&octets);
                }
            }
            let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
            bench.filter.check(direction, bench.peer, &bytes, bench.now);
        }
    }
}
