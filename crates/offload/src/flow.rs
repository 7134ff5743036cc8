//! Which packets share a queue.

use super::{TCP, UDP, VNET_HEADER, get_u16};

/// The flow of a frame: addresses, protocol and ports. What is no IP packet, or no first fragment, is of
/// a flow without ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    addresses: [u8; 32],
    ports: [u8; 4],
    protocol: u8,
}

impl Flow {
    /// The flow of a frame with its header.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let packet = frame.get(VNET_HEADER..).unwrap_or_default();
        Self::of_packet(packet).unwrap_or_default()
    }

    fn of_packet(packet: &[u8]) -> Option<Self> {
        let mut flow = Self::default();
        let transport = match packet.first()? >> 4 {
            4 => {
                flow.addresses[..8].copy_from_slice(packet.get(12..20)?);
                flow.protocol = packet[9];
                // 0x1fff: a later fragment has no ports.
                let is_first = get_u16(packet, 6) & 0x1fff == 0;
                is_first.then_some(usize::from(packet[0] & 0x0f) * 4)
            }
            6 => {
                flow.addresses.copy_from_slice(packet.get(8..40)?);
                flow.protocol = packet[6];
                Some(40)
            }
            _ => return None,
        };
        let ports = transport.and_then(|at| packet.get(at..at + 4));
        if let (TCP | UDP, Some(ports)) = (flow.protocol, ports) {
            flow.ports.copy_from_slice(ports);
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(version: u8, protocol: u8, ports: [u8; 4]) -> Vec<u8> {
        let transport = if version == 4 { 20 } else { 40 };
        let mut frame = vec![0; VNET_HEADER + transport + 8];
        let packet = &mut frame[VNET_HEADER..];
        packet[0] = version << 4 | if version == 4 { 5 } else { 0 };
        packet[if version == 4 { 9 } else { 6 }] = protocol;
        packet[transport - 1] = 7;
        packet[transport..transport + 4].copy_from_slice(&ports);
        frame
    }

    #[test]
    fn ports_and_protocol_tell_flows_apart() {
        for version in [4, 6] {
            let tcp = Flow::of(&frame(version, TCP, [1, 2, 3, 4]));
            assert_eq!(tcp, Flow::of(&frame(version, TCP, [1, 2, 3, 4])));
            assert_ne!(tcp, Flow::of(&frame(version, TCP, [1, 2, 3, 5])));
            assert_ne!(tcp, Flow::of(&frame(version, UDP, [1, 2, 3, 4])));
            // An identifier or a checksum is no port.
            let echo = Flow::of(&frame(version, 1, [8, 0, 3, 4]));
            assert_eq!(echo, Flow::of(&frame(version, 1, [8, 0, 9, 9])));
        }
    }

    #[test]
    fn fragments_after_the_first_have_no_ports() {
        let mut later = frame(4, UDP, [1, 2, 3, 4]);
        later[VNET_HEADER + 7] = 1;
        let mut other = frame(4, UDP, [5, 6, 7, 8]);
        other[VNET_HEADER + 7] = 2;
        assert_eq!(Flow::of(&later), Flow::of(&other));
    }

    #[test]
    fn what_is_cut_short_is_of_some_flow() {
        let whole = frame(6, TCP, [1, 2, 3, 4]);
        for length in 0..VNET_HEADER + 40 {
            assert_eq!(Flow::of(&whole[..length]), Flow::default());
        }
    }
}
