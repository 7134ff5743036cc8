//! Rules made ready: what does not change from packet to packet is worked out once.

use std::net::IpAddr;

use ipnet::IpNet;
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

use crate::packet::protocol;
use crate::{Direction, Reason};

/// Addresses of one side of a tunnel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    all: Box<[IpNet]>,
    /// The machine's own: the first single address of each family.
    own: [Option<IpAddr>; 2],
}

impl Networks {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let single = |network: &&IpNet| network.prefix_len() == network.max_prefix_len();
        let first = |v4: bool| {
            let mut singles = networks.iter().filter(single).map(IpNet::addr);
            singles.find(|address| address.is_ipv4() == v4)
        };
        Self {
            own: [first(true), first(false)],
            all: networks.into(),
        }
    }

    /// Whether the side may send from the address and be sent to at it.
    fn contain(&self, address: IpAddr) -> bool {
        self.is_own(address) || self.all.iter().any(|network| network.contains(&address))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&Some(address))
    }
}

/// What rules decide about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// Destination port, of protocols that have one.
    pub(crate) port: Option<u16>,
}

/// Protocol numbers, a bit each.
struct ProtocolSet([u64; 4]);

impl ProtocolSet {
    fn new(protocols: &[Protocol], ipv6: bool) -> Self {
        if protocols.is_empty() {
            return Self([u64::MAX; 4]);
        }
        let mut set = Self([0; 4]);
        for protocol in protocols {
            let number = match protocol {
                Protocol::Tcp => protocol::TCP,
                Protocol::Udp => protocol::UDP,
                Protocol::Icmp if ipv6 => protocol::ICMPV6,
                Protocol::Icmp => protocol::ICMP,
                Protocol::Sctp => protocol::SCTP,
                Protocol::Number(number) => *number,
            };
            set.0[usize::from(number >> 6)] |= 1 << (number & 63);
        }
        set
    }

    fn contains(&self, number: u8) -> bool {
        self.0[usize::from(number >> 6)] & (1 << (number & 63)) != 0
    }
}

struct Rule {
    id: RuleId,
    action: Action,
    peers: Box<[PeerSelector]>,
    networks: Box<[IpNet]>,
    v4: ProtocolSet,
    v6: ProtocolSet,
    ports: Box<[PortRange]>,
}

impl Rule {
    fn new(rule: &FilterRule) -> Self {
        Self {
            id: rule.rule,
            action: rule.action,
            peers: rule.peers.as_slice().into(),
            networks: rule.networks.as_slice().into(),
            v4: ProtocolSet::new(&rule.protocols, false),
            v6: ProtocolSet::new(&rule.protocols, true),
            ports: rule.ports.as_slice().into(),
        }
    }

    fn speaks_of(&self, peer: MachineId, groups: &[String]) -> bool {
        self.peers.iter().any(|selector| match selector {
            PeerSelector::Any => true,
            PeerSelector::Group(group) => groups.contains(group),
            PeerSelector::Machine(machine) => *machine == peer,
            PeerSelector::Unknown(_) => self.action == Action::Deny,
        })
    }

    fn matches(&self, opening: &Opening, destination: &Networks) -> bool {
        let protocols = if opening.dst.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let port = |port: u16| self.ports.iter().any(|range| range.contains(port));
        protocols.contains(opening.protocol)
            && (self.ports.is_empty() || opening.port.is_some_and(port))
            && if self.networks.is_empty() {
                destination.is_own(opening.dst)
            } else {
                self.networks
                    .iter()
                    .any(|network| network.contains(&opening.dst))
            }
    }
}

/// The rules of one direction, those that deny first.
#[derive(Default)]
struct Side(Vec<Rule>);

impl Side {
    fn new(rules: &[FilterRule]) -> Self {
        let mut rules: Vec<_> = rules.iter().map(Rule::new).collect();
        rules.sort_by_key(|rule| rule.action == Action::Allow);
        Self(rules)
    }

    fn of_peer(&self, peer: MachineId, groups: &[String]) -> Box<[u32]> {
        let rules = (0..).zip(&self.0);
        rules
            .filter(|(_, rule)| rule.speaks_of(peer, groups))
            .map(|(index, _)| index)
            .collect()
    }
}

/// All rules of this machine.
#[derive(Default)]
pub(crate) struct RuleSet {
    inbound: Side,
    outbound: Side,
}

/// The rules that speak of one peer, by their places in the [`RuleSet`].
#[derive(Debug, Default)]
pub(crate) struct PeerRules {
    inbound: Box<[u32]>,
    outbound: Box<[u32]>,
}

impl RuleSet {
    pub(crate) fn new(filter: &PacketFilter) -> Self {
        Self {
            inbound: Side::new(&filter.inbound),
            outbound: Side::new(&filter.outbound),
        }
    }

    pub(crate) fn of_peer(&self, peer: MachineId, groups: &[String]) -> PeerRules {
        PeerRules {
            inbound: self.inbound.of_peer(peer, groups),
            outbound: self.outbound.of_peer(peer, groups),
        }
    }

    /// Whether the rules let a packet through that no flow explains.
    pub(crate) fn judge(
        &self,
        direction: Direction,
        rules: &PeerRules,
        opening: &Opening,
        destination: &Networks,
    ) -> Result<(), Reason> {
        let (side, of_peer) = match direction {
            Direction::Inbound => (&self.inbound, &rules.inbound),
            Direction::Outbound => (&self.outbound, &rules.outbound),
        };
        let mut rules = of_peer
            .iter()
            .filter_map(|index| side.0.get(*index as usize));
        match rules.find(|rule| rule.matches(opening, destination)) {
            Some(rule) if rule.action == Action::Allow => Ok(()),
            Some(rule) => Err(Reason::Denied(rule.id)),
            None => Err(Reason::NoRule),
        }
    }
}

/// Whether each address is of the side that it should be.
pub(crate) fn check_addresses(
    src: (IpAddr, &Networks),
    dst: (IpAddr, &Networks),
) -> Result<(), Reason> {
    if !src.1.contain(src.0) {
        return Err(Reason::WrongSource);
    }
    if !dst.1.contain(dst.0) {
        return Err(Reason::WrongDestination);
    }
    Ok(())
}
