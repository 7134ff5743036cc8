//! Those who are touched by a change are told the difference.

use std::collections::BTreeSet;

use ztna_netmap::records::{Edit, Record};
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::ServerMessage;

use super::{OrgState, Result};

impl OrgState {
    /// Tells those that are connected how the changed machines look to them now: who is touched, by
    /// other rules for it or in its own record, and who only sees them. Costs the product of the two,
    /// whatever the size of the org.
    pub(super) fn update(
        &mut self,
        touched: &BTreeSet<MachineId>,
        seeing: &BTreeSet<MachineId>,
        changed: &BTreeSet<MachineId>,
    ) -> Result<()> {
        for id in touched.union(seeing) {
            let Some(entry) = self.machines.get(id) else {
                continue;
            };
            if !self.streams.contains_key(id) {
                continue;
            }
            let mut edit = Edit::default();
            if touched.contains(id) {
                edit.this = Some(entry.this.clone());
                edit.filter = Some(Record::filter(&self.compiled.filter_for(*id))?);
            }
            // A changed machine may see anybody anew.
            let mut others = changed.clone();
            if changed.contains(id) {
                edit.relays = Some(self.relays_of(entry));
                others.extend(self.machines.keys());
            }
            others.remove(id);
            for other in others {
                let sees = self.compiled.sees(*id, other);
                let seen = sees.then(|| self.seen(*id, other)).transpose()?;
                edit.peers.insert(other, seen.flatten());
            }
            self.tell(*id, edit)?;
        }
        Ok(())
    }

    /// Tells every connected machine of another relay map.
    pub(super) fn update_relays(&mut self) -> Result<()> {
        let all: Vec<MachineId> = self.streams.keys().copied().collect();
        for id in all {
            let relays = self.machines.get(&id).map(|entry| self.relays_of(entry));
            self.tell(
                id,
                Edit {
                    relays,
                    ..Edit::default()
                },
            )?;
        }
        Ok(())
    }

    /// Tells every connected machine how everything looks to it now.
    pub(super) fn update_all(&mut self) -> Result<()> {
        self.update_wholly(&self.streams.keys().copied().collect())
    }

    /// Tells these machines, as far as they are connected, how everything looks to them now.
    pub(super) fn update_wholly(&mut self, machines: &BTreeSet<MachineId>) -> Result<()> {
        for id in machines.iter().copied() {
            if !self.streams.contains_key(&id) {
                continue;
            }
            let (Some(map), Some(stream)) = (self.map_of(id), self.streams.get(&id)) else {
                continue;
            };
            let mut edit = Edit {
                this: Some(map.this().clone()),
                filter: Some(map.filter().clone()),
                relays: Some(map.relays().clone()),
                ..Edit::default()
            };
            let held = stream.map.peers().keys().map(|peer| (*peer, None));
            edit.peers.extend(held);
            let new = map.peers().iter();
            edit.peers
                .extend(new.map(|(peer, record)| (*peer, Some(record.clone()))));
            self.tell(id, edit)?;
        }
        Ok(())
    }

    /// Changes the map that a connected machine holds, and sends it the difference.
    fn tell(&mut self, id: MachineId, edit: Edit) -> Result<()> {
        let seq = self.seq.unsigned_abs();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let peers = edit.peers.iter();
        let appeared: Vec<MachineId> = peers
            .filter(|(peer, new)| new.is_some() && !stream.map.peers().contains_key(peer))
            .map(|(peer, _)| *peer)
            .collect();
        let Some(delta) = stream.map.edit(edit, stream.seq, seq) else {
            return Ok(());
        };
        stream.seq = seq;
        let delta = ServerMessage::Delta(delta).encode()?;
        let volatile = self.volatile(appeared, false)?;
        self.send(id, [Some(delta), volatile].into_iter().flatten());
        Ok(())
    }
}
