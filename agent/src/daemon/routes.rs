//! Which routes lead into the tunnel.
//!
//! The tailnet's prefixes as a whole, not a route per peer: a packet for a machine that is not (any
//! longer) a peer ends in the tunnel and is dropped there. With routes per peer it would leave by
//! the default route, in the clear. The kernel's own more specific routes still win, so a provider's
//! network inside `100.64.0.0/10` that this machine is attached to stays reachable.
//!
//! The contract does not name an org's prefixes. IPv4: `100.64.0.0/10` (RFC 6598) if this machine's
//! address is in it. IPv6: the /48 around its address (RFC 4193 §3.1). Peers outside both, as in an
//! org with IPv4 prefix of its own, get routes of their own. The networks behind peers are another
//! matter: `network::wanted`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ztna_proto::netmap::PeerRecord;

/// Shared address space (RFC 6598 §7), where tailnets live by default.
const SHARED_SPACE: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 10);
/// Prefix length of a unique local network (RFC 4193 §3.1).
const ULA_PREFIX: u8 = 48;

/// The routes of a machine with these addresses and peers.
#[must_use]
pub fn wanted<'a>(
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    peers: impl Iterator<Item = &'a PeerRecord>,
) -> BTreeSet<IpNet> {
    let mut routes = tailnet(ipv4, ipv6);
    let prefixes: Vec<IpNet> = routes.iter().copied().collect();
    for peer in peers {
        for address in peer.addresses() {
            if !prefixes.iter().any(|prefix| prefix.contains(&address)) {
                routes.insert(host(address));
            }
        }
    }
    routes
}

/// The tailnet's prefixes, by the addresses of a machine in it.
#[must_use]
pub fn tailnet(ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> BTreeSet<IpNet> {
    let mut prefixes = BTreeSet::new();
    let shared = Ipv4Net::new_assert(SHARED_SPACE.0, SHARED_SPACE.1);
    if shared.contains(&ipv4) {
        prefixes.insert(IpNet::V4(shared));
    }
    prefixes.insert(IpNet::V6(Ipv6Net::new_assert(ipv6, ULA_PREFIX).trunc()));
    prefixes
}

fn host(address: IpAddr) -> IpNet {
    address.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_proto::{MachineId, WgPublicKey};

    fn peer(ipv4: &str, ipv6: &str, routes: &[&str]) -> PeerRecord {
        PeerRecord {
            id: MachineId::generate(),
            name: String::new(),
            dns_name: String::new(),
            wg_key: WgPublicKey([0; 32]),
            kem_key: None,
            ipv4: ipv4.parse().unwrap(),
            ipv6: ipv6.parse().unwrap(),
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
            groups: Vec::new(),
            pq: Default::default(),
            os: String::new(),
            user: String::new(),
        }
    }

    fn texts(routes: &BTreeSet<IpNet>) -> Vec<String> {
        routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn prefixes_cover_peers_and_others_get_their_own() {
        let peers = [
            peer("100.64.0.2", "fd7a:1:2::2", &["0.0.0.0/0", "::/0"]),
            peer("10.9.0.3", "fd00::3", &["192.168.7.0/24"]),
        ];
        let routes = wanted(
            "100.64.0.1".parse().unwrap(),
            "fd7a:1:2::1".parse().unwrap(),
            peers.iter(),
        );
        assert_eq!(
            texts(&routes),
            [
                "10.9.0.3/32",
                "100.64.0.0/10",
                "fd00::3/128",
                "fd7a:1:2::/48"
            ]
        );
    }

    #[test]
    fn an_org_with_its_own_prefix_gets_routes_per_peer() {
        let peers = [peer("10.9.0.3", "fd7a:1:2::2", &[])];
        let routes = wanted(
            "10.9.0.1".parse().unwrap(),
            "fd7a:1:2::1".parse().unwrap(),
            peers.iter(),
        );
        assert_eq!(texts(&routes), ["10.9.0.3/32", "fd7a:1:2::/48"]);
    }
}
