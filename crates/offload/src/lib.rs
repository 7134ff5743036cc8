//! Segmentation offload of TUN devices, without IO.
//!
//! The kernel hands over up to 64 KiB of one TCP or UDP flow at a time, which [`split`] cuts into
//! packets, and takes packets of one flow joined together, which [`Coalescer`] does. Before each such
//! frame stands a header (virtio 1.2 §5.1.6, in its legacy form: this machine's byte order).

mod checksum;
mod coalesce;
mod flow;
mod split;

#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Frame, Joins};
pub use flow::Flow;
pub use split::{Unusable, split};

/// Length of the header before each frame.
pub const VNET_HEADER: usize = 10;

/// Flag: the checksum at `csum_offset` holds the pseudo header's sum, and is to be completed.
const NEEDS_CSUM: u8 = 1;
/// A single packet.
const GSO_NONE: u8 = 0;
/// TCP over IPv4, to be cut.
const GSO_TCPV4: u8 = 1;
/// TCP over IPv6, to be cut.
const GSO_TCPV6: u8 = 4;
/// UDP, to be cut.
const GSO_UDP_L4: u8 = 5;
/// Added to a TCP type: the first segment carries CWR (RFC 3168 §6.1.2).
const GSO_ECN: u8 = 0x80;

/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Offset of the checksum in a TCP header (RFC 9293 §3.1) and in a UDP header (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Flags of a TCP header, which are its byte 13 (RFC 9293 §3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// A header without offload.
const PLAIN: [u8; VNET_HEADER] = [0; VNET_HEADER];

/// Field of 16 bits in network byte order. `at` lies within.
fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes the length of an IP packet, and an IPv4 header's checksum, into its header. `packet` holds
/// at least the header, which ends where the transport begins.
fn set_ip_length(packet: &mut [u8], transport: usize, length: usize) {
    #[allow(clippy::cast_possible_truncation)] // a frame is no longer than 65,535
    if packet[0] >> 4 == 4 {
        put_u16(packet, 2, length as u16);
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::add(0, &packet[..transport]));
        packet[10..12].copy_from_slice(&sum);
    } else {
        put_u16(packet, 4, (length - 40) as u16);
    }
}

/// Sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) of a packet whose transport header and
/// payload have this length.
fn pseudo_header(packet: &[u8], protocol: u8, length: usize) -> u64 {
    let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
    #[allow(clippy::cast_possible_truncation)] // a frame is no longer than 65,535
    let [high, low] = (length as u16).to_be_bytes();
    checksum::add(
        checksum::add(0, &packet[addresses]),
        &[0, protocol, high, low],
    )
}
