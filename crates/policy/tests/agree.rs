//! What machines see and filter is what the rules say, read plainly.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use etherparse::{IpNumber, PacketBuilder};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;
use ztna_filter::{Direction, Filter, Limits, Verdict};
use ztna_policy::{Compiled, MachineFacts, Policy, Rule, Selector, compile};
use ztna_proto::filter::{Action, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

const MACHINES: u8 = 5;
/// 200 is one that no rule names.
const PROTOCOLS: [u8; 7] = [6, 17, 1, 58, 132, 47, 200];
/// Rules speak of ports up to 5 and of the last; 6 stands for all between.
const PORTS: [u16; 8] = [0, 1, 2, 3, 4, 5, 6, u16::MAX];

fn id(n: u8) -> MachineId {
    MachineId(Uuid::from_u128(n.into()))
}

fn address(n: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(100, 64, 0, n).into()
    }
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        Just(Selector::Any),
        Just(Selector::Member),
        (0..MACHINES).prop_map(|n| Selector::Machine(id(n))),
    ]
}

fn ports() -> impl Strategy<Value = PortRange> {
    (select(PORTS.to_vec()), select(PORTS.to_vec()))
        .prop_map(|(first, last)| PortRange { first, last })
}

fn rule() -> impl Strategy<Value = Rule> {
    use Protocol::{Icmp, Number, Sctp, Tcp, Udp};
    let protocols = vec![
        Tcp,
        Udp,
        Icmp,
        Sctp,
        Number(6),
        Number(1),
        Number(58),
        Number(47),
    ];
    (
        prop_oneof![2 => Just(Action::Allow), 1 => Just(Action::Deny)],
        vec(selector(), 0..3),
        vec(selector(), 0..3),
        prop_oneof![Just(vec![]), vec(select(protocols), 0..3)],
        prop_oneof![Just(vec![]), vec(ports(), 0..3)],
        any::<u128>(),
    )
        .prop_map(|(action, src, dst, protocols, ports, id)| Rule {
            id: RuleId(Uuid::from_u128(id)),
            action,
            src,
            dst,
            protocols,
            ports,
        })
}

fn policy() -> impl Strategy<Value = Policy> {
    vec(rule(), 0..6).prop_map(|rules| Policy { rules })
}

fn facts() -> impl Strategy<Value = MachineFacts> {
    prop_oneof![Just(MachineFacts::member()), Just(MachineFacts::default())]
}

fn machines() -> impl Strategy<Value = BTreeMap<MachineId, MachineFacts>> {
    btree_map(
        (0..MACHINES).prop_map(id),
        facts(),
        0..usize::from(MACHINES) + 1,
    )
}

/// A packet that opens a flow.
#[derive(Clone, Copy, Debug)]
struct Packet {
    src: u8,
    dst: u8,
    ipv6: bool,
    protocol: u8,
    port: u16,
}

fn packet() -> impl Strategy<Value = Packet> {
    let pair = (0..MACHINES, 0..MACHINES).prop_filter("two machines", |(src, dst)| src != dst);
    (
        pair,
        any::<bool>(),
        select(PROTOCOLS.to_vec()),
        select(PORTS.to_vec()),
    )
        .prop_map(|((src, dst), ipv6, protocol, port)| Packet {
            src,
            dst,
            ipv6,
            protocol,
            port,
        })
}

impl Packet {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let payload = [
            [0; 2],
            self.port.to_be_bytes(),
            [0; 2],
            [0; 2],
            [0; 2],
            [0; 2],
        ]
        .concat();
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
        match (address(self.src, self.ipv6), address(self.dst, self.ipv6)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                write!(PacketBuilder::ipv4(src.octets(), dst.octets(), 64));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                write!(PacketBuilder::ipv6(src.octets(), dst.octets(), 64));
            }
            _ => panic!("two families"),
        }
        bytes
    }
}

/// The rules, read plainly.
struct Plain<'a>(&'a Policy, &'a BTreeMap<MachineId, MachineFacts>);

impl Plain<'_> {
    fn allows(&self, packet: Packet) -> bool {
        if !self.1.contains_key(&id(packet.src)) || !self.1.contains_key(&id(packet.dst)) {
            return false;
        }
        let hit = |action| {
            let mut rules = self.0.rules.iter();
            rules.any(|rule| rule.action == action && self.matches(rule, packet))
        };
        hit(Action::Allow) && !hit(Action::Deny)
    }

    fn matches(&self, rule: &Rule, packet: Packet) -> bool {
        let means = |selectors: &[Selector], machine: MachineId| {
            selectors.iter().any(|selector| match selector {
                Selector::Any => true,
                Selector::Member => self.1[&machine] == MachineFacts::member(),
                Selector::Machine(id) => *id == machine,
            })
        };
        let number = |protocol: &Protocol| match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => [1, 58][usize::from(packet.ipv6)],
            Protocol::Sctp => 132,
            Protocol::Number(number) => *number,
        };
        let has_ports = [6, 17, 132].contains(&packet.protocol);
        let in_range = |range: &PortRange| range.first <= packet.port && packet.port <= range.last;
        means(&rule.src, id(packet.src))
            && means(&rule.dst, id(packet.dst))
            && (rule.protocols.is_empty()
                || rule
                    .protocols
                    .iter()
                    .any(|protocol| number(protocol) == packet.protocol))
            && (rule.ports.is_empty() || has_ports && rule.ports.iter().any(in_range))
    }

    /// Whether `src` may open anything towards `dst`: every kind of packet is tried.
    fn opens(&self, src: u8, dst: u8) -> bool {
        let kinds = [false, true].into_iter().flat_map(|ipv6| {
            let protocols = PROTOCOLS.into_iter();
            protocols.flat_map(move |protocol| PORTS.map(move |port| (ipv6, protocol, port)))
        });
        kinds.into_iter().any(|(ipv6, protocol, port)| {
            self.allows(Packet {
                src,
                dst,
                ipv6,
                protocol,
                port,
            })
        })
    }
}

/// The filter of machine `n`, set up from its compiled view.
fn filter(compiled: &Compiled, n: u8) -> Filter {
    let networks = |n: u8| [address(n, false).into(), address(n, true).into()];
    let mut filter = Filter::new(Limits::default());
    filter.set_rules(&compiled.filter_for(id(n)));
    filter.set_own(&networks(n));
    for peer in (0..MACHINES).filter(|peer| compiled.visible_peers(id(n)).contains(&id(*peer))) {
        filter.set_peer(id(peer), &compiled.groups_of(id(peer)), &networks(peer));
    }
    filter
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn both_ends_filter_what_the_rules_say(
        policy in policy(),
        machines in machines(),
        packets in vec(packet(), 40),
    ) {
        let (compiled, plain) = (compile(&policy, &machines), Plain(&policy, &machines));
        let now = Instant::now();
        for packet in packets {
            let allowed = plain.allows(packet);
            let mut sender = filter(&compiled, packet.src);
            let out = sender.check(Direction::Outbound, id(packet.dst), &packet.bytes(), now);
            prop_assert_eq!(out == Verdict::Allow, allowed, "{:?}: {:?}", packet, out);
            let mut receiver = filter(&compiled, packet.dst);
            let in_ = receiver.check(Direction::Inbound, id(packet.src), &packet.bytes(), now);
            prop_assert_eq!(in_ == Verdict::Allow, allowed, "{:?}: {:?}", packet, in_);
        }
    }

    #[test]
    fn machines_see_each_other_if_anything_is_open(policy in policy(), machines in machines()) {
        let (compiled, plain) = (compile(&policy, &machines), Plain(&policy, &machines));
        for one in 0..MACHINES {
            let peers: BTreeSet<_> = (0..MACHINES)
                .filter(|two| one != *two && (plain.opens(one, *two) || plain.opens(*two, one)))
                .collect();
            let ids: BTreeSet<_> = peers.iter().map(|n| id(*n)).collect();
            prop_assert_eq!(&compiled.visible_peers(id(one)), &ids);
            for two in 0..MACHINES {
                prop_assert_eq!(compiled.sees(id(one), id(two)), peers.contains(&two));
            }
        }
    }

    /// A change leaves the org as if it had been compiled anew, and names every machine whose view
    /// it touched.
    #[test]
    fn changes_name_everyone_they_touch(
        policy in policy(),
        machines in machines(),
        changes in vec(((0..MACHINES).prop_map(id), prop::option::of(facts())), 1..8),
    ) {
        let mut machines = machines;
        let mut compiled = compile(&policy, &machines);
        for (machine, facts) in changes {
            let before = compile(&policy, &machines);
            let change = match facts {
                Some(facts) => {
                    machines.insert(machine, facts.clone());
                    compiled.set_machine(machine, facts)
                }
                None => {
                    machines.remove(&machine);
                    compiled.remove_machine(machine)
                }
            };
            let after = compile(&policy, &machines);
            let affected: BTreeSet<_> = change.affected().collect();
            prop_assert!(!affected.contains(&machine));
            for other in (0..MACHINES).map(id) {
                prop_assert_eq!(compiled.visible_peers(other), after.visible_peers(other));
                prop_assert_eq!(compiled.filter_for(other), after.filter_for(other));
                prop_assert_eq!(compiled.groups_of(other), after.groups_of(other));
                if other == machine {
                    continue;
                }
                let (saw, sees) = (before.sees(other, machine), after.sees(other, machine));
                prop_assert_eq!(change.appeared.contains(&other), !saw && sees);
                prop_assert_eq!(change.vanished.contains(&other), saw && !sees);
                let regrouped = before.groups_of(machine) != after.groups_of(machine);
                prop_assert_eq!(change.changed.contains(&other), saw && sees && regrouped);
                if !affected.contains(&other) {
                    prop_assert_eq!(before.visible_peers(other), after.visible_peers(other));
                    prop_assert_eq!(before.filter_for(other), after.filter_for(other));
                }
            }
        }
    }

    #[test]
    fn filters_name_no_machine_that_is_not_seen(policy in policy(), machines in machines()) {
        let compiled = compile(&policy, &machines);
        for machine in (0..MACHINES).map(id) {
            let filter = compiled.filter_for(machine);
            let peers = compiled.visible_peers(machine);
            for selector in filter.inbound.iter().chain(&filter.outbound).flat_map(|r| &r.peers) {
                if let ztna_proto::filter::PeerSelector::Machine(named) = selector {
                    prop_assert!(peers.contains(named));
                }
            }
        }
    }
}
