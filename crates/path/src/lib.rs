//! Which way packets to a peer go.
//!
//! # What it selects
//!
//! One [`PathAgent`] stands for one peer. It knows the peer's *candidates* (UDP addresses where the
//! peer may be) and the relay region where the peer listens, and answers one question for every
//! packet: directly, by relay, or both ([`PathAgent::route`]). It has no socket and no clock. It is
//! told what arrives and what time it is, and says which pings, pongs and calls to send.
//!
//! # How it starts
//!
//! Nothing is sent for a peer without traffic. The first packet, in either direction, goes by relay
//! and wakes the agent: it pings every candidate, which also opens our NAT towards the peer, and asks
//! the peer by relay to do the same (*call-me-maybe*). It repeats this quickly at first and then ever
//! more slowly ([`ROUND_GAPS`], [`SLOW_GAP`]). Whoever is called pings all candidates at once and
//! does not call back. While the path leads beyond our own networks, each round asks these too, by a
//! ping to a multicast group ([`Output::PingLan`]). A ping is always answered; its source is a candidate too, and is pinged back.
//!
//! # When it trusts
//!
//! A path is trusted when a ping to it was answered: by a pong with that ping's transaction, from the
//! very address that was pinged. It proves both directions. Nothing else does; data that arrives by
//! a path says nothing of what we send on it. A pong from elsewhere makes that address a candidate,
//! to be pinged itself. So traffic moves from the relay only to an address that answered, and loses
//! nothing by the move.
//!
//! # When it changes its mind
//!
//! While a direct path is trusted, another one takes over only if it is clearly better ([`score`]):
//! faster by a share, or on the same network, or IPv6. Below [`GOOD_ENOUGH`] speed does not count, so
//! two machines on one LAN settle on the LAN's address even where a trip through their router
//! measures the same. Every [`UPGRADE_GAP`] all candidates are tried again if there is something to
//! gain.
//!
//! The path in use is pinged every [`HEARTBEAT`], and under load [`LOADED_HEARTBEAT`] after its last
//! answer. If a ping and its repetitions stay unanswered for [`DOUBT_AFTER`], the path is doubted:
//! packets go both ways, the search starts over, and the first candidate that answers is trusted.
//! Authenticated data from an address that has not answered lately means that the peer has moved:
//! packets go both ways until either address answers; so does a call-me-maybe, which a peer that trusts
//! the path does not send. If our own network changes, every path has to
//! answer again.
//!
//! # How large packets may be
//!
//! Once the path in use is trusted, padded pings find out what size it carries: see [`mtu`]. Each address
//! keeps what was found, until our network changes or the peer starts anew.
//!
//! # Which relay
//!
//! The one of the region that the peer reports as its home. A peer that is heard elsewhere for
//! [`AWAY_AFTER`] and not at home is followed there before it says so: its home may be gone, and the
//! control plane with it. Two machines with different homes agree on the region of the lower number.
//!
//! # When it gives up
//!
//! A path that was doubted for [`GIVE_UP_AFTER`] is dropped, and the relay carries alone (without a
//! relay the last path is kept; there is nothing better). The search goes on, slowly, as long as there
//! is traffic. [`IDLE_AFTER`] the last packet everything stops: no pings, no calls, no timers. The
//! last path is remembered; the next packet goes on it and by relay, until it answers.
//!
//! # What it cannot be made to do
//!
//! Candidates, pings, pongs and calls are bounded ([`MAX_CANDIDATES`], [`PINGS_PER_SECOND`],
//! [`PONGS_PER_SECOND`], [`CALL_SPACING`]), whatever the peer or the network sends.

mod agent;
mod budget;
mod candidate;
mod chosen;
mod lan;
mod limits;
pub mod mtu;
mod relay;
pub mod score;
mod search;
mod types;

pub use agent::{CandidateReport, CandidateState, Explanation, PathAgent};
pub use budget::Budget;
pub use candidate::{
    Candidate, FAILED_HOLD, LEARNED_LIFETIME, MAX_CANDIDATES, MAX_PENDING, Origin, PING_TIMEOUT,
};
pub use chosen::{
    DOUBT_AFTER, GIVE_UP_AFTER, HEARTBEAT, LOAD_WINDOW, LOADED_HEARTBEAT, PROBE_RETRY, TRUST,
};
pub use lan::LAN_SPACING;
pub use limits::{
    ANSWER_FRESH, CALL_SPACING, ECHO_GAP, ECHO_SPACING, GOOD_ENOUGH, IDLE_AFTER, PING_BURST,
    PING_SPACING, PINGS_PER_SECOND, PONG_BURST, PONGS_PER_SECOND, SOURCE_FRESH, SUSPICION_SPACING,
};
pub use mtu::PathMtu;
pub use relay::{AWAY_AFTER, HEARD_FRESH};
pub use search::{ROUND_GAPS, SETTLE_ROUNDS, SLOW_GAP, UPGRADE_GAP};
pub use types::{Output, Route, Selected, Via};
