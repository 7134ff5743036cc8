//! Where this machine may be reached: its own addresses, what STUN services see, and what the
//! router has opened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use ztna_netcheck::{FULL_EVERY, MAX_REGIONS};
use ztna_proto::netmap::{Endpoint, EndpointKind, MAX_ENDPOINTS};

use crate::platform::LocalAddress;

/// What a STUN service saw is believed for this long without being seen again: longer than a few
/// rounds, shorter than most NATs keep a mapping that is not used.
const STUN_MEMORY: Duration = Duration::from_secs(90);
/// A service that sees another address than this long ago tells that the NAT has changed its mind. Later, the NAT
/// may only have forgotten a mapping that nobody used (RFC 4787 §4.3 asks for two minutes, many give 30 s).
const SAME_MAPPING: Duration = Duration::from_secs(30);
/// Services whose word is remembered.
const MAX_SERVICES: usize = MAX_REGIONS * 4;

/// What a service's word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing new.
    Same,
    /// This service sees us for the first time, or for the first time in long.
    First,
    /// It saw us elsewhere a moment ago.
    Moved,
}

/// Where this machine may be reached.
#[derive(Default)]
pub struct Endpoints {
    local: Vec<Endpoint>,
    /// By which service this machine was seen where, and when last.
    seen: BTreeMap<SocketAddr, (SocketAddr, Instant)>,
    mapped: Option<SocketAddr>,
    /// What leads into the tunnel: never an endpoint.
    tailnet: BTreeSet<IpNet>,
}

impl Endpoints {
    /// The machine's own addresses changed. What was seen from outside may hold no more.
    pub fn set_local(&mut self, addresses: &[LocalAddress], port: u16) {
        let endpoint = |address: &LocalAddress| Endpoint {
            addr: SocketAddr::new(address.ip, port),
            kind: if address.in_tunnel {
                EndpointKind::Tunnel
            } else {
                EndpointKind::Local
            },
        };
        self.local = addresses.iter().map(endpoint).collect();
        // A list that is cut off loses these.
        self.local.sort_by_key(|endpoint| endpoint.kind);
        self.seen.clear();
    }

    /// The networks that lead into the tunnel.
    pub fn set_tailnet(&mut self, networks: BTreeSet<IpNet>) {
        self.tailnet = networks;
    }

    /// What the router has opened.
    pub fn set_mapped(&mut self, mapped: Option<SocketAddr>) {
        self.mapped = mapped;
    }

    /// A STUN service saw us.
    pub fn seen(&mut self, service: SocketAddr, addr: SocketAddr, now: Instant) -> Sighting {
        // As old as that, it is of no use to anybody.
        self.seen
            .retain(|_, (_, at)| now.duration_since(*at) < FULL_EVERY);
        if self.seen.len() >= MAX_SERVICES && !self.seen.contains_key(&service) {
            return Sighting::Same;
        }
        match self.seen.insert(service, (addr, now)) {
            Some((before, _)) if before == addr => Sighting::Same,
            Some((_, at)) if now.duration_since(at) < SAME_MAPPING => Sighting::Moved,
            _ => Sighting::First,
        }
    }

    /// Every endpoint, own addresses first, without repetition and without those of the tailnet.
    pub fn list(&self, now: Instant) -> Vec<Endpoint> {
        let local = self.local.iter().map(|own| (own.addr, own.kind));
        let mapped = self.mapped.map(|addr| (addr, EndpointKind::PortMapped));
        let fresh = self
            .seen
            .values()
            .filter(|(_, at)| now.duration_since(*at) < STUN_MEMORY);
        let seen: BTreeSet<SocketAddr> = fresh.map(|(addr, _)| *addr).collect();
        let seen = seen.into_iter().map(|addr| (addr, EndpointKind::Stun));
        let mut told = BTreeSet::new();
        local
            .chain(mapped)
            .chain(seen)
            .filter(|(addr, _)| !self.is_tailnet(addr.ip()) && told.insert(*addr))
            .map(|(addr, kind)| Endpoint { addr, kind })
            .take(MAX_ENDPOINTS)
            .collect()
    }

    fn is_tailnet(&self, ip: IpAddr) -> bool {
        self.tailnet.iter().any(|network| network.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn local(ip: &str) -> LocalAddress {
        LocalAddress {
            ip: ip.parse().unwrap(),
            in_tunnel: false,
        }
    }

    fn texts(endpoints: &Endpoints, now: Instant) -> Vec<String> {
        let list = endpoints.list(now).into_iter();
        list.map(|endpoint| format!("{} {:?}", endpoint.addr, endpoint.kind))
            .collect()
    }

    const SERVICE: &str = "198.51.100.1:3478";
    const OTHER: &str = "198.51.100.2:3478";

    #[test]
    fn what_stun_saw_is_forgotten_in_time_and_with_a_new_network() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        endpoints.set_local(&[local("10.0.0.2")], 41641);
        endpoints.seen(addr(SERVICE), addr("192.0.2.1:5000"), now);
        endpoints.seen(addr(OTHER), addr("10.0.0.2:41641"), now);
        let list = texts(&endpoints, now);
        assert_eq!(list, ["10.0.0.2:41641 Local", "192.0.2.1:5000 Stun"]);
        assert_eq!(endpoints.list(now + STUN_MEMORY).len(), 1);

        endpoints.seen(addr(SERVICE), addr("192.0.2.1:5000"), now);
        endpoints.set_local(&[local("10.9.0.2")], 41641);
        assert_eq!(texts(&endpoints, now), ["10.9.0.2:41641 Local"]);
    }

    #[test]
    fn ends_of_other_tunnels_are_told_as_such_and_after_the_others() {
        let mut endpoints = Endpoints::default();
        let vpn = LocalAddress {
            in_tunnel: true,
            ..local("10.8.0.2")
        };
        endpoints.set_local(&[vpn, local("192.168.1.2")], 41641);
        let list = texts(&endpoints, Instant::now());
        assert_eq!(list, ["192.168.1.2:41641 Local", "10.8.0.2:41641 Tunnel"]);
    }

    #[test]
    fn a_mapped_port_is_told_as_such() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        endpoints.set_mapped(Some(addr("192.0.2.1:41641")));
        endpoints.seen(addr(SERVICE), addr("192.0.2.1:41641"), now);
        endpoints.seen(addr(OTHER), addr("192.0.2.1:5000"), now);
        let list = texts(&endpoints, now);
        assert_eq!(list, ["192.0.2.1:41641 PortMapped", "192.0.2.1:5000 Stun"]);
        endpoints.set_mapped(None);
        assert_eq!(endpoints.list(now)[0].kind, EndpointKind::Stun);
    }

    #[test]
    fn tailnet_addresses_are_never_told() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        let networks = ["100.64.0.0/10", "fd7a:1:2::/48", "10.9.0.1/32"];
        endpoints.set_tailnet(networks.map(|net| net.parse().unwrap()).into());
        let locals = [
            "100.64.0.7",
            "fd7a:1:2::7",
            "10.9.0.1",
            "10.9.0.2",
            "2001:db8::7",
        ];
        endpoints.set_local(&locals.map(local), 41641);
        endpoints.set_mapped(Some(addr("100.64.3.3:41641")));
        endpoints.seen(addr(SERVICE), addr("100.64.3.3:5000"), now);
        let list = texts(&endpoints, now);
        assert_eq!(list, ["10.9.0.2:41641 Local", "[2001:db8::7]:41641 Local"]);
    }

    #[test]
    fn a_service_that_sees_another_address_tells_of_a_changed_nat() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        let mut see = |service, at, late| {
            endpoints.seen(addr(service), addr(at), now + Duration::from_secs(late))
        };
        assert_eq!(see(SERVICE, "192.0.2.1:5000", 0), Sighting::First);
        assert_eq!(
            see(OTHER, "192.0.2.1:5001", 0),
            Sighting::First,
            "a hard NAT"
        );
        assert_eq!(see(SERVICE, "192.0.2.1:5000", 23), Sighting::Same);
        assert_eq!(see(SERVICE, "192.0.2.1:6000", 46), Sighting::Moved);
        assert_eq!(
            see(OTHER, "192.0.2.1:6001", 46),
            Sighting::First,
            "not used for long"
        );
        assert_eq!(texts(&endpoints, now + Duration::from_secs(46)).len(), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        for port in 1..=2000 {
            endpoints.seen(SocketAddr::from(([192, 0, 2, 1], port)), addr(SERVICE), now);
        }
        assert_eq!(endpoints.seen.len(), MAX_SERVICES);
    }
}
