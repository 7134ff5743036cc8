//! What a mesh is made with, and its bounds.

use std::time::Duration;

/// Packets that wait for one peer's first session, at most.
pub const MAX_QUEUED_PACKETS: usize = 256;

/// How long a packet waits for a session before it is dropped. Longer than a handshake over a slow
/// relay takes, shorter than a TCP user's patience.
pub const MAX_QUEUE_TIME: Duration = Duration::from_secs(5);

/// When so much time has passed, WireGuard's clock is looked at before anything else is done.
pub const TICK_HANDSHAKING: Duration = Duration::from_millis(250);

/// WireGuard sends an unanswered initiation again after Rekey-Timeout and jitter, 5.334 s at most
/// (whitepaper §6.4): then its timers are looked at.
pub const HANDSHAKE_RETRY: Duration = Duration::from_millis(5_350);

/// An unanswered initiation that was not sent again by now will not be.
pub const HANDSHAKE_OVER: Duration = Duration::from_secs(10);

/// How often a tunnel in use wants its timers looked at. All tunnels do at the same instants, so that
/// a machine wakes up once for all of them.
pub const BEAT: Duration = Duration::from_secs(1);

/// Silence after which a tunnel rests: by then its last keepalive has left (10 s), and so has the
/// handshake that follows if nothing comes back (15.4 s, whitepaper §6.5). A session that grows old at
/// rest is made anew when somebody uses it, not before.
pub const ACTIVE_FOR: Duration = Duration::from_secs(30);

/// After this long without use no session of a tunnel is valid (Reject-After-Time, whitepaper §6.1):
/// they are erased, and the tunnel needs no timer.
pub const REST_FOR: Duration = Duration::from_secs(180);

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
