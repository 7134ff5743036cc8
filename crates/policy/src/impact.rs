//! Whom a change connects and cuts off, before it is made.

use std::collections::{BTreeMap, BTreeSet};

use ztna_proto::ids::MachineId;
use ztna_proto::policy::{Impact, Pair, Pairs};

use crate::compiled::Compiled;

/// Most pairs of machines that are named of each kind. All are counted.
pub const MAX_PAIRS: usize = 1_000;

/// Compares two policies over the same machines.
#[must_use]
pub fn impact(before: &Compiled, after: &Compiled) -> Impact {
    // Machines of one class before and one class after fare alike.
    let mut kinds: BTreeMap<(u32, u32), Vec<MachineId>> = BTreeMap::new();
    for (id, _) in after.machines() {
        if let (Some(old), Some(new)) = (before.class_of(id), after.class_of(id)) {
            kinds.entry((old, new)).or_default().push(id);
        }
    }
    let mut by_old: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
    let mut by_new: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for kind in kinds.keys() {
        by_old.entry(kind.0).or_default().insert(*kind);
        by_new.entry(kind.1).or_default().insert(*kind);
    }
    let mut impact = Impact::default();
    for (src, sources) in &kinds {
        let old = before.openable(src.0);
        let new = after.openable(src.1);
        let old = old.iter().filter_map(|class| by_old.get(class));
        let new = new.iter().filter_map(|class| by_new.get(class));
        let candidates: BTreeSet<_> = old.chain(new).flatten().collect();
        for dst in candidates {
            let was = before.opening(src.0, dst.0);
            let is = after.opening(src.1, dst.1);
            let list = match (was.is_empty(), is.is_empty()) {
                (true, false) => &mut impact.connects,
                (false, true) => &mut impact.cuts,
                (false, false) if was != is => &mut impact.changes,
                _ => continue,
            };
            add(list, sources, kinds.get(dst).map_or(&[], Vec::as_slice));
        }
    }
    impact
}

fn add(list: &mut Pairs, sources: &[MachineId], destinations: &[MachineId]) {
    // A kind is the same as another, or they have no machine in common.
    let same = sources.first() == destinations.first();
    let count = sources.len() * destinations.len() - if same { sources.len() } else { 0 };
    let count = count.try_into().unwrap_or(u64::MAX);
    list.count = list.count.saturating_add(count);
    let room = MAX_PAIRS.saturating_sub(list.pairs.len());
    let pairs = sources.iter().flat_map(|src| {
        let others = destinations.iter().filter(move |dst| *dst != src);
        others.map(|dst| Pair {
            src: *src,
            dst: *dst,
        })
    });
    list.pairs.extend(pairs.take(room));
}
