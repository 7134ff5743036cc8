//! What an org's network has beside machines: subnet routes, exit nodes, names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::MachineId;
use crate::static_peers::GatewayDuty;

/// Most networks that a machine may offer to route, an exit node's two among them.
pub const MAX_ROUTES: usize = 64;
/// Most nameservers of an org, and of each domain of its split DNS.
pub const MAX_NAMESERVERS: usize = 8;
/// Most domains of split DNS.
pub const MAX_SPLIT_DOMAINS: usize = 32;
/// Most search domains.
pub const MAX_SEARCH_DOMAINS: usize = 16;
/// Most extra records.
pub const MAX_DNS_RECORDS: usize = 200;
/// Longest DNS settings, as JSON, in bytes: every machine of the org is told them.
pub const MAX_DNS_BYTES: usize = 8 * 1024;
/// Longest DNS name in text, without the last dot (RFC 1035 §2.3.4).
pub const MAX_DNS_NAME: usize = 253;
/// Longest label of a DNS name (RFC 1035 §2.3.4).
const MAX_DNS_LABEL: usize = 63;

/// What an exit node offers: everything, of both families.
pub const EXIT_ROUTES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// Networks that nobody routes: this host (RFC 1122), loopback, link-local, multicast and above
/// (RFC 6890).
const UNROUTABLE: [IpNet; 7] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
    )),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

/// Why networks cannot be routed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There are too many.
    #[error("{0} routes are too many; a machine may offer {MAX_ROUTES}: join them to larger ones")]
    TooMany(usize),
    /// Bits beyond the prefix are set.
    #[error("{given} has bits beyond its prefix; write {}", .given.trunc())]
    HostBits {
        /// As it was written.
        given: IpNet,
    },
    /// No packet ever goes there.
    #[error(
        "{0} is nothing that can be routed: loopback, link-local, multicast or reserved; leave it out"
    )]
    Unroutable(IpNet),
    /// Half an exit node.
    #[error(
        "an exit node carries both 0.0.0.0/0 and ::/0; offer both of them (`--advertise-exit-node`)"
    )]
    HalfAnExitNode,
    /// It is, or holds, what the tailnet itself has.
    #[error(
        "{given} overlaps {tailnet}, where the tailnet's own addresses are; offer what lies outside"
    )]
    Tailnet {
        /// As it was written.
        given: IpNet,
        /// What it meets.
        tailnet: IpNet,
    },
}

/// Checks what a machine offers to route. `tailnet`: networks that the tailnet itself has.
///
/// # Errors
/// The first fault.
pub fn check_routes(routes: &[IpNet], tailnet: &[IpNet]) -> Result<BTreeSet<IpNet>, RouteError> {
    if routes.len() > MAX_ROUTES {
        return Err(RouteError::TooMany(routes.len()));
    }
    let offers = |exit: &IpNet| routes.contains(exit);
    if EXIT_ROUTES.iter().any(offers) && !EXIT_ROUTES.iter().all(offers) {
        return Err(RouteError::HalfAnExitNode);
    }
    for &given in routes {
        if given != given.trunc() {
            return Err(RouteError::HostBits { given });
        }
        if UNROUTABLE.iter().any(|network| network.contains(&given)) {
            return Err(RouteError::Unroutable(given));
        }
        let meets = |other: &&IpNet| other.contains(&given) || given.contains(*other);
        if given.prefix_len() > 0
            && let Some(tailnet) = tailnet.iter().find(meets)
        {
            let tailnet = *tailnet;
            return Err(RouteError::Tailnet { given, tailnet });
        }
    }
    Ok(routes.iter().copied().collect())
}

/// What a machine is told of its own part in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfNetwork {
    /// The networks that it offers to route, as the control plane has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertised: Vec<IpNet>,
    /// The networks that it routes for others: the approved ones; of an exit node what is public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<IpNet>,
    /// The org's names.
    #[serde(default)]
    pub dns: DnsSettings,
    /// Set if it is a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayDuty>,
}

/// `PUT /api/machine-routes`. Answer: [`MachineRoutes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdvertiseRoutesRequest {
    /// All networks that the machine offers to route, at most [`MAX_ROUTES`]. An exit node offers
    /// [`EXIT_ROUTES`]. What it offered before and does not any more is forgotten, approval included.
    #[schema(value_type = Vec<String>)]
    pub routes: Vec<IpNet>,
}

/// `PUT /api/orgs/{org}/machines/{machine}/routes`. Answer: [`MachineRoutes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRoutesRequest {
    /// The networks that the machine may route, out of those that it offers. The others it may not.
    #[schema(value_type = Vec<String>)]
    pub approved: Vec<IpNet>,
}

/// The networks behind a machine; an entry of `GET /api/orgs/{org}/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineRoutes {
    /// The machine.
    pub machine: MachineId,
    /// Its name.
    pub name: String,
    /// What it offers.
    pub routes: Vec<OfferedRoute>,
}

/// A network that a machine offers to route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferedRoute {
    /// The network.
    #[schema(value_type = String)]
    pub prefix: IpNet,
    /// Whether it may.
    pub approved: bool,
    /// Whether packets go through this machine now: of several that are approved for one network, the
    /// one with the lowest id of those that are online. Of exit nodes each machine chooses its own.
    pub primary: bool,
}

/// An org's names, `GET` and `PUT /api/orgs/{org}/dns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DnsSettings {
    /// Who answers for names that nothing else here speaks of. None: whoever did before on each
    /// machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub nameservers: Vec<IpAddr>,
    /// Domains, and who answers for them and all names below.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    pub split: BTreeMap<String, Vec<IpAddr>>,
    /// Domains to look in for short names, after the org's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Names beside those of machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<DnsRecord>,
}

/// A name with an address. Several with one name are all answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsRecord {
    /// The full name, without a dot at its end.
    pub name: String,
    /// The address: an A record or an AAAA record.
    #[schema(value_type = String)]
    pub address: IpAddr,
}

/// Why DNS settings cannot be used, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Too many of something.
    #[error("`{field}` has {count} entries; {most} are possible: remove some")]
    TooMany {
        /// Of what.
        field: &'static str,
        /// How many.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// Not a name.
    #[error(
        "`{field}`: {name:?} is no domain name: labels of letters, digits, `-` and `_` with dots between, in lower case; correct it"
    )]
    Name {
        /// Where.
        field: &'static str,
        /// As it was written.
        name: String,
    },
    /// Not a nameserver.
    #[error("`{field}`: {address} cannot be a nameserver; name one that machines can reach")]
    Nameserver {
        /// Where.
        field: &'static str,
        /// As it was written.
        address: IpAddr,
    },
    /// Too much of everything.
    #[error(
        "the settings have {0} bytes; {MAX_DNS_BYTES} are possible: remove some records, or have a nameserver answer for them"
    )]
    TooLong(usize),
    /// A domain without anybody to ask.
    #[error("`split`: {0:?} has no nameserver; name one, or remove the domain")]
    NobodyToAsk(String),
}

impl DnsSettings {
    /// Checks settings.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), DnsError> {
        at_most("nameservers", self.nameservers.len(), MAX_NAMESERVERS)?;
        at_most("split", self.split.len(), MAX_SPLIT_DOMAINS)?;
        at_most("search", self.search.len(), MAX_SEARCH_DOMAINS)?;
        at_most("records", self.records.len(), MAX_DNS_RECORDS)?;
        for address in &self.nameservers {
            check_nameserver("nameservers", *address)?;
        }
        for (domain, nameservers) in &self.split {
            check_name("split", domain)?;
            at_most("split", nameservers.len(), MAX_NAMESERVERS)?;
            if nameservers.is_empty() {
                return Err(DnsError::NobodyToAsk(domain.clone()));
            }
            for address in nameservers {
                check_nameserver("split", *address)?;
            }
        }
        for domain in &self.search {
            check_name("search", domain)?;
        }
        for record in &self.records {
            check_name("records", &record.name)?;
        }
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |text| text.len());
        match bytes <= MAX_DNS_BYTES {
            true => Ok(()),
            false => Err(DnsError::TooLong(bytes)),
        }
    }
}

fn at_most(field: &'static str, count: usize, most: usize) -> Result<(), DnsError> {
    if count <= most {
        return Ok(());
    }
    Err(DnsError::TooMany { field, count, most })
}

/// The machine's own service, which would ask itself, is none either.
fn check_nameserver(field: &'static str, address: IpAddr) -> Result<(), DnsError> {
    let own = address == IpAddr::V4(DNS_SERVICE);
    if own || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(DnsError::Nameserver { field, address });
    }
    Ok(())
}

fn check_name(field: &'static str, name: &str) -> Result<(), DnsError> {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        (1..=MAX_DNS_LABEL).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= MAX_DNS_NAME && name.split('.').all(label) {
        return Ok(());
    }
    Err(DnsError::Name {
        field,
        name: name.to_owned(),
    })
}

/// Where each machine answers DNS for itself, by UDP and TCP port 53. No machine gets this address.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn routes_that_make_no_sense_are_refused_with_the_next_step() {
        let tailnet = nets(&["100.64.0.0/10", "fd12:3456:789a::/48"]);
        let check = |texts: &[&str]| {
            check_routes(&nets(texts), &tailnet).map_err(|error| error.to_string())
        };
        assert_eq!(
            check(&[
                "10.0.0.0/24",
                "0.0.0.0/0",
                "::/0",
                "fd00:1::/64",
                "10.1.2.3/32"
            ])
            .map(|routes| routes.len()),
            Ok(5)
        );
        assert_eq!(check(&[]).map(|routes| routes.len()), Ok(0));
        for (bad, part) in [
            (&["10.0.0.5/24"][..], "write 10.0.0.0/24"),
            (&["0.0.0.0/0"], "--advertise-exit-node"),
            (&["::/0"], "--advertise-exit-node"),
            (&["127.0.0.0/8"], "leave it out"),
            (&["169.254.1.0/24"], "leave it out"),
            (&["fe80::/64"], "leave it out"),
            (&["224.0.0.0/4"], "leave it out"),
            (&["100.64.7.0/24"], "overlaps 100.64.0.0/10"),
            (&["96.0.0.0/3"], "overlaps 100.64.0.0/10"),
            (&["fd12:3456:789a:1::/64"], "overlaps fd12:3456:789a::/48"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(part), "{bad:?}: {error}");
        }
        let many: Vec<IpNet> = (0..=MAX_ROUTES as u32)
            .map(|n| Ipv4Net::new_assert((0x0a00_0000 + (n << 8)).into(), 24).into())
            .collect();
        assert_eq!(check_routes(&many, &[]), Err(RouteError::TooMany(65)));
        assert!(check_routes(&many[1..], &[]).is_ok());
    }

    #[test]
    fn dns_settings_are_checked() {
        let record = |name: &str| DnsRecord {
            name: name.to_owned(),
            address: [10, 0, 0, 1].into(),
        };
        let good = DnsSettings {
            nameservers: vec![[9, 9, 9, 9].into()],
            split: [("corp.example".to_owned(), vec![[10, 0, 0, 53].into()])].into(),
            search: vec!["corp.example".to_owned()],
            records: vec![record("printer.corp.example"), record("_srv.x")],
        };
        assert_eq!(good.check(), Ok(()));
        for name in [
            "",
            ".",
            "a.",
            "a..b",
            "-a.b",
            "a b",
            "A.b",
            &"a".repeat(64),
            &"a.".repeat(130),
        ] {
            let bad = DnsSettings {
                records: vec![record(name)],
                ..DnsSettings::default()
            };
            assert!(matches!(bad.check(), Err(DnsError::Name { .. })), "{name}");
        }
        let nameserver = |address: IpAddr| DnsSettings {
            nameservers: vec![address],
            ..DnsSettings::default()
        };
        for bad in ["127.0.0.53", "0.0.0.0", "100.100.100.100", "::1", "ff02::1"] {
            assert!(nameserver(bad.parse().unwrap()).check().is_err(), "{bad}");
        }
        let nobody = DnsSettings {
            split: [("a.b".to_owned(), Vec::new())].into(),
            ..DnsSettings::default()
        };
        assert!(nobody.check().is_err());
        let many = DnsSettings {
            records: vec![record("a.b"); MAX_DNS_RECORDS + 1],
            ..DnsSettings::default()
        };
        assert!(matches!(many.check(), Err(DnsError::TooMany { .. })));
        let long = DnsSettings {
            records: vec![record("abcd.".repeat(40).trim_end_matches('.')); MAX_DNS_RECORDS],
            ..DnsSettings::default()
        };
        assert!(matches!(long.check(), Err(DnsError::TooLong(_))));
    }

    #[test]
    fn a_record_of_before_reads() {
        let network: SelfNetwork = serde_json::from_str("{}").unwrap();
        assert_eq!(network, SelfNetwork::default());
    }
}
