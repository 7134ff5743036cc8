//! Who is where, and how a datagram gets from one to the other: IPv4 through NATs, IPv6 past firewalls.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::firewall::{Firewall, FirewallConfig};
use crate::nat::{Nat, NatConfig};

/// Number of the internet in [`Topology::networks`].
pub const INTERNET: usize = 0;

/// NATs that a datagram may pass on its way, hairpins included. Real paths have four.
const MAX_HOPS: usize = 8;

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// This machine.
    Machine(usize),
    /// The STUN service of this region.
    Stun(usize),
    /// The outer side of this NAT.
    Nat(usize),
    /// Somebody behind this firewall.
    Firewall(usize),
}

/// A network in which everybody reaches everybody.
#[derive(Default)]
struct Network {
    /// The NAT that leads out of it, for IPv4.
    gateway: Option<usize>,
    /// The firewall that leads out of it, for IPv6.
    firewall: Option<usize>,
    occupants: BTreeMap<IpAddr, Occupant>,
}

struct NatBox {
    nat: Nat,
    inside: usize,
    outside: usize,
}

struct FirewallBox {
    firewall: Firewall,
    inside: usize,
}

/// A datagram's addresses, in the network where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The network.
    pub network: usize,
    /// Source, as seen there.
    pub from: SocketAddr,
    /// Destination, as seen there.
    pub to: SocketAddr,
}

/// Networks and the NATs between them.
pub struct Topology {
    networks: Vec<Network>,
    nats: Vec<NatBox>,
    firewalls: Vec<FirewallBox>,
    next_public: u32,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            networks: vec![Network::default()],
            nats: Vec::new(),
            firewalls: Vec::new(),
            next_public: 1,
        }
    }
}

impl Topology {
    /// An address of the internet that nobody has.
    pub fn public_address(&mut self) -> IpAddr {
        let host = self.next_public;
        self.next_public += 1;
        let [_, a, b, c] = host.to_be_bytes();
        // Behind the benchmarking network of RFC 2544, which is nobody's.
        IpAddr::from([198, 18 | a, b, c])
    }

    /// An address of IPv6 that nobody has.
    pub fn public_v6(&mut self) -> IpAddr {
        let host = self.next_public;
        self.next_public += 1;
        // The documentation's network (RFC 3849).
        let [a, b, c, d] = host.to_be_bytes();
        let [high, low] = [[a, b], [c, d]].map(u16::from_be_bytes);
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, high, low])
    }

    /// A NAT whose outer side is in this network; returns its number and that of its inner network.
    pub fn add_nat(
        &mut self,
        outside: usize,
        outer: IpAddr,
        config: NatConfig,
        seed: u64,
    ) -> (usize, usize) {
        let (number, inside) = (self.nats.len(), self.networks.len());
        self.networks.push(Network {
            gateway: Some(number),
            firewall: None,
            occupants: BTreeMap::new(),
        });
        self.nats.push(NatBox {
            nat: Nat::new(config, outer, seed),
            inside,
            outside,
        });
        self.place(outside, outer, Occupant::Nat(number));
        (number, inside)
    }

    /// Lets a network have IPv6, behind a firewall.
    pub fn add_firewall(&mut self, inside: usize, config: FirewallConfig) {
        self.networks[inside].firewall = Some(self.firewalls.len());
        self.firewalls.push(FirewallBox {
            firewall: Firewall::new(config),
            inside,
        });
    }

    /// Gives an address of IPv6 to somebody; the internet knows behind which firewall it is.
    pub fn place_v6(&mut self, network: usize, addr: IpAddr, occupant: Occupant) {
        self.place(network, addr, occupant);
        if let Some(number) = self.networks[network].firewall {
            self.place(INTERNET, addr, Occupant::Firewall(number));
        }
    }

    /// Gives an address to somebody.
    pub fn place(&mut self, network: usize, addr: IpAddr, occupant: Occupant) {
        self.networks[network].occupants.insert(addr, occupant);
    }

    /// Takes an address back.
    pub fn vacate(&mut self, network: usize, addr: IpAddr) {
        self.networks[network].occupants.remove(&addr);
        if addr.is_ipv6() {
            self.networks[INTERNET].occupants.remove(&addr);
        }
    }

    /// Whether this is the outer address of a NAT, in the network where its outer side is.
    #[must_use]
    pub fn is_outer(&self, number: usize, network: usize, addr: IpAddr) -> bool {
        let nat = &self.nats[number];
        nat.outside == network && nat.nat.outer() == addr
    }

    /// A NAT loses its mappings. In the internet it gets another address as well.
    pub fn restart_nat(&mut self, number: usize) {
        let outside = self.nats[number].outside;
        let old = self.nats[number].nat.outer();
        let new = if outside == INTERNET {
            self.public_address()
        } else {
            old
        };
        self.vacate(outside, old);
        self.nats[number].nat.restart(new);
        self.place(outside, new, Occupant::Nat(number));
    }

    /// The same networks with NATs that have seen nothing yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let networks = self.networks.iter().map(|network| Network {
            gateway: network.gateway,
            firewall: network.firewall,
            occupants: network.occupants.clone(),
        });
        let nats = self.nats.iter().map(|nat| NatBox {
            nat: Nat::new(nat.nat.config, nat.nat.outer(), 1),
            inside: nat.inside,
            outside: nat.outside,
        });
        let firewalls = self.firewalls.iter().map(|known| FirewallBox {
            firewall: Firewall::new(known.firewall.config),
            inside: known.inside,
        });
        Self {
            networks: networks.collect(),
            nats: nats.collect(),
            firewalls: firewalls.collect(),
            next_public: self.next_public,
        }
    }

    /// A datagram leaves a machine: out through NATs, to the network where its destination is.
    /// `None`: it leads nowhere.
    pub fn leave(&mut self, mut hop: Hop, now: Duration) -> Option<Hop> {
        for _ in 0..MAX_HOPS {
            let network = &self.networks[hop.network];
            if network.occupants.contains_key(&hop.to.ip()) {
                return Some(hop);
            }
            if hop.to.is_ipv6() {
                let wall = &mut self.firewalls[network.firewall?];
                wall.firewall.outbound(hop.from, hop.to, now);
                hop.network = INTERNET;
                continue;
            }
            let gateway = &mut self.nats[network.gateway?];
            let is_hairpin = gateway.nat.outer() == hop.to.ip();
            if is_hairpin && !gateway.nat.config.hairpin {
                return None;
            }
            hop.from = gateway.nat.outbound(hop.from, hop.to, now);
            if is_hairpin {
                hop.to = gateway.nat.inbound(hop.from, hop.to.port(), now)?;
                return Some(hop);
            }
            hop.network = gateway.outside;
        }
        None
    }

    /// A datagram has come to the network of its destination: in through NATs, to whom it is for.
    pub fn enter(&mut self, mut hop: Hop, now: Duration) -> Option<(Occupant, Hop)> {
        for _ in 0..MAX_HOPS {
            match self.networks[hop.network].occupants.get(&hop.to.ip())? {
                Occupant::Nat(number) => {
                    let gateway = &mut self.nats[*number];
                    hop.to = gateway.nat.inbound(hop.from, hop.to.port(), now)?;
                    hop.network = gateway.inside;
                }
                Occupant::Firewall(number) => {
                    let wall = &self.firewalls[*number];
                    if !wall.firewall.admits(hop.from, hop.to, now) {
                        return None;
                    }
                    hop.network = wall.inside;
                }
                occupant => return Some((*occupant, hop)),
            }
        }
        None
    }
}
