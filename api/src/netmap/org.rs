//! One org in memory: compiled rules, records, streams, volatile state. No IO: every send goes
//! into a bounded outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use ztna_netmap::records::{Edit, Record, RecordSet};
use ztna_policy::{Compiled, compile};
use ztna_proto::error::ErrorBody;
use ztna_proto::ids::{MachineId, OrgId, RegionId};
use ztna_proto::keys::KemKeyHash;
use ztna_proto::netmap::{PeerVolatile, Resume, ServerMessage, VolatileReport, VolatileUpdate};
use ztna_proto::relay::RelayMap;
use ztna_proto::ticket::TicketSigner;

use super::ended::Ended;
use super::entry::{Entry, Org};
use super::load::{MachineRow, Since, Standing, Whole};
use super::presence::Presence;
use crate::relays;

/// Messages that wait for a machine to read them. A machine that falls behind further is cut off.
pub(super) const OUTBOX: usize = 256;

/// What goes into an outbox. The stream ends when the outbox closes.
pub(super) type Outbox = mpsc::Sender<Utf8Bytes>;

/// Something could not be serialised; never for values of our own types.
pub(super) type Result<T> = serde_json::Result<T>;

/// What all orgs of the deployment share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) signer: Arc<TicketSigner>,
    pub(super) dns_suffix: String,
}

/// An org's state.
pub(super) struct OrgState {
    id: OrgId,
    name: String,
    slug: String,
    seq: i64,
    shared: Shared,
    compiled: Compiled,
    relays: Record,
    /// What the relay map names, and tickets open.
    regions: Vec<RegionId>,
    machines: BTreeMap<MachineId, Entry>,
    presence: BTreeMap<MachineId, Presence>,
    streams: BTreeMap<MachineId, Stream>,
    /// Numbers streams, so that an old one's end is not taken for the new one's.
    next_serial: u64,
}

/// A connected machine, and the map that it holds once it has read its outbox.
struct Stream {
    serial: u64,
    outbox: Outbox,
    map: RecordSet,
    seq: u64,
}

impl OrgState {
    /// An org as it was read.
    pub(super) fn new(id: OrgId, shared: Shared, whole: Whole) -> Result<Self> {
        let facts = |machine: &MachineRow| (machine.id, machine.facts());
        let mut state = Self {
            id,
            name: whole.name,
            slug: whole.slug,
            seq: whole.seq,
            shared,
            compiled: compile(
                whole.policy,
                whole.machines.iter().map(facts),
                Timestamp::now(),
            ),
            relays: Record::relays(&whole.relays)?,
            regions: regions_of(&whole.relays),
            machines: BTreeMap::new(),
            presence: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_serial: 0,
        };
        for machine in whole.machines {
            let id = machine.id;
            let entry = state.entry(machine)?;
            state.machines.insert(id, entry);
        }
        let now = Instant::now();
        for row in whole.presence {
            state.presence.insert(row.id, Presence::restored(row, now));
        }
        Ok(state)
    }

    /// The `seq` that the state stands at.
    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    /// Takes over the org as it was read anew, because the log did not reach back. Streams stay and
    /// are brought up to date.
    pub(super) fn replace(&mut self, whole: Whole) -> Result<()> {
        let mut fresh = Self::new(self.id, self.shared.clone(), whole)?;
        // What we have heard ourselves is newer than what was written down.
        fresh.presence.append(&mut self.presence);
        fresh
            .presence
            .retain(|id, _| fresh.machines.contains_key(id));
        fresh.streams = std::mem::take(&mut self.streams);
        fresh.next_serial = self.next_serial;
        *self = fresh;
        let lost = self
            .streams
            .keys()
            .filter(|id| !self.machines.contains_key(id));
        // Which of the two it was, the machine learns when it connects again.
        for id in lost.copied().collect::<Vec<_>>() {
            self.streams.remove(&id);
        }
        self.renew_tickets()?;
        self.update_all()
    }

    /// Applies what changed.
    pub(super) fn apply(&mut self, since: Since) -> Result<()> {
        let mut touched = BTreeSet::new();
        let mut changed = BTreeSet::new();
        for standing in since.machines {
            match standing {
                Standing::Good(machine) => {
                    changed.insert(machine.id);
                    self.put(machine, &mut touched)?;
                }
                Standing::Expired(id) => {
                    self.drop_machine(id, &Ended::Expired.body(), &mut touched);
                    changed.insert(id);
                }
                Standing::Gone(id) => {
                    self.drop_machine(id, &Ended::Deleted.body(), &mut touched);
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
            self.update(&touched, &changed)?;
            return match since.relays {
                Some(_) => self.update_relays(),
                None => Ok(()),
            };
        };
        touched.extend(self.compiled.set_document(policy, Timestamp::now()));
        self.regroup()?;
        match since.relays {
            Some(_) => self.update_all(),
            None => self.update_wholly(&touched),
        }
    }

    /// Whether rules have begun or ceased to hold since they were compiled.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.compiled.until().is_some_and(|until| until <= now)
    }

    fn put(&mut self, machine: MachineRow, touched: &mut BTreeSet<MachineId>) -> Result<()> {
        let id = machine.id;
        let change = self.compiled.set_machine(id, machine.facts());
        let entry = self.entry(machine)?;
        touched.extend(change.affected());
        touched.insert(id);
        let old = self.machines.get(&id);
        if old.is_some_and(|old| old.peer != entry.peer) {
            touched.extend(self.compiled.visible_peers(id));
        }
        self.machines.insert(id, entry);
        Ok(())
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

    fn drop_machine(&mut self, id: MachineId, why: &ErrorBody, touched: &mut BTreeSet<MachineId>) {
        touched.extend(self.compiled.remove_machine(id).affected());
        self.machines.remove(&id);
        self.presence.remove(&id);
        if let Some(stream) = self.streams.remove(&id)
            && let Ok(text) = ServerMessage::Error(why.clone()).encode()
        {
            // With a full outbox the machine learns it when it connects again.
            let _ = stream.outbox.try_send(text.into());
        }
    }

    /// Tells the touched machines that are connected how the changed ones look to them now. Costs
    /// the product of the two, whatever the size of the org.
    fn update(
        &mut self,
        touched: &BTreeSet<MachineId>,
        changed: &BTreeSet<MachineId>,
    ) -> Result<()> {
        for id in touched {
            let Some(entry) = self.machines.get(id) else {
                continue;
            };
            if !self.streams.contains_key(id) {
                continue;
            }
            let mut edit = Edit {
                this: Some(entry.this.clone()),
                filter: Some(Record::filter(&self.compiled.filter_for(*id))?),
                ..Edit::default()
            };
            // A changed machine may see anybody anew.
            let mut others = changed.clone();
            if changed.contains(id) {
                others.extend(self.machines.keys());
            }
            others.remove(id);
            for other in others {
                let seen = self.machines.get(&other);
                let seen = seen.filter(|_| self.compiled.sees(*id, other));
                edit.peers
                    .insert(other, seen.map(|entry| entry.peer.clone()));
            }
            self.tell(*id, edit)?;
        }
        Ok(())
    }

    /// Tells every connected machine of another relay map.
    fn update_relays(&mut self) -> Result<()> {
        let all: Vec<MachineId> = self.streams.keys().copied().collect();
        for id in all {
            let relays = Some(self.relays.clone());
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

    /// Gives every connected machine a ticket for the regions that there are now.
    fn renew_tickets(&mut self) -> Result<()> {
        let all = self.streams.iter().map(|(id, stream)| (*id, stream.serial));
        for (id, serial) in all.collect::<Vec<_>>() {
            self.renew_ticket(id, serial)?;
        }
        Ok(())
    }

    /// Tells every connected machine how everything looks to it now.
    fn update_all(&mut self) -> Result<()> {
        self.update_wholly(&self.streams.keys().copied().collect())
    }

    /// Tells these machines, as far as they are connected, how everything looks to them now.
    fn update_wholly(&mut self, machines: &BTreeSet<MachineId>) -> Result<()> {
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

    /// Registers a stream and puts the first messages into its outbox. `None`: the machine is not
    /// (any more) in the org. A stream that the machine had before ends.
    pub(super) fn connect(
        &mut self,
        id: MachineId,
        outbox: Outbox,
        now: Instant,
    ) -> Result<Option<u64>> {
        let (Some(map), Some(ticket)) = (self.map_of(id), self.ticket_of(id)) else {
            return Ok(None);
        };
        let seq = self.seq.unsigned_abs();
        let first = [
            Some(ServerMessage::Full(map.full(seq)).encode()?),
            self.volatile(map.peers().keys().copied().collect(), true)?,
            Some(ServerMessage::RelayTicket(ticket).encode()?),
        ];
        let serial = self.next_serial;
        self.next_serial += 1;
        let stream = Stream {
            serial,
            outbox,
            map,
            seq,
        };
        self.streams.insert(id, stream);
        self.send(id, first.into_iter().flatten());
        let news = self.presence_of(id).hear(now);
        if news {
            self.tell_peers(id)?;
        }
        Ok(Some(serial))
    }

    /// A stream has ended. `leaving`: the machine said so, and is offline at once; otherwise it has
    /// the time that a silent machine has to come back.
    pub(super) fn disconnect(&mut self, id: MachineId, serial: u64, leaving: bool) -> Result<()> {
        if self.streams.get(&id).is_none_or(|s| s.serial != serial) {
            return Ok(());
        }
        self.streams.remove(&id);
        if leaving && self.presence.get_mut(&id).is_some_and(Presence::leave) {
            self.tell_peers(id)?;
        }
        Ok(())
    }

    /// Sends the whole map again.
    pub(super) fn resync(&mut self, id: MachineId, serial: u64) -> Result<()> {
        let seq = self.seq.unsigned_abs();
        let Some(map) = self.map_of(id) else {
            return Ok(());
        };
        let Some(stream) = self.stream(id, serial) else {
            return Ok(());
        };
        let text = ServerMessage::Full(map.full(seq)).encode()?;
        stream.map = map;
        stream.seq = seq;
        self.send(id, [text]);
        Ok(())
    }

    /// Tells a machine where its map should stand.
    pub(super) fn keep_alive(&mut self, id: MachineId, serial: u64) -> Result<()> {
        let Some(stream) = self.stream(id, serial) else {
            return Ok(());
        };
        let text = ServerMessage::KeepAlive(Resume {
            seq: stream.seq,
            hash: stream.map.hash(),
        })
        .encode()?;
        self.send(id, [text]);
        Ok(())
    }

    /// Sends a machine a fresh ticket.
    pub(super) fn renew_ticket(&mut self, id: MachineId, serial: u64) -> Result<()> {
        if self.stream(id, serial).is_some()
            && let Some(ticket) = self.ticket_of(id)
        {
            let text = ServerMessage::RelayTicket(ticket).encode()?;
            self.send(id, [text]);
        }
        Ok(())
    }

    /// A ticket for the org's relays. `None`: the machine is not (any more) in the org.
    pub(super) fn ticket_of(&self, id: MachineId) -> Option<String> {
        let machine = self.machines.get(&id)?;
        let signer = &self.shared.signer;
        Some(relays::ticket(
            signer,
            self.id,
            id,
            machine.wg_key,
            &self.regions,
        ))
    }

    /// A machine is alive.
    pub(super) fn hear(&mut self, id: MachineId, now: Instant) -> Result<()> {
        if self.machines.contains_key(&id) && self.presence_of(id).hear(now) {
            self.tell_peers(id)?;
        }
        Ok(())
    }

    /// A machine reported its volatile state.
    pub(super) fn report(
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
    pub(super) fn sweep(&mut self, now: Instant) -> Result<()> {
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
    pub(super) fn take_dirty(
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
    pub(super) fn presence(&self) -> BTreeMap<MachineId, (bool, Option<Timestamp>)> {
        let known = self.presence.iter();
        known
            .map(|(id, presence)| (*id, (presence.online(), presence.last_seen())))
            .collect()
    }

    /// Peers of a machine that have this ML-KEM key.
    pub(super) fn peers_with_kem_key(&self, id: MachineId, hash: &KemKeyHash) -> Vec<MachineId> {
        let holders = self.machines.iter().filter(|(_, m)| m.kem_hash == *hash);
        holders
            .map(|(peer, _)| *peer)
            .filter(|peer| self.compiled.sees(id, *peer))
            .collect()
    }

    /// How many machines are connected.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether anybody is connected or counts as there.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty() && !self.presence.values().any(Presence::online)
    }

    fn stream(&mut self, id: MachineId, serial: u64) -> Option<&mut Stream> {
        self.streams.get_mut(&id).filter(|s| s.serial == serial)
    }

    fn presence_of(&mut self, id: MachineId) -> &mut Presence {
        self.presence.entry(id).or_insert_with(Presence::unknown)
    }

    /// Puts messages into a machine's outbox. One that is full or closed ends the stream.
    fn send(&mut self, id: MachineId, messages: impl IntoIterator<Item = String>) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let mut messages = messages.into_iter();
        let sent = messages.try_for_each(|text| stream.outbox.try_send(text.into()));
        if sent.is_err() {
            tracing::debug!(machine = %id, "a machine does not read its stream; it is cut off");
            self.streams.remove(&id);
        }
    }

    /// Tells everybody who sees the machine how it is reached now.
    fn tell_peers(&mut self, id: MachineId) -> Result<()> {
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
    fn volatile(&self, ids: Vec<MachineId>, whole: bool) -> Result<Option<String>> {
        let known = |id: &MachineId| self.presence.get(id)?.tell(*id);
        let peers: Vec<PeerVolatile> = ids.iter().filter_map(known).collect();
        if peers.is_empty() && !whole {
            return Ok(None);
        }
        let update = VolatileUpdate { whole, peers };
        ServerMessage::Volatile(update).encode().map(Some)
    }

    /// The map that a machine should hold.
    fn map_of(&self, id: MachineId) -> Option<RecordSet> {
        let this = self.machines.get(&id)?;
        let peers = self.compiled.visible_peers(id).into_iter();
        let peers = peers.filter_map(|peer| Some((peer, self.machines.get(&peer)?.peer.clone())));
        let filter = Record::filter(&self.compiled.filter_for(id)).ok()?;
        Some(RecordSet::new(
            this.this.clone(),
            peers.collect(),
            filter,
            self.relays.clone(),
        ))
    }

    /// A machine's records; the compiled rules know it already.
    fn entry(&self, machine: MachineRow) -> Result<Entry> {
        let groups = self.compiled.groups_of(machine.id);
        let org = Org {
            id: self.id,
            name: &self.name,
            slug: &self.slug,
            dns_suffix: &self.shared.dns_suffix,
        };
        Entry::new(&org, machine, groups)
    }
}

fn regions_of(relays: &RelayMap) -> Vec<RegionId> {
    relays.regions.keys().copied().collect()
}

#[cfg(test)]
#[path = "org_tests.rs"]
mod tests;
