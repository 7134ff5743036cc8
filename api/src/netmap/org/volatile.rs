//! Volatile state: what machines report, and how their peers hear of it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use ztna_proto::ids::{MachineId, RegionId};
use ztna_proto::netmap::{VolatileReport, VolatileUpdate};

use super::{OrgState, Result};
use crate::netmap::nodes::Said;
use crate::netmap::presence::{Presence, Verdict};

impl OrgState {
    /// A machine is alive.
    pub(in crate::netmap) fn hear(&mut self, id: MachineId, now: Instant) -> Result<()> {
        if self.machines.contains_key(&id) && self.presence_of(id).hear(now) {
            self.news_of(id)?;
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
            self.news_of(id)?;
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
                self.news_of(id)?;
            }
        }
        Ok(())
    }

    /// Volatile state that is not in the database yet.
    pub(in crate::netmap) fn take_dirty(&mut self, now: Instant) -> Vec<Said> {
        let all = self.presence.iter_mut();
        all.filter_map(|(id, presence)| presence.take_dirty(*id, now))
            .collect()
    }

    /// What was taken could not be written.
    pub(in crate::netmap) fn is_unwritten(&mut self, id: MachineId) {
        if let Some(presence) = self.presence.get_mut(&id) {
            presence.is_unwritten();
        }
    }

    /// Volatile state that other nodes have not been told of yet.
    pub(in crate::netmap) fn take_unsaid(&mut self, now: Instant) -> Vec<Said> {
        let ids = std::mem::take(&mut self.unsaid).into_iter();
        ids.filter_map(|id| Some(self.presence.get(&id)?.say(id, now)))
            .collect()
    }

    /// Another node says how machines are. `answer`: it hears at once if we know better.
    pub(in crate::netmap) fn hear_of(
        &mut self,
        said: Vec<Said>,
        answer: bool,
        now: Instant,
    ) -> Result<()> {
        for said in said {
            let id = said.id;
            if !self.machines.contains_key(&id) {
                continue;
            }
            let here = self.streams.get(&id).map(|stream| stream.since);
            match self.presence_of(id).hear_of(&said, here, now) {
                Verdict::Same => {}
                Verdict::Old if answer && here.is_some() => self.say(id),
                Verdict::Old | Verdict::Absurd => {}
                Verdict::Overruled => self.say(id),
                verdict @ (Verdict::News | Verdict::Taken) => {
                    self.runs_elsewhere(id);
                    if here.is_some() {
                        tracing::debug!(machine = %id, "a machine has connected to another node");
                        self.streams.remove(&id);
                    }
                    if verdict == Verdict::News {
                        self.tell_peers(id)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Another node has heard of machines again.
    pub(in crate::netmap) fn hear_elsewhere(&mut self, machines: &[MachineId], now: Instant) {
        for id in machines {
            if let Some(presence) = self.presence.get_mut(id) {
                presence.hear_elsewhere(now);
            }
        }
    }

    /// Who is there, and when each was last heard of.
    pub(in crate::netmap) fn presence(&self) -> BTreeMap<MachineId, (bool, Option<Timestamp>)> {
        let known = self.presence.iter();
        known
            .map(|(id, presence)| (*id, (presence.online(), presence.last_seen())))
            .collect()
    }

    /// The relay regions that machines are reached by.
    pub(in crate::netmap) fn homes(&self) -> BTreeMap<MachineId, RegionId> {
        let known = self.presence.iter();
        known
            .filter_map(|(id, presence)| Some((*id, presence.home_region()?)))
            .collect()
    }

    pub(super) fn presence_of(&mut self, id: MachineId) -> &mut Presence {
        self.presence.entry(id).or_insert_with(Presence::unknown)
    }

    /// A machine's volatile state is another: its peers and other nodes are told.
    pub(super) fn news_of(&mut self, id: MachineId) -> Result<()> {
        self.say(id);
        self.tell_peers(id)
    }

    /// Other nodes are told of a machine's volatile state.
    pub(super) fn say(&mut self, id: MachineId) {
        if self.shared.has_others {
            self.unsaid.insert(id);
        }
    }

    /// Tells everybody who sees the machine how it is reached now.
    pub(super) fn tell_peers(&mut self, id: MachineId) -> Result<()> {
        let Some(text) = self.volatile([id], false)? else {
            return Ok(());
        };
        let text = Utf8Bytes::from(text);
        for peer in self.compiled.visible_peers(id) {
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
    pub(super) fn volatile(
        &mut self,
        ids: impl IntoIterator<Item = MachineId>,
        whole: bool,
    ) -> Result<Option<String>> {
        let mut peers = Vec::new();
        for id in ids {
            if let Some(presence) = self.presence.get_mut(&id) {
                peers.extend(presence.tell(id)?);
            }
        }
        if peers.is_empty() && !whole {
            return Ok(None);
        }
        VolatileUpdate { whole, peers }.encode().map(Some)
    }
}
