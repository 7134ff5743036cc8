//! The packet filter of one machine: what its peers may send it, and it may send them.
//!
//! Every packet between the TUN device and a tunnel goes through [`Filter::check`], in both
//! directions, at both ends. Nothing passes that nothing allows:
//!
//! 1. The packet must be one that [`packet::parse`] can read in one way only.
//! 2. A packet of a tracked flow passes, in either direction, without a rule. So do ICMP errors
//!    about such a flow.
//! 3. Any other packet must come from an address of its sender's and go to one of its receiver's,
//!    and a rule must allow it. A rule that denies it beats every one that allows it.
//! 4. An allowed packet opens a flow: TCP and SCTP and UDP by addresses and ports, ICMP echo by its
//!    identifier, other protocols by the two addresses. A TCP connection that was open before the
//!    filter was (a restart) is picked up by any of its segments that a rule allows as an opener.
//!
//! When rules, groups or networks change, each flow's first packet is judged anew when its next one
//! comes. A flow that is no longer allowed is *cut*: its packets are dropped as long as they keep
//! coming, so that it does not live on as a flow in the other direction. A new TCP connection
//! between the same ports is judged for itself. A segment that asks for a new connection always
//! needs a rule, even in a flow that runs the other way (which gives up simultaneous opening, RFC
//! 9293 §3.5, for a machine's own outgoing ports staying closed).
//!
//! Of a fragmented packet, the first fragment decides and the others follow it. Both tables are
//! bounded ([`Limits`]), for each peer and in all. A peer with too many flows loses its own: closing
//! ones first, then pings, unanswered connections, datagrams; a TCP connection in use never gives
//! way, the new flow is refused instead.
//!
//! Selectors that this build does not know match nothing in an `allow` and everything in a `deny`.

mod counters;
mod filter;
pub mod flows;
pub mod fragments;
mod networks;
pub mod packet;
mod rules;

use std::fmt;

use ztna_proto::ids::RuleId;

pub use counters::Counters;
pub use filter::Filter;
pub use packet::{ParseError, Parsed, parse};

/// Which way a packet goes, seen from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the peer to this machine.
    Inbound,
    /// From this machine to the peer.
    Outbound,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Inbound => Self::Outbound,
            Self::Outbound => Self::Inbound,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is dropped.
    Drop(Reason),
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is not a packet that can be judged.
    Malformed(ParseError),
    /// The filter has no such peer.
    UnknownPeer,
    /// Its source is no address of its sender's.
    WrongSource,
    /// Its destination is no address of its receiver's.
    WrongDestination,
    /// No rule allows it.
    NoRule,
    /// This rule denies it.
    Denied(RuleId),
    /// A fragment without a first one that passed, or one that overlaps it.
    Fragment,
    /// The peer, or all together, have as many flows or fragmented packets as may be.
    TableFull,
}

impl Reason {
    /// Names of all kinds of reasons, in the order of [`Reason::kind`].
    const NAMES: [&'static str; 8] = [
        "malformed",
        "unknown_peer",
        "wrong_source",
        "wrong_destination",
        "no_rule",
        "denied",
        "fragment",
        "table_full",
    ];

    fn kind(self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::UnknownPeer => 1,
            Self::WrongSource => 2,
            Self::WrongDestination => 3,
            Self::NoRule => 4,
            Self::Denied(_) => 5,
            Self::Fragment => 6,
            Self::TableFull => 7,
        }
    }

    /// The reason's kind, as counters and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self.kind()]
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed packet: {error}"),
            Self::UnknownPeer => f.write_str("unknown peer"),
            Self::WrongSource => f.write_str("source address is not the sender's"),
            Self::WrongDestination => f.write_str("destination address is not the receiver's"),
            Self::NoRule => f.write_str("no rule allows it"),
            Self::Denied(rule) => write!(f, "rule {rule} denies it"),
            Self::Fragment => f.write_str("fragment of no packet that passed"),
            Self::TableFull => f.write_str("too many flows"),
        }
    }
}

impl From<ParseError> for Reason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::TinyFragment | ParseError::FragmentSize => Self::Fragment,
            error => Self::Malformed(error),
        }
    }
}

/// How much the filter may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows of all peers together; about 500 bytes each.
    pub flows: usize,
    /// Flows of one peer.
    pub flows_per_peer: usize,
    /// Fragmented packets under way, of all peers together.
    pub fragments: usize,
    /// Fragmented packets under way, of one peer.
    pub fragments_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 131_072,
            flows_per_peer: 16_384,
            fragments: 8_192,
            fragments_per_peer: 1_024,
        }
    }
}
