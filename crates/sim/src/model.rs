//! What has to be possible, worked out from the topology alone.
//!
//! Whether two machines can reach each other directly follows from what they can learn: each knows
//! its own addresses and what the STUN services see of it, and tells the other through the relay. Each
//! pings whatever it knows of the other; the source of a ping, and of a pong that comes from
//! elsewhere, is one more address to ping. A path is good if the very address that was pinged answers.
//! Here two machines without clocks, doubts and losses do just that, over NATs that have seen nothing
//! yet, until nothing new is learnt.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::topology::{Hop, Occupant, Topology};

/// Rounds of pings after which two ideal machines have learnt what there is to learn. Longer chains
/// only grow where every packet gets another outer port, and those end nowhere.
const ROUNDS: usize = 6;

/// Addresses that are tried, at most; more come only of such chains.
const MAX_KNOWN: usize = 64;

/// Where a machine is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number.
    pub machine: usize,
    /// Its network.
    pub network: usize,
    /// Its own address there, of IPv4.
    pub v4: Option<SocketAddr>,
    /// Its own address of IPv6.
    pub v6: Option<SocketAddr>,
}

impl Place {
    /// All its addresses.
    pub fn addrs(self) -> impl Iterator<Item = SocketAddr> {
        self.v4.into_iter().chain(self.v6)
    }

    /// Whether one of them is this.
    #[must_use]
    pub fn has(self, addr: SocketAddr) -> bool {
        self.addrs().any(|own| own == addr)
    }

    /// From which it would send there. `None`: it has no way there.
    #[must_use]
    pub fn source_to(self, to: SocketAddr) -> Option<SocketAddr> {
        if to.is_ipv6() { self.v6 } else { self.v4 }
    }
}

struct Ideal {
    place: Place,
    /// Where the other may be.
    known: BTreeSet<SocketAddr>,
    has_path: bool,
}

/// Whether the first of two machines finds a direct path to the second, and the second to the first.
#[must_use]
pub fn can_be_direct(topology: &Topology, places: [Place; 2], stun: &[SocketAddr]) -> [bool; 2] {
    let mut topology = topology.fresh();
    let endpoints = places.map(|place| endpoints(&mut topology, place, stun));
    let [of_first, of_second] = endpoints;
    let mut pair = [(places[0], of_second), (places[1], of_first)].map(|(place, known)| Ideal {
        place,
        known,
        has_path: false,
    });
    for _ in 0..ROUNDS {
        for from in [0, 1] {
            for addr in pair[from].known.clone() {
                ping(&mut topology, &mut pair, from, addr);
            }
        }
    }
    pair.map(|ideal| ideal.has_path)
}

/// Where a machine may be reached, as it can find out.
fn endpoints(topology: &mut Topology, place: Place, stun: &[SocketAddr]) -> BTreeSet<SocketAddr> {
    let mut found: BTreeSet<SocketAddr> = place.addrs().collect();
    for service in stun {
        if let Some((Occupant::Stun(_), hop)) = send(topology, place, *service) {
            found.insert(hop.from);
        }
    }
    found
}

fn send(topology: &mut Topology, from: Place, to: SocketAddr) -> Option<(Occupant, Hop)> {
    let hop = Hop {
        network: from.network,
        from: from.source_to(to)?,
        to,
    };
    let hop = topology.leave(hop, Duration::ZERO)?;
    topology.enter(hop, Duration::ZERO)
}

/// Sends a datagram from one of the pair to an address; if it comes to the other, its source there.
fn reaches(
    topology: &mut Topology,
    pair: &[Ideal; 2],
    from: usize,
    to: SocketAddr,
) -> Option<SocketAddr> {
    let other = pair[1 - from].place;
    let (occupant, hop) = send(topology, pair[from].place, to)?;
    let is_other = occupant == Occupant::Machine(other.machine) && other.has(hop.to);
    is_other.then_some(hop.from)
}

fn ping(topology: &mut Topology, pair: &mut [Ideal; 2], from: usize, addr: SocketAddr) {
    let Some(source) = reaches(topology, pair, from, addr) else {
        return;
    };
    learn(&mut pair[1 - from], source);
    let Some(answer) = reaches(topology, pair, 1 - from, source) else {
        return;
    };
    if answer == addr {
        pair[from].has_path = true;
    } else {
        learn(&mut pair[from], answer);
    }
}

fn learn(ideal: &mut Ideal, addr: SocketAddr) {
    if ideal.known.len() < MAX_KNOWN {
        ideal.known.insert(addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::FirewallConfig;
    use crate::nat::{Dependence, NatConfig};
    use crate::topology::INTERNET;

    const PORT: u16 = 41_641;

    fn config(mapping: Dependence, filtering: Dependence) -> NatConfig {
        NatConfig {
            mapping,
            filtering,
            expiry: Duration::from_secs(30),
            hairpin: false,
            keeps_port: false,
        }
    }

    fn internet() -> (Topology, Vec<SocketAddr>) {
        let mut topology = Topology::default();
        let stun = (0..2).map(|number| {
            let addr = topology.public_address();
            topology.place(INTERNET, addr, Occupant::Stun(number));
            SocketAddr::new(addr, 3478)
        });
        let stun = stun.collect();
        (topology, stun)
    }

    fn join(topology: &mut Topology, machine: usize, network: usize, last: u8) -> Place {
        let addr = if network == INTERNET {
            topology.public_address()
        } else {
            [192, 168, 0, last].into()
        };
        topology.place(network, addr, Occupant::Machine(machine));
        Place {
            machine,
            network,
            v4: Some(SocketAddr::new(addr, PORT)),
            v6: None,
        }
    }

    /// Gives a machine an address of IPv6, behind a firewall unless its network is the internet.
    fn join_v6(topology: &mut Topology, place: &mut Place, filtering: Option<Dependence>) {
        if place.network != INTERNET {
            let expiry = Duration::from_secs(30);
            topology.add_firewall(place.network, FirewallConfig { filtering, expiry });
        }
        let addr = topology.public_v6();
        topology.place_v6(place.network, addr, Occupant::Machine(place.machine));
        place.v6 = Some(SocketAddr::new(addr, PORT));
    }

    fn behind(topology: &mut Topology, machine: usize, nat: Option<NatConfig>) -> Place {
        let network = nat.map_or(INTERNET, |nat| {
            let outer = topology.public_address();
            topology.add_nat(INTERNET, outer, nat, 1).1
        });
        join(topology, machine, network, 2)
    }

    /// What is known of hole punching (RFC 5128 §3.3, RFC 4787 §4.1 and §5), by hand: a NAT that maps
    /// by nothing is pierced unless the other end maps by something and this one filters by ports;
    /// two that map by something need a filter that lets the first packet in, one that lets the answer
    /// in though it comes from another port, and at one end a port that holds.
    fn by_hand(a: NatConfig, b: NatConfig) -> bool {
        use Dependence::{Address, AddressAndPort, Endpoint};
        let is_open = |nat: NatConfig| nat.mapping == Endpoint;
        let opens = |outer: NatConfig, inner: NatConfig| {
            outer.filtering == Endpoint && inner.filtering != AddressAndPort
        };
        match (is_open(a), is_open(b)) {
            (true, true) => true,
            (false, true) => b.filtering != AddressAndPort,
            (true, false) => a.filtering != AddressAndPort,
            (false, false) => {
                let held = a.mapping == Address || b.mapping == Address;
                held && (opens(a, b) || opens(b, a))
            }
        }
    }

    #[test]
    fn two_nats_let_through_what_is_known_of_them() {
        for (mapping_a, filtering_a) in all() {
            for (mapping_b, filtering_b) in all() {
                let (mut topology, stun) = internet();
                let a = config(mapping_a, filtering_a);
                let b = config(mapping_b, filtering_b);
                let places = [
                    behind(&mut topology, 0, Some(a)),
                    behind(&mut topology, 1, Some(b)),
                ];
                let found = can_be_direct(&topology, places, &stun);
                let expected = by_hand(a, b);
                assert_eq!(found, [expected; 2], "{a:?} and {b:?}");
            }
        }
    }

    fn all() -> impl Iterator<Item = (Dependence, Dependence)> {
        Dependence::ALL
            .into_iter()
            .flat_map(|a| Dependence::ALL.map(|b| (a, b)))
    }

    #[test]
    fn a_public_machine_is_reached_by_all() {
        for (mapping, filtering) in all() {
            let (mut topology, stun) = internet();
            let places = [
                behind(&mut topology, 0, None),
                behind(&mut topology, 1, Some(config(mapping, filtering))),
            ];
            assert_eq!(can_be_direct(&topology, places, &stun), [true, true]);
        }
    }

    #[test]
    fn where_nats_keep_two_apart_ipv6_joins_them_past_any_firewall() {
        let hard = config(Dependence::AddressAndPort, Dependence::AddressAndPort);
        let walls = [
            None,
            Some(Dependence::Endpoint),
            Some(Dependence::AddressAndPort),
        ];
        for (ours, theirs) in walls
            .iter()
            .flat_map(|a| walls.iter().map(move |b| (*a, *b)))
        {
            let (mut topology, stun) = internet();
            let mut places = [0, 1].map(|machine| behind(&mut topology, machine, Some(hard)));
            assert_eq!(can_be_direct(&topology, places, &stun), [false; 2]);
            join_v6(&mut topology, &mut places[0], ours);
            assert_eq!(can_be_direct(&topology, places, &stun), [false; 2]);
            join_v6(&mut topology, &mut places[1], theirs);
            assert_eq!(can_be_direct(&topology, places, &stun), [true; 2]);
            // Without IPv4 as well; but not if only one of them has both.
            places[0].v4 = None;
            assert_eq!(can_be_direct(&topology, places, &stun), [true; 2]);
            places[1].v6 = None;
            assert_eq!(can_be_direct(&topology, places, &stun), [false; 2]);
        }
    }

    #[test]
    fn neighbours_need_no_nat() {
        let strict = config(Dependence::AddressAndPort, Dependence::AddressAndPort);
        let (mut topology, stun) = internet();
        let outer = topology.public_address();
        let (_, network) = topology.add_nat(INTERNET, outer, strict, 1);
        let places = [2, 3].map(|last| join(&mut topology, usize::from(last), network, last));
        assert_eq!(can_be_direct(&topology, places, &stun), [true, true]);
    }

    #[test]
    fn behind_one_carrier_hairpin_decides() {
        for hairpin in [true, false] {
            let (mut topology, stun) = internet();
            let outer = topology.public_address();
            let carrier = NatConfig {
                hairpin,
                ..config(Dependence::Endpoint, Dependence::AddressAndPort)
            };
            let (_, middle) = topology.add_nat(INTERNET, outer, carrier, 1);
            let home = config(Dependence::Endpoint, Dependence::AddressAndPort);
            let places = [0, 1].map(|machine| {
                let outer = [10, 64, 0, 2 + machine].into();
                let (_, inside) = topology.add_nat(middle, outer, home, 1);
                join(&mut topology, usize::from(machine), inside, 2)
            });
            assert_eq!(can_be_direct(&topology, places, &stun), [hairpin; 2]);
        }
    }
}
