//! IP packets.

use std::net::Ipv4Addr;

use bytes::BytesMut;

/// Whether a packet is one of UDP over IPv4, and whole.
pub fn is_udp(packet: &[u8]) -> bool {
    packet[0] == 0x45 && packet[9] == 17 && packet[6] & 0x3f == 0 && packet[7] == 0
}

/// An IPv4 UDP packet from port 1000 to port 2000.
pub fn udp_packet(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> BytesMut {
    let length = u16::try_from(28 + payload.len()).unwrap();
    let mut packet = BytesMut::zeroed(28);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[20..22].copy_from_slice(&1000_u16.to_be_bytes());
    packet[22..24].copy_from_slice(&2000_u16.to_be_bytes());
    packet[24..26].copy_from_slice(&(length - 20).to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}
