//! The rules of one selector, by destination.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Rule;
use super::prefixes::Prefixes;
use super::services::ServicesBuilder;

/// What the rules of one selector say: places in the [`Services`](super::services::Services).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Of the destination machine's own addresses.
    own: Option<u32>,
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
}

impl Table {
    /// The table of the rules at these places.
    pub(super) fn new(rules: &[Rule<'_>], list: &[u32], services: &mut ServicesBuilder) -> Self {
        let mut own = Vec::new();
        let mut by_network = Vec::new();
        for rule in list.iter().filter_map(|place| rules.get(*place as usize)) {
            if rule.given.networks.is_empty() {
                own.push(rule);
            }
            let networks = rule.given.networks.iter();
            by_network.extend(networks.map(|network| (network.trunc(), rule)));
        }
        by_network.sort_by_key(|(network, _)| *network);
        let mut joined = |rules: &mut dyn Iterator<Item = &Rule<'_>>| {
            services.add(rules.map(|rule| (rule.opinion, &rule.points)))
        };
        let own = (!own.is_empty()).then(|| joined(&mut own.iter().copied()));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for of_one in by_network.chunk_by(|a, b| a.0 == b.0) {
            let place = joined(&mut of_one.iter().map(|(_, rule)| *rule));
            match of_one[0].0 {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into(), place)),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into(), place)),
            }
        }
        Self {
            own,
            v4: Prefixes::new(v4),
            v6: Prefixes::new(v6),
        }
    }

    /// The places of what speaks of a destination.
    pub(super) fn of(&self, destination: IpAddr, is_own: bool) -> impl Iterator<Item = u32> {
        let (v4, v6) = match destination {
            IpAddr::V4(address) => (Some(self.v4.of(address.into())), None),
            IpAddr::V6(address) => (None, Some(self.v6.of(address.into()))),
        };
        let networks = v4.into_iter().flatten().chain(v6.into_iter().flatten());
        self.own.filter(|_| is_own).into_iter().chain(networks)
    }
}
