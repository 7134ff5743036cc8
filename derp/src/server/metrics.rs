//! What the relay counts. Names are derper's where they mean the same.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

use super::histogram::DelayHistogram;
use crate::outbox::{Account, Lane, Pushed};
use ztna_fair_queue::Lost;

/// Why a packet was dropped (`derp/derpserver`, `dropReason`, and ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    /// No client has that key.
    UnknownDest,
    /// No client has that key, at the relay to which it was forwarded.
    UnknownDestOnForward,
    /// The client with that key belongs to another org. Ours.
    OtherOrg,
    /// Its connection is ending.
    GoneDisconnected,
    /// It waited in a full queue, and newer ones came.
    QueueHead,
    /// It waited too long (RFC 8289). Ours.
    QueueDelay,
}

/// Packets that set tunnels up, and the others.
struct ByKind {
    control: Counter,
    data: Counter,
}

impl ByKind {
    fn new(make: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            control: make("control"),
            data: make("data"),
        }
    }

    fn of(&self, lane: Lane) -> &Counter {
        match lane {
            Lane::Data => &self.data,
            Lane::Control => &self.control,
        }
    }
}

/// Packets and bytes dropped for one reason.
struct Dropped {
    packets: ByKind,
    bytes: ByKind,
}

impl Dropped {
    fn new(reason: &'static str) -> Self {
        Self {
            packets: ByKind::new(
                |kind| counter!("derp_packets_dropped", "reason" => reason, "kind" => kind),
            ),
            bytes: ByKind::new(
                |kind| counter!("derp_bytes_dropped", "reason" => reason, "kind" => kind),
            ),
        }
    }
}

/// Handles, looked up once: counting is an atomic addition.
pub(super) struct Metrics {
    pub accepts: Counter,
    pub refused: Counter,
    pub connections: Gauge,
    pub home_connections: Gauge,
    pub home_moves_in: Counter,
    pub home_moves_out: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub got_ping: Counter,
    pub sent_pong: Counter,
    pub unknown_frames: Counter,
    pub gone_disconnected: Counter,
    pub gone_not_here: Counter,
    pub rate_limit_waits: Counter,
    pub write_timeouts: Counter,
    pub mesh_links: Gauge,
    pub forwarded_in: Counter,
    pub forwarded_out: Counter,
    received: ByKind,
    forwarded: ByKind,
    unknown_dest: Dropped,
    unknown_dest_on_forward: Dropped,
    other_org: Dropped,
    gone: Dropped,
    queue_head: Dropped,
    queue_delay_drops: Dropped,
    queue_delay: DelayHistogram,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            accepts: counter!("derp_accepts"),
            refused: counter!("derp_refused"),
            connections: gauge!("derp_current_connections"),
            home_connections: gauge!("derp_current_home_connections"),
            home_moves_in: counter!("derp_home_moves_in"),
            home_moves_out: counter!("derp_home_moves_out"),
            bytes_received: counter!("derp_bytes_received"),
            bytes_sent: counter!("derp_bytes_sent"),
            got_ping: counter!("derp_got_ping"),
            sent_pong: counter!("derp_sent_pong"),
            unknown_frames: counter!("derp_unknown_frames"),
            gone_disconnected: counter!("derp_peer_gone_disconnected_frames"),
            gone_not_here: counter!("derp_peer_gone_not_here_frames"),
            rate_limit_waits: counter!("derp_rate_limit_waits"),
            write_timeouts: counter!("derp_tcp_write_timeouts"),
            mesh_links: gauge!("derp_mesh_links"),
            forwarded_in: counter!("derp_packets_forwarded_in"),
            forwarded_out: counter!("derp_packets_forwarded_out"),
            received: ByKind::new(|kind| counter!("derp_packets_received", "kind" => kind)),
            forwarded: ByKind::new(|kind| counter!("derp_packets_sent", "kind" => kind)),
            unknown_dest: Dropped::new("unknown_dest"),
            unknown_dest_on_forward: Dropped::new("unknown_dest_on_fwd"),
            other_org: Dropped::new("other_org"),
            gone: Dropped::new("gone_disconnected"),
            queue_head: Dropped::new("queue_head"),
            queue_delay_drops: Dropped::new("queue_delay"),
            queue_delay: DelayHistogram::default(),
        }
    }

    pub fn received(&self, lane: Lane) {
        self.received.of(lane).increment(1);
    }

    /// What became of a packet of so many bytes that was queued for its receiver.
    pub fn pushed(&self, pushed: Pushed, lane: Lane, bytes: u64) {
        match pushed {
            Pushed::Queued(lost) => {
                self.forwarded.of(lane).increment(1);
                if lost.packets > 0 {
                    self.dropped(Drop::QueueHead, lane, lost.packets, lost.bytes);
                }
            }
            Pushed::Closed => self.dropped(Drop::GoneDisconnected, lane, 1, bytes),
        }
    }

    pub fn dropped(&self, reason: Drop, lane: Lane, packets: u64, bytes: u64) {
        let dropped = match reason {
            Drop::UnknownDest => &self.unknown_dest,
            Drop::UnknownDestOnForward => &self.unknown_dest_on_forward,
            Drop::OtherOrg => &self.other_org,
            Drop::GoneDisconnected => &self.gone,
            Drop::QueueHead => &self.queue_head,
            Drop::QueueDelay => &self.queue_delay_drops,
        };
        dropped.packets.of(lane).increment(packets);
        dropped.bytes.of(lane).increment(bytes);
    }
    /// What the recorder does not know, in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.queue_delay.prometheus(
            "derp_queue_delay_seconds",
            "Time that packets waited in a client's queue",
        )
    }
}

impl Account for Metrics {
    fn sent(&self, wait: Duration) {
        self.queue_delay.record(wait);
    }

    fn delayed_out(&self, lane: Lane, lost: Lost) {
        self.dropped(Drop::QueueDelay, lane, lost.packets, lost.bytes);
    }

    fn wrote(&self, bytes: usize) {
        self.bytes_sent.increment(bytes as u64);
    }
}
