//! The rules of one selector, by destination.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Rule;
use super::prefixes::Prefixes;
use super::services::Services;

/// What the rules of one selector say: places in the list of [`Services`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Of the destination machine's own addresses.
    own: Option<u32>,
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
}

/// Things of which each is kept once.
pub(super) struct Interned<T>(BTreeMap<T, u32>);

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Interned<T> {
    pub(super) fn add(&mut self, thing: T) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(thing).or_insert(next)
    }

    pub(super) fn into_list(self) -> Box<[T]> {
        let mut list: Vec<(T, u32)> = self.0.into_iter().collect();
        list.sort_unstable_by_key(|(_, place)| *place);
        list.into_iter().map(|(thing, _)| thing).collect()
    }
}

impl Table {
    pub(super) fn new(rules: &[Rule<'_>], list: &[u32], services: &mut Interned<Services>) -> Self {
        let mut own = Vec::new();
        let mut by_network = BTreeMap::<IpNet, Vec<&Rule<'_>>>::new();
        for rule in list.iter().filter_map(|place| rules.get(*place as usize)) {
            if rule.given.networks.is_empty() {
                own.push(rule);
            }
            for network in &rule.given.networks {
                by_network.entry(network.trunc()).or_default().push(rule);
            }
        }
        let mut joined = |rules: &[&Rule<'_>]| {
            let said = rules.iter().map(|rule| (rule.opinion, &rule.points));
            services.add(Services::new(said))
        };
        let own = (!own.is_empty()).then(|| joined(&own));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, rules) in by_network {
            let place = joined(&rules);
            match network {
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
