//! Packets of every size on paths of every size: each arrives, or its sender is told what does.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail it")]

// Each file uses a part of the harness, and the lints' leave for tests ends at test functions.
#[allow(dead_code, clippy::unwrap_used)]
mod harness;

use std::time::Duration;

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice};
use etherparse::{TcpOptionElement, icmpv4::DestUnreachableHeader};
use harness::Net;

/// What a path of 1,420 bytes carries sealed, over IPv4.
const INNER: u16 = 1360;
const DONT_FRAGMENT: u8 = 0x40;

/// A pair whose direct path is in use and measured.
fn pair(path_mtu: u16) -> Net {
    let mut net = Net::pair();
    net.path_mtu = path_mtu;
    warm(&mut net);
    net
}

fn warm(net: &mut Net) {
    for _ in 0..80 {
        net.send(0, 1, b"warm");
        net.send(1, 0, b"warm");
        net.run(Duration::from_millis(100));
    }
    assert!(net.is_direct(0, 1) && net.is_direct(1, 0));
    assert!(net.status(0, 1).mtu.is_some_and(|mtu| mtu.is_settled));
    net.delivered(0);
    net.delivered(1);
}

/// A packet of UDP of so many bytes.
fn udp(ipv6: bool, size: u16, flags: u8) -> Vec<u8> {
    let (builder, headers) = if ipv6 {
        let [from, to] = [Net::ipv6(0), Net::ipv6(1)].map(|ip| ip.octets());
        (PacketBuilder::ipv6(from, to, 64), 48)
    } else {
        let [from, to] = [Net::ipv4(0), Net::ipv4(1)].map(|ip| ip.octets());
        (PacketBuilder::ipv4(from, to, 64), 28)
    };
    let mut packet = Vec::new();
    builder
        .udp(1000, 2000)
        .write(&mut packet, &vec![7; usize::from(size) - headers])
        .unwrap();
    if !ipv6 {
        packet[6] = flags;
    }
    packet
}

fn tcp(syn: bool, payload: usize) -> Vec<u8> {
    let [from, to] = [Net::ipv4(0), Net::ipv4(1)].map(|ip| ip.octets());
    let builder = PacketBuilder::ipv4(from, to, 64).tcp(1000, 2000, 1, 9000);
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let mut packet = Vec::new();
    builder
        .options(&[TcpOptionElement::MaximumSegmentSize(8888)])
        .unwrap()
        .write(&mut packet, &vec![7; payload])
        .unwrap();
    packet
}

/// The size that an ICMP message tells.
fn told(packet: &[u8]) -> Option<u32> {
    match SlicedPacket::from_ip(packet).unwrap().transport? {
        TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
            Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }) => Some(next_hop_mtu.into()),
            _ => None,
        },
        TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
            Icmpv6Type::PacketTooBig { mtu } => Some(mtu),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn what_fits_goes_directly_and_whole() {
    for (path_mtu, inner) in [(1280, 1216), (1420, INNER), (1500, 1440), (9000, 8928)] {
        let mut net = pair(path_mtu);
        let relayed = net.relayed;
        net.send_packet(0, &udp(false, inner, DONT_FRAGMENT));
        net.run(Duration::from_millis(50));
        assert_eq!(
            net.delivered(1),
            [vec![7; usize::from(inner) - 28]],
            "{path_mtu}"
        );
        assert_eq!((net.relayed, net.fragmented), (relayed, 0), "{path_mtu}");
        assert!(net.packets(0).is_empty());
    }
}

#[test]
fn the_sender_of_what_must_not_be_cut_is_told_what_fits() {
    let mut net = pair(1420);
    for ipv6 in [false, true] {
        net.send_packet(0, &udp(ipv6, INNER + 1, DONT_FRAGMENT));
        net.run(Duration::from_millis(100));
        assert!(net.delivered(1).is_empty() && net.packets(1).is_empty());
        let answers = net.packets(0);
        assert_eq!(answers.len(), 1);
        assert_eq!(told(&answers[0]), Some(INNER.into()));
    }
    net.send_packet(0, &udp(true, INNER, 0));
    net.run(Duration::from_millis(100));
    assert_eq!(net.packets(1), [udp(true, INNER, 0)]);
}

#[test]
fn what_may_be_cut_is_cut() {
    let mut net = pair(1420);
    let relayed = net.relayed;
    let whole = udp(false, 8928, 0);
    net.send_packet(0, &whole);
    net.run(Duration::from_millis(100));
    let mut data = Vec::new();
    for piece in net.packets(1) {
        assert!(piece.len() <= usize::from(INNER));
        data.extend_from_slice(&piece[20..]);
    }
    assert_eq!(data, whole[20..]);
    assert_eq!((net.relayed, net.fragmented), (relayed, 0));
    assert!(net.packets(0).is_empty());
}

#[test]
fn tcp_under_way_arrives_by_relay_and_its_sender_is_told() {
    let mut net = pair(1420);
    let relayed = net.relayed;
    let segment = tcp(false, 3000);
    net.send_packet(0, &segment);
    net.run(Duration::from_millis(100));
    assert_eq!(net.packets(1), [segment]);
    assert_eq!(net.relayed, relayed + 1);
    assert_eq!(told(&net.packets(0)[0]), Some(INNER.into()));
}

#[test]
fn a_syn_agrees_on_what_fits_and_on_the_least_while_that_is_unknown() {
    let mss = |packet: &[u8]| u16::from_be_bytes([packet[42], packet[43]]);
    let mut net = Net::pair();
    net.path_mtu = 1420;
    net.send_packet(0, &tcp(true, 0));
    net.run(Duration::from_secs(1));
    assert_eq!(mss(&net.packets(1)[0]), 1200 - 40);
    warm(&mut net);
    net.send_packet(0, &tcp(true, 0));
    net.run(Duration::from_millis(50));
    assert_eq!(mss(&net.packets(1)[0]), INNER - 40);
}

#[test]
fn the_least_of_ipv6_arrives_where_the_path_is_too_small_for_it() {
    let mut net = pair(1280);
    let relayed = net.relayed;
    net.send_packet(0, &udp(true, 1280, 0));
    net.run(Duration::from_millis(100));
    assert_eq!(net.packets(1), [udp(true, 1280, 0)]);
    assert_eq!(net.relayed, relayed + 1);
    assert!(net.packets(0).is_empty(), "IPv6 does not go below 1,280");

    net.relay_down = true;
    for fragmented in 1..=2 {
        net.send_packet(0, &udp(true, 1280, 0));
        net.run(Duration::from_millis(100));
        assert_eq!(net.packets(1), [udp(true, 1280, 0)]);
        assert_eq!(net.fragmented, fragmented);
        net.without_relay();
    }
}

#[test]
fn while_the_size_is_searched_for_nothing_is_lost_and_nobody_is_told() {
    let mut net = Net::pair();
    net.path_mtu = 1300;
    let mut sent = 0;
    for _ in 0..400 {
        net.send_packet(0, &udp(false, 1250, DONT_FRAGMENT));
        sent += 1;
        net.run(Duration::from_millis(10));
        if net.status(0, 1).mtu.is_some_and(|mtu| mtu.is_settled) {
            break;
        }
    }
    net.run(Duration::from_millis(100));
    // Of the packets that go both ways one may come twice.
    assert!(net.delivered(1).len() >= sent);
    assert!(net.packets(0).is_empty());
    assert!(sent < 400, "the search does not end");
}

#[test]
fn a_small_last_fragment_does_not_overtake_the_large_first_one() {
    let mut net = pair(1420);
    // As the kernel cuts for a path that was larger before.
    let pieces = ipv6_fragments(3200, 1424);
    assert!(pieces.last().unwrap().len() < 1200);
    for piece in &pieces {
        net.send_packet(0, piece);
    }
    net.send_packet(0, &udp(true, 1000, 0));
    net.run(Duration::from_millis(200));
    let mut arrived = net.packets(1);
    assert_eq!(
        arrived.remove(0),
        udp(true, 1000, 0),
        "it is no fragment of it"
    );
    assert_eq!(arrived, pieces);
    assert_eq!(told(&net.packets(0)[0]), Some(INNER.into()));
}

/// A packet of UDP with so much payload in fragments of at most so many bytes (RFC 8200 §4.5).
fn ipv6_fragments(payload: u16, most: usize) -> Vec<Vec<u8>> {
    let whole = udp(true, payload + 48, 0);
    let room = (most - 48) / 8 * 8;
    let data = &whole[40..];
    let count = data.len().div_ceil(room);
    data.chunks(room)
        .enumerate()
        .map(|(index, data)| {
            let mut piece = whole[..40].to_vec();
            let length = u16::try_from(data.len() + 8).unwrap();
            piece[4..6].copy_from_slice(&length.to_be_bytes());
            piece[6] = 44;
            let more = u16::from(index + 1 < count);
            let field = u16::try_from(index * room).unwrap() | more;
            piece.extend([17, 0]);
            piece.extend(field.to_be_bytes());
            piece.extend([0, 0, 0, 9]);
            piece.extend(data);
            piece
        })
        .collect()
}

#[test]
fn epochs_change_on_a_small_path() {
    for relay in [true, false] {
        let mut net = pair(1280);
        if !relay {
            net.without_relay();
            net.relay_down = true;
            warm(&mut net);
        }
        let first = net.fingerprint(0, 1);
        for _ in 0..200 {
            net.send(0, 1, b"x");
            net.run(Duration::from_secs(1));
        }
        assert_ne!(net.fingerprint(0, 1), first, "relay {relay}");
        assert_eq!(
            net.fingerprint(0, 1),
            net.fingerprint(1, 0),
            "relay {relay}"
        );
    }
}
