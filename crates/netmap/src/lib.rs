//! The machine stream: what both halves share ([`records`]), and the machine's half ([`Netmap`]).
//!
//! A [`Netmap`] holds what a machine knows of its org. It takes the control plane's messages one by
//! one and is at every moment a whole state: a message that does not fit leaves it as it was.
//!
//! What cannot be read does not take down the rest. The records are kept as they were sent, so that
//! the hash holds; what this build makes of them is worked out for each record by itself:
//!
//! * a peer's record that cannot be read is no peer;
//! * a rule that cannot be read is left out if it allows, and denies everything if it may deny;
//! * a filter that is no filter at all lets nothing through;
//! * a relay region that cannot be read is no region.
//!
//! Each of these is a [`Warning`]. The machine's own record has no such way out: a message whose
//! `this` cannot be read is refused.

mod disk;
mod read;
pub mod records;
mod volatile;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ztna_proto::error::ErrorBody;
use ztna_proto::filter::PacketFilter;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{
    ClientMessage, FullMap, MAX_MESSAGE, MapDelta, PeerRecord, PeerVolatile, Resume, SelfRecord,
    ServerMessage,
};
use ztna_proto::relay::RelayMap;

pub use disk::{LoadError, MAX_SAVED};
pub use read::Warning;
use read::{Part, Readings};
pub use records::MAX_PEERS;
use records::{RecordSet, RecordsError};
use volatile::VolatileStates;

/// After an error, [`ClientMessage::Resync`] is sent at once, and no second one sooner than this
/// after the first: a full map that does not fit either must not become a loop at network speed.
pub const RESYNC_INTERVAL: Duration = Duration::from_secs(10);

/// What a message changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Everything may differ.
    Full,
    /// These parts differ.
    Delta(Changes),
    /// These peers are reached in another way now, or it is no longer known how.
    Volatile(Vec<MachineId>),
    /// A fresh relay ticket.
    Ticket(String),
    /// Nothing; the map is what the control plane says it should be.
    InSync,
    /// The stream ends, and why.
    Ended(ErrorBody),
    /// Nothing: the message is of a newer control plane, or of the time before a full map that was
    /// asked for.
    Ignored,
}

/// The parts of a map that a delta changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The machine's own record.
    pub this: bool,
    /// Peers that are new or different.
    pub peers_changed: BTreeSet<MachineId>,
    /// Peers that are peers no longer.
    pub peers_removed: BTreeSet<MachineId>,
    /// The packet filter.
    pub filter: bool,
    /// The relay map.
    pub relays: bool,
}

/// Why a message was refused. The map is as before; send [`ClientMessage::Resync`], but see
/// [`RESYNC_INTERVAL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetmapError {
    /// A message is missing: the control plane speaks of a state that is not ours.
    #[error("the map stands at {ours:?} and the control plane at {theirs}; ask for a full map")]
    Gap {
        /// Our `seq`. `None`: there is no map.
        ours: Option<u64>,
        /// The `seq` that the message starts from.
        theirs: u64,
    },
    /// The state does not hash to what the control plane says.
    #[error("the map at {seq} is not what the control plane holds; ask for a full map")]
    HashMismatch {
        /// Where the state stands.
        seq: u64,
    },
    /// The message contradicts itself, a bound or the contract.
    #[error("a message of the control plane is malformed: {detail}; ask for a full map")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
}

/// What a machine knows of its org. `Default`: nothing yet.
#[derive(Default)]
pub struct Netmap {
    durable: Option<Durable>,
    volatile: VolatileStates,
    /// Set between an error and the full map that mends it.
    resync_pending: bool,
}

/// The durable state: what was sent, and what this build reads in it.
struct Durable {
    seq: u64,
    records: RecordSet,
    readings: Readings,
}

impl Durable {
    fn from_full(map: FullMap) -> Result<Self, NetmapError> {
        let seq = map.seq;
        let records = RecordSet::from_full(map).map_err(|error| refused(error, seq))?;
        let readings = Readings::of(&records)?;
        Ok(Self {
            seq,
            records,
            readings,
        })
    }
}

static NO_FILTER: PacketFilter = PacketFilter {
    inbound: Vec::new(),
    outbound: Vec::new(),
};
static NO_RELAYS: RelayMap = RelayMap {
    regions: BTreeMap::new(),
};
static NO_PEERS: BTreeMap<MachineId, PeerRecord> = BTreeMap::new();

impl Netmap {
    /// Takes one text frame of the stream.
    ///
    /// # Errors
    /// The frame is too large or no message, or [`Netmap::handle`] refuses it.
    pub fn handle_text(&mut self, text: &str) -> Result<Update, NetmapError> {
        if text.len() > MAX_MESSAGE {
            let detail = format!("{} bytes, at most {MAX_MESSAGE} are possible", text.len());
            return Err(self.refuse(NetmapError::Malformed { detail }));
        }
        match ServerMessage::decode(text) {
            Ok(message) => self.handle(message),
            Err(error) => {
                let detail = error.to_string();
                Err(self.refuse(NetmapError::Malformed { detail }))
            }
        }
    }

    /// Takes one message of the control plane.
    ///
    /// After an error, deltas are ignored until a full map comes; so one lost message is one error.
    ///
    /// # Errors
    /// The message does not fit; the state is as before.
    pub fn handle(&mut self, message: ServerMessage) -> Result<Update, NetmapError> {
        let result = match message {
            ServerMessage::Full(map) => self.full(map),
            ServerMessage::Delta(_) if self.resync_pending => Ok(Update::Ignored),
            ServerMessage::Delta(delta) => self.delta(delta),
            ServerMessage::Volatile(update) => Ok(Update::Volatile(self.volatile.apply(update))),
            ServerMessage::RelayTicket(ticket) => Ok(Update::Ticket(ticket)),
            ServerMessage::KeepAlive(position) => self.keep_alive(position),
            ServerMessage::Error(error) => Ok(Update::Ended(error)),
            ServerMessage::Unknown => Ok(Update::Ignored),
        };
        result.map_err(|error| self.refuse(error))
    }

    /// This machine. `None`: nothing is known yet.
    #[must_use]
    pub fn this(&self) -> Option<&SelfRecord> {
        self.durable.as_ref().map(|durable| &durable.readings.this)
    }

    /// The peers.
    #[must_use]
    pub fn peers(&self) -> &BTreeMap<MachineId, PeerRecord> {
        self.durable
            .as_ref()
            .map_or(&NO_PEERS, |durable| &durable.readings.peers)
    }

    /// How a peer was last known to be reached; see [`Netmap::is_volatile_current`].
    #[must_use]
    pub fn volatile(&self, peer: &MachineId) -> Option<&PeerVolatile> {
        self.volatile.get(peer)
    }

    /// Whether the control plane has told of all peers since the stream stands. If not, endpoints
    /// are worth a try, and who is online is not known.
    #[must_use]
    pub fn is_volatile_current(&self) -> bool {
        self.volatile.is_current()
    }

    /// The packet filter. Lets nothing through as long as nothing is known.
    #[must_use]
    pub fn filter(&self) -> &PacketFilter {
        self.durable
            .as_ref()
            .map_or(&NO_FILTER, |durable| &durable.readings.filter)
    }

    /// The relay map.
    #[must_use]
    pub fn relays(&self) -> &RelayMap {
        self.durable
            .as_ref()
            .map_or(&NO_RELAYS, |durable| &durable.readings.relays)
    }

    /// What of the state cannot be read by this build. To be logged after each
    /// [`Update::Full`] and [`Update::Delta`].
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        let readings = self.durable.as_ref().map(|durable| &durable.readings);
        readings.into_iter().flat_map(Readings::warnings)
    }

    /// The number of the last change in the map. `None`: there is no map.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.durable.as_ref().map(|durable| durable.seq)
    }

    /// Where the map stands. `None`: there is none.
    #[must_use]
    pub fn resume(&self) -> Option<Resume> {
        self.durable.as_ref().map(|durable| Resume {
            seq: durable.seq,
            hash: durable.records.hash(),
        })
    }

    /// The first message of the next stream.
    #[must_use]
    pub fn next_hello(&self, agent_version: &str) -> ClientMessage {
        ClientMessage::Hello {
            capability: ztna_proto::CAPABILITY,
            agent_version: agent_version.to_owned(),
            resume: self.resume(),
        }
    }

    /// The stream broke. The map stays good; volatile state is kept and is no longer current.
    pub fn disconnected(&mut self) {
        self.volatile.disconnected();
        self.resync_pending = false;
    }

    fn full(&mut self, map: FullMap) -> Result<Update, NetmapError> {
        self.durable = Some(Durable::from_full(map)?);
        self.resync_pending = false;
        let records = self.durable.as_ref().map(|durable| &durable.records);
        self.volatile
            .retain(|id| records.is_some_and(|set| set.peers().contains_key(id)));
        Ok(Update::Full)
    }

    fn delta(&mut self, delta: MapDelta) -> Result<Update, NetmapError> {
        let ours = self.durable.as_ref().map(|durable| durable.seq);
        let theirs = delta.base_seq;
        let gap = NetmapError::Gap { ours, theirs };
        let Some(durable) = self
            .durable
            .as_mut()
            .filter(|durable| durable.seq == theirs)
        else {
            return Err(gap);
        };
        if delta.seq <= delta.base_seq {
            let detail = format!("a delta from {theirs} back to {}", delta.seq);
            return Err(NetmapError::Malformed { detail });
        }
        let touched = Touched::of(&delta);
        let this = delta.this.as_deref().map(read::this).transpose()?;
        if this
            .as_ref()
            .is_some_and(|this| this.id != durable.readings.this.id)
        {
            let detail = "a delta makes this machine another".to_owned();
            return Err(NetmapError::Malformed { detail });
        }
        let seq = delta.seq;
        durable
            .records
            .apply(delta)
            .map_err(|error| refused(error, seq))?;
        durable.seq = seq;
        let readings = &mut durable.readings;
        let mut changes = Changes {
            this: this.is_some(),
            filter: touched.filter,
            relays: touched.relays,
            ..Changes::default()
        };
        if let Some(this) = this {
            readings.this = this;
        }
        if touched.filter {
            readings.read(&durable.records, Part::Filter);
        }
        if touched.relays {
            readings.read(&durable.records, Part::Relays);
        }
        for id in touched.peers {
            let was_peer = readings.peers.contains_key(&id);
            readings.read(&durable.records, Part::Peer(id));
            if readings.peers.contains_key(&id) {
                changes.peers_changed.insert(id);
            } else if was_peer {
                changes.peers_removed.insert(id);
            }
            if !durable.records.peers().contains_key(&id) {
                self.volatile.remove(&id);
            }
        }
        Ok(Update::Delta(changes))
    }

    /// The control plane tells where the map should stand. Changes of the org that do not concern
    /// this machine move the `seq` and leave the hash.
    fn keep_alive(&mut self, position: Resume) -> Result<Update, NetmapError> {
        let Some(durable) = &mut self.durable else {
            let (ours, theirs) = (None, position.seq);
            return Err(NetmapError::Gap { ours, theirs });
        };
        if durable.records.hash() == position.hash {
            durable.seq = position.seq;
            return Ok(Update::InSync);
        }
        if durable.seq == position.seq {
            return Err(NetmapError::HashMismatch { seq: position.seq });
        }
        Err(NetmapError::Gap {
            ours: Some(durable.seq),
            theirs: position.seq,
        })
    }

    fn refuse(&mut self, error: NetmapError) -> NetmapError {
        self.resync_pending = true;
        error
    }
}

/// Which records a delta is about.
struct Touched {
    peers: BTreeSet<MachineId>,
    filter: bool,
    relays: bool,
}

impl Touched {
    fn of(delta: &MapDelta) -> Self {
        let changed = delta
            .peers_changed
            .iter()
            .filter_map(|raw| records::peer_id(raw));
        Self {
            peers: changed.chain(delta.peers_removed.iter().copied()).collect(),
            filter: delta.filter.is_some(),
            relays: delta.relays.is_some(),
        }
    }
}

fn refused(error: RecordsError, seq: u64) -> NetmapError {
    match error {
        RecordsError::HashMismatch { .. } => NetmapError::HashMismatch { seq },
        RecordsError::Malformed(detail) => NetmapError::Malformed { detail },
    }
}
