//! Random documents and orgs, and documents read plainly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, PacketBuilder};
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use uuid::Uuid;
use ztna_policy::document::{COUNTRY, OS, RESTRICTED};
use ztna_policy::{Facts, Place};
use ztna_proto::api::Role;
use ztna_proto::ids::MachineId;

pub const MACHINES: u8 = 5;
/// 200 is one that no rule names.
const PROTOCOLS: [u8; 6] = [6, 17, 1, 132, 47, 200];
/// Rules speak of ports up to 5 and of the last; 6 stands for all between.
const PORTS: [u16; 8] = [0, 1, 2, 3, 4, 5, 6, u16::MAX];
/// Addresses that are nobody's own: in each of the networks that documents name, and in none.
const BEHIND: [&str; 9] = [
    "10.1.2.9",
    "10.1.9.9",
    "10.1.200.9",
    "100.64.0.200",
    "1.1.1.1",
    "192.168.5.5",
    "100.64.0.0",
    "100.64.0.1",
    "100.64.0.2",
];

pub type Org = BTreeMap<MachineId, Facts>;

pub fn now() -> Timestamp {
    "2026-07-01T12:00:00Z".parse().unwrap()
}

pub fn id(n: u8) -> MachineId {
    MachineId(Uuid::from_u128(n.into()))
}

fn address(n: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(100, 64, 0, n).into()
    }
}

/// A machine's facts; `n` says which addresses it has, whatever its place in the org.
pub fn facts(n: u8) -> impl Strategy<Value = Facts> {
    let user = select(vec![
        None,
        Some(("alice@x.example", Role::Owner)),
        Some(("bob@x.example", Role::Member)),
    ]);
    let tags = prop_oneof![
        3 => Just(BTreeSet::new()),
        1 => Just(BTreeSet::from(["web".to_owned()])),
        1 => Just(BTreeSet::from(["web".to_owned(), "db".to_owned()])),
    ];
    let os = select(vec![None, Some("linux"), Some("macos")]);
    let country = select(vec![None, Some("DE"), Some("FR")]);
    let routes = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec!["10.1.0.0/16"]),
        1 => Just(vec!["0.0.0.0/0"]),
        1 => Just(vec!["10.1.2.0/24", "0.0.0.0/0"]),
    ];
    let provided = any::<bool>();
    let restricted = prop::option::weighted(0.2, Just("true"));
    (user, tags, os, country, routes, provided, restricted).prop_map(
        move |(user, tags, os, country, routes, provided, restricted)| {
            let attributes = [(OS, os), (COUNTRY, country), (RESTRICTED, restricted)];
            Facts {
                user: user.map(|(user, _)| user.to_owned()),
                role: user.map(|(_, role)| role),
                groups: provided
                    .then(|| "provided".to_owned())
                    .into_iter()
                    .collect(),
                tags,
                addresses: [address(n, false), address(n, true)].into(),
                routes: routes
                    .iter()
                    .map(|route| route.parse::<IpNet>().unwrap())
                    .collect(),
                attributes: attributes
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                    .collect(),
            }
        },
    )
}

pub fn org() -> impl Strategy<Value = Org> {
    let machines: Vec<_> = (0..MACHINES)
        .map(|n| prop::option::weighted(0.9, facts(n)))
        .collect();
    machines.prop_map(|machines| {
        let there = (0..MACHINES).zip(machines);
        there
            .filter_map(|(n, facts)| Some((id(n), facts?)))
            .collect()
    })
}

/// Selectors as they are written. The first ten can be sources, the first five sources of
/// `autogroup:self`.
const SELECTORS: [&str; 16] = [
    "*",
    "alice@x.example",
    "group:dev",
    "group:provided",
    "autogroup:member",
    "tag:web",
    "tag:db",
    "autogroup:tagged",
    "autogroup:owner",
    "machine:00000000-0000-0000-0000-000000000001",
    "100.64.0.2",
    "100.64.0.0/31",
    "10.1.0.0/17",
    "office",
    "autogroup:internet",
    "autogroup:self",
];
const SOURCES: usize = 12;

#[derive(Clone, Debug)]
struct PlainRule {
    deny: bool,
    grant: bool,
    src: Vec<&'static str>,
    dst: Vec<&'static str>,
    protocol: Option<&'static str>,
    ports: Vec<(u16, u16)>,
    os: Option<&'static str>,
    country: Option<&'static str>,
    posture: bool,
    /// `when`: as it is written, and whether it is open.
    window: Option<(Value, bool)>,
    /// `expires`: as it is written, and whether it is over.
    expires: Option<(&'static str, bool)>,
}

#[derive(Clone, Debug)]
pub struct Plain {
    rules: Vec<PlainRule>,
    /// Whether machines that a posture policy restricts open nothing.
    pub restricting: bool,
}

fn rule() -> impl Strategy<Value = PlainRule> {
    let src = prop_oneof![
        3 => vec(select(SELECTORS[..SOURCES].to_vec()), 1..4),
        1 => vec(select(SELECTORS[..SOURCES].to_vec()), 12),
    ];
    let dst = prop_oneof![
        3 => vec(select(SELECTORS.to_vec()), 1..4),
        1 => vec(select(SELECTORS[1..].to_vec()), 14),
    ];
    let protocol = select(vec![
        None,
        None,
        Some("tcp"),
        Some("udp"),
        Some("icmp"),
        Some("47"),
    ]);
    let range =
        (select(PORTS.to_vec()), select(PORTS.to_vec())).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let ports = prop_oneof![2 => Just(vec![]), 1 => vec(range, 1..3)];
    let rarely = |values: Vec<&'static str>| prop::option::weighted(0.2, select(values));
    let windows = vec![
        (json!({"from": "08:00", "to": "18:00", "zone": "UTC"}), true),
        (json!({"days": ["wed"], "zone": "Europe/Berlin"}), true),
        (
            json!({"days": ["tue"], "from": "20:00", "to": "12:30", "zone": "UTC"}),
            true,
        ),
        (
            json!({"days": ["wed"], "from": "08:00", "to": "09:00", "zone": "America/New_York"}),
            true,
        ),
        (json!({"days": ["thu"], "zone": "UTC"}), false),
        (
            json!([{"from": "12:01", "to": "12:00", "zone": "UTC"}, {"days": ["mon"], "zone": "UTC"}]),
            false,
        ),
        (
            json!({"from": "18:00", "to": "08:00", "zone": "UTC"}),
            false,
        ),
    ];
    let time = (
        prop::option::weighted(0.2, select(windows)),
        prop::option::weighted(
            0.2,
            select(vec![
                ("2026-07-01T12:00:00Z", true),
                ("2026-07-01T14:00:01+02:00", false),
            ]),
        ),
    );
    let conditions = (
        rarely(vec!["linux", "macos"]),
        rarely(vec!["DE", "FR"]),
        prop::bool::weighted(0.15),
    );
    (
        prop::bool::weighted(0.3),
        any::<bool>(),
        src,
        dst,
        protocol,
        ports,
        conditions,
        time,
    )
        .prop_map(
            |(
                deny,
                grant,
                mut src,
                dst,
                protocol,
                ports,
                (os, country, posture),
                (window, expires),
            )| {
                if dst.contains(&"autogroup:self") {
                    src.retain(|src| SELECTORS[..5].contains(src) || *src == "autogroup:owner");
                    src.push("group:dev");
                }
                let has_ports = protocol.is_none_or(|p| p == "tcp" || p == "udp");
                PlainRule {
                    deny,
                    grant,
                    src,
                    dst,
                    protocol,
                    ports: if has_ports { ports } else { vec![] },
                    os,
                    country,
                    posture,
                    window,
                    expires,
                }
            },
        )
}

pub fn document() -> impl Strategy<Value = Plain> {
    let document = (vec(rule(), 0..6), any::<bool>());
    document.prop_map(|(rules, restricting)| Plain { rules, restricting })
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Own(bool),
    Behind(usize),
}

/// A packet that opens a flow.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub src: u8,
    pub dst: u8,
    target: Target,
    pub protocol: u8,
    pub port: u16,
}

pub fn packet() -> impl Strategy<Value = Packet> {
    let pair = (0..MACHINES, 0..MACHINES).prop_filter("two machines", |(src, dst)| src != dst);
    let target = prop_oneof![
        any::<bool>().prop_map(Target::Own),
        (0..BEHIND.len()).prop_map(Target::Behind)
    ];
    (
        pair,
        target,
        select(PROTOCOLS.to_vec()),
        select(PORTS.to_vec()),
    )
        .prop_map(|((src, dst), target, protocol, port)| {
            Packet::new(src, dst, target, protocol, port)
        })
}

/// Every kind of packet that rules can tell from others.
pub fn kinds(src: u8, dst: u8) -> impl Iterator<Item = Packet> {
    let targets = [Target::Own(false), Target::Own(true)].into_iter();
    let targets = targets.chain((0..BEHIND.len()).map(Target::Behind));
    targets.flat_map(move |target| {
        PROTOCOLS.into_iter().flat_map(move |protocol| {
            PORTS.map(|port| Packet::new(src, dst, target, protocol, port))
        })
    })
}

impl Packet {
    fn new(src: u8, dst: u8, target: Target, protocol: u8, port: u16) -> Self {
        let protocol = match (protocol, target) {
            (1, Target::Own(true)) => 58,
            (other, _) => other,
        };
        Self {
            src,
            dst,
            target,
            protocol,
            port,
        }
    }

    fn destination(self) -> IpAddr {
        match self.target {
            Target::Own(ipv6) => address(self.dst, ipv6),
            Target::Behind(n) => BEHIND[n].parse().unwrap(),
        }
    }

    /// Where the packet goes at its destination machine. `None`: it does not go there.
    pub fn place(self, org: &Org) -> Option<Place> {
        let facts = org.get(&id(self.dst))?;
        let to = self.destination();
        // Addresses move with facts in the tests of changes.
        if facts.addresses.contains(&to) {
            return Some(Place::Own);
        }
        facts
            .routes
            .iter()
            .any(|route| route.contains(&to))
            .then_some(Place::Behind(to))
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let port = self.port.to_be_bytes();
        let payload = [[0; 2], port, [0; 2], [0; 2], [0; 2], [0; 2]].concat();
        let echo = [
            if self.protocol == 1 { 8 } else { 128 },
            0,
            0,
            0,
            0,
            1,
            0,
            1,
        ];
        macro_rules! write {
            ($builder:expr) => {
                match self.protocol {
                    6 => $builder
                        .tcp(9, self.port, 1, 1)
                        .syn()
                        .write(&mut bytes, &[]),
                    17 => $builder.udp(9, self.port).write(&mut bytes, &[]),
                    1 | 58 => $builder.write(&mut bytes, IpNumber(self.protocol), &echo),
                    _ => $builder.write(&mut bytes, IpNumber(self.protocol), &payload),
                }
                .unwrap()
            };
        }
        let to = self.destination();
        match (address(self.src, to.is_ipv6()), to) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                write!(PacketBuilder::ipv4(src.octets(), dst.octets(), 64))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                write!(PacketBuilder::ipv6(src.octets(), dst.octets(), 64))
            }
            _ => panic!("two families"),
        }
        bytes
    }
}

impl Plain {
    pub fn accepts(&self) -> bool {
        self.rules.iter().any(|rule| !rule.deny)
    }

    pub fn text(&self) -> String {
        let section = |grant: bool| -> Vec<Value> {
            self.rules
                .iter()
                .filter(|rule| rule.grant == grant)
                .map(PlainRule::json)
                .collect()
        };
        let document = json!({
            "groups": {"group:dev": ["bob@x.example"], "group:provided": []},
            "hosts": {"office": "10.1.0.0/16"},
            "tagOwners": {"tag:web": [], "tag:db": []},
            "postures": {"posture:p": ["node:os == 'linux'", "ip:country != 'FR'"]},
            "acls": section(false),
            "grants": section(true),
        });
        format!("// A policy.\n{document:#}\n")
    }

    pub fn allows(&self, org: &Org, packet: Packet) -> bool {
        let (Some(src), Some(dst)) = (org.get(&id(packet.src)), org.get(&id(packet.dst))) else {
            return false;
        };
        let Some(place) = packet.place(org) else {
            return false;
        };
        let hit = |deny| {
            let mut rules = self.rules.iter().filter(|rule| rule.deny == deny);
            rules.any(|rule| rule.matches(packet, src, dst, place))
        };
        let restricted = self.restricting && src.attributes.contains_key(RESTRICTED);
        hit(false) && !hit(true) && !restricted
    }
}

impl PlainRule {
    fn json(&self) -> Value {
        let ranges: Vec<_> = self
            .ports
            .iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        let ports = if ranges.is_empty() {
            "*".to_owned()
        } else {
            ranges.join(",")
        };
        let mut rule =
            json!({"action": if self.deny { "deny" } else { "accept" }, "src": self.src});
        if self.grant {
            rule["dst"] = json!(self.dst);
            rule["ip"] = json!([match self.protocol {
                Some(protocol) => format!("{protocol}:{ports}"),
                None => ports,
            }]);
        } else {
            let dst = self.dst.iter().map(|dst| format!("{dst}:{ports}"));
            rule["dst"] = dst.collect();
            if let Some(protocol) = self.protocol {
                rule["proto"] = json!(protocol);
            }
        }
        if let Some(os) = self.os {
            rule["srcOS"] = json!([os]);
        }
        if let Some(country) = self.country {
            rule["srcCountry"] = json!([country]);
        }
        if self.posture {
            rule["srcPosture"] = json!(["posture:p"]);
        }
        if let Some((window, _)) = &self.window {
            rule["when"] = window.clone();
        }
        if let Some((end, _)) = self.expires {
            rule["expires"] = json!(end);
        }
        rule
    }

    fn matches(&self, packet: Packet, src: &Facts, dst: &Facts, place: Place) -> bool {
        let owner = |facts: &Facts| facts.user.clone().filter(|_| facts.tags.is_empty());
        let means = |selector: &str, n: u8, facts: &Facts| match selector {
            "*" => true,
            "alice@x.example" => owner(facts).as_deref() == Some("alice@x.example"),
            "group:dev" => owner(facts).as_deref() == Some("bob@x.example"),
            "group:provided" => owner(facts).is_some() && facts.groups.contains("provided"),
            "autogroup:member" => facts.tags.is_empty(),
            "tag:web" => facts.tags.contains("web"),
            "tag:db" => facts.tags.contains("db"),
            "autogroup:tagged" => !facts.tags.is_empty(),
            "autogroup:owner" => owner(facts).is_some() && facts.role == Some(Role::Owner),
            "machine:00000000-0000-0000-0000-000000000001" => n == 1,
            "100.64.0.2" => facts.addresses.contains(&address(2, false)),
            "100.64.0.0/31" => {
                facts.addresses.contains(&address(0, false))
                    || facts.addresses.contains(&address(1, false))
            }
            _ => false,
        };
        let within = |selector: &str, to: IpAddr| match (selector, to) {
            ("*", _) => true,
            ("100.64.0.2", IpAddr::V4(to)) => to == Ipv4Addr::new(100, 64, 0, 2),
            ("100.64.0.0/31", IpAddr::V4(to)) => to.to_bits() >> 1 == 0x6440_0000 >> 1,
            ("10.1.0.0/17", IpAddr::V4(to)) => to.octets()[..2] == [10, 1] && to.octets()[2] < 128,
            ("office", IpAddr::V4(to)) => to.octets()[..2] == [10, 1],
            ("autogroup:internet", to) => {
                to == IpAddr::from([1, 1, 1, 1])
                    && dst.routes.contains(&"0.0.0.0/0".parse().unwrap())
            }
            _ => false,
        };
        let target = |selector: &&'static str| match place {
            Place::Own if *selector == "autogroup:self" => {
                owner(src).is_some() && owner(src) == owner(dst)
            }
            Place::Own => means(selector, packet.dst, dst),
            Place::Behind(to) => within(selector, to),
        };
        let protocol = match self.protocol {
            None => true,
            Some("tcp") => packet.protocol == 6,
            Some("udp") => packet.protocol == 17,
            Some("icmp") => packet.protocol == 1 || packet.protocol == 58,
            Some(_) => packet.protocol == 47,
        };
        let ported = [6, 17, 132].contains(&packet.protocol);
        let in_range = |(first, last): &(u16, u16)| *first <= packet.port && packet.port <= *last;
        let port = self.ports.is_empty() || ported && self.ports.iter().any(in_range);
        let known =
            |attribute: &str, holds: &dyn Fn(&str) -> bool| match src.attributes.get(attribute) {
                Some(value) => holds(value),
                None => self.deny,
            };
        let posture = || {
            let os = src.attributes.get(OS).map(|os| os == "linux");
            let country = src.attributes.get(COUNTRY).map(|country| country != "FR");
            match (os, country) {
                (Some(false), _) | (_, Some(false)) => false,
                (Some(true), Some(true)) => true,
                _ => self.deny,
            }
        };
        self.src
            .iter()
            .any(|selector| means(selector, packet.src, src))
            && self.dst.iter().any(target)
            && protocol
            && port
            && self.os.is_none_or(|os| known(OS, &|value| value == os))
            && self
                .country
                .is_none_or(|country| known(COUNTRY, &|value| value == country))
            && (!self.posture || posture())
            && self.window.as_ref().is_none_or(|(_, open)| *open)
            && self.expires.is_none_or(|(_, over)| !over)
    }
}
