//! Whether rules that join two machines leave anything open between them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use ztna_proto::filter::{Action, Protocol};

use crate::lower::{Flat, overlap};

/// IANA protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// One kind of packet, as far as rules tell packets apart.
#[derive(Clone, Copy)]
struct Point {
    ipv6: bool,
    protocol: u8,
    /// Of protocols that have ports.
    port: Option<u16>,
}

/// Whether `flats` (all of them between one source and one destination) allow any packet, to the
/// destination's `own` addresses (which only one with routes has to name) or behind its `routes`.
///
/// What is open is a union of boxes (addresses × protocol × ports) less another union of boxes. If it
/// is not empty, then its lowest corner is where an `allow` begins or right after where a `deny` ends;
/// so it is enough to try those.
pub(crate) fn anything_open(
    flats: &[&Flat],
    routes: &BTreeSet<IpNet>,
    own: &BTreeSet<IpAddr>,
) -> bool {
    let denied = |flat: &&&Flat| flat.action == Action::Deny;
    if flats.iter().all(|flat| denied(&flat)) {
        return false;
    }
    // An `allow` that joins two machines opens something.
    if !flats.iter().any(|flat| denied(&flat)) {
        return true;
    }
    let to_own: Vec<_> = flats
        .iter()
        .copied()
        .filter(|f| f.networks.is_empty())
        .collect();
    anything_open_at(&to_own, &[false, true])
        || addresses(flats, routes, own)
            .into_iter()
            .any(|address| anything_open_around(flats, address))
}

/// The same of one address behind a route.
fn anything_open_around(flats: &[&Flat], address: IpAddr) -> bool {
    let around = |flat: &&Flat| flat.networks.iter().any(|n| n.contains(&address));
    let there: Vec<_> = flats.iter().copied().filter(around).collect();
    anything_open_at(&there, &[address.is_ipv6()])
}

/// Whether `flats` (as in [`anything_open`]) allow any packet to an address behind one route.
pub(crate) fn anything_open_behind(flats: &[&Flat], route: IpNet, own: &BTreeSet<IpAddr>) -> bool {
    let there = |flat: &&&Flat| {
        let mut networks = flat.networks.iter();
        networks.any(|network| overlap(&route, network).is_some())
    };
    let flats: Vec<_> = flats.iter().filter(there).copied().collect();
    // Also without a deny: what is allowed may be the destination's own address and nothing else.
    addresses(&flats, &[route].into(), own)
        .into_iter()
        .any(|address| anything_open_around(&flats, address))
}

/// Addresses behind `routes` of which one is open if any is.
fn addresses(
    flats: &[&Flat],
    routes: &BTreeSet<IpNet>,
    own: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    let corners = flats.iter().flat_map(|flat| {
        let networks = flat.networks.iter();
        networks.flat_map(|network| {
            let within = routes.iter().filter_map(|route| overlap(route, network));
            within.filter_map(|part| match flat.action {
                Action::Allow => Some(part.network()),
                Action::Deny => after(part.broadcast()),
            })
        })
    });
    // What begins at an own address is behind a route from the next one on.
    let next = own.iter().filter_map(|address| after(*address));
    let behind = |address: &IpAddr| {
        !own.contains(address) && routes.iter().any(|route| route.contains(address))
    };
    corners.chain(next).filter(behind).collect()
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(IpAddr::V4(address.to_bits().checked_add(1)?.into())),
        IpAddr::V6(address) => Some(IpAddr::V6(address.to_bits().checked_add(1)?.into())),
    }
}

/// The same of one address, where all `flats` hold.
fn anything_open_at(flats: &[&Flat], families: &[bool]) -> bool {
    let ports = || {
        let mentioned = flats.iter().flat_map(|flat| {
            let ranges = flat.ports.iter();
            ranges.map(|range| match flat.action {
                Action::Allow => Some(range.first),
                Action::Deny => range.last.checked_add(1),
            })
        });
        mentioned.flatten().chain([0])
    };
    numbers(flats).into_iter().any(|protocol| {
        let ports: BTreeSet<_> = match protocol {
            TCP | UDP | SCTP => ports().map(Some).collect(),
            _ => BTreeSet::from([None]),
        };
        ports.into_iter().any(|port| {
            families.iter().any(|&ipv6| {
                let point = Point {
                    ipv6,
                    protocol,
                    port,
                };
                let hit = |action| {
                    let mut of_action = flats.iter().filter(|flat| flat.action == action);
                    of_action.any(|flat| matches(flat, point))
                };
                hit(Action::Allow) && !hit(Action::Deny)
            })
        })
    })
}

/// Every protocol number that some rule names, and one that none does.
fn numbers(flats: &[&Flat]) -> BTreeSet<u8> {
    let mut numbers = BTreeSet::from([ICMP, TCP, UDP, ICMPV6, SCTP]);
    let named = flats.iter().flat_map(|flat| &flat.protocols);
    numbers.extend(named.filter_map(|protocol| match protocol {
        Protocol::Number(number) => Some(*number),
        _ => None,
    }));
    numbers.extend((0..=u8::MAX).find(|number| !numbers.contains(number)));
    numbers
}

fn matches(flat: &Flat, point: Point) -> bool {
    let protocol = flat.protocols.is_empty()
        || flat
            .protocols
            .iter()
            .any(|p| number(*p, point.ipv6) == point.protocol);
    let ports = flat.ports.is_empty()
        || point
            .port
            .is_some_and(|port| flat.ports.iter().any(|range| range.contains(port)));
    protocol && ports
}

/// A protocol's IANA number.
pub(crate) fn number(protocol: Protocol, ipv6: bool) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Icmp if ipv6 => ICMPV6,
        Protocol::Icmp => ICMP,
        Protocol::Sctp => SCTP,
        Protocol::Number(number) => number,
    }
}

/// Whether packets of the protocol name ports.
pub(crate) fn has_ports(protocol: Protocol) -> bool {
    matches!(number(protocol, false), TCP | UDP | SCTP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::Peers;
    use ztna_proto::filter::PortRange;
    use ztna_proto::ids::RuleId;

    fn rule(action: Action, protocols: &[Protocol], ports: &[(u16, u16)]) -> Flat {
        Flat {
            rule: RuleId::generate(),
            action,
            src: vec![Peers::Any],
            dst: vec![Peers::Any],
            itself: false,
            networks: Vec::new(),
            protocols: protocols.to_vec(),
            ports: ports
                .iter()
                .map(|&(first, last)| PortRange { first, last })
                .collect(),
        }
    }

    #[test]
    fn denies_cover_or_leave_something() {
        use Action::{Allow, Deny};
        use Protocol::{Icmp, Number, Tcp, Udp};
        let every: Vec<_> = (0..=255).map(Number).collect();
        let table: &[(&[Flat], bool)] = &[
            (&[], false),
            (&[rule(Deny, &[], &[])], false),
            (&[rule(Allow, &[], &[])], true),
            (&[rule(Allow, &[], &[]), rule(Deny, &[], &[])], false),
            (
                &[rule(Allow, &[], &[]), rule(Deny, &[Tcp, Udp, Icmp], &[])],
                true,
            ),
            (&[rule(Allow, &[], &[]), rule(Deny, &every, &[])], false),
            (
                &[rule(Allow, &[], &[]), rule(Deny, &[], &[(0, 65535)])],
                true,
            ),
            (
                &[rule(Allow, &[Tcp], &[]), rule(Deny, &[], &[(0, 65535)])],
                false,
            ),
            (
                &[rule(Allow, &[Tcp], &[]), rule(Deny, &[Number(6)], &[])],
                false,
            ),
            (
                &[rule(Allow, &[Icmp], &[]), rule(Deny, &[Number(1)], &[])],
                true,
            ),
            (
                &[
                    rule(Allow, &[Icmp], &[]),
                    rule(Deny, &[Number(1), Number(58)], &[]),
                ],
                false,
            ),
            (
                &[
                    rule(Allow, &[Tcp], &[(22, 23)]),
                    rule(Deny, &[], &[(22, 22)]),
                ],
                true,
            ),
            (
                &[
                    rule(Allow, &[Tcp], &[(22, 30)]),
                    rule(Deny, &[], &[(1, 25)]),
                    rule(Deny, &[Tcp], &[(26, 99)]),
                ],
                false,
            ),
            (
                &[
                    rule(Allow, &[Tcp], &[(22, 30)]),
                    rule(Deny, &[], &[(1, 25)]),
                    rule(Deny, &[Udp], &[(26, 99)]),
                ],
                true,
            ),
        ];
        for (row, (rules, open)) in table.iter().enumerate() {
            let rules: Vec<_> = rules.iter().collect();
            assert_eq!(
                anything_open(&rules, &BTreeSet::new(), &BTreeSet::new()),
                *open,
                "row {row}"
            );
        }
    }
}
