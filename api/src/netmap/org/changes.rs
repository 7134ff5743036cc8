//! The org has changed: who is touched by it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ztna_netmap::records::Record;
use ztna_policy::Change;
use ztna_proto::error::ErrorBody;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::ServerMessage;

use super::log::Effects;
use super::{OrgState, Result, regions_of};
use crate::netmap::ended::Ended;
use crate::netmap::load::{MachineRow, Since, Standing, Whole};

impl OrgState {
    /// Takes over the org as it was read anew, because the log did not reach back. Streams stay and
    /// are brought up to date.
    pub(in crate::netmap) fn replace(&mut self, whole: Whole) -> Result<()> {
        let mut fresh = Self::new(self.id, self.shared.clone(), whole)?;
        // What we have heard ourselves is newer than what was written down.
        fresh.presence.append(&mut self.presence);
        fresh
            .presence
            .retain(|id, _| fresh.machines.contains_key(id));
        fresh.streams = std::mem::take(&mut self.streams);
        fresh.unsaid = std::mem::take(&mut self.unsaid);
        fresh.next_serial = self.next_serial;
        fresh.streams.retain(|id, _| {
            let (old, new) = (self.machines.get(id), fresh.machines.get(id));
            old.zip(new)
                .is_none_or(|(old, new)| old.row.wg_key == new.row.wg_key)
        });
        *self = fresh;
        let is_served = |id: &&MachineId| {
            let machine = self.machines.get(id);
            machine.is_some_and(|machine| !machine.row.standing.detached)
        };
        let lost = self.streams.keys().filter(|id| !is_served(id));
        // Which of the two it was, the machine learns when it connects again.
        for id in lost.copied().collect::<Vec<_>>() {
            self.streams.remove(&id);
        }
        self.renew_tickets()?;
        self.update_all()
    }

    /// Applies what changed.
    pub(in crate::netmap) fn apply(&mut self, since: Since) -> Result<()> {
        let (mut touched, mut seeing) = (BTreeSet::new(), BTreeSet::new());
        let mut changed = BTreeSet::new();
        let mut effects = Effects::default();
        for standing in since.machines {
            match standing {
                Standing::Good(machine) => {
                    let id = machine.id;
                    changed.insert(id);
                    let old = self.machines.get(&id);
                    let held = old.is_some_and(|old| !old.row.standing.is_in());
                    let other_key = old.is_some_and(|old| old.row.wg_key != machine.wg_key);
                    let detached = machine.standing.detached;
                    let change = self.put(machine, &mut touched, &mut seeing)?;
                    effects.note(id, change);
                    // A gateway that speaks for it no more must not hear what the next one does.
                    if detached || other_key {
                        self.streams.remove(&id);
                    }
                    // Before the map, which names the relays that it opens.
                    if held && let Some(serial) = self.streams.get(&id).map(|s| s.serial) {
                        self.renew_ticket(id, serial)?;
                    }
                }
                Standing::Expired(id) => {
                    let change = self.drop_machine(id, &Ended::Expired.body(), &mut touched);
                    effects.note(id, change);
                    changed.insert(id);
                }
                Standing::Disabled(id, reason) => {
                    let why = Ended::Disabled(&reason).body();
                    let change = self.drop_machine(id, &why, &mut touched);
                    effects.note(id, change);
                    changed.insert(id);
                }
                Standing::Gone(id) => {
                    let change = self.drop_machine(id, &Ended::Deleted.body(), &mut touched);
                    effects.note(id, change);
                    changed.insert(id);
                }
            }
        }
        self.seq = since.seq;
        if let Some(relays) = &since.relays {
            self.relays = Record::relays(relays)?;
            self.regions = regions_of(relays);
            // Before the map: a machine that goes to a new region brings a ticket that opens it.
            self.renew_tickets()?;
        }
        let Some(policy) = since.policy else {
            self.log.append(self.seq, since.log, effects);
            self.update(&touched, &seeing, &changed)?;
            return match since.relays {
                Some(_) => self.update_relays(),
                None => Ok(()),
            };
        };
        effects.views = self.compiled.set_document(policy, Timestamp::now());
        touched.append(&mut seeing);
        touched.extend(&effects.views);
        self.log.append(self.seq, since.log, effects);
        self.regroup()?;
        match since.relays {
            Some(_) => self.update_all(),
            None => self.update_wholly(&touched),
        }
    }

    /// Whether rules have begun or ceased to hold since they were compiled.
    pub(in crate::netmap) fn is_overdue(&self, now: Timestamp) -> bool {
        self.compiled.until().is_some_and(|until| until <= now)
    }

    /// `touched`: to whom the rules let through something else; `seeing`: who sees another record.
    fn put(
        &mut self,
        machine: MachineRow,
        touched: &mut BTreeSet<MachineId>,
        seeing: &mut BTreeSet<MachineId>,
    ) -> Result<Change> {
        let id = machine.id;
        let change = match machine.standing.is_in() {
            true => self.compiled.set_machine(id, machine.facts()),
            false => self.compiled.remove_machine(id),
        };
        let entry = self.entry(machine)?;
        touched.extend(change.affected());
        touched.insert(id);
        let old = self.machines.get(&id);
        if old.is_some_and(|old| old.peer != entry.peer) {
            seeing.extend(self.compiled.visible_peers(id));
        }
        self.machines.insert(id, entry);
        Ok(change)
    }

    /// Makes the records anew of machines whose groups are others.
    fn regroup(&mut self) -> Result<()> {
        let regrouped = self
            .machines
            .iter()
            .filter(|(id, entry)| self.compiled.groups_of(**id) != entry.groups);
        for row in regrouped
            .map(|(_, entry)| entry.row.clone())
            .collect::<Vec<_>>()
        {
            let id = row.id;
            let entry = self.entry(row)?;
            self.machines.insert(id, entry);
        }
        Ok(())
    }

    fn drop_machine(
        &mut self,
        id: MachineId,
        why: &ErrorBody,
        touched: &mut BTreeSet<MachineId>,
    ) -> Change {
        let change = self.compiled.remove_machine(id);
        touched.extend(change.affected());
        self.machines.remove(&id);
        self.presence.remove(&id);
        if let Some(stream) = self.streams.remove(&id)
            && let Ok(text) = ServerMessage::Error(why.clone()).encode()
        {
            // With a full outbox the machine learns it when it connects again.
            let _ = stream.outbox.try_send(text.into());
        }
        change
    }
}
