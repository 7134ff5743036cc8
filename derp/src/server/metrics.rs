//! What the relay counts.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

use super::figures;
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
                |kind| counter!("ztna_derp_packets_dropped_total", "reason" => reason, "kind" => kind),
            ),
            bytes: ByKind::new(
                |kind| counter!("ztna_derp_dropped_bytes_total", "reason" => reason, "kind" => kind),
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
        figures::describe();
        // It may be long until the first that wants another.
        gauge!("ztna_derp_current_notideal_connections").increment(0.0);
        Self {
            accepts: counter!("ztna_derp_accepts_total"),
            refused: counter!("ztna_derp_refused_total"),
            connections: gauge!("ztna_derp_current_connections"),
            home_connections: gauge!("ztna_derp_current_home_connections"),
            home_moves_in: counter!("ztna_derp_home_moves_in_total"),
            home_moves_out: counter!("ztna_derp_home_moves_out_total"),
            bytes_received: counter!("ztna_derp_received_bytes_total"),
            bytes_sent: counter!("ztna_derp_sent_bytes_total"),
            got_ping: counter!("ztna_derp_got_ping_total"),
            sent_pong: counter!("ztna_derp_sent_pong_total"),
            unknown_frames: counter!("ztna_derp_unknown_frames_total"),
            gone_disconnected: counter!("ztna_derp_peer_gone_disconnected_frames_total"),
            gone_not_here: counter!("ztna_derp_peer_gone_not_here_frames_total"),
            rate_limit_waits: counter!("ztna_derp_rate_limit_waits_total"),
            write_timeouts: counter!("ztna_derp_tcp_write_timeouts_total"),
            mesh_links: gauge!("ztna_derp_mesh_links"),
            forwarded_in: counter!("ztna_derp_packets_forwarded_in_total"),
            forwarded_out: counter!("ztna_derp_packets_forwarded_out_total"),
            received: ByKind::new(
                |kind| counter!("ztna_derp_packets_received_total", "kind" => kind),
            ),
            forwarded: ByKind::new(|kind| counter!("ztna_derp_packets_sent_total", "kind" => kind)),
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
            "ztna_derp_queue_delay_seconds",
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
