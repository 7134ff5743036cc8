//! Holds TCP to segments that fit: the option "maximum segment size" (RFC 9293 §3.7.1) of a SYN is
//! lowered on its way through the tunnel. Where it is absent or lower already, nothing is changed.

/// IP header without options, and TCP header without options, in bytes.
const TCP_HEADER: usize = 20;
const SYN: u8 = 0x02;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Kind and length of the option.
const MSS_OPTION: [u8; 2] = [2, 4];

/// Lowers the segment size that a SYN asks for to what makes packets of at most `limit` bytes. Other
/// packets stay as they are; so do IPv6 packets with extension headers.
pub fn clamp(packet: &mut [u8], limit: usize) {
    let Some((tcp, headers)) = syn(packet) else {
        return;
    };
    let most = u16::try_from(limit.saturating_sub(headers + TCP_HEADER)).unwrap_or(u16::MAX);
    let Some(segment) = packet.get_mut(tcp..) else {
        return;
    };
    let Some(at) = find_mss(segment) else { return };
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if old <= most {
        return;
    }
    segment[at..at + 2].copy_from_slice(&most.to_be_bytes());
    let sum = u16::from_be_bytes([segment[16], segment[17]]);
    // The checksum adds words: a value at an odd place counts with its bytes swapped (RFC 1071 §2).
    let (old, new) = if at.is_multiple_of(2) {
        (old, most)
    } else {
        (old.swap_bytes(), most.swap_bytes())
    };
    segment[16..18].copy_from_slice(&updated(sum, old, new).to_be_bytes());
}

/// Where the TCP header of a SYN begins, and how long an IP header without options is.
fn syn(packet: &[u8]) -> Option<(usize, usize)> {
    const TCP: u8 = 6;
    let (at, headers) = match packet.first()? >> 4 {
        4 if *packet.get(9)? == TCP => {
            let fragment_offset = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
            if fragment_offset != 0 {
                return None;
            }
            (usize::from(packet[0] & 0x0f) * 4, 20)
        }
        6 if *packet.get(6)? == TCP => (40, 40),
        _ => return None,
    };
    (packet.get(at + 13)? & SYN != 0).then_some((at, headers))
}

/// Where in a TCP segment the value of the option stands.
fn find_mss(segment: &[u8]) -> Option<usize> {
    let end = usize::from(segment.get(12)? >> 4) * 4;
    let header = segment.get(..end)?;
    let mut at = TCP_HEADER;
    loop {
        match header.get(at..)? {
            [kind, length, _, _, ..] if [*kind, *length] == MSS_OPTION => return Some(at + 2),
            [NO_OPERATION, ..] => at += 1,
            [] | [END_OF_OPTIONS, ..] => return None,
            [_, length @ 2..=u8::MAX, ..] => at += usize::from(*length),
            _ => return None,
        }
    }
}

/// A checksum after one word of what it covers changed (RFC 1624 §3, equation 3).
fn updated(sum: u16, old: u16, new: u16) -> u16 {
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // The cast takes the lower half, which is all that is left.
    !(total as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    fn tcp(ipv6: bool, syn: bool, options: &[TcpOptionElement], payload: &[u8]) -> Vec<u8> {
        let builder = if ipv6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            PacketBuilder::ipv4([100, 64, 0, 1], [100, 64, 0, 2], 64)
        };
        let builder = builder.tcp(1000, 2000, 7, 8000).ack(9);
        let builder = if syn { builder.syn() } else { builder };
        let builder = builder.options(options).unwrap();
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    fn mss(packet: &[u8]) -> Option<u16> {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("not TCP");
        };
        tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
    }

    fn is_sound(packet: &[u8]) -> bool {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("not TCP");
        };
        let wanted = match sliced.net.unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
            }
            etherparse::NetSlice::Ipv6(ip) => {
                tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
            }
            _ => panic!("not IP"),
        };
        tcp.checksum() == wanted.unwrap()
    }

    proptest! {
        #[test]
        fn a_syn_asks_for_no_more_than_fits(
            ipv6 in any::<bool>(),
            asked in any::<u16>(),
            limit in 512_usize..9000,
            shift in 0_usize..4,
            payload in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut options = vec![TcpOptionElement::Noop; shift];
            options.push(TcpOptionElement::MaximumSegmentSize(asked));
            options.push(TcpOptionElement::Timestamp(1, 2));
            let mut packet = tcp(ipv6, true, &options, &payload);
            let before = packet.len();
            clamp(&mut packet, limit);
            let most = u16::try_from(limit - if ipv6 { 60 } else { 40 }).unwrap();
            prop_assert_eq!(packet.len(), before);
            prop_assert_eq!(mss(&packet), Some(asked.min(most)));
            prop_assert!(is_sound(&packet));
        }

        #[test]
        fn nothing_else_is_touched(
            ipv6 in any::<bool>(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let large = [TcpOptionElement::MaximumSegmentSize(9000)];
            let packet = tcp(ipv6, false, &large, &payload);
            let mut after = packet.clone();
            clamp(&mut after, 1200);
            prop_assert_eq!(after, packet);
            let packet = tcp(ipv6, true, &[TcpOptionElement::WindowScale(7)], &payload);
            let mut after = packet.clone();
            clamp(&mut after, 1200);
            prop_assert_eq!(after, packet);
            let mut bytes = bytes;
            clamp(&mut bytes, 1200);
        }
    }

    #[test]
    fn options_that_lie_end_the_search() {
        let mut packet = tcp(
            false,
            true,
            &[TcpOptionElement::MaximumSegmentSize(9000)],
            &[],
        );
        packet[21] = 0;
        for length in 0..packet.len() {
            clamp(&mut packet[..length].to_vec(), 1200);
        }
        packet[20 + 21] = 0;
        let before = packet.clone();
        clamp(&mut packet, 1200);
        assert_eq!(packet, before);
    }
}
