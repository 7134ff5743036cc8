//! A NAT, by the terms of RFC 4787.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// On what a mapping (§4.1), or who may use it (§5), depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// On nothing but the inner address.
    Endpoint,
    /// On the other end's address.
    Address,
    /// On the other end's address and port.
    AddressAndPort,
}

impl Dependence {
    /// All of them, from the most open to the strictest.
    pub const ALL: [Self; 3] = [Self::Endpoint, Self::Address, Self::AddressAndPort];

    /// What of an address it looks at.
    pub(crate) fn key(self, addr: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        match self {
            Self::Endpoint => (None, None),
            Self::Address => (Some(addr.ip()), None),
            Self::AddressAndPort => (Some(addr.ip()), Some(addr.port())),
        }
    }

    /// Letters for timelines.
    #[must_use]
    pub fn letters(self) -> &'static str {
        match self {
            Self::Endpoint => "EI",
            Self::Address => "AD",
            Self::AddressAndPort => "APD",
        }
    }
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Which packets share an outer port.
    pub mapping: Dependence,
    /// Whose packets are let in.
    pub filtering: Dependence,
    /// Life of a mapping, and of a permission, without packets from inside (§4.3).
    pub expiry: Duration,
    /// Whether inner machines reach each other by their outer addresses (§6).
    pub hairpin: bool,
    /// Whether a mapping gets the inner port if that is free (§4.2.1). Only where mappings depend on
    /// nothing: else it would be one mapping for all who look.
    pub keeps_port: bool,
}

/// Lowest port of a mapping that did not get the one that it wanted.
const FIRST_PORT: u16 = 20_000;

type Key = (SocketAddr, (Option<IpAddr>, Option<u16>));

struct Mapping {
    inner: SocketAddr,
    port: u16,
    used: Duration,
    /// To whom it was used, and when last.
    permitted: BTreeMap<SocketAddr, Duration>,
}

/// One NAT with one outer address.
pub struct Nat {
    /// How it behaves.
    pub config: NatConfig,
    outer: IpAddr,
    mappings: BTreeMap<Key, Mapping>,
    by_port: BTreeMap<u16, Key>,
    rng: StdRng,
}

impl Nat {
    /// A NAT without mappings.
    #[must_use]
    pub fn new(config: NatConfig, outer: IpAddr, seed: u64) -> Self {
        Self {
            config,
            outer,
            mappings: BTreeMap::new(),
            by_port: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Its outer address.
    #[must_use]
    pub fn outer(&self) -> IpAddr {
        self.outer
    }

    /// Forgets everything, as after a power cut, and has another outer address from now on.
    pub fn restart(&mut self, outer: IpAddr) {
        self.outer = outer;
        self.mappings.clear();
        self.by_port.clear();
    }

    /// A datagram from inside: its source as seen from outside.
    pub fn outbound(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) -> SocketAddr {
        let key = (from, self.config.mapping.key(to));
        self.expire(&key, now);
        if !self.mappings.contains_key(&key) {
            let port = self.free_port(from.port(), now);
            self.by_port.insert(port, key);
            let mapping = Mapping {
                inner: from,
                port,
                used: now,
                permitted: BTreeMap::new(),
            };
            self.mappings.insert(key, mapping);
        }
        let Some(mapping) = self.mappings.get_mut(&key) else {
            return from;
        };
        mapping.used = now;
        mapping.permitted.insert(to, now);
        SocketAddr::new(self.outer, mapping.port)
    }

    /// A datagram from outside to one of the outer ports: the inner address that it is for, if it is
    /// let in.
    pub fn inbound(&mut self, from: SocketAddr, port: u16, now: Duration) -> Option<SocketAddr> {
        let key = *self.by_port.get(&port)?;
        self.expire(&key, now);
        let mapping = self.mappings.get(&key)?;
        let wanted = self.config.filtering.key(from);
        let is_permitted = mapping.permitted.iter().any(|(to, at)| {
            self.config.filtering.key(*to) == wanted && now < *at + self.config.expiry
        });
        is_permitted.then_some(mapping.inner)
    }

    fn expire(&mut self, key: &Key, now: Duration) {
        let expiry = self.config.expiry;
        if let Some(gone) = self
            .mappings
            .get(key)
            .filter(|mapping| now >= mapping.used + expiry)
        {
            self.by_port.remove(&gone.port);
            self.mappings.remove(key);
        }
    }

    fn free_port(&mut self, wanted: u16, now: Duration) -> u16 {
        if self.config.keeps_port && self.is_free(wanted, now) {
            return wanted;
        }
        loop {
            let port = self.rng.random_range(FIRST_PORT..=u16::MAX);
            if self.is_free(port, now) {
                return port;
            }
        }
    }

    fn is_free(&mut self, port: u16, now: Duration) -> bool {
        if let Some(key) = self.by_port.get(&port).copied() {
            self.expire(&key, now);
        }
        !self.by_port.contains_key(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
        let config = NatConfig {
            mapping,
            filtering,
            expiry: Duration::from_secs(30),
            hairpin: false,
            keeps_port: false,
        };
        Nat::new(config, addr("192.0.2.1:0").ip(), 1)
    }

    const INNER: &str = "10.0.0.2:1000";

    #[test]
    fn mappings_depend_on_what_they_are_said_to() {
        for (kind, [other_port, other_address]) in [
            (Dependence::Endpoint, [true, true]),
            (Dependence::Address, [true, false]),
            (Dependence::AddressAndPort, [false, false]),
        ] {
            let mut nat = nat(kind, Dependence::Endpoint);
            let mut outer = |to| nat.outbound(addr(INNER), addr(to), Duration::ZERO);
            let first = outer("198.51.100.1:1");
            assert_eq!(first, outer("198.51.100.1:1"));
            assert_eq!(first == outer("198.51.100.1:2"), other_port, "{kind:?}");
            assert_eq!(first == outer("198.51.100.2:1"), other_address, "{kind:?}");
        }
    }

    #[test]
    fn filters_depend_on_what_they_are_said_to() {
        for (kind, [other_port, other_address]) in [
            (Dependence::Endpoint, [true, true]),
            (Dependence::Address, [true, false]),
            (Dependence::AddressAndPort, [false, false]),
        ] {
            let mut nat = nat(Dependence::Endpoint, kind);
            let outer = nat.outbound(addr(INNER), addr("198.51.100.1:1"), Duration::ZERO);
            let mut enters = |from| {
                nat.inbound(addr(from), outer.port(), Duration::ZERO)
                    .is_some()
            };
            assert!(enters("198.51.100.1:1"));
            assert_eq!(enters("198.51.100.1:2"), other_port, "{kind:?}");
            assert_eq!(enters("198.51.100.2:1"), other_address, "{kind:?}");
        }
    }

    #[test]
    fn what_nobody_inside_uses_expires() {
        let mut nat = nat(Dependence::Endpoint, Dependence::AddressAndPort);
        let (one, two) = (addr("198.51.100.1:1"), addr("198.51.100.2:1"));
        let outer = nat.outbound(addr(INNER), one, Duration::ZERO);
        nat.outbound(addr(INNER), two, Duration::from_secs(20));
        let late = Duration::from_secs(31);
        assert_eq!(nat.inbound(one, outer.port(), late), None);
        assert_eq!(nat.inbound(two, outer.port(), late), Some(addr(INNER)));
        let later = Duration::from_secs(51);
        assert_eq!(nat.inbound(two, outer.port(), later), None);
        assert_ne!(nat.outbound(addr(INNER), one, later), outer);
    }
}
