//! Pings to everybody on our own links.
//!
//! A peer on the same link is found by the addresses that it reports. Where neither control plane nor
//! relay passes them on, or they are not what counts on this link, a ping to a multicast group finds
//! it: sealed for that peer like any ping, so others learn nothing from it; whoever it is for answers
//! from where it is. That answer makes a candidate, and only that one's own answer a path.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ztna_disco::TxId;

use crate::candidate::{MAX_PENDING, PING_TIMEOUT};

/// Shortest time between two of these pings for one peer.
pub const LAN_SPACING: Duration = Duration::from_millis(200);

/// Those on their way.
#[derive(Debug, Default)]
pub(crate) struct LanPings {
    pending: VecDeque<(TxId, Instant)>,
}

impl LanPings {
    /// Whether another may go.
    pub(crate) fn may_ping(&self, now: Instant) -> bool {
        let last = self.pending.back();
        last.is_none_or(|(_, at)| now.duration_since(*at) >= LAN_SPACING)
    }

    pub(crate) fn sent(&mut self, tx: TxId, now: Instant) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((tx, now));
    }

    pub(crate) fn is_waiting_for(&self, tx: TxId, now: Instant) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|(waiting, at)| *waiting == tx && now.duration_since(*at) < PING_TIMEOUT)
    }
}
