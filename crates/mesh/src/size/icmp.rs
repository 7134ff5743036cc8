//! "Packet too big", told to a packet's sender (RFC 1191 §4, RFC 4443 §3.2). It comes from the peer's
//! tailnet address, as from a router at the tunnel's other end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};
use ztna_filter::packet::protocol;
use ztna_filter::{Parsed, packet::Transport};

/// An ICMP message about a packet of IPv4 is at most this long (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;
/// An ICMP message about a packet of IPv6 is at most this long (RFC 4443 §2.4 c).
const MAX_V6: usize = 1280;
const HOPS: u8 = 64;
/// IP header and ICMP header, in bytes.
const HEADERS_V4: usize = 20 + 8;
const HEADERS_V6: usize = 40 + 8;

/// Tells the sender of `packet` that packets of `mtu` bytes pass. `None`: about such a packet nothing may be
/// told (RFC 1122 §3.2.2, RFC 4443 §2.4 e), or the two addresses are of different families.
#[must_use]
pub fn too_big(packet: &[u8], parsed: &Parsed, mtu: usize, from: IpAddr) -> Option<BytesMut> {
    let is_later_fragment = parsed.fragment.is_some_and(|fragment| fragment.offset > 0);
    let is_error = matches!(parsed.transport, Transport::IcmpError(_))
        || matches!(parsed.transport, Transport::Icmp) && parsed.protocol == protocol::ICMP;
    if is_later_fragment || is_error || parsed.dst.is_multicast() {
        return None;
    }
    let mut out = Vec::new();
    match (from, parsed.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) => about_v4(packet, mtu, from, to, &mut out)?,
        (IpAddr::V6(from), IpAddr::V6(to)) => about_v6(packet, mtu, from, to, &mut out)?,
        _ => return None,
    }
    Some(BytesMut::from(out.as_slice()))
}

fn about_v4(
    packet: &[u8],
    mtu: usize,
    from: Ipv4Addr,
    to: Ipv4Addr,
    out: &mut Vec<u8>,
) -> Option<()> {
    let quote = &packet[..packet.len().min(MAX_V4 - HEADERS_V4)];
    let next_hop_mtu = u16::try_from(mtu).ok()?;
    PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)
        .icmpv4(Icmpv4Type::DestinationUnreachable(
            DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
        ))
        .write(out, quote)
        .ok()
}

fn about_v6(
    packet: &[u8],
    mtu: usize,
    from: Ipv6Addr,
    to: Ipv6Addr,
    out: &mut Vec<u8>,
) -> Option<()> {
    let quote = &packet[..packet.len().min(MAX_V6 - HEADERS_V6)];
    let mtu = u32::try_from(mtu).ok()?;
    PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)
        .icmpv6(Icmpv6Type::PacketTooBig { mtu })
        .write(out, quote)
        .ok()
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, SlicedPacket, TransportSlice};
    use proptest::prelude::*;
    use ztna_filter::parse;

    use super::*;

    const PEER_V4: [u8; 4] = [100, 64, 0, 2];
    const PEER_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    const OWN_V4: [u8; 4] = [100, 64, 0, 1];
    const OWN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    fn udp(ipv6: bool, payload: usize) -> Vec<u8> {
        let builder = if ipv6 {
            PacketBuilder::ipv6(OWN_V6, PEER_V6, 64)
        } else {
            PacketBuilder::ipv4(OWN_V4, PEER_V4, 64)
        };
        let mut packet = Vec::new();
        builder
            .udp(1000, 2000)
            .write(&mut packet, &vec![7; payload])
            .unwrap();
        packet
    }

    fn peer(ipv6: bool) -> IpAddr {
        if ipv6 {
            IpAddr::from(PEER_V6)
        } else {
            IpAddr::from(PEER_V4)
        }
    }

    proptest! {
        #[test]
        fn the_sender_reads_the_size_and_its_own_packet(
            ipv6 in any::<bool>(),
            payload in 0_usize..9000,
            mtu in 576_u16..9000,
        ) {
            let packet = udp(ipv6, payload);
            let parsed = parse(&packet).unwrap();
            let told = too_big(&packet, &parsed, mtu.into(), peer(ipv6)).unwrap();
            let most = if ipv6 { MAX_V6 } else { MAX_V4 };
            prop_assert!(told.len() <= most);
            let sliced = SlicedPacket::from_ip(&told).unwrap();
            let quote = match sliced.transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => {
                    let wanted = Icmpv4Type::DestinationUnreachable(
                        DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
                    );
                    prop_assert_eq!(icmp.icmp_type(), wanted);
                    prop_assert_eq!(ones_complement(&told[20..], 0), 0);
                    prop_assert_eq!(ones_complement(&told[..20], 0), 0);
                    &told[HEADERS_V4..]
                }
                TransportSlice::Icmpv6(icmp) => {
                    prop_assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: mtu.into() });
                    let length = u32::try_from(told.len() - 40).unwrap();
                    let pseudo = [&told[8..40], &length.to_be_bytes(), &[0, 0, 0, 58]].concat();
                    let sum = u32::from(!ones_complement(&pseudo, 0));
                    prop_assert_eq!(ones_complement(&told[40..], sum), 0);
                    &told[HEADERS_V6..]
                }
                _ => panic!("not ICMP"),
            };
            prop_assert!(packet.starts_with(quote));
            let read = parse(&told).unwrap();
            prop_assert_eq!((read.src, read.dst), (parsed.dst, parsed.src));
            // The filter, and any connection tracking, find the flow that it is about.
            let Transport::IcmpError(Some(quoted)) = read.transport else {
                panic!("the flow is not found");
            };
            prop_assert_eq!(Some(quoted.ports), parsed.flow_ports());
        }
    }

    /// RFC 1071, the plain way; 0 for data that holds its own checksum.
    fn ones_complement(bytes: &[u8], start: u32) -> u16 {
        let mut sum = start;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn nothing_is_told_about_errors_later_fragments_and_multicast() {
        let told = |packet: &[u8]| too_big(packet, &parse(packet).unwrap(), 1200, peer(false));
        let original = udp(false, 3000);
        let parsed = parse(&original).unwrap();
        let error = too_big(&original, &parsed, 1200, peer(false)).unwrap();
        assert!(told(&error).is_none());
        let mut later = original.clone();
        later[6..8].copy_from_slice(&0x0010_u16.to_be_bytes());
        assert!(told(&later).is_none());
        let mut many = original.clone();
        many[16] = 224;
        assert!(told(&many).is_none());
        assert!(too_big(&original, &parsed, 1200, peer(true)).is_none());
        assert!(told(&original).is_some());
        let mut other = Vec::new();
        PacketBuilder::ipv4(OWN_V4, PEER_V4, 64)
            .write(&mut other, IpNumber::GRE, &[0; 2000])
            .unwrap();
        assert!(told(&other).is_some());
    }
}
