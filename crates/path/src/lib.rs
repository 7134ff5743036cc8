//! Which way packets for a peer go: directly, or through a relay.
//!
//! **What is selected.** A direct path is an address of the peer, as we see it, that has answered a
//! ping of ours: only a pong shows that packets pass in both directions. Until there is one, and
//! whenever there is doubt, the relay carries the traffic, so that no packet waits for a path.
//!
//! **How it starts.** The control plane, the peer's call-me-maybe and the sources of its pings bring
//! *candidates*. When data begins to flow, the agent asks the peer by relay to ping us
//! (call-me-maybe) and pings every candidate itself: each ping opens our own NAT towards that
//! candidate, and the peer's, sent at the same time, finds it open. It does so in rounds, quick at
//! first, then rarer. The first pong makes its address the path.
//!
//! **When it changes its mind.** A better address takes over when it answers: noticeably faster, or
//! on the same network ([`score`]). A path in use is pinged once a second while data is sent
//! over it, else every three seconds; a ping that stays unanswered makes it *doubtful*, and packets go
//! both ways until one answers. The same happens at once when our own network changes or the socket
//! refuses to send.
//!
//! **When it gives up.** A path that stays doubtful is dropped and the relay is alone again; the rounds
//! begin anew. Without data for 45 seconds everything falls silent, and the next packet starts over.

mod agent;
mod budget;
mod candidate;
pub mod score;
mod types;

pub use agent::PathAgent;
pub use candidate::{Candidate, Origin};
pub use types::{Output, Route, Selected, Via};

/// The times that rule a path. Sources: the constants that Tailscale's client has proved in the
/// field, and faster ones where traffic is flowing.
pub mod times {
    use std::time::Duration;

    /// Without data for this long a peer counts as idle: no probes.
    pub const ACTIVE_FOR: Duration = Duration::from_secs(45);
    /// Between two pings of a path that data is sent over.
    pub const PROBE_BUSY: Duration = Duration::from_secs(1);
    /// Between two pings of a path that is quiet.
    pub const PROBE_QUIET: Duration = Duration::from_secs(3);
    /// Between two pings of a path that owes a pong, while data is sent.
    pub const PROBE_AGAIN: Duration = Duration::from_millis(500);
    /// A busy path is doubted when a pong is due for this long: 2.5 s after the last one.
    pub const DOUBT_BUSY: Duration = Duration::from_millis(1500);
    /// A quiet path is doubted when a pong is due for this long: 6.5 s after the last one.
    pub const DOUBT_QUIET: Duration = Duration::from_millis(3500);
    /// A pong older than this proves nothing.
    pub const TRUST_FOR: Duration = Duration::from_millis(6500);
    /// A path that is doubted for this long is dropped.
    pub const DROP_AFTER: Duration = Duration::from_secs(5);
    /// Pauses between the rounds of pings while there is no direct path; the last one repeats.
    pub const ROUND_PAUSES: [Duration; 9] = [
        Duration::from_millis(200),
        Duration::from_millis(300),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(4),
        Duration::from_secs(8),
        Duration::from_secs(15),
        Duration::from_secs(30),
    ];
    /// Between two calls-me-maybe.
    pub const CALL_SPACING: Duration = Duration::from_millis(900);
    /// Between two pings of one candidate that is not the path.
    pub const PING_SPACING: Duration = Duration::from_millis(150);
    /// A direct path slower than [`GOOD_ENOUGH`] is compared with the candidates this often.
    pub const UPGRADE: Duration = Duration::from_secs(60);
    /// Not worth improving.
    pub const GOOD_ENOUGH: Duration = Duration::from_millis(5);
    /// A pong later than this is not waited for.
    pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
}
