//! The packet filter: any packets, between changes of rules and peers, while time passes.
//!
//! Input: rules, then steps; see [`Input`]. What passes must be a packet of the right addresses.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use ztna_filter::{Direction, Filter, Limits, Reason, Verdict, parse};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

/// So few that tables fill.
const LIMITS: Limits = Limits {
    flows: 12,
    flows_per_peer: 8,
    fragments: 6,
    fragments_per_peer: 4,
};
const PEERS: usize = 3;
const MOST_RULES: u8 = 16;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Bytes that are taken one after another; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn machine(peer: usize) -> MachineId {
    MachineId(Uuid::from_u128(peer as u128 + 2))
}

/// Addresses of this machine (side 0) and of its peers: each has one of each family and a network.
fn networks(side: usize) -> [IpNet; 3] {
    let n = u8::try_from(side + 1).unwrap_or_default();
    let v4 = |octets: [u8; 4], length| IpNet::new_assert(Ipv4Addr::from(octets).into(), length);
    let v6 = IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()));
    [v4([100, 64, 0, n], 32), v6.into(), v4([10, n, 0, 0], 16)]
}

fn rule(input: &mut Input<'_>) -> FilterRule {
    let kinds = input.byte();
    let action = if kinds & 1 == 0 {
        Action::Allow
    } else {
        Action::Deny
    };
    let peer = match kinds >> 1 & 3 {
        0 => PeerSelector::Any,
        1 => PeerSelector::Group("member".to_owned()),
        n => PeerSelector::Machine(machine(n.into())),
    };
    let networks = match kinds >> 3 & 3 {
        0 | 1 => vec![],
        // Of this machine's network or of a peer's, a part.
        n => {
            let length = 8 + input.byte() % 25;
            let base = networks(usize::from(n) - 2)[2].addr();
            vec![IpNet::new_assert(base, length)]
        }
    };
    let protocols = match kinds >> 5 & 3 {
        0 => vec![],
        1 => vec![Protocol::Tcp],
        2 => vec![Protocol::Udp, Protocol::Icmp],
        _ => vec![Protocol::Number(input.byte())],
    };
    let ports = if kinds >> 7 == 0 {
        vec![]
    } else {
        let (first, last) = (input.word(), input.word());
        vec![PortRange { first, last }]
    };
    FilterRule {
        rule: RuleId(Uuid::from_u128(kinds.into())),
        action,
        peers: vec![peer],
        networks,
        protocols,
        ports,
    }
}

fn rules(input: &mut Input<'_>) -> PacketFilter {
    let counts = input.byte();
    let mut side = |count: u8| (0..count % MOST_RULES).map(|_| rule(input)).collect();
    PacketFilter {
        inbound: side(counts & 15),
        outbound: side(counts >> 4),
    }
}

/// Gives a packet the length that it has, and addresses of the two sides: what no fuzzer guesses.
fn addressed(packet: &mut [u8], direction: Direction, peer: usize, which: u8) {
    let (src, dst) = match direction {
        Direction::Inbound => (peer + 1, 0),
        Direction::Outbound => (0, peer + 1),
    };
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let place = if which & 1 == 0 { 0 } else { 2 };
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => {
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            for (at, side) in [(12, src), (16, dst)] {
                if let IpAddr::V4(address) = networks(side)[place].addr() {
                    packet[at..at + 4].copy_from_slice(&address.octets());
                }
            }
        }
        Some(6) if packet.len() >= 40 => {
            packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
            for (at, side) in [(8, src), (24, dst)] {
                if let IpAddr::V6(address) = networks(side)[1].addr() {
                    packet[at..at + 16].copy_from_slice(&address.octets());
                }
            }
        }
        _ => {}
    }
}

fn check(filter: &mut Filter, input: &mut Input<'_>, kind: u8, now: Instant) {
    let direction = if kind & 1 == 0 {
        Direction::Inbound
    } else {
        Direction::Outbound
    };
    let peer = usize::from(kind >> 1) % PEERS;
    let length = usize::from(input.byte());
    let mut packet = input.take(length).to_vec();
    if kind & 0x20 == 0 {
        addressed(&mut packet, direction, peer, kind >> 4);
    }
    let verdict = filter.check(direction, machine(peer), &packet, now);
    let parsed = parse(&packet);
    match verdict {
        Verdict::Allow => {}
        Verdict::Drop(Reason::Malformed(error)) => return assert_eq!(parsed, Err(error)),
        Verdict::Drop(_) => return,
    }
    let Ok(parsed) = parsed else {
        panic!("passed, and is no packet: {packet:?}");
    };
    assert!(parsed.length <= packet.len());
    let (src, dst) = match direction {
        Direction::Inbound => (peer + 1, 0),
        Direction::Outbound => (0, peer + 1),
    };
    let holds = |side: usize, address| networks(side).iter().any(|net| net.contains(&address));
    assert!(holds(src, parsed.src), "{direction:?} from {}", parsed.src);
    assert!(holds(dst, parsed.dst), "{direction:?} to {}", parsed.dst);
}

fn introduce(filter: &mut Filter, peer: usize, groups: u8) {
    let groups: &[String] = if groups & 1 == 0 {
        &[]
    } else {
        &["member".to_owned()]
    };
    filter.set_peer(machine(peer), groups, &networks(peer + 1));
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut filter = Filter::new(LIMITS);
    let mut now = *START;
    filter.set_own(&networks(0));
    filter.set_rules(&rules(&mut input));
    for peer in 0..PEERS {
        introduce(&mut filter, peer, 1);
    }
    while !input.0.is_empty() {
        let step = input.byte();
        let about = usize::from(step >> 2) % PEERS;
        match step & 3 {
            0 | 1 => {
                let kind = input.byte();
                check(&mut filter, &mut input, kind, now);
            }
            2 => now += Duration::from_millis(u64::from(input.byte()) * 400),
            _ => match input.byte() & 3 {
                0 => filter.set_rules(&rules(&mut input)),
                1 => filter.remove_peer(machine(about)),
                groups => introduce(&mut filter, about, groups),
            },
        }
        let counters = filter.counters();
        assert!(counters.flows <= LIMITS.flows && counters.fragments <= LIMITS.fragments);
    }
    while let Some(due) = filter.poll_timeout() {
        now = now.max(due);
        filter.handle_timeout(now);
    }
    let counters = filter.counters();
    assert_eq!((counters.flows, counters.fragments), (0, 0));
});
