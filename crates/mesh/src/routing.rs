//! Which peer an address belongs to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use ztna_proto::MachineId;

/// Longest-prefix match over the peers' addresses and routes.
///
/// Tailnet addresses are found by one exact look-up; routes, of which there are few, by prefix
/// length from long to short.
#[derive(Default)]
pub struct RoutingTable {
    hosts: BTreeMap<IpAddr, MachineId>,
    /// Keyed by prefix length, longest first.
    routes: BTreeMap<std::cmp::Reverse<u8>, BTreeMap<IpNet, MachineId>>,
}

impl RoutingTable {
    /// Adds a peer's network. The first peer to bring a network keeps it until it leaves.
    pub fn insert(&mut self, net: IpNet, peer: MachineId) {
        if net.prefix_len() == net.max_prefix_len() {
            self.hosts.entry(net.addr()).or_insert(peer);
        } else {
            self.routes
                .entry(std::cmp::Reverse(net.prefix_len()))
                .or_default()
                .entry(net.trunc())
                .or_insert(peer);
        }
    }

    /// Removes everything that belongs to the peer.
    pub fn remove_peer(&mut self, peer: MachineId) {
        self.hosts.retain(|_, owner| *owner != peer);
        for nets in self.routes.values_mut() {
            nets.retain(|_, owner| *owner != peer);
        }
        self.routes.retain(|_, nets| !nets.is_empty());
    }

    /// The peer to which packets for this address go.
    pub fn lookup(&self, addr: IpAddr) -> Option<MachineId> {
        if let Some(peer) = self.hosts.get(&addr) {
            return Some(*peer);
        }
        self.routes.iter().find_map(|(length, nets)| {
            let net = IpNet::new(addr, length.0).ok()?.trunc();
            nets.get(&net).copied()
        })
    }
}

/// Destination address of an IP packet (RFC 791 §3.1, RFC 8200 §3).
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(16..20)?)
            .ok()
            .map(IpAddr::from),
        6 => <[u8; 16]>::try_from(packet.get(24..40)?)
            .ok()
            .map(IpAddr::from),
        _ => None,
    }
}

/// Length that an IP packet says it has: WireGuard pads what it carries.
pub fn stated_length(packet: &[u8]) -> Option<usize> {
    let field = |at: usize| {
        packet
            .get(at..at + 2)
            .map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    let length = match packet.first()? >> 4 {
        4 => field(2)?,
        6 => field(4)? + 40,
        _ => return None,
    };
    (length <= packet.len()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let (a, b, c) = (
            MachineId::generate(),
            MachineId::generate(),
            MachineId::generate(),
        );
        let mut table = RoutingTable::default();
        table.insert("100.64.0.1/32".parse().unwrap(), a);
        table.insert("10.0.0.0/8".parse().unwrap(), b);
        table.insert("10.1.0.0/16".parse().unwrap(), c);
        assert_eq!(table.lookup("100.64.0.1".parse().unwrap()), Some(a));
        assert_eq!(table.lookup("10.2.0.1".parse().unwrap()), Some(b));
        assert_eq!(table.lookup("10.1.9.9".parse().unwrap()), Some(c));
        assert_eq!(table.lookup("192.0.2.1".parse().unwrap()), None);
        assert_eq!(table.lookup("fd00::1".parse().unwrap()), None);
        table.remove_peer(c);
        assert_eq!(table.lookup("10.1.9.9".parse().unwrap()), Some(b));
    }

    #[test]
    fn an_address_stays_with_the_peer_that_brought_it() {
        let (a, b) = (MachineId::generate(), MachineId::generate());
        let mut table = RoutingTable::default();
        table.insert("100.64.0.1/32".parse().unwrap(), a);
        table.insert("100.64.0.1/32".parse().unwrap(), b);
        assert_eq!(table.lookup("100.64.0.1".parse().unwrap()), Some(a));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let mut packet = [0u8; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[16..20].copy_from_slice(&[100, 64, 0, 9]);
        assert_eq!(destination(&packet), Some("100.64.0.9".parse().unwrap()));
        assert_eq!(stated_length(&packet), Some(28));
        packet[3] = 29;
        assert_eq!(stated_length(&packet), None);
        assert_eq!(destination(&packet[..18]), None);
        assert_eq!(stated_length(&[]), None);
    }
}
