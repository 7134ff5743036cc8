//! Every figure of the relay, and what it says. Where derper has one that means the same, the name is derper's behind
//! `ztna_`, with its unit and `_total` where they belong.

use metrics::{counter, describe_counter, describe_gauge};

/// Counters without labels. They are there from the start, at 0, so that their first step is seen.
const COUNTERS: [(&str, &str); 20] = [
    (
        "ztna_derp_accepts_total",
        "Connections of clients that were taken",
    ),
    ("ztna_derp_refused_total", "Clients that were refused"),
    (
        "ztna_derp_websocket_accepts_total",
        "Connections of clients that came by WebSocket",
    ),
    (
        "ztna_derp_quic_accepts_total",
        "Connections of clients that came by QUIC",
    ),
    (
        "ztna_derp_quic_retries_total",
        "QUIC connections that had to prove their address first",
    ),
    (
        "ztna_derp_quic_ignored_total",
        "QUIC connections that were ignored, as there were too many",
    ),
    (
        "ztna_derp_home_moves_in_total",
        "Clients that made this relay their home",
    ),
    (
        "ztna_derp_home_moves_out_total",
        "Clients that made another relay their home",
    ),
    (
        "ztna_derp_received_bytes_total",
        "Bytes that clients have sent in packets",
    ),
    (
        "ztna_derp_sent_bytes_total",
        "Bytes that were written to clients",
    ),
    ("ztna_derp_got_ping_total", "Pings of clients"),
    ("ztna_derp_sent_pong_total", "Pings that were answered"),
    (
        "ztna_derp_unknown_frames_total",
        "Frames of a kind that is not known",
    ),
    (
        "ztna_derp_peer_gone_disconnected_frames_total",
        "Times that a client was told that a peer has left",
    ),
    (
        "ztna_derp_peer_gone_not_here_frames_total",
        "Times that a client was told that a peer is not here",
    ),
    (
        "ztna_derp_rate_limit_waits_total",
        "Times that a client had to wait for its share",
    ),
    (
        "ztna_derp_tcp_write_timeouts_total",
        "Clients that were given up because they took nothing",
    ),
    (
        "ztna_derp_packets_forwarded_in_total",
        "Packets that other relays of the region have handed over",
    ),
    (
        "ztna_derp_packets_forwarded_out_total",
        "Packets that were handed to other relays of the region",
    ),
    (
        "ztna_derp_bootstrap_dns_queries_total",
        "Questions for names by clients whose own DNS does not work",
    ),
];

/// Counters that begin elsewhere: those with labels, and those of who follows a control plane.
const OTHER_COUNTERS: [(&str, &str); 6] = [
    (
        "ztna_derp_packets_received_total",
        "Packets that clients have sent, by kind",
    ),
    (
        "ztna_derp_packets_sent_total",
        "Packets that were queued for their receiver, by kind",
    ),
    (
        "ztna_derp_packets_dropped_total",
        "Packets that were dropped, by reason and kind",
    ),
    (
        "ztna_derp_dropped_bytes_total",
        "Bytes in packets that were dropped, by reason and kind",
    ),
    (
        "ztna_derp_revocations_total",
        "Revocations that were heard of from the control plane",
    ),
    (
        "ztna_derp_revocation_list_failures_total",
        "Lists of revocations that could not be had",
    ),
];

const GAUGES: [(&str, &str); 5] = [
    (
        "ztna_derp_current_connections",
        "Clients that are connected",
    ),
    (
        "ztna_derp_current_home_connections",
        "Clients that are connected and have their home here",
    ),
    (
        "ztna_derp_current_notideal_connections",
        "Clients that are connected and wanted another relay of the region",
    ),
    (
        "ztna_derp_mesh_links",
        "Other relays of the region that are connected",
    ),
    (
        "ztna_derp_revocation_list_age_seconds",
        "Age of the last list of revocations, without which removed machines stay",
    ),
];

/// Tells the recorder what figures mean.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
        counter!(name).increment(0);
    }
    for (name, help) in OTHER_COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
}
