//! Whether rules that join two machines leave anything open between them.

use ztna_proto::filter::{Action, Protocol};

use crate::Rule;

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

/// Whether `rules` (all of them between one source and one destination) allow any packet.
///
/// What is open is a union of boxes (protocol × ports) less another union of boxes. If it is not
/// empty, then its lowest port of some protocol is where an `allow` begins or right after where a
/// `deny` ends; so it is enough to try those.
pub(crate) fn anything_open(rules: &[&Rule]) -> bool {
    if rules.iter().all(|rule| rule.action == Action::Deny) {
        return false;
    }
    let ports = || {
        let mentioned = rules.iter().flat_map(|rule| match rule.action {
            Action::Allow => rule
                .ports
                .iter()
                .map(|range| Some(range.first))
                .collect::<Vec<_>>(),
            Action::Deny => rule
                .ports
                .iter()
                .map(|range| range.last.checked_add(1))
                .collect(),
        });
        mentioned.flatten().chain([0])
    };
    let points = numbers(rules).into_iter().flat_map(|protocol| {
        let ports: Vec<_> = if matches!(protocol, TCP | UDP | SCTP) {
            ports().map(Some).collect()
        } else {
            vec![None]
        };
        ports.into_iter().flat_map(move |port| {
            [false, true].map(|ipv6| Point {
                ipv6,
                protocol,
                port,
            })
        })
    });
    points.into_iter().any(|point| {
        let hit = |action| {
            rules
                .iter()
                .any(|r| r.action == action && matches(r, point))
        };
        hit(Action::Allow) && !hit(Action::Deny)
    })
}

/// Every protocol number that some rule names, and one that none does.
fn numbers(rules: &[&Rule]) -> Vec<u8> {
    let mut numbers = vec![ICMP, TCP, UDP, ICMPV6, SCTP];
    numbers.extend(
        rules
            .iter()
            .flat_map(|r| &r.protocols)
            .filter_map(|p| match p {
                Protocol::Number(number) => Some(*number),
                _ => None,
            }),
    );
    numbers.extend((0..=u8::MAX).find(|number| !numbers.contains(number)));
    numbers
}

fn matches(rule: &Rule, point: Point) -> bool {
    let protocol = rule.protocols.is_empty()
        || rule
            .protocols
            .iter()
            .any(|p| number(*p, point.ipv6) == point.protocol);
    let ports = rule.ports.is_empty()
        || point
            .port
            .is_some_and(|port| rule.ports.iter().any(|range| range.contains(port)));
    protocol && ports
}

fn number(protocol: Protocol, ipv6: bool) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Icmp if ipv6 => ICMPV6,
        Protocol::Icmp => ICMP,
        Protocol::Sctp => SCTP,
        Protocol::Number(number) => number,
    }
}

/// Whether rules can tell packets of the protocol apart by port.
pub(crate) fn has_ports(protocol: Protocol) -> bool {
    matches!(number(protocol, false), TCP | UDP | SCTP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Selector;
    use ztna_proto::filter::PortRange;
    use ztna_proto::ids::RuleId;

    fn rule(action: Action, protocols: &[Protocol], ports: &[(u16, u16)]) -> Rule {
        Rule {
            id: RuleId::generate(),
            action,
            src: vec![Selector::Any],
            dst: vec![Selector::Any],
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
        let table: &[(&[Rule], bool)] = &[
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
            (&[rule(Allow, &[Icmp], &[(22, 22)])], false),
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
            (&[rule(Allow, &[Udp], &[(9, 8)])], false),
        ];
        for (row, (rules, open)) in table.iter().enumerate() {
            let rules: Vec<_> = rules.iter().collect();
            assert_eq!(anything_open(&rules), *open, "row {row}");
        }
    }
}
