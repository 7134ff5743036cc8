//! The filter against a naive model of it: random rules, packets, changes of policy and of peers, in
//! any order, while time passes.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;
mod model;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::{fragments, icmp_error, ip, machine, ping, raw, tcp, udp, udp_with};
use ipnet::IpNet;
use model::{Kind, Model, Spec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use uuid::Uuid;
use ztna_filter::{Direction, Filter, Limits, Reason, Verdict};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

/// This machine's addresses, and those behind it.
const OWN: [&str; 6] = [
    "100.64.0.1",
    "fd00::1",
    "10.1.2.3",
    "10.1.3.4",
    "fd00:1::5",
    "10.9.9.9",
];
/// The peers', and those behind them; the last belong to nobody.
const THEIRS: [&str; 8] = [
    "100.64.0.2",
    "fd00::2",
    "100.64.0.3",
    "10.2.0.1",
    "10.2.0.2",
    "fd00:2::1",
    "192.0.2.1",
    "2001:db8::1",
];
const OWN_NETWORKS: [&str; 6] = [
    "100.64.0.1/32",
    "fd00::1/128",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "fd00:1::/32",
    "10.9.9.9/32",
];
const THEIR_NETWORKS: [&str; 7] = [
    "100.64.0.2/32",
    "fd00::2/128",
    "100.64.0.3/32",
    "10.2.0.0/24",
    "10.2.0.2/32",
    "fd00:2::/64",
    "0.0.0.0/0",
];
/// What rules lead to: networks in networks, and one that is not written as it is meant.
const LEADS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.77.77/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "10.2.0.0/30",
    "100.64.0.0/10",
    "100.64.0.2/32",
    "::/0",
    "fd00::/8",
    "fd00:1::/32",
];
const GROUPS: [&str; 3] = ["member", "admin", "tag:db"];
const PORTS: [u16; 5] = [0, 22, 23, 1000, u16::MAX];
const PEERS: u128 = 3;

#[derive(Clone, Debug)]
enum Step {
    Packet(Direction, u128, Spec),
    /// The same packet as one before, or an answer to it.
    Again(Index, bool, Kind),
    /// A datagram in pieces.
    Pieces(Direction, u128, Spec),
    Rules(PacketFilter),
    Own(Vec<IpNet>),
    Peer(u128, Vec<String>, Vec<IpNet>),
    Remove(u128),
    Pass(u64),
    Sweep,
}

fn networks(all: &[&'static str]) -> impl Strategy<Value = Vec<IpNet>> {
    let count = all.len();
    subsequence(all.to_vec(), 0..=count)
        .prop_shuffle()
        .prop_map(|some| some.iter().map(|net| net.parse().unwrap()).collect())
}

fn groups() -> impl Strategy<Value = Vec<String>> {
    subsequence(GROUPS.to_vec(), 0..=GROUPS.len())
        .prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

fn selector() -> impl Strategy<Value = PeerSelector> {
    prop_oneof![
        3 => Just(PeerSelector::Any),
        3 => select(&GROUPS[..]).prop_map(|group| PeerSelector::Group(group.to_owned())),
        3 => (2..5_u128).prop_map(|n| PeerSelector::Machine(machine(n))),
        1 => Just(PeerSelector::Unknown(serde_json::json!({"posture": "strict"}))),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Icmp,
        Protocol::Sctp,
        Protocol::Number(47),
        Protocol::Number(6),
        Protocol::Number(58),
    ])
}

/// Some of them empty, from a higher port to a lower.
fn ports() -> impl Strategy<Value = PortRange> {
    (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(first, last)| PortRange { first, last })
}

fn rule() -> impl Strategy<Value = FilterRule> {
    (
        any::<u128>().prop_map(|n| RuleId(Uuid::from_u128(n))),
        prop::bool::weighted(0.25),
        vec(selector(), 0..3),
        vec(
            select(&LEADS[..]).prop_map(|net| net.parse().unwrap()),
            0..3,
        ),
        vec(protocol(), 0..3),
        vec(ports(), 0..3),
    )
        .prop_map(
            |(rule, denies, peers, networks, protocols, ports)| FilterRule {
                rule,
                action: if denies { Action::Deny } else { Action::Allow },
                peers,
                networks,
                protocols,
                ports,
            },
        )
}

fn rules(most: usize) -> impl Strategy<Value = PacketFilter> {
    (vec(rule(), 0..most), vec(rule(), 0..most))
        .prop_map(|(inbound, outbound)| PacketFilter { inbound, outbound })
}

fn kind() -> impl Strategy<Value = Kind> {
    let port = || select(&PORTS[..]);
    let flags = select(vec!["S", "S", "SA", "A", "A", "FA", "R", "RA"]);
    prop_oneof![
        4 => (port(), port(), flags).prop_map(|(src, dst, flags)| Kind::Tcp(src, dst, flags)),
        2 => (port(), port()).prop_map(|(src, dst)| Kind::Udp(src, dst)),
        1 => (port(), port()).prop_map(|(src, dst)| Kind::Sctp(src, dst)),
        1 => (0..2_u16, any::<bool>()).prop_map(|(id, reply)| Kind::Echo(id, reply)),
        1 => Just(Kind::Gre),
        1 => Just(Kind::Timestamp),
        1 => (port(), port()).prop_map(|(src, dst)| Kind::Unreachable(src, dst)),
    ]
}

/// Mostly between the right sides.
fn spec() -> impl Strategy<Value = (Direction, Spec)> {
    (
        any::<bool>(),
        any::<Index>(),
        select(&THEIRS[..]),
        kind(),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(inbound, mine, theirs, kind, strange)| {
            let theirs = ip(theirs);
            let mut own: Vec<IpAddr> = OWN.iter().map(|address| ip(address)).collect();
            own.retain(|address| address.is_ipv4() == theirs.is_ipv4());
            let own = *mine.get(&own);
            let direction = if inbound {
                Direction::Inbound
            } else {
                Direction::Outbound
            };
            let (src, dst) = if inbound != strange {
                (theirs, own)
            } else {
                (own, theirs)
            };
            (direction, Spec { src, dst, kind })
        })
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 2..2 + PEERS;
    prop_oneof![
        20 => (spec(), peer()).prop_map(|((way, spec), peer)| Step::Packet(way, peer, spec)),
        20 => (any::<Index>(), any::<bool>(), kind())
            .prop_map(|(of, answers, kind)| Step::Again(of, answers, kind)),
        2 => (spec(), peer(), select(&PORTS[..])).prop_map(|((way, spec), peer, port)| {
            let kind = Kind::Udp(port, port);
            Step::Pieces(way, peer, Spec { kind, ..spec })
        }),
        2 => rules(8).prop_map(Step::Rules),
        1 => networks(&OWN_NETWORKS).prop_map(Step::Own),
        2 => (peer(), groups(), networks(&THEIR_NETWORKS))
            .prop_map(|(peer, groups, networks)| Step::Peer(peer, groups, networks)),
        1 => peer().prop_map(Step::Remove),
        // Whole seconds: within one, the filter need not prolong a flow.
        4 => select(vec![1, 10, 29, 30, 59, 60, 179, 180, 86_399]).prop_map(Step::Pass),
        2 => Just(Step::Sweep),
    ]
}

fn bytes(spec: &Spec) -> Vec<u8> {
    let (src, dst) = (spec.src.to_string(), spec.dst.to_string());
    match spec.kind {
        Kind::Tcp(from, to, flags) => tcp((&src, from), (&dst, to), flags),
        Kind::Udp(from, to) => udp((&src, from), (&dst, to)),
        Kind::Sctp(from, to) => {
            let mut header = [0; 12];
            header[..2].copy_from_slice(&from.to_be_bytes());
            header[2..4].copy_from_slice(&to.to_be_bytes());
            raw(&src, &dst, 132, &header)
        }
        Kind::Echo(id, reply) => ping(&src, &dst, id, reply),
        Kind::Gre => raw(&src, &dst, 47, &[]),
        Kind::Timestamp if spec.src.is_ipv4() => raw(&src, &dst, 1, &[13, 0, 0, 0, 0, 0, 0, 0]),
        Kind::Timestamp => raw(&src, &dst, 58, &[135, 0, 0, 0, 0, 0, 0, 0]),
        Kind::Unreachable(from, to) => {
            let kind = if spec.src.is_ipv4() { 3 } else { 1 };
            icmp_error(&src, &dst, kind, &udp((&dst, from), (&src, to)))
        }
    }
}

/// Filter and model side by side.
struct Pair {
    filter: Filter,
    model: Model,
    now: Instant,
    sent: Vec<(Direction, u128, Spec)>,
    /// Identification of the next datagram in pieces.
    next: u16,
}

impl Pair {
    fn new() -> Self {
        Self {
            filter: Filter::new(Limits::default()),
            model: Model::default(),
            now: Instant::now(),
            sent: Vec::new(),
            next: 0,
        }
    }

    fn set_rules(&mut self, rules: PacketFilter) {
        self.filter.set_rules(&rules);
        self.model.rules = rules;
    }

    fn set_own(&mut self, own: Vec<IpNet>) {
        self.filter.set_own(&own);
        self.model.own = own;
    }

    fn set_peer(&mut self, peer: u128, groups: &[String], networks: &[IpNet]) {
        self.filter.set_peer(machine(peer), groups, networks);
        self.model.set_peer(machine(peer), groups, networks);
    }

    /// Everybody has all addresses that may be his, and each peer is of the groups up to its own.
    fn settle(&mut self) {
        let nets =
            |all: &[&str]| -> Vec<IpNet> { all.iter().map(|net| net.parse().unwrap()).collect() };
        self.set_own(nets(&OWN_NETWORKS));
        for peer in 0..PEERS {
            let groups = GROUPS.iter().take(usize::try_from(peer).unwrap());
            let groups: Vec<String> = groups.map(|group| (*group).to_owned()).collect();
            self.set_peer(2 + peer, &groups, &nets(&THEIR_NETWORKS[..6]));
        }
    }

    fn check(&mut self, way: Direction, peer: u128, spec: &Spec) -> Result<(), TestCaseError> {
        let peer: MachineId = machine(peer);
        let expected = self.model.check(way, peer, spec, self.now);
        let verdict = self.filter.check(way, peer, &bytes(spec), self.now);
        prop_assert_eq!(verdict, expected, "{:?} {:?}", way, spec);
        Ok(())
    }

    /// The first piece decides for all.
    fn pieces(&mut self, way: Direction, peer: u128, spec: &Spec) -> Result<(), TestCaseError> {
        let Kind::Udp(from, to) = spec.kind else {
            return Ok(());
        };
        let (src, dst) = (spec.src.to_string(), spec.dst.to_string());
        let whole = udp_with((&src, from), (&dst, to), &[0; 64]);
        self.next += 1;
        let expected = self.model.check(way, machine(peer), spec, self.now);
        let mut followers = expected;
        if expected != Verdict::Allow {
            followers = Verdict::Drop(Reason::Fragment);
        }
        for (n, piece) in fragments(&whole, self.next, 24).iter().enumerate() {
            let verdict = self.filter.check(way, machine(peer), piece, self.now);
            let expected = if n == 0 { expected } else { followers };
            prop_assert_eq!(verdict, expected, "piece {} of {:?} {:?}", n, way, spec);
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Packet(way, peer, spec) => {
                self.sent.push((way, peer, spec));
                self.check(way, peer, &spec)?;
            }
            Step::Again(of, answers, kind) if !self.sent.is_empty() => {
                let (way, peer, spec) = *of.get(&self.sent);
                let spec = next(&spec, answers, kind);
                let way = if answers { way.opposite() } else { way };
                self.check(way, peer, &spec)?;
            }
            Step::Again(..) => {}
            Step::Pieces(way, peer, spec) => self.pieces(way, peer, &spec)?,
            Step::Rules(rules) => self.set_rules(rules),
            Step::Own(own) => self.set_own(own),
            Step::Peer(peer, groups, networks) => self.set_peer(peer, &groups, &networks),
            Step::Remove(peer) => {
                self.filter.remove_peer(machine(peer));
                self.model.remove_peer(machine(peer));
            }
            Step::Pass(seconds) => self.now += Duration::from_secs(seconds),
            Step::Sweep => self.filter.handle_timeout(self.now),
        }
        Ok(())
    }
}

/// The next packet of the flow that one is of: TCP's flags are new, everything else follows.
fn next(spec: &Spec, answers: bool, kind: Kind) -> Spec {
    let flags = match kind {
        Kind::Tcp(_, _, flags) => flags,
        _ => "A",
    };
    let (src, dst) = if answers {
        (spec.dst, spec.src)
    } else {
        (spec.src, spec.dst)
    };
    let turned = |(from, to): (u16, u16)| if answers { (to, from) } else { (from, to) };
    let kind = match (spec.kind, kind) {
        // An error about it.
        (Kind::Udp(from, to), Kind::Unreachable(..)) if answers => Kind::Unreachable(from, to),
        (Kind::Udp(from, to), _) => {
            let (from, to) = turned((from, to));
            Kind::Udp(from, to)
        }
        (Kind::Sctp(from, to), _) => {
            let (from, to) = turned((from, to));
            Kind::Sctp(from, to)
        }
        (Kind::Tcp(from, to, _), _) => {
            let (from, to) = turned((from, to));
            Kind::Tcp(from, to, flags)
        }
        (Kind::Echo(id, reply), _) => Kind::Echo(id, reply != answers),
        (other, _) => other,
    };
    Spec { src, dst, kind }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens, in whatever order.
    #[test]
    fn in_every_order(first in rules(8), steps in vec(step(), 1..120)) {
        let mut pair = Pair::new();
        pair.settle();
        pair.set_rules(first);
        for step in steps {
            pair.take(step)?;
        }
    }

    /// Many rules, each of which may decide.
    #[test]
    fn with_many_rules(all in rules(60), packets in vec((spec(), 2..2 + PEERS), 1..60)) {
        for deny in [true, false] {
            let mut rules = all.clone();
            if !deny {
                // Else some deny settles nearly everything.
                rules.inbound.retain(|rule| rule.action == Action::Allow);
                rules.outbound.retain(|rule| rule.action == Action::Allow);
            }
            let mut pair = Pair::new();
            pair.settle();
            pair.set_rules(rules);
            for ((way, spec), peer) in &packets {
                pair.check(*way, *peer, spec)?;
            }
        }
    }
}
