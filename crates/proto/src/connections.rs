//! A machine's tunnels as it sees them, for people who look at it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{MachineId, RegionId};

/// Most tunnels that a report tells of; those that were heard of last.
pub const MAX_CONNECTIONS: usize = 50;
/// Longest reason for a path, in characters.
pub const MAX_WHY: usize = 240;
/// Between two reports of a machine, in seconds, at least.
pub const CONNECTIONS_SECONDS: u64 = 60;
/// After so long, in seconds, the same is reported again while there are tunnels.
pub const CONNECTIONS_REFRESH_SECONDS: u64 = 5 * 60;
/// A report that is older, in seconds, is forgotten.
pub const CONNECTIONS_STALE_SECONDS: u64 = 15 * 60;

/// `PUT /api/machine-connections`, bearer: machine token. When something of it has changed, at most every
/// [`CONNECTIONS_SECONDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ReportConnections {
    /// At most [`MAX_CONNECTIONS`].
    #[schema(max_items = 50)]
    pub connections: Vec<Connection>,
    /// How many there are.
    pub count: u32,
}

/// A tunnel to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Connection {
    /// The peer.
    pub peer: MachineId,
    /// How packets go.
    pub path: ConnectionPath,
    /// The relay's region, if one carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Round trip, in milliseconds, as last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Whether the preshared key is one of the hybrid handshake.
    pub post_quantum: bool,
    /// Its epoch, from 1. 0: none yet.
    pub epoch: u64,
    /// Seconds since it was installed, at the time of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_age_seconds: Option<u64>,
    /// Seconds since the last WireGuard handshake, at the time of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_age_seconds: Option<u64>,
    /// Why packets go that way and no other, as the machine has found: a sentence of at most [`MAX_WHY`] characters. Empty: it
    /// does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// How packets reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionPath {
    /// By UDP from machine to machine.
    Direct,
    /// Through a relay.
    Relay,
    /// Not at all right now. Also read from any value that this build does not know.
    #[serde(other)]
    None,
}

/// A machine's tunnels, counted, as it has told of them within [`CONNECTIONS_STALE_SECONDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TunnelMix {
    /// Those that go directly.
    pub direct: u32,
    /// Those that a relay carries.
    pub relayed: u32,
    /// Those without a path right now.
    pub waiting: u32,
    /// Those whose preshared key is one of the hybrid handshake.
    pub post_quantum: u32,
}

impl TunnelMix {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u32 {
        let carried = self.direct.saturating_add(self.relayed);
        carried.saturating_add(self.waiting)
    }

    /// Of these tunnels.
    #[must_use]
    pub fn of(connections: &[Connection]) -> Self {
        let mut mix = Self::default();
        for connection in connections {
            match connection.path {
                ConnectionPath::Direct => mix.direct += 1,
                ConnectionPath::Relay => mix.relayed += 1,
                ConnectionPath::None => mix.waiting += 1,
            }
            mix.post_quantum += u32::from(connection.post_quantum && connection.epoch > 0);
        }
        mix
    }
}

/// Most machines whose tunnels one answer tells of.
pub const MAX_TOLD_MACHINES: usize = 1_000;

/// `GET /api/orgs/{org}/connections`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OrgConnections {
    /// Each tunnel once, as one of its ends told of it: the one that told last, if both did.
    pub tunnels: Vec<OrgTunnel>,
    /// Whether machines were left out: an org has more than [`MAX_TOLD_MACHINES`].
    pub is_partial: bool,
}

/// A tunnel between two machines of an org.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OrgTunnel {
    /// Who told of it.
    pub machine: MachineId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub reported_at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub connection: Connection,
}

/// `GET /api/orgs/{org}/machines/{machine}/connections`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct MachineConnections {
    /// When the machine told. `None`: not lately.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reported_at: Option<Timestamp>,
    /// How many tunnels it has.
    pub count: u32,
    /// Those that it told of.
    pub connections: Vec<NamedConnection>,
}

/// A tunnel, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct NamedConnection {
    /// The peer's name.
    pub name: String,
    /// The tunnel.
    #[serde(flatten)]
    pub connection: Connection,
}
