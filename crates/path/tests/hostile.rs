//! Whatever is done to an agent: it does not panic, spin, flood, or use a path that did not answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail it"
)]

mod net;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net::{most_in, ms};
use proptest::prelude::*;
use ztna_disco::TxId;
use ztna_path::{Output, PathAgent, Via};
use ztna_proto::RegionId;
use ztna_proto::netmap::{Endpoint, EndpointKind};

/// Pings that one agent may send in any second, heartbeats included.
const MAX_PINGS_IN_A_SECOND: usize = 165;

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Timeout,
    Candidates(Vec<u8>),
    Relay(Option<u32>),
    Ping(u8),
    RelayedPing,
    /// The n-th last ping is answered, from its own address or another one.
    Pong {
        back: usize,
        from: Option<u8>,
    },
    StrayPong(u8),
    Call(Vec<u8>),
    Sent,
    Received(Option<u8>),
    Failed(u8),
    NetworkChanged,
    Reset,
}

fn event() -> impl Strategy<Value = Event> {
    let addrs = || proptest::collection::vec(any::<u8>(), 0..8);
    prop_oneof![
        6 => (0..3_000_u64).prop_map(Event::Wait),
        1 => (0..100_000_u64).prop_map(Event::Wait),
        8 => Just(Event::Timeout),
        2 => addrs().prop_map(Event::Candidates),
        1 => proptest::option::of(0..3_u32).prop_map(Event::Relay),
        2 => any::<u8>().prop_map(Event::Ping),
        1 => Just(Event::RelayedPing),
        6 => (0..6_usize, proptest::option::weighted(0.2, any::<u8>()))
            .prop_map(|(back, from)| Event::Pong { back, from }),
        1 => any::<u8>().prop_map(Event::StrayPong),
        1 => addrs().prop_map(Event::Call),
        4 => Just(Event::Sent),
        3 => proptest::option::of(any::<u8>()).prop_map(Event::Received),
        1 => any::<u8>().prop_map(Event::Failed),
        1 => Just(Event::NetworkChanged),
        1 => Just(Event::Reset),
    ]
}

/// A few addresses of every kind; small numbers meet often.
fn addr(n: u8) -> SocketAddr {
    let text = match n % 8 {
        0 => format!("192.0.2.{}:41641", n / 8),
        1 => format!("10.0.0.{}:41641", n / 8),
        2 => format!("[2001:db8::{n}]:41641"),
        3 => format!("[fe80::{n}]:41641"),
        4 => format!("127.0.0.1:{n}"),
        5 => format!("[::ffff:192.0.2.{}]:41641", n / 8),
        6 => "0.0.0.0:0".to_owned(),
        _ => format!("224.0.0.{n}:41641"),
    };
    text.parse().unwrap()
}

struct Watch {
    agent: PathAgent,
    now: Instant,
    pings: Vec<(TxId, SocketAddr)>,
    ping_times: Vec<Instant>,
    answered: BTreeSet<SocketAddr>,
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            agent: PathAgent::new(1, now),
            now,
            pings: Vec::new(),
            ping_times: Vec::new(),
            answered: BTreeSet::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        let (agent, now) = (&mut self.agent, self.now);
        match event {
            Event::Wait(time) => self.now += ms(*time),
            Event::Timeout => {
                agent.handle_timeout(now);
                assert!(agent.poll_timeout().is_none_or(|at| at > now), "spins");
            }
            Event::Candidates(list) => {
                let kind = EndpointKind::Stun;
                let list: Vec<Endpoint> = list
                    .iter()
                    .map(|n| Endpoint {
                        addr: addr(*n),
                        kind,
                    })
                    .collect();
                agent.set_candidates(&list, now);
            }
            Event::Relay(region) => agent.set_relay(region.map(RegionId), now),
            Event::Ping(n) => agent.handle_ping(TxId([*n; 12]), Via::Direct(addr(*n)), now),
            Event::RelayedPing => {
                agent.handle_ping(TxId([1; 12]), Via::Relay(RegionId(1)), now);
            }
            Event::Pong { back, from } => {
                let Some(at) = self.pings.len().checked_sub(back + 1) else {
                    return;
                };
                let (tx, to) = self.pings[at];
                let from = from.map_or(to, addr);
                // An IPv4 address mapped into IPv6 is the same one.
                if (from.ip().to_canonical(), from.port()) == (to.ip(), to.port()) {
                    self.answered.insert(to);
                }
                agent.handle_pong(tx, Via::Direct(from), now);
            }
            Event::StrayPong(n) => agent.handle_pong(TxId([0; 12]), Via::Direct(addr(*n)), now),
            Event::Call(list) => {
                let list: Vec<SocketAddr> = list.iter().map(|n| addr(*n)).collect();
                agent.handle_call_me_maybe(&list, now);
            }
            Event::Sent => agent.data_sent(now),
            Event::Received(from) => {
                let from = from.map_or(Via::Relay(RegionId(1)), |n| Via::Direct(addr(n)));
                agent.data_received(from, now);
            }
            Event::Failed(n) => agent.send_failed(addr(*n), now),
            Event::NetworkChanged => agent.network_changed(now),
            Event::Reset => {
                agent.reset(now);
                self.answered.clear();
                self.pings.clear();
            }
        }
        self.check();
    }

    fn check(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            if let Output::Ping { to, tx } = output {
                let Via::Direct(to) = to else {
                    panic!("a ping by relay")
                };
                let ip = to.ip();
                assert!(
                    to.port() != 0 && !ip.is_unspecified() && !ip.is_multicast(),
                    "{to}"
                );
                self.pings.push((tx, to));
                self.ping_times.push(self.now);
            }
        }
        if let Some(direct) = self.agent.route(self.now).direct {
            assert!(self.answered.contains(&direct), "{direct} never answered");
        }
        assert!(self.agent.candidates().count() <= 100);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_sequence_of_events(events in proptest::collection::vec(event(), 1..300)) {
        let mut watch = Watch::new();
        for event in &events {
            watch.apply(event);
        }
        prop_assert!(most_in(Duration::from_secs(1), &watch.ping_times) <= MAX_PINGS_IN_A_SECOND);
    }
}

#[test]
fn calls_pings_and_candidates_without_end_are_bounded() {
    let mut watch = Watch::new();
    watch.apply(&Event::Relay(Some(1)));
    let mut pongs = 0;
    for round in 0..2_000_u32 {
        let (a, b) = (
            u8::try_from(round % 250).unwrap(),
            u8::try_from(round / 250).unwrap(),
        );
        let strange: SocketAddr = format!("192.0.2.{a}:{}", 1_000 + round).parse().unwrap();
        let list: Vec<SocketAddr> = (1..=32_u16)
            .map(|n| format!("198.51.{b}.{a}:{}", n * 100).parse().unwrap())
            .collect();
        watch.agent.handle_call_me_maybe(&list, watch.now);
        for n in 0..10 {
            watch
                .agent
                .handle_ping(TxId([n; 12]), Via::Direct(strange), watch.now);
        }
        watch.agent.data_received(Via::Direct(strange), watch.now);
        watch.agent.data_sent(watch.now);
        watch.agent.handle_timeout(watch.now);
        let mut outputs = Vec::new();
        while let Some(output) = watch.agent.poll_output() {
            outputs.push(output);
        }
        pongs += outputs
            .iter()
            .filter(|output| matches!(output, Output::Pong { .. }))
            .count();
        let pings = outputs
            .iter()
            .filter(|output| matches!(output, Output::Ping { .. }))
            .count();
        watch
            .ping_times
            .extend(std::iter::repeat_n(watch.now, pings));
        watch.check();
        watch.now += ms(5);
    }
    let most = most_in(Duration::from_secs(1), &watch.ping_times);
    assert!(most <= MAX_PINGS_IN_A_SECOND, "{most} pings in a second");
    assert!(pongs <= 2_000, "{pongs} pongs in ten seconds");
}

#[test]
fn a_pong_counts_once_in_time_and_from_where_its_ping_went() {
    let (there, elsewhere) = (addr(0), addr(8));
    let ask = |watch: &mut Watch| {
        watch.apply(&Event::Candidates(vec![0]));
        watch.apply(&Event::Relay(Some(1)));
        watch.apply(&Event::Sent);
        watch.pings[0]
    };
    let direct = |watch: &Watch| watch.agent.route(watch.now).direct;

    let mut watch = Watch::new();
    let (tx, to) = ask(&mut watch);
    assert_eq!(to, there);
    watch
        .agent
        .handle_pong(tx, Via::Direct(elsewhere), watch.now + ms(20));
    watch
        .agent
        .handle_pong(TxId([0; 12]), Via::Direct(there), watch.now + ms(20));
    watch
        .agent
        .handle_pong(tx, Via::Relay(RegionId(1)), watch.now + ms(20));
    watch.now += ms(20);
    watch.check();
    assert_eq!(direct(&watch), None);
    assert_eq!(
        watch.pings.last().map(|(_, to)| *to),
        Some(elsewhere),
        "a candidate now"
    );
    watch.answered.insert(there);
    watch.agent.handle_pong(tx, Via::Direct(there), watch.now);
    assert_eq!(direct(&watch), Some(there), "the true one still counts");

    let mut late = Watch::new();
    let (tx, _) = ask(&mut late);
    late.now += Duration::from_secs(6);
    late.agent.handle_pong(tx, Via::Direct(there), late.now);
    assert_eq!(direct(&late), None, "too late");
}

#[test]
fn a_path_that_is_no_candidate_any_more_does_not_spin() {
    let mut watch = Watch::new();
    for event in [
        Event::Relay(Some(1)),
        Event::Candidates(vec![0]),
        Event::Sent,
        Event::Pong {
            back: 0,
            from: None,
        },
        Event::NetworkChanged,
        Event::Candidates(vec![8]),
        Event::Sent,
        Event::Wait(1_000),
        Event::Timeout,
        Event::Wait(1_000),
        Event::Timeout,
    ] {
        watch.apply(&event);
    }
}

#[test]
fn what_was_proved_just_before_the_first_packet_counts() {
    let mut watch = Watch::new();
    for event in [
        Event::Relay(Some(1)),
        Event::Ping(0),
        Event::Pong {
            back: 0,
            from: None,
        },
        Event::Wait(1_000),
        Event::Sent,
    ] {
        watch.apply(&event);
    }
    let route = watch.agent.route(watch.now);
    assert_eq!((route.direct, route.relay), (Some(addr(0)), None));
}

#[test]
fn a_refused_datagram_brings_the_relay_in_at_once() {
    let mut watch = Watch::new();
    for event in [
        Event::Relay(Some(1)),
        Event::Candidates(vec![0]),
        Event::Sent,
        Event::Pong {
            back: 0,
            from: None,
        },
    ] {
        watch.apply(&event);
    }
    assert_eq!(watch.agent.route(watch.now).relay, None);
    watch.apply(&Event::Failed(8));
    assert_eq!(watch.agent.route(watch.now).relay, None, "another address");
    watch.apply(&Event::Failed(0));
    assert_eq!(watch.agent.route(watch.now).relay, Some(RegionId(1)));
}
