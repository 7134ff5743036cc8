//! A machine's durable state as raw records: what is sent, hashed, compared and applied.
//!
//! Both ends of the stream use it. The control plane builds a [`RecordSet`] per connected machine
//! and sends [`RecordSet::full`], then the [`RecordSet::diff`] to each newer set. The machine
//! applies what it gets to the set that it holds.
//!
//! A [`Record`] is made once and shared: cloning it copies a pointer, and its hash is computed when
//! it is made, so the maps of a thousand machines that see one peer cost one serialisation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ztna_proto::filter::PacketFilter;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{FullMap, MapDelta, PeerRecord, RecordKind, SelfRecord, StateHash};
use ztna_proto::relay::RelayMap;

/// Most peers in a machine's map.
pub const MAX_PEERS: usize = 100_000;

/// One record: its text and what it adds to the hash. Cheap to clone.
#[derive(Clone)]
pub struct Record(Arc<Inner>);

struct Inner {
    raw: Box<RawValue>,
    hash: StateHash,
}

impl Record {
    /// A record of text that came over the stream.
    #[must_use]
    pub fn from_raw(kind: RecordKind, raw: Box<RawValue>) -> Self {
        let mut hash = StateHash::default();
        hash.toggle(kind, &raw);
        Self(Arc::new(Inner { raw, hash }))
    }

    /// A machine's record of itself.
    ///
    /// # Errors
    /// None for a value of this build's type.
    pub fn this(record: &SelfRecord) -> serde_json::Result<Self> {
        Self::serialise(RecordKind::This, record)
    }

    /// A peer's record.
    ///
    /// # Errors
    /// None for a value of this build's type.
    pub fn peer(record: &PeerRecord) -> serde_json::Result<Self> {
        Self::serialise(RecordKind::Peer, record)
    }

    /// A packet filter.
    ///
    /// # Errors
    /// None for a value of this build's type.
    pub fn filter(record: &PacketFilter) -> serde_json::Result<Self> {
        Self::serialise(RecordKind::Filter, record)
    }

    /// A relay map.
    ///
    /// # Errors
    /// None for a value of this build's type.
    pub fn relays(record: &RelayMap) -> serde_json::Result<Self> {
        Self::serialise(RecordKind::Relays, record)
    }

    fn serialise(kind: RecordKind, record: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self::from_raw(
            kind,
            serde_json::value::to_raw_value(record)?,
        ))
    }

    /// The record's text.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.0.raw
    }

    fn boxed(&self) -> Box<RawValue> {
        self.0.raw.clone()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.raw().get() == other.raw().get()
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.raw().get())
    }
}

/// A message that does not describe a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// The records do not hash to what the message says.
    #[error("the map hashes to {ours}, the control plane says {theirs}; ask for a full map")]
    HashMismatch {
        /// Hash of what the message makes of the state.
        ours: StateHash,
        /// Hash that the message names.
        theirs: StateHash,
    },
    /// The message contradicts itself or a bound.
    #[error("the map is malformed: {0}; ask for a full map")]
    Malformed(String),
}

/// Changes of a state, record by record.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The machine's new record of itself.
    pub this: Option<Record>,
    /// Its new packet filter.
    pub filter: Option<Record>,
    /// Its new relay map.
    pub relays: Option<Record>,
    /// Peers that are new or different, and (`None`) those that are peers no longer.
    pub peers: BTreeMap<MachineId, Option<Record>>,
}

/// The durable state of one machine, as records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    this: Record,
    peers: BTreeMap<MachineId, Record>,
    filter: Record,
    relays: Record,
    hash: StateHash,
}

impl RecordSet {
    /// A state of these records.
    #[must_use]
    pub fn new(
        this: Record,
        peers: BTreeMap<MachineId, Record>,
        filter: Record,
        relays: Record,
    ) -> Self {
        let mut hash = StateHash::default();
        for record in [&this, &filter, &relays].into_iter().chain(peers.values()) {
            xor(&mut hash, record);
        }
        Self {
            this,
            peers,
            filter,
            relays,
            hash,
        }
    }

    /// Record of the machine itself.
    #[must_use]
    pub fn this(&self) -> &Record {
        &self.this
    }

    /// Records of its peers.
    #[must_use]
    pub fn peers(&self) -> &BTreeMap<MachineId, Record> {
        &self.peers
    }

    /// Its packet filter.
    #[must_use]
    pub fn filter(&self) -> &Record {
        &self.filter
    }

    /// Its relay map.
    #[must_use]
    pub fn relays(&self) -> &Record {
        &self.relays
    }

    /// The hash of the state.
    #[must_use]
    pub fn hash(&self) -> StateHash {
        self.hash
    }

    /// The state as a full map that stands at `seq`.
    #[must_use]
    pub fn full(&self, seq: u64) -> FullMap {
        FullMap {
            seq,
            hash: self.hash,
            this: self.this.boxed(),
            peers: self.peers.values().map(Record::boxed).collect(),
            filter: self.filter.boxed(),
            relays: self.relays.boxed(),
        }
    }

    /// What a machine that holds this state at `base_seq` has to be sent so that it holds `newer`
    /// at `seq`. `None` if that is the same state.
    #[must_use]
    pub fn diff(&self, newer: &Self, base_seq: u64, seq: u64) -> Option<MapDelta> {
        let part = |old: &Record, new: &Record| (old != new).then(|| new.boxed());
        let changed = newer
            .peers
            .iter()
            .filter(|(id, new)| self.peers.get(id) != Some(new));
        let removed = self.peers.keys().filter(|id| !newer.peers.contains_key(id));
        let delta = MapDelta {
            base_seq,
            seq,
            hash: newer.hash,
            this: part(&self.this, &newer.this),
            peers_changed: changed.map(|(_, record)| record.boxed()).collect(),
            peers_removed: removed.copied().collect(),
            filter: part(&self.filter, &newer.filter),
            relays: part(&self.relays, &newer.relays),
        };
        let same = delta.this.is_none()
            && delta.peers_changed.is_empty()
            && delta.peers_removed.is_empty()
            && delta.filter.is_none()
            && delta.relays.is_none();
        (!same).then_some(delta)
    }

    /// What brings a machine to this state, at `seq`, that stood at `base_seq` and has missed changes
    /// of these peers alone: those in `changed` that are peers in this state, and `removed`, which
    /// are not. Its other records are named in any case, since nobody knows which of them it has.
    /// `None` if it did not stand before this state.
    #[must_use]
    pub fn since(
        &self,
        base_seq: u64,
        seq: u64,
        changed: &BTreeSet<MachineId>,
        removed: BTreeSet<MachineId>,
    ) -> Option<MapDelta> {
        let changed = changed.iter().filter_map(|id| self.peers.get(id));
        (base_seq < seq).then(|| MapDelta {
            base_seq,
            seq,
            hash: self.hash,
            this: Some(self.this.boxed()),
            peers_changed: changed.map(Record::boxed).collect(),
            peers_removed: removed.into_iter().collect(),
            filter: Some(self.filter.boxed()),
            relays: Some(self.relays.boxed()),
        })
    }

    /// Applies changes, and says what a machine that held the state before at `base_seq` has to be
    /// sent so that it holds the new one at `seq`. `None` if nothing is different.
    ///
    /// The same as [`RecordSet::diff`] to the new state, at the cost of the edit's size instead of
    /// the state's.
    pub fn edit(&mut self, edit: Edit, base_seq: u64, seq: u64) -> Option<MapDelta> {
        let mut hash = self.hash;
        let mut part = |held: &mut Record, new: Option<Record>| {
            let new = new.filter(|new| new != held)?;
            xor(&mut hash, held);
            xor(&mut hash, &new);
            *held = new;
            Some(held.boxed())
        };
        let this = part(&mut self.this, edit.this);
        let filter = part(&mut self.filter, edit.filter);
        let relays = part(&mut self.relays, edit.relays);
        let (mut peers_changed, mut peers_removed) = (Vec::new(), Vec::new());
        for (id, new) in edit.peers {
            let held = self.peers.get(&id);
            if held == new.as_ref() {
                continue;
            }
            if let Some(held) = held {
                xor(&mut hash, held);
            }
            match new {
                Some(new) => {
                    xor(&mut hash, &new);
                    peers_changed.push(new.boxed());
                    self.peers.insert(id, new);
                }
                None => {
                    peers_removed.push(id);
                    self.peers.remove(&id);
                }
            }
        }
        self.hash = hash;
        let same = this.is_none()
            && filter.is_none()
            && relays.is_none()
            && peers_changed.is_empty()
            && peers_removed.is_empty();
        (!same).then_some(MapDelta {
            base_seq,
            seq,
            hash,
            this,
            peers_changed,
            peers_removed,
            filter,
            relays,
        })
    }

    /// The state that a full map describes.
    ///
    /// # Errors
    /// The map names a peer twice, has a peer without id or more than [`MAX_PEERS`], or does not
    /// hash to what it says.
    pub fn from_full(map: FullMap) -> Result<Self, RecordsError> {
        bounded(map.peers.len())?;
        let set = Self::new(
            Record::from_raw(RecordKind::This, map.this),
            peer_records(map.peers)?,
            Record::from_raw(RecordKind::Filter, map.filter),
            Record::from_raw(RecordKind::Relays, map.relays),
        );
        agree(set.hash, map.hash)?;
        Ok(set)
    }

    /// Applies a delta, all of it or, with an error, nothing. Whether the delta's `base_seq` is
    /// where this state stands is for the caller to see.
    ///
    /// # Errors
    /// The delta names a peer twice, has a peer without id, makes more than [`MAX_PEERS`], or the
    /// state that results does not hash to what it says.
    pub fn apply(&mut self, delta: MapDelta) -> Result<(), RecordsError> {
        bounded(delta.peers_changed.len().max(delta.peers_removed.len()))?;
        let changed = peer_records(delta.peers_changed)?;
        let removed: BTreeSet<_> = delta.peers_removed.into_iter().collect();
        if let Some(id) = removed.iter().find(|id| changed.contains_key(id)) {
            let text = format!("peer {id} is changed and removed at once");
            return Err(RecordsError::Malformed(text));
        }
        let new = |kind, raw: Option<_>| raw.map(|raw| Record::from_raw(kind, raw));
        let this = new(RecordKind::This, delta.this);
        let filter = new(RecordKind::Filter, delta.filter);
        let relays = new(RecordKind::Relays, delta.relays);

        let mut hash = self.hash;
        for (old, new) in [
            (&self.this, &this),
            (&self.filter, &filter),
            (&self.relays, &relays),
        ] {
            if let Some(new) = new {
                xor(&mut hash, old);
                xor(&mut hash, new);
            }
        }
        let mut count = self.peers.len();
        for old in removed.iter().filter_map(|id| self.peers.get(id)) {
            xor(&mut hash, old);
            count -= 1;
        }
        for (id, new) in &changed {
            xor(&mut hash, new);
            match self.peers.get(id) {
                Some(old) => xor(&mut hash, old),
                None => count += 1,
            }
        }
        bounded(count)?;
        agree(hash, delta.hash)?;

        self.this = this.unwrap_or_else(|| self.this.clone());
        self.filter = filter.unwrap_or_else(|| self.filter.clone());
        self.relays = relays.unwrap_or_else(|| self.relays.clone());
        for id in &removed {
            self.peers.remove(id);
        }
        self.peers.extend(changed);
        self.hash = hash;
        Ok(())
    }
}

fn xor(hash: &mut StateHash, record: &Record) {
    for (mine, theirs) in hash.0.iter_mut().zip(record.0.hash.0) {
        *mine ^= theirs;
    }
}

fn agree(ours: StateHash, theirs: StateHash) -> Result<(), RecordsError> {
    if ours == theirs {
        return Ok(());
    }
    Err(RecordsError::HashMismatch { ours, theirs })
}

fn bounded(peers: usize) -> Result<(), RecordsError> {
    if peers <= MAX_PEERS {
        return Ok(());
    }
    let text = format!("{peers} peers, and at most {MAX_PEERS} are possible");
    Err(RecordsError::Malformed(text))
}

/// The one member of a peer record that every build can read.
#[derive(Deserialize)]
struct Identified {
    id: MachineId,
}

pub(crate) fn peer_id(raw: &RawValue) -> Option<MachineId> {
    let Identified { id } = serde_json::from_str(raw.get()).ok()?;
    Some(id)
}

/// Peer records by the ids in them. The hash is an XOR, in which a record that is there twice
/// would vanish; so twice is an error.
fn peer_records(raw: Vec<Box<RawValue>>) -> Result<BTreeMap<MachineId, Record>, RecordsError> {
    let mut records = BTreeMap::new();
    for raw in raw {
        let Some(id) = peer_id(&raw) else {
            return Err(RecordsError::Malformed("a peer has no id".to_owned()));
        };
        let record = Record::from_raw(RecordKind::Peer, raw);
        if records.insert(id, record).is_some() {
            return Err(RecordsError::Malformed(format!("peer {id} is there twice")));
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn id(n: u128) -> MachineId {
        MachineId(uuid::Uuid::from_u128(n))
    }

    fn peer(n: u128, name: &str) -> Box<RawValue> {
        raw(&format!(r#"{{"id":"{}","name":"{name}"}}"#, id(n)))
    }

    fn set(peers: &[(u128, &str)], filter: &str) -> RecordSet {
        let peers = peers
            .iter()
            .map(|(n, name)| (id(*n), Record::from_raw(RecordKind::Peer, peer(*n, name))));
        RecordSet::new(
            Record::from_raw(RecordKind::This, raw("{}")),
            peers.collect(),
            Record::from_raw(RecordKind::Filter, raw(filter)),
            Record::from_raw(RecordKind::Relays, raw("{}")),
        )
    }

    #[test]
    fn hash_is_the_contracts() {
        let set = set(&[(1, "a"), (2, "b")], "[1]");
        let mut hash = StateHash::default();
        hash.toggle(RecordKind::This, set.this().raw());
        hash.toggle(RecordKind::Filter, set.filter().raw());
        hash.toggle(RecordKind::Relays, set.relays().raw());
        for record in set.peers().values() {
            hash.toggle(RecordKind::Peer, record.raw());
        }
        assert_eq!(set.hash(), hash);
    }

    #[test]
    fn full_and_diff_lead_to_the_same_state() {
        let old = set(&[(1, "a"), (2, "b"), (3, "c")], "[1]");
        let new = set(&[(1, "a"), (3, "C"), (4, "d")], "[2]");
        assert_eq!(RecordSet::from_full(new.full(7)).unwrap(), new);
        let delta = old.diff(&new, 6, 7).unwrap();
        assert_eq!((delta.base_seq, delta.seq), (6, 7));
        assert_eq!(delta.peers_changed.len(), 2);
        assert_eq!(delta.peers_removed, [id(2)]);
        assert!(delta.this.is_none() && delta.relays.is_none() && delta.filter.is_some());
        let mut applied = old.clone();
        applied.apply(delta).unwrap();
        assert_eq!(applied, new);
        assert!(old.diff(&old.clone(), 1, 2).is_none());
    }

    #[test]
    fn an_edit_is_the_diff_to_what_it_makes() {
        let old = set(&[(1, "a"), (2, "b"), (3, "c")], "[1]");
        let new = set(&[(1, "a"), (3, "C"), (4, "d")], "[2]");
        let record = |n, name| Some(Record::from_raw(RecordKind::Peer, peer(n, name)));
        let edit = Edit {
            this: Some(old.this().clone()),
            filter: Some(new.filter().clone()),
            peers: BTreeMap::from([
                (id(1), record(1, "a")),
                (id(2), None),
                (id(3), record(3, "C")),
                (id(4), record(4, "d")),
                (id(9), None),
            ]),
            ..Edit::default()
        };
        let mut edited = old.clone();
        let delta = edited.edit(edit.clone(), 6, 7).unwrap();
        assert_eq!(edited, new);
        let json = |delta: &MapDelta| serde_json::to_string(delta).unwrap();
        assert_eq!(json(&delta), json(&old.diff(&new, 6, 7).unwrap()));
        assert!(edited.edit(edit, 7, 8).is_none(), "twice is once");
    }

    #[test]
    fn what_was_missed_leads_to_the_state() {
        let mut old = set(&[(1, "a"), (2, "b"), (3, "c")], "[1]");
        let new = set(&[(1, "a"), (3, "C"), (4, "d")], "[2]");
        let ids = |ids: &[u128]| ids.iter().copied().map(id).collect::<BTreeSet<_>>();
        let delta = new.since(6, 9, &ids(&[3, 4, 7]), ids(&[2])).unwrap();
        assert_eq!((delta.base_seq, delta.seq), (6, 9));
        assert_eq!(delta.peers_changed.len(), 2);
        let mut state = old.clone();
        state.apply(delta).unwrap();
        assert_eq!(state, new);
        // What is missing from it shows.
        let short = new.since(6, 9, &ids(&[3]), ids(&[2])).unwrap();
        assert!(matches!(
            old.apply(short),
            Err(RecordsError::HashMismatch { .. })
        ));
        assert!(new.since(9, 9, &ids(&[3]), ids(&[2])).is_none());
    }

    #[test]
    fn a_refused_delta_changes_nothing() {
        let old = set(&[(1, "a"), (2, "b")], "[1]");
        let new = set(&[(1, "A"), (3, "c")], "[2]");
        let delta = || old.diff(&new, 1, 2).unwrap();
        let refuse = |mut delta: MapDelta, spoil: &dyn Fn(&mut MapDelta)| {
            spoil(&mut delta);
            let mut state = old.clone();
            let error = state.apply(delta).unwrap_err();
            assert_eq!(state, old);
            error
        };
        let malformed = |error| matches!(error, RecordsError::Malformed(_));
        assert!(matches!(
            refuse(delta(), &|d| d.filter = None),
            RecordsError::HashMismatch { .. }
        ));
        assert!(malformed(refuse(delta(), &|d| d.peers_removed.push(id(1)))));
        assert!(malformed(refuse(delta(), &|d| d
            .peers_changed
            .push(raw("{}")))));
        // Twice the same record cancels itself out of the hash.
        assert!(malformed(refuse(delta(), &|d| {
            d.peers_changed.push(peer(9, "x"));
            d.peers_changed.push(peer(9, "x"));
        })));
        let too_many = |d: &mut MapDelta| d.peers_removed = vec![id(1); MAX_PEERS + 1];
        assert!(malformed(refuse(delta(), &too_many)));
    }

    #[test]
    fn removing_what_is_not_there_is_left_to_the_hash() {
        let old = set(&[(1, "a")], "[1]");
        let mut delta = old.diff(&set(&[(1, "a")], "[2]"), 1, 2).unwrap();
        delta.peers_removed.extend([id(5), id(5)]);
        let mut state = old;
        state.apply(delta).unwrap();
        assert_eq!(state, set(&[(1, "a")], "[2]"));
    }
}
