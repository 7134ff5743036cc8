//! What a mesh is made with, and its bounds.

use std::time::Duration;

/// Packets that wait for one peer's first session, at most.
pub const MAX_QUEUED_PACKETS: usize = 256;

/// How long a packet waits for a session before it is dropped. Longer than a handshake over a slow
/// relay takes, shorter than a TCP user's patience.
pub const MAX_QUEUE_TIME: Duration = Duration::from_secs(5);

/// How often a tunnel with a handshake on its way wants its timers looked at.
pub const TICK_HANDSHAKING: Duration = Duration::from_millis(250);

/// WireGuard sends an unanswered initiation again after Rekey-Timeout and jitter, 5.3 s at most
/// (whitepaper §6.4); until then its timers are looked at often.
pub const HANDSHAKE_RETRY: Duration = Duration::from_secs(6);

/// How often a tunnel that carries traffic wants its timers looked at.
pub const TICK_ACTIVE: Duration = Duration::from_secs(1);

/// How often a tunnel that holds keys and carries nothing wants its timers looked at.
pub const TICK_IDLE: Duration = Duration::from_secs(10);

/// Silence after which a tunnel counts as carrying nothing.
pub const ACTIVE_FOR: Duration = Duration::from_secs(30);

/// After this long without traffic a tunnel holds no keys (WireGuard erases them after
/// 3 × Reject-After-Time, 540 s) and needs no timer.
pub const IDLE_FOR: Duration = Duration::from_secs(560);

/// Shortest time between two searches for the peer whose direct datagrams are of no session.
pub const LOST_SPACING: Duration = Duration::from_millis(250);

/// The previous preshared key is tried on WireGuard responses for this long after its successor.
pub const PREVIOUS_PSK_FOR: Duration = Duration::from_secs(30);

/// Settings of a [`Mesh`](crate::Mesh).
#[derive(Clone, Debug, Default)]
pub struct MeshConfig {
    /// Timers of the hybrid handshake.
    pub handshake: ztna_handshake::Config,
    /// Whether packets are filtered before they are sealed.
    pub source_filter: SourceFilter,
}

/// Whether packets are filtered at their source too.
///
/// The agent has no way to set this. Tests use `Off` to show that a machine that does not filter
/// what it sends gains nothing by it: the receiver filters as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceFilter {
    /// Packets that policy forbids do not leave.
    #[default]
    On,
    /// Every packet for a peer is sealed and sent.
    Off,
}
