//! What passes and what does not: rules, addresses, groups, flows and their ends.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;

use std::time::Duration;

use common::{
    Bench, ME, ME6, PEER, PEER6, allow, deny, icmp_error, ip, machine, ping, raw, rule, tcp, udp,
};
use ztna_filter::Verdict::{Allow, Drop};
use ztna_filter::flows::{
    CUT_TIMEOUT, ICMP_TIMEOUT, TCP_CLOSING_TIMEOUT, TCP_ESTABLISHED_TIMEOUT, TCP_OPENING_TIMEOUT,
    UDP_STREAM_TIMEOUT, UDP_TIMEOUT,
};
use ztna_filter::{Direction, Filter, Limits, Reason};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::RuleId;

const SECOND: Duration = Duration::from_secs(1);

fn denied() -> ztna_filter::Verdict {
    Drop(Reason::Denied(RuleId(uuid::Uuid::from_u128(9))))
}

/// A segment of the connection from `ME` port 1000 to `PEER` port 22.
fn sent(flags: &str) -> Vec<u8> {
    tcp((ME, 1000), (PEER, 22), flags)
}

/// A segment of the same connection the other way.
fn got(flags: &str) -> Vec<u8> {
    tcp((PEER, 22), (ME, 1000), flags)
}

#[test]
fn nothing_passes_without_a_rule() {
    let mut bench = Bench::new(vec![], vec![]);
    for (me, peer) in [(ME, PEER), (ME6, PEER6)] {
        assert_eq!(
            bench.inbound(&udp((peer, 1), (me, 2))),
            Drop(Reason::NoRule)
        );
        assert_eq!(
            bench.outbound(&udp((me, 1), (peer, 2))),
            Drop(Reason::NoRule)
        );
        assert_eq!(
            bench.inbound(&ping(peer, me, 1, false)),
            Drop(Reason::NoRule)
        );
    }
    assert!(matches!(bench.inbound(&[]), Drop(Reason::Malformed(_))));
    let mut fresh = Filter::new(Limits::default());
    let verdict = fresh.check(Direction::Inbound, bench.peer, &got("S"), bench.now);
    assert_eq!(verdict, Drop(Reason::UnknownPeer));
}

#[test]
fn rules_tell_protocols_and_ports_apart() {
    use Protocol::{Icmp, Number, Sctp, Tcp, Udp};
    let at = |port: u16| tcp((PEER, 1), (ME, port), "S");
    let sctp = raw(PEER, ME, 132, &[0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
    let gre = raw(PEER, ME, 47, &[]);
    let cases: &[(FilterRule, &[u8], bool)] = &[
        (allow(&[], &[]), &at(22), true),
        (allow(&[], &[]), &gre, true),
        (allow(&[], &[22]), &at(22), true),
        (allow(&[], &[22]), &at(23), false),
        (allow(&[], &[22]), &udp((PEER, 1), (ME, 22)), true),
        (allow(&[], &[22]), &udp((PEER, 22), (ME, 1)), false),
        (allow(&[], &[22]), &gre, false),
        (allow(&[], &[0]), &ping(PEER, ME, 0, false), false),
        (allow(&[Tcp], &[]), &at(22), true),
        (allow(&[Tcp], &[]), &udp((PEER, 1), (ME, 22)), false),
        (allow(&[Udp], &[53]), &udp((PEER, 1), (ME, 53)), true),
        (allow(&[Number(6)], &[22]), &at(22), true),
        (allow(&[Icmp], &[]), &ping(PEER, ME, 7, false), true),
        (allow(&[Icmp], &[]), &ping(PEER6, ME6, 7, false), true),
        (
            allow(&[Icmp], &[]),
            &raw(PEER, ME, 58, &[8, 0, 0, 0, 0, 7, 0, 1]),
            false,
        ),
        (allow(&[Number(1)], &[]), &ping(PEER6, ME6, 7, false), false),
        (allow(&[Sctp], &[10]), &sctp, true),
        (allow(&[Sctp], &[9]), &sctp, false),
        (allow(&[Number(47)], &[]), &gre, true),
        (allow(&[Number(255)], &[]), &raw(PEER, ME, 255, &[]), true),
    ];
    for (row, (rule, packet, passes)) in cases.iter().enumerate() {
        let mut bench = Bench::new(vec![rule.clone()], vec![]);
        assert_eq!(bench.inbound(packet) == Allow, *passes, "row {row}");
    }
    let mut range = allow(&[], &[]);
    range.ports = vec![PortRange {
        first: 20,
        last: 22,
    }];
    let mut bench = Bench::new(vec![range], vec![]);
    let verdicts = [19, 20, 22, 23].map(|port| bench.inbound(&at(port)) == Allow);
    assert_eq!(verdicts, [false, true, true, false]);
}

#[test]
fn a_deny_beats_every_allow_in_any_order() {
    for rules in [
        vec![deny(&[Protocol::Tcp], &[22]), allow(&[], &[])],
        vec![allow(&[], &[]), deny(&[Protocol::Tcp], &[22])],
    ] {
        let mut bench = Bench::new(rules.clone(), rules);
        assert_eq!(bench.inbound(&tcp((PEER, 1), (ME, 22), "S")), denied());
        assert_eq!(bench.outbound(&sent("S")), denied());
        assert_eq!(bench.outbound(&tcp((ME, 1), (PEER, 23), "S")), Allow);
    }
}

#[test]
fn peers_are_selected_by_id_and_group() {
    let allows = |selector: PeerSelector| {
        let mut bench = Bench::new(vec![rule(Action::Allow, selector, &[], &[])], vec![]);
        bench.inbound(&got("S")) == Allow
    };
    let denies = |selector: PeerSelector| {
        let rules = vec![allow(&[], &[]), rule(Action::Deny, selector, &[], &[])];
        Bench::new(rules, vec![]).inbound(&got("S")) != Allow
    };
    let unknown = || PeerSelector::Unknown(serde_json::json!({"posture": "strict"}));
    for (selector, selects) in [
        (PeerSelector::Any, true),
        (PeerSelector::Group("member".into()), true),
        (PeerSelector::Group("admin".into()), false),
        (PeerSelector::Machine(machine(2)), true),
        (PeerSelector::Machine(machine(3)), false),
    ] {
        assert_eq!(allows(selector.clone()), selects, "{selector:?}");
        assert_eq!(denies(selector.clone()), selects, "{selector:?}");
    }
    assert!(!allows(unknown()) && denies(unknown()), "fails closed");
    let none = FilterRule {
        peers: vec![],
        ..allow(&[], &[])
    };
    assert_eq!(
        Bench::new(vec![none], vec![]).inbound(&got("S")),
        Drop(Reason::NoRule)
    );
}

#[test]
fn addresses_belong_to_their_sides() {
    let all = || vec![allow(&[], &[])];
    let mut bench = Bench::new(all(), all());
    let third = "100.64.0.3";
    assert_eq!(
        bench.inbound(&udp((third, 1), (ME, 2))),
        Drop(Reason::WrongSource)
    );
    assert_eq!(
        bench.inbound(&udp((ME, 1), (ME, 2))),
        Drop(Reason::WrongSource)
    );
    assert_eq!(
        bench.inbound(&udp((PEER, 1), (third, 2))),
        Drop(Reason::WrongDestination)
    );
    assert_eq!(
        bench.inbound(&udp((PEER, 1), ("224.0.0.1", 2))),
        Drop(Reason::WrongDestination)
    );
    assert_eq!(
        bench.outbound(&udp((third, 1), (PEER, 2))),
        Drop(Reason::WrongSource)
    );
    assert_eq!(
        bench.outbound(&udp((ME, 1), (third, 2))),
        Drop(Reason::WrongDestination)
    );
    let mapped = "::ffff:100.64.0.2";
    assert_eq!(
        bench.inbound(&udp((mapped, 1), (ME6, 2))),
        Drop(Reason::WrongSource)
    );
    let about = icmp_error(third, ME, 3, &sent("S"));
    assert_eq!(bench.outbound(&sent("S")), Allow);
    assert_eq!(
        bench.inbound(&about),
        Drop(Reason::WrongSource),
        "even about a flow"
    );
}

#[test]
fn routed_networks_need_rules_that_name_them() {
    let networked = |network: &str| FilterRule {
        networks: vec![network.parse().unwrap()],
        ..allow(&[], &[])
    };
    let own = [
        ip(ME).into(),
        ip(ME6).into(),
        "10.1.0.0/16".parse().unwrap(),
        ip("10.9.9.9").into(),
    ];
    let peer = [
        ip(PEER).into(),
        "10.2.0.0/16".parse().unwrap(),
        ip("10.8.8.8").into(),
    ];
    let check = |rules: Vec<FilterRule>, direction, packet: &[u8]| {
        let bench = Bench::new(vec![], vec![]);
        let mut filter = bench.filter;
        let rules = PacketFilter {
            inbound: rules.clone(),
            outbound: rules,
        };
        filter.set_rules(&rules);
        filter.set_own(&own);
        filter.set_peer(bench.peer, &[], &peer);
        filter.check(direction, bench.peer, packet, bench.now)
    };
    let inbound = |rules, dst| check(rules, Direction::Inbound, &udp(("10.2.3.4", 1), (dst, 2)));
    let machines = || vec![allow(&[], &[])];
    assert_eq!(inbound(machines(), ME), Allow);
    assert_eq!(inbound(machines(), "10.1.2.3"), Drop(Reason::NoRule));
    assert_eq!(
        inbound(machines(), "10.9.9.9"),
        Drop(Reason::NoRule),
        "one address, yet a route"
    );
    assert_eq!(inbound(vec![networked("10.1.2.0/24")], "10.1.2.3"), Allow);
    assert_eq!(
        inbound(vec![networked("10.1.2.0/24")], "10.1.3.3"),
        Drop(Reason::NoRule)
    );
    assert_eq!(
        inbound(vec![networked("0.0.0.0/0")], "10.3.0.1"),
        Drop(Reason::WrongDestination)
    );
    let outbound = |rules, dst| check(rules, Direction::Outbound, &udp((ME, 1), (dst, 2)));
    assert_eq!(outbound(machines(), PEER), Allow);
    assert_eq!(outbound(machines(), "10.2.3.4"), Drop(Reason::NoRule));
    assert_eq!(outbound(machines(), "10.8.8.8"), Drop(Reason::NoRule));
    assert_eq!(outbound(vec![networked("10.2.0.0/16")], "10.2.3.4"), Allow);
}

#[test]
fn replies_pass_without_a_rule_and_others_do_not() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    for (me, peer) in [(ME, PEER), (ME6, PEER6)] {
        assert_eq!(
            bench.inbound(&udp((peer, 53), (me, 999))),
            Drop(Reason::NoRule)
        );
        assert_eq!(bench.outbound(&udp((me, 999), (peer, 53))), Allow);
        assert_eq!(bench.inbound(&udp((peer, 53), (me, 999))), Allow);
        assert_eq!(
            bench.inbound(&udp((peer, 54), (me, 999))),
            Drop(Reason::NoRule)
        );
        assert_eq!(
            bench.inbound(&udp((peer, 53), (me, 998))),
            Drop(Reason::NoRule)
        );
        assert_eq!(
            bench.inbound(&tcp((peer, 53), (me, 999), "A")),
            Drop(Reason::NoRule)
        );

        assert_eq!(bench.outbound(&ping(me, peer, 7, false)), Allow);
        assert_eq!(
            bench.inbound(&ping(peer, me, 8, true)),
            Drop(Reason::NoRule)
        );
        assert_eq!(bench.inbound(&ping(peer, me, 7, true)), Allow);
        assert_eq!(
            bench.inbound(&ping(peer, me, 7, false)),
            Drop(Reason::NoRule),
            "a request"
        );

        assert_eq!(bench.inbound(&raw(peer, me, 47, &[])), Drop(Reason::NoRule));
        assert_eq!(bench.outbound(&raw(me, peer, 47, &[])), Allow);
        assert_eq!(bench.inbound(&raw(peer, me, 47, &[])), Allow);
        assert_eq!(bench.inbound(&raw(peer, me, 46, &[])), Drop(Reason::NoRule));
    }
    let mut other_way = Bench::new(vec![allow(&[], &[])], vec![]);
    assert_eq!(other_way.outbound(&sent("SA")), Drop(Reason::NoRule));
    assert_eq!(other_way.inbound(&tcp((PEER, 22), (ME, 1000), "S")), Allow);
    assert_eq!(other_way.outbound(&sent("SA")), Allow);
}

#[test]
fn a_peer_does_not_answer_for_another() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    bench.filter.set_peer(machine(3), &[], &[ip(PEER).into()]);
    assert_eq!(bench.outbound(&sent("S")), Allow);
    bench.peer = machine(3);
    assert_eq!(bench.inbound(&got("SA")), Drop(Reason::NoRule));
}

#[test]
fn icmp_errors_pass_about_flows_only() {
    let cases = [
        (ME, PEER, [3, 11, 12].as_slice()),
        (ME6, PEER6, &[1, 2, 3, 4]),
    ];
    for (me, peer, kinds) in cases {
        let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
        let segment = tcp((me, 1000), (peer, 22), "S");
        for kind in kinds {
            let error = icmp_error(peer, me, *kind, &segment);
            assert_eq!(bench.inbound(&error), Drop(Reason::NoRule));
        }
        assert_eq!(bench.outbound(&segment), Allow);
        for kind in kinds {
            assert_eq!(bench.inbound(&icmp_error(peer, me, *kind, &segment)), Allow);
            let other = tcp((me, 1001), (peer, 22), "S");
            let error = icmp_error(peer, me, *kind, &other);
            assert_eq!(bench.inbound(&error), Drop(Reason::NoRule));
            let ours = tcp((peer, 22), (me, 1000), "A");
            let error = icmp_error(peer, me, *kind, &ours);
            assert_eq!(
                bench.inbound(&error),
                Drop(Reason::NoRule),
                "about a packet not sent to it"
            );
        }
        let answer = tcp((peer, 22), (me, 1000), "SA");
        assert_eq!(bench.inbound(&answer), Allow);
        bench.set_rules(vec![], vec![allow(&[Protocol::Tcp], &[])]);
        let error = icmp_error(me, peer, kinds[0], &answer);
        assert_eq!(bench.outbound(&error), Allow, "ours about an answer");
        bench.set_rules(vec![], vec![]);
        assert_eq!(
            bench.inbound(&icmp_error(peer, me, kinds[0], &segment)),
            Drop(Reason::NoRule)
        );
    }
}

#[test]
fn flows_end_after_their_times() {
    let rules = || (vec![], vec![allow(&[], &[])]);
    let one_way = [
        (
            udp((ME, 1000), (PEER, 22)),
            udp((PEER, 22), (ME, 1000)),
            UDP_TIMEOUT,
        ),
        (
            ping(ME, PEER, 7, false),
            ping(PEER, ME, 7, true),
            ICMP_TIMEOUT,
        ),
        (raw(ME, PEER, 47, &[]), raw(PEER, ME, 47, &[]), UDP_TIMEOUT),
        (sent("S"), got("SA"), TCP_OPENING_TIMEOUT),
    ];
    for (request, reply, timeout) in one_way {
        for (late, verdict) in [(false, Allow), (true, Drop(Reason::NoRule))] {
            let mut bench = Bench::new(rules().0, rules().1);
            assert_eq!(bench.outbound(&request), Allow);
            bench.pass(if late { timeout } else { timeout - SECOND });
            assert_eq!(bench.inbound(&reply), verdict);
        }
    }
    let both_ways = [
        (
            udp((ME, 1000), (PEER, 22)),
            udp((PEER, 22), (ME, 1000)),
            UDP_STREAM_TIMEOUT,
        ),
        (sent("S"), got("SA"), TCP_ESTABLISHED_TIMEOUT),
    ];
    for (request, reply, timeout) in both_ways {
        let mut bench = Bench::new(rules().0, rules().1);
        assert_eq!(bench.outbound(&request), Allow);
        for _ in 0..3 {
            assert_eq!(bench.inbound(&reply), Allow, "prolonged");
            bench.pass(timeout - SECOND);
        }
        assert_eq!(bench.inbound(&reply), Allow);
        bench.pass(timeout);
        assert_eq!(bench.inbound(&reply), Drop(Reason::NoRule));
    }
    for end in [
        vec![(true, "FA"), (false, "FA")],
        vec![(false, "R")],
        vec![(true, "RA")],
    ] {
        let mut bench = Bench::new(rules().0, rules().1);
        assert_eq!(
            (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
            (Allow, Allow)
        );
        for (ours, flags) in end {
            let verdict = if ours {
                bench.outbound(&sent(flags))
            } else {
                bench.inbound(&got(flags))
            };
            assert_eq!(verdict, Allow);
        }
        bench.pass(TCP_CLOSING_TIMEOUT - SECOND);
        assert_eq!(bench.inbound(&got("A")), Allow);
        bench.pass(SECOND);
        assert_eq!(
            bench.inbound(&got("A")),
            Drop(Reason::NoRule),
            "segments do not prolong it"
        );
    }
}

#[test]
fn one_side_may_end_long_before_the_other() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    assert_eq!(
        (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
        (Allow, Allow)
    );
    assert_eq!(bench.outbound(&sent("FA")), Allow);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.inbound(&got("A")), Allow);
}

#[test]
fn a_connection_cannot_be_opened_backwards() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    assert_eq!(
        (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
        (Allow, Allow)
    );
    assert_eq!(bench.inbound(&got("S")), Drop(Reason::NoRule));
    assert_eq!(
        bench.inbound(&got("A")),
        Allow,
        "and the attempt ends nothing"
    );
    assert_eq!(bench.outbound(&sent("RA")), Allow);
    assert_eq!(bench.outbound(&sent("S")), Allow, "the same ports again");
    bench.pass(TCP_CLOSING_TIMEOUT);
    assert_eq!(bench.inbound(&got("SA")), Allow, "a connection of its own");

    let mut both = Bench::new(vec![allow(&[], &[1000])], vec![allow(&[], &[22])]);
    assert_eq!(
        (both.outbound(&sent("S")), both.inbound(&got("S"))),
        (Allow, Allow)
    );
    both.set_rules(vec![allow(&[], &[1000])], vec![]);
    assert_eq!(
        both.outbound(&sent("SA")),
        Allow,
        "a flow of the peer's now"
    );
}

#[test]
fn a_reset_and_an_echo_reply_open_nothing() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    assert_eq!(bench.outbound(&sent("RA")), Allow);
    assert_eq!(bench.inbound(&got("A")), Drop(Reason::NoRule));
    assert_eq!(bench.outbound(&ping(ME, PEER, 7, true)), Allow);
    assert_eq!(
        bench.inbound(&ping(PEER, ME, 7, false)),
        Drop(Reason::NoRule)
    );
    assert_eq!(bench.filter.counters().flows, 0);
}

#[test]
fn connections_are_picked_up_after_a_restart() {
    let mut bench = Bench::new(vec![], vec![allow(&[Protocol::Tcp], &[22])]);
    assert_eq!(
        bench.inbound(&got("A")),
        Drop(Reason::NoRule),
        "the opener has to speak first"
    );
    assert_eq!(bench.outbound(&sent("A")), Allow);
    assert_eq!(bench.inbound(&got("A")), Allow);
}

#[test]
fn policy_cuts_what_it_no_longer_allows() {
    let ssh = || allow(&[Protocol::Tcp], &[22]);
    let mut bench = Bench::new(vec![], vec![ssh()]);
    assert_eq!(
        (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
        (Allow, Allow)
    );
    bench.set_rules(vec![], vec![ssh(), allow(&[], &[80])]);
    assert_eq!(
        (bench.inbound(&got("A")), bench.outbound(&sent("A"))),
        (Allow, Allow)
    );
    bench.set_rules(vec![], vec![ssh(), deny(&[], &[22])]);
    assert_eq!(
        (bench.inbound(&got("A")), bench.outbound(&sent("A"))),
        (denied(), denied())
    );
    bench.set_rules(vec![], vec![ssh()]);
    assert_eq!(bench.inbound(&got("A")), Allow, "allowed again");
    bench
        .filter
        .set_peer(bench.peer, &[], &[ip("100.64.0.9").into()]);
    assert_eq!(
        bench.inbound(&got("A")),
        Drop(Reason::WrongDestination),
        "not its address now"
    );
    bench.filter.remove_peer(bench.peer);
    assert_eq!(bench.inbound(&got("A")), Drop(Reason::UnknownPeer));
    assert_eq!(bench.filter.counters().flows, 0);
}

#[test]
fn groups_of_a_peer_count_at_once() {
    let group = |name: &str| rule(Action::Allow, PeerSelector::Group(name.into()), &[], &[]);
    let mut bench = Bench::new(vec![], vec![group("member")]);
    assert_eq!(
        (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
        (Allow, Allow)
    );
    bench.filter.set_peer(bench.peer, &[], &[ip(PEER).into()]);
    assert_eq!(bench.inbound(&got("A")), Drop(Reason::NoRule));
}

#[test]
fn a_cut_connection_does_not_live_on_backwards() {
    // The peer may open anything here, so each of its segments looks like an opener's.
    let rules = |outbound| (vec![allow(&[], &[])], outbound);
    let (inbound, outbound) = rules(vec![allow(&[], &[22])]);
    let mut bench = Bench::new(inbound, outbound);
    assert_eq!(
        (bench.outbound(&sent("S")), bench.inbound(&got("SA"))),
        (Allow, Allow)
    );
    let (inbound, outbound) = rules(vec![]);
    bench.set_rules(inbound, outbound);
    for _ in 0..10 {
        assert_eq!(bench.inbound(&got("A")), Drop(Reason::NoRule));
        assert_eq!(bench.outbound(&sent("A")), Drop(Reason::NoRule));
        bench.pass(CUT_TIMEOUT - SECOND);
    }
    assert_eq!(
        bench.inbound(&got("S")),
        Allow,
        "a connection of the peer's own"
    );
    assert_eq!(bench.outbound(&sent("SA")), Allow);
}

#[test]
fn counters_tell_what_happened() {
    let mut bench = Bench::new(vec![], vec![allow(&[], &[])]);
    bench.outbound(&sent("S"));
    bench.inbound(&got("SA"));
    bench.inbound(&got("S"));
    bench.inbound(&[]);
    let counters = bench.filter.counters();
    assert_eq!(counters.allowed(Direction::Inbound), 1);
    assert_eq!(counters.allowed(Direction::Outbound), 1);
    assert_eq!(counters.flows, 1);
    let dropped: Vec<_> = counters
        .dropped(Direction::Inbound)
        .filter(|(_, n)| *n > 0)
        .collect();
    assert_eq!(dropped, [("malformed", 1), ("no_rule", 1)]);
    assert!(counters.dropped(Direction::Outbound).all(|(_, n)| n == 0));
}
