//! Packets, rules and peers for the tests.
#![allow(dead_code)] // Not every test uses all of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use uuid::Uuid;
use ztna_filter::{Direction, Filter, Limits, Verdict};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

pub const ME: &str = "100.64.0.1";
pub const ME6: &str = "fd00::1";
pub const PEER: &str = "100.64.0.2";
pub const PEER6: &str = "fd00::2";

pub fn machine(n: u128) -> MachineId {
    MachineId(Uuid::from_u128(n))
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Flags by letter: `S`, `A`, `F`, `R`.
pub fn tcp(src: (&str, u16), dst: (&str, u16), flags: &str) -> Vec<u8> {
    let builder = match (ip(src.0), ip(dst.0)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), 64),
        _ => panic!("two families"),
    };
    let mut builder = builder.tcp(src.1, dst.1, 7, 4096);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(9),
            'F' => builder.fin(),
            'R' => builder.rst(),
            _ => panic!("no flag {flag}"),
        };
    }
    let mut packet = Vec::new();
    builder.write(&mut packet, b"data").unwrap();
    packet
}

pub fn udp(src: (&str, u16), dst: (&str, u16)) -> Vec<u8> {
    udp_with(src, dst, b"data")
}

pub fn udp_with(src: (&str, u16), dst: (&str, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (ip(src.0), ip(dst.0)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => PacketBuilder::ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => PacketBuilder::ipv6(s.octets(), d.octets(), 64),
        _ => panic!("two families"),
    }
    .udp(src.1, dst.1)
    .write(&mut packet, payload)
    .unwrap();
    packet
}

pub fn ping(src: &str, dst: &str, id: u16, reply: bool) -> Vec<u8> {
    let mut packet = Vec::new();
    match (ip(src), ip(dst)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let builder = PacketBuilder::ipv4(s.octets(), d.octets(), 64);
            let builder = match reply {
                true => builder.icmpv4_echo_reply(id, 1),
                false => builder.icmpv4_echo_request(id, 1),
            };
            builder.write(&mut packet, b"data").unwrap();
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let builder = PacketBuilder::ipv6(s.octets(), d.octets(), 64);
            let builder = match reply {
                true => builder.icmpv6_echo_reply(id, 1),
                false => builder.icmpv6_echo_request(id, 1),
            };
            builder.write(&mut packet, b"data").unwrap();
        }
        _ => panic!("two families"),
    }
    packet
}

/// Any protocol with any payload.
pub fn raw(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (ip(src), ip(dst)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
            let mut header = vec![
                0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0,
            ];
            header.extend(s.octets());
            header.extend(d.octets());
            header
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            header.extend(s.octets());
            header.extend(d.octets());
            header
        }
        _ => panic!("two families"),
    };
    packet.extend(payload);
    packet
}

/// An ICMP error of this type about a packet.
pub fn icmp_error(src: &str, dst: &str, kind: u8, about: &[u8]) -> Vec<u8> {
    let protocol = if ip(src).is_ipv4() { 1 } else { 58 };
    let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(&about[..about.len().min(if protocol == 1 { 28 } else { 600 })]);
    raw(src, dst, protocol, &payload)
}

/// Cuts a packet's payload into fragments of `size` bytes, a multiple of 8.
pub fn fragments(packet: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let (header, payload) = packet.split_at(if v4 { 20 } else { 40 });
    let count = payload.len().div_ceil(size);
    let pieces = payload.chunks(size).enumerate();
    pieces
        .map(|(n, piece)| {
            let more = u16::from(n + 1 < count);
            let offset = u16::try_from(n * size).unwrap();
            let mut fragment = header.to_vec();
            if v4 {
                let length = u16::try_from(20 + piece.len()).unwrap();
                fragment[2..4].copy_from_slice(&length.to_be_bytes());
                fragment[4..6].copy_from_slice(&id.to_be_bytes());
                fragment[6..8].copy_from_slice(&(more << 13 | offset >> 3).to_be_bytes());
            } else {
                let length = u16::try_from(8 + piece.len()).unwrap();
                fragment[4..6].copy_from_slice(&length.to_be_bytes());
                fragment[6] = 44;
                fragment.extend([header[6], 0]);
                fragment.extend((offset | more).to_be_bytes());
                fragment.extend(u32::from(id).to_be_bytes());
            }
            fragment.extend(piece);
            fragment
        })
        .collect()
}

pub fn rule(
    action: Action,
    peers: PeerSelector,
    protocols: &[Protocol],
    ports: &[u16],
) -> FilterRule {
    FilterRule {
        rule: RuleId(Uuid::from_u128(9)),
        action,
        peers: vec![peers],
        networks: vec![],
        protocols: protocols.to_vec(),
        ports: ports.iter().map(|port| PortRange::single(*port)).collect(),
    }
}

pub fn allow(protocols: &[Protocol], ports: &[u16]) -> FilterRule {
    rule(Action::Allow, PeerSelector::Any, protocols, ports)
}

pub fn deny(protocols: &[Protocol], ports: &[u16]) -> FilterRule {
    rule(Action::Deny, PeerSelector::Any, protocols, ports)
}

/// A filter at [`ME`] with the peer [`PEER`], and a clock.
pub struct Bench {
    pub filter: Filter,
    pub peer: MachineId,
    pub now: Instant,
}

impl Bench {
    pub fn new(inbound: Vec<FilterRule>, outbound: Vec<FilterRule>) -> Self {
        Self::with_limits(inbound, outbound, Limits::default())
    }

    pub fn with_limits(
        inbound: Vec<FilterRule>,
        outbound: Vec<FilterRule>,
        limits: Limits,
    ) -> Self {
        let mut bench = Self {
            filter: Filter::new(limits),
            peer: machine(2),
            now: Instant::now(),
        };
        bench.set_rules(inbound, outbound);
        let networks = [ip(PEER).into(), ip(PEER6).into()];
        bench
            .filter
            .set_peer(bench.peer, &["member".to_owned()], &networks);
        bench
    }

    pub fn set_rules(&mut self, inbound: Vec<FilterRule>, outbound: Vec<FilterRule>) {
        let own = [ip(ME).into(), ip(ME6).into()];
        self.filter.set_rules(&PacketFilter { inbound, outbound });
        self.filter.set_own(&own);
    }

    pub fn inbound(&mut self, packet: &[u8]) -> Verdict {
        self.filter
            .check(Direction::Inbound, self.peer, packet, self.now)
    }

    pub fn outbound(&mut self, packet: &[u8]) -> Verdict {
        self.filter
            .check(Direction::Outbound, self.peer, packet, self.now)
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}
