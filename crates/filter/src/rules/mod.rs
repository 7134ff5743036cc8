//! Rules made ready, so that what a packet costs does not grow with their number.
//!
//! A peer is spoken of by a few selectors: everybody, its groups, itself. For each selector, all rules
//! with it are one [`Table`]: there the destination finds the networks that hold it, and each network
//! knows what its rules together say of every protocol and port. So a packet costs a search for each of
//! the peer's selectors, and one for each network around its destination.

mod prefixes;
mod services;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::ids::{MachineId, RuleId};

use crate::networks::Networks;
use crate::{Direction, Reason};
pub(crate) use services::Service;
use services::{Points, Services, ServicesBuilder, points};
use table::Table;

/// What rules say of a packet; the smaller one of two prevails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Opinion(u32);

impl Opinion {
    /// No rule speaks of it.
    const NONE: Self = Self(u32::MAX);
    const ALLOW: Self = Self(u32::MAX - 1);
    /// Should there ever be so many rules, the rest of them deny as this one.
    const LAST_DENY: u32 = u32::MAX - 2;

    /// The rule at this place among those that deny says no.
    fn deny(place: usize) -> Self {
        Self(u32::try_from(place).map_or(Self::LAST_DENY, |place| place.min(Self::LAST_DENY)))
    }
}

impl Default for Opinion {
    fn default() -> Self {
        Self::NONE
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

impl Opening {
    fn service(&self) -> Service {
        Service {
            protocol: self.protocol,
            port: self.port,
            v6: self.dst.is_ipv6(),
        }
    }
}

/// A rule on its way into tables.
struct Rule<'a> {
    given: &'a FilterRule,
    points: Points,
    opinion: Opinion,
}

/// The rules of one direction.
#[derive(Debug, Default, PartialEq, Eq)]
struct Side {
    /// By place of an [`Opinion`].
    denies: Box<[RuleId]>,
    services: Services,
    tables: Box<[Table]>,
    /// Tables by who is spoken of.
    any: Option<u32>,
    groups: BTreeMap<Box<str>, u32>,
    machines: BTreeMap<MachineId, u32>,
}

/// Which rules, by their places in a list, each selector has.
#[derive(Default)]
struct Selected<'a> {
    any: Vec<u32>,
    groups: BTreeMap<&'a str, Vec<u32>>,
    machines: BTreeMap<MachineId, Vec<u32>>,
}

impl<'a> Selected<'a> {
    fn new(rules: &[Rule<'a>]) -> Self {
        let mut selected = Self::default();
        for (place, rule) in (0..).zip(rules) {
            for selector in &rule.given.peers {
                let list = match selector {
                    PeerSelector::Any => &mut selected.any,
                    PeerSelector::Group(group) => selected.groups.entry(group).or_default(),
                    PeerSelector::Machine(id) => selected.machines.entry(*id).or_default(),
                    // What is not understood must not open anything.
                    PeerSelector::Unknown(_) if rule.given.action == Action::Allow => continue,
                    PeerSelector::Unknown(_) => &mut selected.any,
                };
                if list.last() != Some(&place) {
                    list.push(place);
                }
            }
        }
        selected
    }
}

/// Lists of rules, each with the place of the table that will be made of it. Selectors with the same
/// rules share one.
#[derive(Default)]
struct Lists(BTreeMap<Vec<u32>, u32>);

impl Lists {
    fn add(&mut self, list: Vec<u32>) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(list).or_insert(next)
    }

    fn in_order(self) -> Vec<Vec<u32>> {
        let mut lists: Vec<_> = self.0.into_iter().collect();
        lists.sort_unstable_by_key(|(_, place)| *place);
        lists.into_iter().map(|(list, _)| list).collect()
    }
}

impl Side {
    fn new(given: &[FilterRule]) -> Self {
        let mut denies = Vec::new();
        let mut rules = Vec::with_capacity(given.len());
        for rule in given {
            let opinion = match rule.action {
                Action::Allow => Opinion::ALLOW,
                Action::Deny => {
                    denies.push(rule.rule);
                    Opinion::deny(denies.len() - 1)
                }
            };
            rules.push(Rule {
                given: rule,
                points: points(rule),
                opinion,
            });
        }
        let selected = Selected::new(&rules);
        let mut lists = Lists::default();
        let any = (!selected.any.is_empty()).then(|| lists.add(selected.any));
        let groups = selected.groups.into_iter();
        let groups = groups.map(|(group, list)| (group.into(), lists.add(list)));
        let groups = groups.collect();
        let machines = selected.machines.into_iter();
        let machines = machines.map(|(id, list)| (id, lists.add(list))).collect();
        let mut services = ServicesBuilder::default();
        let lists = lists.in_order();
        let tables = lists
            .iter()
            .map(|list| Table::new(&rules, list, &mut services))
            .collect();
        Self {
            denies: denies.into(),
            services: services.build(),
            tables,
            any,
            groups,
            machines,
        }
    }

    fn of_peer(&self, peer: MachineId, groups: &[String]) -> Box<[u32]> {
        let of_groups = groups.iter().map(|group| self.groups.get(group.as_str()));
        let mut tables: Vec<u32> = of_groups
            .chain([self.any.as_ref(), self.machines.get(&peer)])
            .flatten()
            .copied()
            .collect();
        tables.sort_unstable();
        tables.dedup();
        tables.into()
    }
}

/// All rules of this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleSet {
    inbound: Side,
    outbound: Side,
}

/// The tables of the rules that speak of one peer, by their places in the [`RuleSet`].
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
        let is_own = destination.is_own(opening.dst);
        let service = opening.service();
        let tables = of_peer
            .iter()
            .filter_map(|place| side.tables.get(*place as usize));
        let spoken = tables.flat_map(|table| table.of(opening.dst, is_own));
        let opinions = spoken.map(|place| side.services.opinion(place, service));
        match opinions.min().unwrap_or_default() {
            Opinion::NONE => Err(Reason::NoRule),
            Opinion::ALLOW => Ok(()),
            Opinion(place) => Err(side
                .denies
                .get(place as usize)
                .map_or(Reason::NoRule, |rule| Reason::Denied(*rule))),
        }
    }
}
