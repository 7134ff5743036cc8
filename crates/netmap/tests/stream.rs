//! Random histories of an org, sent over streams that keep or lose messages.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;

use common::{State, filter, relays};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use ztna_netmap::{Netmap, NetmapError, Update};
use ztna_proto::netmap::{Resume, ServerMessage};

fn state() -> impl Strategy<Value = State> {
    let peers = btree_map(0..12u8, 0..3u8, 0..8);
    (0..2u8, peers, 0..3u8, 0..3u8).prop_map(|(name, peers, rules, regions)| State {
        name,
        peers,
        rules,
        regions,
    })
}

fn assert_is(netmap: &Netmap, state: &State) {
    assert_eq!(netmap.this(), Some(&state.this()));
    assert_eq!(netmap.peers(), &state.peers());
    assert_eq!(netmap.filter(), &filter(state.rules));
    assert_eq!(netmap.relays(), &relays(state.regions));
    assert_eq!(netmap.resume().unwrap().hash, state.records().hash());
    assert_eq!(netmap.warnings().count(), 0);
}

/// The messages that lead through the states, one text each: full maps where `full` says so,
/// deltas elsewhere, and where nothing changed a keep-alive.
fn history(states: &[State], full: &[bool]) -> Vec<String> {
    let mut texts = Vec::new();
    for (n, state) in states.iter().enumerate() {
        let (seq, records) = (n as u64 + 1, state.records());
        let before = n.checked_sub(1).map(|before| states[before].records());
        let message = match before {
            Some(before) if !full[n] => match before.diff(&records, seq - 1, seq) {
                Some(delta) => ServerMessage::Delta(delta),
                None => ServerMessage::KeepAlive(Resume {
                    seq,
                    hash: records.hash(),
                }),
            },
            _ => ServerMessage::Full(records.full(seq)),
        };
        texts.push(message.encode().unwrap());
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn full_maps_and_deltas_give_the_same(
        states in vec(state(), 1..8),
        full in vec(any::<bool>(), 8),
    ) {
        let mut netmap = Netmap::default();
        for (text, (n, state)) in history(&states, &full).iter().zip(states.iter().enumerate()) {
            let (before, was) = (netmap.peers().clone(), n.checked_sub(1).map(|n| &states[n]));
            let update = netmap.handle_text(text).unwrap();
            assert_is(&netmap, state);
            prop_assert_eq!(netmap.resume().unwrap().seq, n as u64 + 1);
            match update {
                Update::Full => {}
                Update::InSync => prop_assert_eq!(Some(state), was),
                Update::Delta(changes) => {
                    let was = was.unwrap();
                    let after = netmap.peers();
                    let changed = after.iter().filter(|(id, peer)| before.get(id) != Some(peer));
                    let removed = before.keys().filter(|id| !after.contains_key(id));
                    prop_assert!(changes.peers_changed.iter().eq(changed.map(|(id, _)| id)));
                    prop_assert!(changes.peers_removed.iter().eq(removed));
                    prop_assert_eq!(changes.this, was.name != state.name);
                    prop_assert_eq!(changes.filter, was.rules != state.rules);
                    prop_assert_eq!(changes.relays, was.regions != state.regions);
                }
                other => panic!("{other:?}"),
            }
            let saved = Netmap::load(&netmap.save()).unwrap();
            assert_is(&saved, state);
            prop_assert_eq!(saved.resume(), netmap.resume());
        }
    }

    /// Whatever a stream does to its messages, the map is at every moment one that the control
    /// plane meant, at the `seq` at which it meant it; and the next keep-alive tells if it is old.
    #[test]
    fn lost_repeated_and_reordered_messages_are_found(
        states in vec(state(), 2..8),
        full in vec(any::<bool>(), 8),
        order in vec(any::<prop::sample::Index>(), 0..16),
    ) {
        let texts = history(&states, &full);
        let mut netmap = Netmap::default();
        for index in order {
            let before = netmap.resume();
            let result = netmap.handle_text(index.get::<String>(&texts));
            if !matches!(result, Ok(Update::Full | Update::Delta(_) | Update::InSync)) {
                prop_assert_eq!(netmap.resume(), before, "a refused message changed the map");
            }
            if let Some(position) = netmap.resume() {
                assert_is(&netmap, &states[usize::try_from(position.seq).unwrap() - 1]);
            }
        }
        let last = states.last().unwrap();
        let (seq, hash) = (states.len() as u64, last.records().hash());
        let message = ServerMessage::KeepAlive(Resume { seq, hash });
        match netmap.handle(message) {
            Ok(update) => {
                prop_assert_eq!(update, Update::InSync);
                assert_is(&netmap, last);
            }
            Err(NetmapError::Gap { .. } | NetmapError::HashMismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let map = last.records().full(seq);
        prop_assert_eq!(netmap.handle(ServerMessage::Full(map)).unwrap(), Update::Full);
        assert_is(&netmap, last);
    }

    #[test]
    fn no_text_panics_or_leaves_half_a_map(
        states in vec(state(), 1..4),
        cuts in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), ".{0,3}"), 1..20),
        noise in "\\PC{0,80}",
    ) {
        let texts = history(&states, &[true, false, false, false]);
        let mut netmap = Netmap::default();
        netmap.handle_text(&texts[0]).unwrap();
        prop_assert!(netmap.handle_text(&noise).is_err());
        prop_assert!(Netmap::load(&noise).is_err());
        for (which, at, insert) in cuts {
            for source in [which.get(&texts), &netmap.save()] {
                let mut text = source.clone();
                let at = at.index(text.len());
                if !text.is_char_boundary(at) {
                    continue;
                }
                text.replace_range(at..=at, &insert);
                let before = netmap.resume();
                if netmap.handle_text(&text).is_err() {
                    prop_assert_eq!(netmap.resume(), before);
                }
                if let Ok(loaded) = Netmap::load(&text) {
                    prop_assert!(loaded.resume() != netmap.resume() || loaded.peers() == netmap.peers());
                }
            }
        }
    }
}
