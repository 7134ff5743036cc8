//! How long and how often: the bounds of one peer's path.

use std::time::Duration;

/// Without data for this long, in either direction, nothing is sent for a peer.
pub const IDLE_AFTER: Duration = Duration::from_secs(45);

/// Round-trip times below this count as the same.
pub const GOOD_ENOUGH: Duration = Duration::from_millis(5);

/// Shortest time between two pings to one address, other than the path in use.
pub const PING_SPACING: Duration = Duration::from_millis(100);

/// Pings per second in the long run, to all of a peer's addresses. Those of the path in use do not
/// wait for it.
pub const PINGS_PER_SECOND: u32 = 40;

/// Pings that may go out at once: every candidate of a full list.
pub const PING_BURST: u32 = 100;

/// Pongs per second in the long run: more than a well-behaved peer pings.
pub const PONGS_PER_SECOND: u32 = 80;

/// Pongs that may go out at once.
pub const PONG_BURST: u32 = 200;

/// Shortest time between two calls. A change of our own network does not wait for it.
pub const CALL_SPACING: Duration = Duration::from_secs(2);

/// After a call by the peer all candidates are pinged at once, and again after this, since the first
/// pings may have come before the peer's opened its NAT.
pub const ECHO_GAP: Duration = Duration::from_millis(300);

/// Shortest time between two such rounds.
pub const ECHO_SPACING: Duration = Duration::from_millis(300);

/// The source of a peer's ping is pinged back unless it has answered this recently.
pub const ANSWER_FRESH: Duration = Duration::from_secs(5);

/// Data from an address that has not answered for this long means that the peer has moved.
pub const SOURCE_FRESH: Duration = Duration::from_secs(60);

/// Shortest time between two such conclusions.
pub const SUSPICION_SPACING: Duration = Duration::from_secs(5);
