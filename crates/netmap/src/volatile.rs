//! How peers are reached right now.

use std::collections::{BTreeMap, BTreeSet};

use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{MAX_ENDPOINTS, PeerVolatile, VolatileUpdate};

use crate::MAX_PEERS;

/// Volatile states by peer. They may come before the peer's record does, and outlive the stream.
#[derive(Default)]
pub(crate) struct VolatileStates {
    states: BTreeMap<MachineId, PeerVolatile>,
    /// Whether all of them were told since the stream stands.
    current: bool,
}

impl VolatileStates {
    /// States from the disk.
    pub(crate) fn restored(states: Vec<PeerVolatile>) -> Self {
        let mut restored = Self::default();
        for state in states {
            restored.store(state);
        }
        restored
    }

    /// Takes an update; returns the peers of which something changed.
    ///
    /// A whole update replaces everything whatever its versions say: a control plane that lost its
    /// volatile state counts anew, and messages of one stream keep their order.
    pub(crate) fn apply(&mut self, update: VolatileUpdate) -> Vec<MachineId> {
        let mut touched = BTreeSet::new();
        if update.whole {
            let old = std::mem::take(&mut self.states);
            for state in update.peers {
                self.store(state);
            }
            let ids: BTreeSet<_> = old.keys().chain(self.states.keys()).copied().collect();
            touched.extend(
                ids.into_iter()
                    .filter(|id| old.get(id) != self.states.get(id)),
            );
            self.current = true;
        } else {
            for state in update.peers {
                let id = state.id;
                let newer = |held: &PeerVolatile| held.version < state.version;
                if self.states.get(&id).is_none_or(newer) && self.store(state) {
                    touched.insert(id);
                }
            }
        }
        touched.into_iter().collect()
    }

    pub(crate) fn get(&self, peer: &MachineId) -> Option<&PeerVolatile> {
        self.states.get(peer)
    }

    pub(crate) fn is_current(&self) -> bool {
        self.current
    }

    pub(crate) fn disconnected(&mut self) {
        self.current = false;
    }

    pub(crate) fn remove(&mut self, peer: &MachineId) {
        self.states.remove(peer);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&MachineId) -> bool) {
        self.states.retain(|id, _| keep(id));
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &PeerVolatile> {
        self.states.values()
    }

    /// Stores a state within the bounds. `false`: there is no room.
    fn store(&mut self, mut state: PeerVolatile) -> bool {
        if self.states.len() >= MAX_PEERS && !self.states.contains_key(&state.id) {
            return false;
        }
        state.report.endpoints.truncate(MAX_ENDPOINTS);
        self.states.insert(state.id, state);
        true
    }
}
