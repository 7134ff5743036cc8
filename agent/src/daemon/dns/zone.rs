//! Which names the tailnet has, and who knows the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use ztna_netmap::Netmap;
use ztna_proto::network::DNS_SERVICE;

use crate::daemon::routes;

/// What a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A
    V4,
    /// AAAA
    V6,
    /// PTR
    Pointer,
    /// Anything else.
    Other,
}

/// What there is to say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has these addresses of that kind; none: the name has only other things.
    Addresses(Vec<IpAddr>),
    /// It points to this name.
    Name(String),
    /// There is no such name.
    NoSuchName,
    /// One of these knows, asked in order.
    Ask(Vec<SocketAddr>),
}

/// Port of nameservers (RFC 1035 §4.2).
pub const PORT: u16 = 53;

/// The names of a tailnet, as one machine knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Where machines' names end: `acme.ztna.internal`.
    pub domain: String,
    /// Domains to look in for short names, the own one first.
    pub search: Vec<String>,
    /// Domains that others answer for.
    pub split: BTreeMap<String, Vec<IpAddr>>,
    /// Who answers for everything else. Empty: whoever did before.
    pub nameservers: Vec<IpAddr>,
    pub(super) names: BTreeMap<String, BTreeSet<IpAddr>>,
    pub(super) pointers: BTreeMap<IpAddr, String>,
    /// Where all addresses are the tailnet's.
    pub(super) networks: BTreeSet<IpNet>,
}

impl Zone {
    /// The names that a map knows. `None`: it does not know its own machine yet.
    #[must_use]
    pub fn of(map: &Netmap) -> Option<Self> {
        let this = map.this()?;
        let (_, domain) = this.dns_name.split_once('.')?;
        let settings = &this.network.dns;
        let mut zone = Self {
            domain: domain.to_owned(),
            search: vec![domain.to_owned()],
            split: settings.split.clone(),
            nameservers: settings.nameservers.clone(),
            networks: routes::tailnet(this.ipv4, this.ipv6),
            ..Self::default()
        };
        let others = settings.search.iter();
        zone.search
            .extend(others.filter(|other| *other != domain).cloned());
        for record in &settings.records {
            let addresses = zone.names.entry(record.name.clone()).or_default();
            addresses.insert(record.address);
        }
        // A record does not take a machine's name.
        let mut add = |name: &str, addresses: [IpAddr; 2]| {
            zone.names
                .insert(name.to_ascii_lowercase(), addresses.into());
            for address in addresses {
                zone.pointers.insert(address, name.to_owned());
            }
        };
        for peer in map.peers().values() {
            add(&peer.dns_name, peer.addresses());
        }
        add(&this.dns_name, [this.ipv4.into(), this.ipv6.into()]);
        Some(zone)
    }

    /// What there is to say of a name, given in lower case and without a dot at its end. `before`: who
    /// answered before for everything else.
    #[must_use]
    pub fn look_up(&self, name: &str, kind: Kind, before: &[SocketAddr]) -> Answer {
        if let Some(addresses) = self.names.get(name) {
            let of_kind = addresses.iter().copied().filter(|address| match kind {
                Kind::V4 => address.is_ipv4(),
                Kind::V6 => address.is_ipv6(),
                Kind::Pointer | Kind::Other => false,
            });
            return Answer::Addresses(of_kind.collect());
        }
        if let Some(address) = reversed(name) {
            if let Some(pointed) = self.pointers.get(&address) {
                return match kind {
                    Kind::Pointer => Answer::Name(pointed.clone()),
                    _ => Answer::Addresses(Vec::new()),
                };
            }
            let is_ours = address == IpAddr::V4(DNS_SERVICE)
                || self
                    .networks
                    .iter()
                    .any(|network| network.contains(&address));
            if is_ours {
                return Answer::NoSuchName;
            }
        }
        if is_within(name, &self.domain) {
            // The domain itself is there, and has nothing.
            return match name == self.domain {
                true => Answer::Addresses(Vec::new()),
                false => Answer::NoSuchName,
            };
        }
        let within = self
            .split
            .iter()
            .filter(|(domain, _)| is_within(name, domain));
        match within.max_by_key(|(domain, _)| domain.len()) {
            Some((_, nameservers)) => Answer::Ask(at_port(nameservers)),
            None if self.nameservers.is_empty() => Answer::Ask(before.to_vec()),
            None => Answer::Ask(at_port(&self.nameservers)),
        }
    }

    /// Domains whose names only this machine's own service knows, or knows whom to ask.
    #[must_use]
    pub fn routed_domains(&self) -> BTreeSet<String> {
        let mut domains: BTreeSet<String> = self.split.keys().cloned().collect();
        domains.insert(self.domain.clone());
        // Names of their own, and addresses' names.
        let outside = self
            .names
            .keys()
            .filter(|name| !is_within(name, &self.domain));
        domains.extend(outside.cloned());
        domains.extend(self.networks.iter().flat_map(reverse_domains));
        domains
    }
}

fn at_port(nameservers: &[IpAddr]) -> Vec<SocketAddr> {
    let nameservers = nameservers.iter();
    nameservers.map(|ip| SocketAddr::new(*ip, PORT)).collect()
}

/// Whether a name is a domain or lies below it.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The address that a name of the reverse tree stands for (RFC 1035 §3.5, RFC 3596 §2.5).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<u8> = Vec::new();
        for label in labels.split('.') {
            octets.push(label.parse().ok()?);
        }
        octets.reverse();
        return <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut nibbles = 0;
    for label in labels.rsplit('.') {
        let nibble = u128::from_str_radix(label, 16).ok()?;
        if label.len() != 1 {
            return None;
        }
        bits = bits << 4 | nibble;
        nibbles += 1;
    }
    (nibbles == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

/// The domains of the reverse tree that hold a network: one per octet's or nibble's value.
fn reverse_domains(network: &IpNet) -> Vec<String> {
    match network {
        IpNet::V4(network) => {
            let whole = network.prefix_len().div_ceil(8) * 8;
            let subnets = network.subnets(whole).into_iter().flatten();
            let name = |address: Ipv4Addr| {
                let octets = address.octets();
                let labels = octets[..usize::from(whole / 8)].iter().rev();
                let labels: Vec<String> = labels.map(ToString::to_string).collect();
                format!("{}.in-addr.arpa", labels.join("."))
            };
            subnets.map(|subnet| name(subnet.network())).collect()
        }
        IpNet::V6(network) => {
            let nibbles = usize::from(network.prefix_len() / 4);
            let digits = format!("{:032x}", network.network().to_bits());
            let labels: Vec<String> = digits[..nibbles].chars().rev().map(String::from).collect();
            vec![format!("{}.ip6.arpa", labels.join("."))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        Zone {
            domain: "acme.ztna.internal".to_owned(),
            search: vec!["acme.ztna.internal".to_owned()],
            split: [
                ("corp.example".to_owned(), vec![ip("10.0.0.53")]),
                ("lab.corp.example".to_owned(), vec![ip("10.1.0.53")]),
            ]
            .into(),
            nameservers: Vec::new(),
            names: [
                (
                    "db.acme.ztna.internal".to_owned(),
                    [ip("100.64.0.2"), ip("fd00:1:2::2")].into(),
                ),
                ("printer.example".to_owned(), [ip("10.0.0.9")].into()),
            ]
            .into(),
            pointers: [
                (ip("100.64.0.2"), "db.acme.ztna.internal".to_owned()),
                (ip("fd00:1:2::2"), "db.acme.ztna.internal".to_owned()),
            ]
            .into(),
            networks: routes::tailnet([100, 64, 0, 1].into(), "fd00:1:2::1".parse().unwrap()),
        }
    }

    #[test]
    fn every_name_has_one_who_knows() {
        let zone = zone();
        let before = ["192.0.2.53:53".parse().unwrap()];
        let ask = |name: &str, kind| zone.look_up(name, kind, &before);
        let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        let addresses = |texts: &[&str]| Answer::Addresses(ips(texts));
        let db = "db.acme.ztna.internal";
        assert_eq!(ask(db, Kind::V4), addresses(&["100.64.0.2"]));
        assert_eq!(ask(db, Kind::V6), addresses(&["fd00:1:2::2"]));
        assert_eq!(ask(db, Kind::Other), addresses(&[]));
        assert_eq!(ask("printer.example", Kind::V6), addresses(&[]));
        assert_eq!(ask("gone.acme.ztna.internal", Kind::V4), Answer::NoSuchName);
        assert_eq!(ask("acme.ztna.internal", Kind::V4), addresses(&[]));
        assert_eq!(ask("x.example", Kind::V4), Answer::Ask(before.to_vec()));
        assert_eq!(
            ask("notcorp.example", Kind::V4),
            Answer::Ask(before.to_vec())
        );
        assert_eq!(
            ask("a.corp.example", Kind::Other),
            Answer::Ask(at_port(&ips(&["10.0.0.53"])))
        );
        assert_eq!(
            ask("a.lab.corp.example", Kind::V4),
            Answer::Ask(at_port(&ips(&["10.1.0.53"])))
        );

        let pointer = ask("2.0.64.100.in-addr.arpa", Kind::Pointer);
        assert_eq!(pointer, Answer::Name(db.to_owned()));
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(ask(v6, Kind::Pointer), Answer::Name(db.to_owned()));
        assert_eq!(
            ask("9.0.64.100.in-addr.arpa", Kind::Pointer),
            Answer::NoSuchName
        );
        assert_eq!(
            ask("1.2.0.192.in-addr.arpa", Kind::Pointer),
            Answer::Ask(before.to_vec())
        );
        for nonsense in ["x.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "10.2.ip6.arpa"] {
            assert_eq!(ask(nonsense, Kind::Pointer), Answer::Ask(before.to_vec()));
        }

        let settled = Zone {
            nameservers: ips(&["9.9.9.9"]),
            ..zone.clone()
        };
        let answer = settled.look_up("x.example", Kind::V4, &before);
        assert_eq!(answer, Answer::Ask(at_port(&ips(&["9.9.9.9"]))));
    }

    #[test]
    fn the_system_is_told_which_domains_are_ours() {
        let domains = zone().routed_domains();
        for ours in [
            "acme.ztna.internal",
            "corp.example",
            "printer.example",
            "64.100.in-addr.arpa",
            "127.100.in-addr.arpa",
            "2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
        ] {
            assert!(domains.contains(ours), "{ours}: {domains:?}");
        }
        assert_eq!(domains.len(), 5 + 64);
    }
}
