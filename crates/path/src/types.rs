//! What goes in and out of a [`crate::PathAgent`].

use std::net::SocketAddr;
use std::time::Duration;

use ztna_disco::TxId;
use ztna_proto::RegionId;

/// Where a datagram came from, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// By UDP.
    Direct(SocketAddr),
    /// Through a region's relay.
    Relay(RegionId),
}

/// Where to send a packet: everywhere that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// To this address.
    pub direct: Option<SocketAddr>,
    /// And through this region's relay.
    pub relay: Option<RegionId>,
}

/// The way that traffic goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selected {
    /// Nowhere: no relay, and no address that answers.
    #[default]
    None,
    /// Through the relay.
    Relay(RegionId),
    /// Directly.
    Direct {
        /// The peer's address.
        addr: SocketAddr,
        /// Round-trip time, smoothed.
        latency: Duration,
    },
}

impl Selected {
    /// Whether both are the same way; latency does not count.
    #[must_use]
    pub fn is_same_way(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Direct { addr: a, .. }, Self::Direct { addr: b, .. }) => a == b,
            _ => self == other,
        }
    }
}

/// What an agent wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a ping. Always direct.
    Ping {
        /// Where to.
        to: Via,
        /// Names the ping.
        tx: TxId,
    },
    /// Send a ping to everybody on our own links, from the port that peers use. An agent without
    /// such links, or without leave to use them, drops it.
    PingLan {
        /// Names the ping.
        tx: TxId,
    },
    /// Send a ping that makes an IP packet of this size, not to be fragmented.
    Probe {
        /// Where to.
        to: SocketAddr,
        /// Names the ping.
        tx: TxId,
        /// Bytes, all headers included.
        size: u16,
    },
    /// Answer a ping, the way it came.
    Pong {
        /// Where to.
        to: Via,
        /// The ping's.
        tx: TxId,
        /// Where the ping came from. Of relayed pings: the unspecified address.
        observed: SocketAddr,
    },
    /// Send a call-me-maybe through the relay, with our own endpoints.
    CallMeMaybe,
    /// Traffic goes another way now.
    Changed(Selected),
}
