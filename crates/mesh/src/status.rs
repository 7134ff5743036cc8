//! What a mesh tells of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ztna_filter::Reason;
use ztna_path::{PathMtu, Selected};
use ztna_proto::MachineId;

/// Packets that were dropped, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropCounts(BTreeMap<String, u64>);

impl DropCounts {
    pub(crate) fn count(&mut self, reason: &'static str) {
        match self.0.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(reason.to_owned(), 1);
            }
        }
    }

    pub(crate) fn count_filter(&mut self, reason: &Reason) {
        self.count(reason.name());
    }

    /// Takes over the counts of a peer that is gone.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (reason, count) in other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// The counts, by reason.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .map(|(reason, count)| (reason.as_str(), *count))
    }
}

/// What a mesh has counted since it was made. Peers that are gone are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What went by direct paths.
    pub direct: Traffic,
    /// What went through relays.
    pub relay: Traffic,
    /// Preshared keys that hybrid handshakes made.
    pub epochs: u64,
}

impl Totals {
    /// What went the way of `is_direct`.
    pub(crate) fn by(&mut self, is_direct: bool) -> &mut Traffic {
        match is_direct {
            true => &mut self.direct,
            false => &mut self.relay,
        }
    }
}

/// IP packets, before they are sealed and after they were opened and let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets to peers.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets from peers.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// One peer's state.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub id: MachineId,
    /// The way its traffic goes.
    pub selected: Selected,
    /// What the direct path carries. `None`: there is none.
    pub mtu: Option<PathMtu>,
    /// Its preshared key. `None`: no handshake has finished.
    pub psk: Option<PskStatus>,
    /// Whether packets wait for a session.
    pub waiting: bool,
    /// IP bytes sealed for it.
    pub tx_bytes: u64,
    /// IP bytes of it that passed the filter.
    pub rx_bytes: u64,
    /// Age of the WireGuard session. `None`: there is none.
    pub session_age: Option<Duration>,
    /// Packets to or from it that were dropped.
    pub drops: DropCounts,
}

/// What may be told of a preshared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PskStatus {
    /// Its epoch.
    pub epoch: u64,
    /// Equal at both ends, different for each key, and tells nothing of it.
    pub fingerprint: [u8; 8],
    /// When it was installed.
    pub since: Instant,
    /// From a full handshake; else chained to one.
    pub full: bool,
}
