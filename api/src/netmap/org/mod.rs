//! One org in memory: compiled rules, records, streams, volatile state. No IO: every send goes
//! into a bounded outbox.

mod changes;
mod heartbeat;
mod log;
mod streams;
mod tell;
mod volatile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use ztna_netmap::records::{Record, RecordSet};
use ztna_policy::{Compiled, compile};
use ztna_proto::ids::{MachineId, OrgId, RegionId};
use ztna_proto::keys::KemKeyHash;
use ztna_proto::network::DnsSettings;
use ztna_proto::relay::RelayMap;
use ztna_proto::ticket::TicketSigner;

use super::entry::{Entry, Org};
use super::load::{MachineRow, Whole};
use super::presence::Presence;
pub(super) use heartbeat::Issued;
use log::Log;
pub(super) use log::RESUME_LOG;
pub(super) use streams::OUTBOX;
use streams::Stream;

/// Something could not be serialised; never for values of our own types.
pub(super) type Result<T> = serde_json::Result<T>;

/// What all orgs of the deployment share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) signer: Arc<TicketSigner>,
    pub(super) dns_suffix: String,
    /// Whether there may be other nodes to tell of volatile state.
    pub(super) has_others: bool,
}

/// An org's state.
pub(super) struct OrgState {
    id: OrgId,
    name: String,
    slug: String,
    dns: DnsSettings,
    seq: i64,
    log: Log,
    shared: Shared,
    compiled: Compiled,
    relays: Record,
    /// What machines are told that are kept out of the network.
    no_relays: Record,
    /// What the relay map names, and tickets open.
    regions: Vec<RegionId>,
    machines: BTreeMap<MachineId, Entry>,
    presence: BTreeMap<MachineId, Presence>,
    streams: BTreeMap<MachineId, Stream>,
    /// Machines whose volatile state other nodes have to be told of.
    unsaid: BTreeSet<MachineId>,
    /// Numbers streams, so that an old one's end is not taken for the new one's.
    next_serial: u64,
}

impl OrgState {
    /// An org as it was read.
    pub(super) fn new(id: OrgId, shared: Shared, whole: Whole) -> Result<Self> {
        let inside = whole.machines.iter();
        let inside = inside.filter(|machine| machine.standing.is_in());
        let facts = inside.map(|machine| (machine.id, machine.facts()));
        let mut state = Self {
            id,
            name: whole.name,
            slug: whole.slug,
            dns: whole.dns,
            seq: whole.seq,
            log: Log::restored(whole.seq, whole.log),
            shared,
            compiled: compile(whole.policy, facts, Timestamp::now()),
            relays: Record::relays(&whole.relays)?,
            no_relays: Record::relays(&RelayMap::default())?,
            regions: regions_of(&whole.relays),
            machines: BTreeMap::new(),
            presence: BTreeMap::new(),
            streams: BTreeMap::new(),
            unsaid: BTreeSet::new(),
            next_serial: 0,
        };
        for machine in whole.machines {
            let id = machine.id;
            let entry = state.entry(machine)?;
            state.machines.insert(id, entry);
        }
        let now = Instant::now();
        for said in whole.presence {
            state
                .presence
                .insert(said.id, Presence::restored(said, now));
        }
        Ok(state)
    }

    /// The `seq` that the state stands at.
    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    /// Peers of a machine that have this ML-KEM key.
    pub(super) fn peers_with_kem_key(&self, id: MachineId, hash: &KemKeyHash) -> Vec<MachineId> {
        let holders = self.machines.iter().filter(|(_, m)| m.kem_hash == *hash);
        holders
            .map(|(peer, _)| *peer)
            .filter(|peer| self.compiled.sees(id, *peer))
            .collect()
    }

    /// Those of these machines that a machine has in its map.
    pub(super) fn peers_among(
        &self,
        id: MachineId,
        mut asked: BTreeSet<MachineId>,
    ) -> BTreeSet<MachineId> {
        asked.retain(|peer| self.compiled.sees(id, *peer));
        asked
    }

    /// Whether anybody is connected or counts as there.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty() && !self.presence.values().any(Presence::online)
    }

    /// The map that a machine should hold.
    fn map_of(&self, id: MachineId) -> Option<RecordSet> {
        let this = self.machines.get(&id)?;
        let peers = self.compiled.visible_peers(id).into_iter();
        let peers = peers.filter_map(|peer| Some((peer, self.seen(id, peer).ok()??)));
        let filter = Record::filter(&self.compiled.filter_for(id)).ok()?;
        Some(RecordSet::new(
            this.this.clone(),
            peers.collect(),
            filter,
            self.relays_of(this),
        ))
    }

    /// A machine as one sees it that it is visible to.
    fn seen(&self, by: MachineId, id: MachineId) -> Result<Option<Record>> {
        let entry = self.machines.get(&id);
        let record = |entry: &Entry| match entry.row.routes.is_empty() {
            true => Ok(entry.peer.clone()),
            false => entry.seen_with(&self.compiled.open_routes(by, id)),
        };
        entry.map(record).transpose()
    }

    /// The relay map as a machine is told of it: one that is kept out of the network has none.
    fn relays_of(&self, entry: &Entry) -> Record {
        match entry.row.standing.is_in() {
            true => self.relays.clone(),
            false => self.no_relays.clone(),
        }
    }

    /// A machine's records; the compiled rules know it already.
    fn entry(&self, machine: MachineRow) -> Result<Entry> {
        let groups = self.compiled.groups_of(machine.id);
        let org = Org {
            id: self.id,
            name: &self.name,
            slug: &self.slug,
            dns_suffix: &self.shared.dns_suffix,
            dns: &self.dns,
        };
        Entry::new(&org, machine, groups)
    }
}

fn regions_of(relays: &RelayMap) -> Vec<RegionId> {
    relays.regions.keys().copied().collect()
}

#[cfg(test)]
mod tests;
