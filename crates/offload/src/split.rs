//! Cuts what the kernel hands over into packets.

use bytes::BytesMut;

use super::{
    CWR, FIN, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, PSH, TCP,
    TCP_CHECKSUM, UDP, UDP_CHECKSUM, VNET_HEADER, checksum, get_u16, get_u32, pseudo_header,
    put_u16, put_u32, set_ip_length,
};

/// Packets that one frame may be cut into: 64 KiB in segments of 128 bytes. Every honest TCP takes
/// longer ones (RFC 9293 §3.7.1: 536 bytes); what asks for shorter ones harms its own connection.
const MAX_SEGMENTS: usize = 512;

/// What the kernel handed over cannot be cut into packets. Any program on this machine can make such
/// a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

/// Cuts a frame into packets, each with room for `room` bytes behind it. They lie one after another
/// in `buffer`, whose memory is used again when all of them are gone.
///
/// # Errors
/// The frame is not what its header says.
pub fn split(
    frame: &[u8],
    room: usize,
    buffer: &mut BytesMut,
    packets: &mut Vec<BytesMut>,
) -> Result<(), Unusable> {
    let (header, packet) = frame.split_at_checked(VNET_HEADER).ok_or(Unusable)?;
    let field = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let (needs_csum, kind) = (header[0] & NEEDS_CSUM != 0, header[1]);
    let (segment, transport, csum_offset) = (field(4), field(6), field(8));
    if packet.is_empty() {
        return Err(Unusable);
    }
    if kind == GSO_NONE {
        let checksum = needs_csum.then_some((transport, transport + csum_offset));
        return whole(packet, checksum, room, buffer, packets);
    }
    let protocol = match kind & !GSO_ECN {
        GSO_TCPV4 | GSO_TCPV6 => TCP,
        GSO_UDP_L4 => UDP,
        _ => return Err(Unusable),
    };
    let least = match (packet[0] >> 4, kind & !GSO_ECN) {
        (4, GSO_TCPV4 | GSO_UDP_L4) => 20,
        (6, GSO_TCPV6 | GSO_UDP_L4) => 40,
        _ => return Err(Unusable),
    };
    if transport < least || segment == 0 {
        return Err(Unusable);
    }
    let header_length = match protocol {
        TCP => {
            let words = packet.get(transport + 12).ok_or(Unusable)? >> 4;
            transport + usize::from(words.max(5)) * 4
        }
        _ => transport + 8,
    };
    let (header, payload) = packet.split_at_checked(header_length).ok_or(Unusable)?;
    let count = payload.len().div_ceil(segment).max(1);
    if count > MAX_SEGMENTS {
        return Err(Unusable);
    }
    buffer.reserve(count * (header_length + room) + payload.len());
    let cut = Cut {
        header,
        transport,
        protocol,
        segment,
    };
    for index in 0..count {
        let from = index * segment;
        let to = payload.len().min(from + segment);
        buffer.extend_from_slice(header);
        buffer.extend_from_slice(&payload[from..to]);
        cut.adapt(buffer, index, index + 1 == count);
        packets.push(take(buffer, room));
    }
    Ok(())
}

/// Takes one packet over as it is, with its checksum completed: `(from, at)`.
fn whole(
    packet: &[u8],
    checksum: Option<(usize, usize)>,
    room: usize,
    buffer: &mut BytesMut,
    packets: &mut Vec<BytesMut>,
) -> Result<(), Unusable> {
    if checksum.is_some_and(|(from, at)| from > packet.len() || at + 2 > packet.len()) {
        return Err(Unusable);
    }
    buffer.reserve(packet.len() + room);
    buffer.extend_from_slice(packet);
    if let Some((from, at)) = checksum {
        // The field holds the pseudo header's sum, and is part of what is summed.
        let sum = checksum::finish(checksum::add(0, &buffer[from..]));
        let is_udp = at - from == UDP_CHECKSUM;
        buffer[at..at + 2].copy_from_slice(&if is_udp { nonzero(sum) } else { sum });
    }
    packets.push(take(buffer, room));
    Ok(())
}

/// Takes what the buffer holds out of it, as a packet with room behind it.
fn take(buffer: &mut BytesMut, room: usize) -> BytesMut {
    let length = buffer.len();
    buffer.resize(length + room, 0);
    let mut packet = buffer.split();
    packet.truncate(length);
    packet
}

/// A UDP checksum of zero would mean that there is none (RFC 768).
fn nonzero(sum: [u8; 2]) -> [u8; 2] {
    if sum == [0, 0] { [0xff, 0xff] } else { sum }
}

/// What the segments of a frame have in common.
struct Cut<'a> {
    header: &'a [u8],
    transport: usize,
    protocol: u8,
    segment: usize,
}

impl Cut<'_> {
    /// Makes a copy of the frame's header that of a segment.
    #[allow(clippy::cast_possible_truncation)] // an index below MAX_SEGMENTS, lengths below 2^16
    fn adapt(&self, packet: &mut [u8], index: usize, is_last: bool) {
        let length = packet.len();
        if packet[0] >> 4 == 4 {
            let id = get_u16(self.header, 4).wrapping_add(index as u16);
            put_u16(packet, 4, id);
        }
        set_ip_length(packet, self.transport, length);
        let at = self.transport;
        let length = length - at;
        let checksum = if self.protocol == TCP {
            let offset = (index * self.segment) as u32;
            let sequence = get_u32(self.header, at + 4).wrapping_add(offset);
            put_u32(packet, at + 4, sequence);
            if !is_last {
                packet[at + 13] &= !(FIN | PSH);
            }
            if index > 0 {
                packet[at + 13] &= !CWR;
            }
            at + TCP_CHECKSUM
        } else {
            put_u16(packet, at + 4, length as u16);
            at + UDP_CHECKSUM
        };
        packet[checksum..checksum + 2].fill(0);
        let pseudo = pseudo_header(packet, self.protocol, length);
        let sum = checksum::finish(checksum::add(pseudo, &packet[at..]));
        let sum = if self.protocol == UDP {
            nonzero(sum)
        } else {
            sum
        };
        packet[checksum..checksum + 2].copy_from_slice(&sum);
    }
}
