//! Which peer an address belongs to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ztna_proto::MachineId;

/// Longest-prefix match over the peers' addresses and routes.
///
/// Tailnet addresses are found by one exact look-up, before any route: a route is no way to another
/// machine's address. Routes, of which there are few, are found by prefix length from long to short.
/// Where several peers bring one address, the first keeps it, and the next has it when that leaves. Of
/// several that bring one network, one that is online has it, and of these the one with the lowest id:
/// all machines choose alike.
#[derive(Default)]
pub struct RoutingTable {
    hosts: BTreeMap<IpAddr, Claims>,
    /// Keyed by prefix length, longest first.
    routes: BTreeMap<Reverse<u8>, BTreeMap<IpNet, Ranked>>,
}

/// Who brings an address, in the order in which they came. Never empty.
type Claims = Vec<MachineId>;

/// Who brings a network, and whether each is offline; the first has it. Never empty.
type Ranked = BTreeSet<(bool, MachineId)>;

/// Which of the networks that peers route this machine sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteUse {
    /// Those of subnet routers.
    pub subnets: bool,
    /// Everything, through this peer.
    pub exit: Option<MachineId>,
}

impl Default for RouteUse {
    fn default() -> Self {
        Self {
            subnets: true,
            exit: None,
        }
    }
}

impl RouteUse {
    /// Whether packets go to a peer for a network that it routes.
    pub fn takes(&self, peer: MachineId, net: &IpNet) -> bool {
        match net.prefix_len() {
            0 => self.exit == Some(peer),
            _ => self.subnets,
        }
    }
}

impl RoutingTable {
    /// Adds a peer's tailnet address.
    pub fn insert_host(&mut self, addr: IpAddr, peer: MachineId) {
        claim(self.hosts.entry(addr).or_default(), peer);
    }

    /// Removes a peer's tailnet address.
    pub fn remove_host(&mut self, addr: IpAddr, peer: MachineId) {
        waive(&mut self.hosts, &addr, peer);
    }

    /// Adds a network that a peer routes, or changes whether that peer is online.
    pub fn insert_route(&mut self, net: IpNet, peer: MachineId, online: bool) {
        let nets = self.routes.entry(Reverse(net.prefix_len())).or_default();
        let ranked = nets.entry(net.trunc()).or_default();
        ranked.remove(&(online, peer));
        ranked.insert((!online, peer));
    }

    /// Removes a network that a peer routes.
    pub fn remove_route(&mut self, net: IpNet, peer: MachineId) {
        let length = Reverse(net.prefix_len());
        let Some(nets) = self.routes.get_mut(&length) else {
            return;
        };
        if let Some(ranked) = nets.get_mut(&net.trunc()) {
            ranked.retain(|(_, owner)| *owner != peer);
            if ranked.is_empty() {
                nets.remove(&net.trunc());
            }
        }
        if nets.is_empty() {
            self.routes.remove(&length);
        }
    }

    /// The peer whose tailnet address this is.
    pub fn host(&self, addr: IpAddr) -> Option<MachineId> {
        self.hosts.get(&addr)?.first().copied()
    }

    /// The peer to which packets for this address go.
    pub fn lookup(&self, addr: IpAddr) -> Option<MachineId> {
        self.host(addr).or_else(|| {
            self.routes.iter().find_map(|(length, nets)| {
                let net = IpNet::new(addr, length.0).ok()?.trunc();
                nets.get(&net)?.first().map(|(_, peer)| *peer)
            })
        })
    }
}

fn claim(claims: &mut Claims, peer: MachineId) {
    if !claims.contains(&peer) {
        claims.push(peer);
    }
}

fn waive(map: &mut BTreeMap<IpAddr, Claims>, key: &IpAddr, peer: MachineId) {
    let Some(claims) = map.get_mut(key) else {
        return;
    };
    claims.retain(|owner| *owner != peer);
    if claims.is_empty() {
        map.remove(key);
    }
}

/// Source address of an IP packet (RFC 791 §3.1, RFC 8200 §3).
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// Destination address of an IP packet (RFC 791 §3.1, RFC 8200 §3).
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

fn address(packet: &[u8], at_v4: usize, at_v6: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(at_v4..at_v4 + 4)?)
            .ok()
            .map(IpAddr::from),
        6 => <[u8; 16]>::try_from(packet.get(at_v6..at_v6 + 16)?)
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

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let [a, b, c] = [(); 3].map(|()| MachineId::generate());
        let mut table = RoutingTable::default();
        table.insert_host(addr("100.64.0.1"), a);
        table.insert_route(net("10.0.0.0/8"), b, true);
        table.insert_route(net("10.1.2.3/16"), c, false);
        assert_eq!(table.lookup(addr("100.64.0.1")), Some(a));
        assert_eq!(table.lookup(addr("10.2.0.1")), Some(b));
        assert_eq!(table.lookup(addr("10.1.9.9")), Some(c));
        assert_eq!(table.lookup(addr("192.0.2.1")), None);
        assert_eq!(table.lookup(addr("fd00::1")), None);
        table.remove_route(net("10.1.2.3/16"), c);
        assert_eq!(table.lookup(addr("10.1.9.9")), Some(b));
        table.remove_route(net("10.0.0.0/8"), b);
        table.remove_host(addr("100.64.0.1"), a);
        assert!(table.routes.is_empty() && table.hosts.is_empty());
    }

    #[test]
    fn an_address_stays_with_the_peer_that_brought_it_until_that_leaves() {
        let [a, b] = [(); 2].map(|()| MachineId::generate());
        let mut table = RoutingTable::default();
        for peer in [b, a] {
            table.insert_host(addr("100.64.0.1"), peer);
        }
        assert_eq!(table.lookup(addr("100.64.0.1")), Some(b));
        table.remove_host(addr("100.64.0.1"), b);
        assert_eq!(table.lookup(addr("100.64.0.1")), Some(a));
    }

    #[test]
    fn of_several_routers_the_lowest_that_is_online_has_the_network() {
        let [a, b] = [1, 2].map(|n| MachineId::from_bytes([n; 16]));
        for order in [[a, b], [b, a]] {
            let mut table = RoutingTable::default();
            let there = |table: &RoutingTable| table.lookup(addr("10.0.0.1"));
            for peer in order {
                table.insert_route(net("10.0.0.0/8"), peer, true);
            }
            assert_eq!(there(&table), Some(a));
            table.insert_route(net("10.0.0.0/8"), a, false);
            assert_eq!(there(&table), Some(b));
            table.insert_route(net("10.0.0.0/8"), b, false);
            assert_eq!(there(&table), Some(a), "nobody is known to be there");
            table.insert_route(net("10.0.0.0/8"), b, true);
            table.insert_route(net("10.0.0.0/8"), a, true);
            assert_eq!(there(&table), Some(a));
            table.remove_route(net("10.0.0.0/8"), a);
            assert_eq!(there(&table), Some(b));
            table.remove_route(net("10.0.0.0/8"), b);
            assert!(table.routes.is_empty());
        }
    }

    #[test]
    fn no_route_takes_a_tailnet_address() {
        let [owner, thief] = [(); 2].map(|()| MachineId::generate());
        let mut table = RoutingTable::default();
        table.insert_route(net("100.64.0.1/32"), thief, true);
        table.insert_host(addr("100.64.0.1"), owner);
        assert_eq!(table.lookup(addr("100.64.0.1")), Some(owner));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let mut packet = [0u8; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[16..20].copy_from_slice(&[100, 64, 0, 9]);
        packet[12..16].copy_from_slice(&[100, 64, 0, 8]);
        assert_eq!(destination(&packet), Some(addr("100.64.0.9")));
        assert_eq!(source(&packet), Some(addr("100.64.0.8")));
        assert_eq!(stated_length(&packet), Some(28));
        packet[3] = 29;
        assert_eq!(stated_length(&packet), None);
        assert_eq!(destination(&packet[..18]), None);
        assert_eq!(stated_length(&[]), None);
    }
}
