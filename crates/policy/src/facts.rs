//! What rules can know of a machine.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net};
use ztna_proto::api::Role;
use ztna_proto::ids::MachineId;

use crate::document::{Assertion, Attributes, COUNTRY, Document, OS, Rule, Selector, Truth};

/// What is known of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// E-mail address of its user, in lower case. `None`: an auth key enrolled it.
    pub user: Option<String>,
    /// The user's role in the org.
    pub role: Option<Role>,
    /// Groups (without `group:`) that the identity provider has the user in. They count beside
    /// those of the document, if it declares them.
    pub groups: BTreeSet<String>,
    /// Its tags, without `tag:`. A machine with tags is nobody's.
    pub tags: BTreeSet<String>,
    /// Its tailnet addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Approved routes behind it.
    pub routes: BTreeSet<IpNet>,
    /// Operating system, country and what else is known.
    pub attributes: Attributes,
}

/// Where a packet goes at its destination machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the machine itself.
    Own,
    /// To an address behind one of its routes.
    Behind(IpAddr),
}

impl Facts {
    /// Whose machine it is.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match self.tags.is_empty() {
            true => self.user.as_deref(),
            false => None,
        }
    }

    /// Whether a selector means the machine.
    #[must_use]
    pub fn is(&self, id: Option<MachineId>, selector: &Selector, document: &Document) -> bool {
        let owner = self.owner();
        match selector {
            Selector::Any => true,
            Selector::User(email) => owner == Some(email),
            Selector::Group(group) => owner.is_some_and(|owner| {
                self.groups.contains(group)
                    || document
                        .group(group)
                        .is_some_and(|users| users.contains(owner))
            }),
            Selector::Tag(tag) => self.tags.contains(tag),
            Selector::Member => self.tags.is_empty(),
            Selector::Tagged => !self.tags.is_empty(),
            Selector::Role(role) => owner.is_some() && self.role.is_some_and(|own| role.is(own)),
            Selector::Machine(machine) => id == Some(*machine),
            Selector::Network(network) => self.addresses.iter().any(|a| network.contains(a)),
            Selector::Itself | Selector::Internet => false,
        }
    }

    /// Whether the machine may advertise the route without anybody's approval.
    #[must_use]
    pub fn auto_approved(&self, id: MachineId, route: IpNet, document: &Document) -> bool {
        document
            .route_approvers(route)
            .any(|selector| self.is(Some(id), selector, document))
    }

    /// Whether the machine is an exit node.
    pub(crate) fn is_exit(&self) -> bool {
        self.routes.iter().any(|route| route.prefix_len() == 0)
    }

    /// Whether `selector` means this machine, of `id`, as a destination of `src`.
    pub(crate) fn is_target(
        &self,
        id: Option<MachineId>,
        place: Place,
        selector: &Selector,
        src: &Self,
        document: &Document,
    ) -> bool {
        match (place, selector) {
            (Place::Own, Selector::Itself) => self.owner().is_some() && self.owner() == src.owner(),
            (Place::Own, _) => self.is(id, selector, document),
            (Place::Behind(_), Selector::Any) => true,
            (Place::Behind(address), Selector::Network(network)) => network.contains(&address),
            (Place::Behind(address), Selector::Internet) => {
                self.is_exit() && internet().iter().any(|network| network.contains(&address))
            }
            (Place::Behind(_), _) => false,
        }
    }
}

/// One thing that a rule asks of its source beyond who it is.
#[derive(PartialEq)]
pub(crate) struct Demand {
    /// The field of the rule.
    pub(crate) field: &'static str,
    /// Alternatives; all assertions of one have to hold.
    pub(crate) alternatives: Vec<Vec<Assertion>>,
}

impl Demand {
    /// All that a rule demands of its source.
    pub(crate) fn of(rule: &Rule, document: &Document) -> Vec<Self> {
        let mut demands = Vec::new();
        let lists = [
            ("srcOS", OS, &rule.conditions.os),
            ("srcCountry", COUNTRY, &rule.conditions.countries),
        ];
        for (field, attribute, values) in lists {
            if !values.is_empty() {
                demands.push(Self {
                    field,
                    alternatives: vec![vec![Assertion::one_of(attribute, values)]],
                });
            }
        }
        let postures = document.postures_of(rule);
        if !postures.is_empty() {
            let assertions = postures.iter().map(|posture| {
                let assertions = document.postures.get(posture);
                assertions.cloned().unwrap_or_default()
            });
            demands.push(Self {
                field: "srcPosture",
                alternatives: assertions.collect(),
            });
        }
        demands
    }

    pub(crate) fn holds(&self, facts: &Facts) -> Truth {
        let all = |assertions: &Vec<Assertion>| {
            let truths = assertions.iter().map(|a| a.holds(&facts.attributes));
            truths.min().unwrap_or(Truth::Yes)
        };
        let truths = self.alternatives.iter().map(all);
        truths.max().unwrap_or(Truth::Yes)
    }
}

/// Networks that are nobody's own: all of IPv4 but what is private, shared, local, multicast or
/// reserved (RFC 6890), and global unicast of IPv6. What an exit node carries.
#[must_use]
pub fn internet() -> &'static [IpNet] {
    static INTERNET: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
        let octets = |a, b, bits| Ipv4Net::new([a, b, 0, 0].into(), bits).unwrap_or_default();
        let excluded = [
            octets(0, 0, 8),
            octets(10, 0, 8),
            octets(100, 64, 10),
            octets(127, 0, 8),
            octets(169, 254, 16),
            octets(172, 16, 12),
            octets(192, 168, 16),
            octets(224, 0, 3),
        ];
        let mut networks = Vec::new();
        without(Ipv4Net::default(), &excluded, &mut networks);
        networks
            .extend(ipnet::Ipv6Net::new([0x2000, 0, 0, 0, 0, 0, 0, 0].into(), 3).map(IpNet::V6));
        networks
    });
    &INTERNET
}

/// What of `network` lies in none of `excluded`.
fn without(network: Ipv4Net, excluded: &[Ipv4Net], out: &mut Vec<IpNet>) {
    if excluded.iter().any(|other| other.contains(&network)) {
        return;
    }
    if !excluded.iter().any(|other| network.contains(other)) {
        out.push(network.into());
        return;
    }
    for half in network
        .subnets(network.prefix_len() + 1)
        .into_iter()
        .flatten()
    {
        without(half, excluded, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internet_is_what_is_nobodys_own() {
        let there = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            internet().iter().any(|network| network.contains(&address))
        };
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.0.1",
            "100.128.0.0",
            "172.32.0.0",
            "223.0.0.1",
            "2606::1",
        ] {
            assert!(there(public), "{public}");
        }
        for own in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(!there(own), "{own}");
        }
    }
}
