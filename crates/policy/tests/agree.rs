//! Documents mean what they say, read plainly: for the packet filters at both ends, for who sees
//! whom, and for explanations.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use ztna_filter::{Direction, Filter, Limits, Verdict};
use ztna_policy::{
    Compiled, Document, Facts, Party, Place, Query, compile, evaluate, impact, internet,
};
use ztna_proto::filter::{PeerSelector, Protocol};
use ztna_proto::ids::MachineId;

use common::{MACHINES, Org, Packet, Plain, document, facts, id, kinds, now, org, packet};

fn parse(plain: &Plain) -> Arc<Document> {
    parse_text(&plain.text(), plain.restricting)
}

fn parse_text(text: &str, restricting: bool) -> Arc<Document> {
    let document = Document::parse(text).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    Arc::new(match restricting {
        true => document.restricting(),
        false => document,
    })
}

fn compiled(plain: &Plain, org: &Org) -> Compiled {
    compile(parse(plain), org.clone(), now())
}

/// The filter of a machine, set up from its compiled view.
fn filter(compiled: &Compiled, org: &Org, machine: MachineId) -> Filter {
    let networks = |facts: &Facts| {
        let own = facts.addresses.iter().map(|address| (*address).into());
        own.chain(facts.routes.iter().copied()).collect::<Vec<_>>()
    };
    let mut filter = Filter::new(Limits::default());
    filter.set_rules(&compiled.filter_for(machine));
    if let Some(facts) = org.get(&machine) {
        filter.set_own(&networks(facts));
    }
    for peer in compiled.visible_peers(machine) {
        filter.set_peer(peer, &compiled.groups_of(peer), &networks(&org[&peer]));
    }
    filter
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn both_ends_filter_what_the_document_says_and_explanations_agree(
        plain in document(),
        org in org(),
        packets in vec(packet(), 40),
    ) {
        let compiled = compiled(&plain, &org);
        let now_here = Instant::now();
        for packet in packets {
            let (src, dst) = (id(packet.src), id(packet.dst));
            let allowed = plain.allows(&org, packet);
            let (Some(from), Some(to)) = (org.get(&src), org.get(&dst)) else {
                prop_assert!(!compiled.sees(src, dst));
                continue;
            };
            let Some(place) = packet.place(&org) else { continue };
            let bytes = packet.bytes();
            let out = filter(&compiled, &org, src).check(Direction::Outbound, dst, &bytes, now_here);
            prop_assert_eq!(out == Verdict::Allow, allowed, "{:?}: {:?}\n{}", packet, out, plain.text());
            let in_ = filter(&compiled, &org, dst).check(Direction::Inbound, src, &bytes, now_here);
            prop_assert_eq!(in_ == Verdict::Allow, allowed, "{:?}: {:?}\n{}", packet, in_, plain.text());
            let verdict = evaluate(compiled.document(), &Query {
                src: Party { id: Some(src), facts: from },
                dst: Party { id: Some(dst), facts: to },
                place,
                protocol: match packet.protocol {
                    6 => Protocol::Tcp,
                    17 => Protocol::Udp,
                    1 | 58 => Protocol::Icmp,
                    number => Protocol::Number(number),
                },
                port: Some(packet.port),
                now: now(),
            });
            prop_assert_eq!(verdict.allowed, allowed, "{:?}: {}\n{}", packet, verdict.reason, plain.text());
            if verdict.allowed {
                let rules = &compiled.reaches(src)[&dst];
                prop_assert!(verdict.matched.iter().all(|rule| rules.contains(&rule.rule)), "{:?}\n{}", packet, plain.text());
            }
            prop_assert!(verdict.allowed || !verdict.matched.is_empty() || verdict.closest.is_some() || !plain.accepts());
        }
    }

    #[test]
    fn machines_see_each_other_if_anything_is_open(plain in document(), org in org()) {
        let compiled = compiled(&plain, &org);
        let opens = |src, dst| kinds(src, dst).any(|packet: Packet| plain.allows(&org, packet));
        for one in 0..MACHINES {
            let (mut peers, mut reached, mut reached_by) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for two in (0..MACHINES).filter(|two| *two != one) {
                let (there, back) = (opens(one, two), opens(two, one));
                prop_assert_eq!(compiled.opens(id(one), id(two)), there, "{} {}\n{}", one, two, plain.text());
                prop_assert_eq!(compiled.sees(id(one), id(two)), there || back);
                let open = |route: &&IpNet| kinds(one, two).any(|packet| match packet.place(&org) {
                    Some(Place::Behind(to)) => {
                        // An exit node carries what is public.
                        let carried = route.prefix_len() > 0
                            || internet().iter().any(|public| public.contains(&to));
                        carried && route.contains(&to) && plain.allows(&org, packet)
                    }
                    _ => false,
                });
                let routes = org.get(&id(two)).into_iter().flat_map(|facts| &facts.routes);
                let routes: BTreeSet<_> = routes.filter(open).copied().collect();
                prop_assert_eq!(compiled.open_routes(id(one), id(two)), routes, "{} {}\n{}", one, two, plain.text());
                if there || back {
                    peers.insert(id(two));
                }
                if there {
                    reached.insert(id(two));
                }
                if back {
                    reached_by.insert(id(two));
                }
            }
            prop_assert_eq!(&compiled.visible_peers(id(one)), &peers);
            let named: BTreeSet<_> = compiled.reaches(id(one)).into_keys().collect();
            prop_assert_eq!(&named, &reached);
            let named: BTreeSet<_> = compiled.reached_by(id(one)).into_keys().collect();
            prop_assert_eq!(&named, &reached_by);
            let filter = compiled.filter_for(id(one));
            for selector in filter.inbound.iter().chain(&filter.outbound).flat_map(|r| &r.peers) {
                if let PeerSelector::Machine(named) = selector {
                    prop_assert!(peers.contains(named), "the filter names a machine that is not seen");
                }
            }
        }
    }

    /// A change of machines leaves the org as if it had been compiled anew, and names every machine
    /// whose view it touched.
    #[test]
    fn a_lockdown_leaves_nothing_open(plain in document(), org in org()) {
        let document = Arc::unwrap_or_clone(parse(&plain)).locked_down();
        let compiled = compile(document.into(), org.clone(), now());
        for one in org.keys() {
            prop_assert_eq!(compiled.visible_peers(*one), BTreeSet::new(), "{}", plain.text());
            prop_assert!(compiled.reaches(*one).is_empty() && compiled.reached_by(*one).is_empty());
        }
    }

    #[test]
    fn changes_of_machines_name_everyone_they_touch(
        plain in document(),
        org in org(),
        changes in vec(((0..MACHINES).prop_map(id), prop::option::of(facts(0))), 1..6),
    ) {
        let mut org = org;
        let mut held = compiled(&plain, &org);
        for (machine, facts) in changes {
            let before = compiled(&plain, &org);
            let change = match facts {
                Some(facts) => {
                    org.insert(machine, facts.clone());
                    held.set_machine(machine, facts)
                }
                None => {
                    org.remove(&machine);
                    held.remove_machine(machine)
                }
            };
            let after = compiled(&plain, &org);
            let affected: BTreeSet<_> = change.affected().collect();
            prop_assert!(!affected.contains(&machine));
            for other in (0..MACHINES).map(id) {
                prop_assert_eq!(held.visible_peers(other), after.visible_peers(other));
                prop_assert_eq!(held.filter_for(other), after.filter_for(other));
                prop_assert_eq!(held.groups_of(other), after.groups_of(other));
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

    /// The same of another document; and the dry run tells the same as a look at every pair.
    #[test]
    fn changes_of_the_document_name_everyone_they_touch(
        first in document(),
        second in document(),
        same_rules in any::<bool>(),
        same_words in any::<bool>(),
        org in org(),
    ) {
        let before = compiled(&first, &org);
        let mut held = compiled(&first, &org);
        let mut text = if same_rules { first.text() } else { second.text() };
        if !same_words {
            // What rules call a group, a host or a posture is something else now.
            for (word, other) in [("bob@", "alice@"), ("10.1.0.0/16", "10.0.0.0/9"), ("'linux'", "'macos'")] {
                text = text.replace(word, other);
            }
        }
        let second = parse_text(&text, second.restricting);
        let affected = held.set_document(Arc::clone(&second), now());
        let after = compile(second, org.clone(), now());
        for machine in org.keys().copied() {
            prop_assert_eq!(held.visible_peers(machine), after.visible_peers(machine));
            prop_assert_eq!(held.filter_for(machine), after.filter_for(machine));
            prop_assert_eq!(held.groups_of(machine), after.groups_of(machine));
            let view = |compiled: &Compiled| {
                let peers = compiled.visible_peers(machine).into_iter();
                let peers = peers.map(|peer| (peer, compiled.groups_of(peer)));
                (compiled.filter_for(machine), peers.collect::<BTreeMap<_, _>>())
            };
            if !affected.contains(&machine) {
                prop_assert_eq!(view(&before), view(&after));
            }
        }
        let told = impact(&before, &after);
        let pairs = org.keys().flat_map(|src| org.keys().map(move |dst| (*src, *dst)));
        let (mut connects, mut cuts) = (0, 0);
        for (src, dst) in pairs {
            match (before.opens(src, dst), after.opens(src, dst)) {
                (false, true) => connects += 1,
                (true, false) => cuts += 1,
                _ => {}
            }
        }
        prop_assert_eq!((told.connects.count, told.cuts.count), (connects, cuts));
        for (list, opens) in [(&told.connects, true), (&told.cuts, false)] {
            prop_assert_eq!(list.pairs.len() as u64, list.count);
            for pair in &list.pairs {
                prop_assert_eq!(after.opens(pair.src, pair.dst), opens);
                prop_assert_eq!(before.opens(pair.src, pair.dst), !opens);
            }
        }
        let same = impact(&before, &compiled(&first, &org));
        prop_assert_eq!(same, ztna_policy::Impact::default());
    }
}

/// What the generator makes is not all alike: without this, the tests above could pass on nothing.
#[test]
fn generated_documents_allow_some_and_not_all() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut open, mut closed, mut behind) = (0, 0, 0);
    for _ in 0..200 {
        let plain = document().new_tree(&mut runner).unwrap().current();
        let org = org().new_tree(&mut runner).unwrap().current();
        for _ in 0..20 {
            let packet = packet().new_tree(&mut runner).unwrap().current();
            match (plain.allows(&org, packet), packet.place(&org)) {
                (true, Some(Place::Behind(_))) => behind += 1,
                (true, _) => open += 1,
                (false, _) => closed += 1,
            }
        }
    }
    assert!(
        open > 100 && closed > 100 && behind > 10,
        "{open} {closed} {behind}"
    );
}
