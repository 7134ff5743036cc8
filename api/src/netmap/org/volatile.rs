//! Volatile state: what machines report, and how their peers hear of it.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use jiff::Timestamp;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{PeerVolatile, ServerMessage, VolatileReport, VolatileUpdate};

use super::{OrgState, Result};
use crate::netmap::presence::Presence;

impl OrgState {
    /// A machine is alive.
    pub(in crate::netmap) fn hear(&mut self, id: MachineId, now: Instant) -> Result<()> {
        if self.machines.contains_key(&id) && self.presence_of(id).hear(now) {
            self.tell_peers(id)?;
        }
        Ok(())
    }

    /// A machine reported its volatile state.
    pub(in crate::netmap) fn report(
        &mut self,
        id: MachineId,
        report: VolatileReport,
        now: Instant,
    ) -> Result<()> {
        if self.machines.contains_key(&id) && self.presence_of(id).report(report, now) {
            self.tell_peers(id)?;
        }
        Ok(())
    }

    /// Marks machines offline that have been silent for too long, and tells their peers.
    pub(in crate::netmap) fn sweep(&mut self, now: Instant) -> Result<()> {
        let overdue: Vec<MachineId> = self
            .presence
            .iter()
            .filter(|(_, presence)| presence.is_overdue(now))
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            if self.presence_of(id).leave() {
                self.tell_peers(id)?;
            }
        }
        Ok(())
    }

    /// Volatile state that is not in the database yet.
    pub(in crate::netmap) fn take_dirty(
        &mut self,
        now: Instant,
    ) -> Vec<(MachineId, Timestamp, VolatileReport)> {
        let taken = self.presence.iter_mut().filter_map(|(id, presence)| {
            let (last_seen, report) = presence.take_dirty(now)?;
            Some((*id, last_seen, report))
        });
        taken.collect()
    }

    /// Who is there, and when each was last heard of.
    pub(in crate::netmap) fn presence(&self) -> BTreeMap<MachineId, (bool, Option<Timestamp>)> {
        let known = self.presence.iter();
        known
            .map(|(id, presence)| (*id, (presence.online(), presence.last_seen())))
            .collect()
    }

    pub(super) fn presence_of(&mut self, id: MachineId) -> &mut Presence {
        self.presence.entry(id).or_insert_with(Presence::unknown)
    }

    /// Tells everybody who sees the machine how it is reached now.
    pub(super) fn tell_peers(&mut self, id: MachineId) -> Result<()> {
        let Some(text) = self.volatile(vec![id], false)? else {
            return Ok(());
        };
        let text = Utf8Bytes::from(text);
        let connected: Vec<MachineId> = self
            .streams
            .keys()
            .filter(|peer| self.compiled.sees(id, **peer))
            .copied()
            .collect();
        for peer in connected {
            let full = self
                .streams
                .get(&peer)
                .map(|s| s.outbox.try_send(text.clone()));
            if matches!(full, Some(Err(_))) {
                self.streams.remove(&peer);
            }
        }
        Ok(())
    }

    /// Volatile state of these machines. `None` if there is nothing to tell.
    pub(super) fn volatile(&self, ids: Vec<MachineId>, whole: bool) -> Result<Option<String>> {
        let known = |id: &MachineId| self.presence.get(id)?.tell(*id);
        let peers: Vec<PeerVolatile> = ids.iter().filter_map(known).collect();
        if peers.is_empty() && !whole {
            return Ok(None);
        }
        let update = VolatileUpdate { whole, peers };
        ServerMessage::Volatile(update).encode().map(Some)
    }
}
