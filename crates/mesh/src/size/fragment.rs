//! Cuts a packet of IPv4 that may be cut (RFC 791 §3.2).

use bytes::BytesMut;

const HEADER: usize = 20;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Fragments begin at multiples of this.
const UNIT: usize = 8;

/// Cuts a packet into pieces of at most `limit` bytes; each has `room` bytes of capacity behind it.
/// `None`: it must not be cut, or has options (which only some pieces would have to repeat).
#[must_use]
pub fn cut(packet: &[u8], limit: usize, room: usize) -> Option<Vec<BytesMut>> {
    let (header, data) = packet.split_first_chunk::<HEADER>()?;
    let field = u16::from_be_bytes([header[6], header[7]]);
    if header[0] != 0x45 || field & DONT_FRAGMENT != 0 {
        return None;
    }
    let most = limit.saturating_sub(HEADER) / UNIT * UNIT;
    if most == 0 {
        return None;
    }
    let begin = usize::from(field & OFFSET) * UNIT;
    let count = data.len().div_ceil(most);
    let mut pieces = Vec::with_capacity(count);
    for (index, data) in data.chunks(most).enumerate() {
        let offset = u16::try_from((begin + index * most) / UNIT).ok()?;
        let more = if index + 1 < count {
            MORE_FRAGMENTS
        } else {
            field & MORE_FRAGMENTS
        };
        let length = HEADER + data.len();
        let mut piece = BytesMut::with_capacity(length + room);
        piece.extend_from_slice(header);
        piece.extend_from_slice(data);
        piece[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
        piece[6..8].copy_from_slice(&(offset & OFFSET | more).to_be_bytes());
        piece[10..12].fill(0);
        let sum = checksum(&piece[..HEADER]);
        piece[10..12].copy_from_slice(&sum.to_be_bytes());
        pieces.push(piece);
    }
    Some(pieces)
}

/// RFC 1071, of a header: an even number of bytes.
fn checksum(header: &[u8]) -> u16 {
    let words = header.as_chunks::<2>().0.iter();
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The cast takes the lower half, which is all that is left.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4Slice, PacketBuilder};
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: usize, field: u16) -> Vec<u8> {
        let contents: Vec<u8> = (0..payload).map(|n| (n % 251) as u8).collect();
        let mut packet = Vec::new();
        PacketBuilder::ipv4([100, 64, 0, 1], [100, 64, 0, 2], 64)
            .udp(1, 2)
            .write(&mut packet, &contents)
            .unwrap();
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet
    }

    proptest! {
        #[test]
        fn the_pieces_make_the_packet_again(
            payload in 0_usize..9000,
            limit in 68_usize..1500,
            before in 0_u16..100,
            more in any::<bool>(),
        ) {
            let field = before | if more { MORE_FRAGMENTS } else { 0 };
            let whole = packet(payload, field);
            let pieces = cut(&whole, limit, 16).unwrap();
            let mut data = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.len() <= limit && piece.capacity() >= piece.len() + 16);
                let slice = Ipv4Slice::from_slice(piece).unwrap();
                let header = slice.header();
                prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                let at = usize::from(header.fragments_offset().byte_offset());
                prop_assert_eq!(at, usize::from(before) * 8 + data.len());
                let is_last = index + 1 == pieces.len();
                prop_assert_eq!(header.more_fragments(), more || !is_last);
                prop_assert!(is_last || slice.payload().payload.len().is_multiple_of(8));
                prop_assert_eq!(header.identification(), u16::from_be_bytes([whole[4], whole[5]]));
                data.extend_from_slice(slice.payload().payload);
            }
            prop_assert_eq!(&data[..], &whole[HEADER..]);
        }
    }

    #[test]
    fn what_must_stay_whole_stays_whole() {
        assert!(cut(&packet(3000, DONT_FRAGMENT), 1200, 0).is_none());
        let mut options = packet(3000, 0);
        options[0] = 0x46;
        assert!(cut(&options, 1200, 0).is_none());
        let mut v6 = packet(3000, 0);
        v6[0] = 0x60;
        assert!(cut(&v6, 1200, 0).is_none());
        assert!(cut(&packet(0, 0)[..19], 1200, 0).is_none());
        assert!(cut(&packet(100, 0), 20, 0).is_none());
    }
}
