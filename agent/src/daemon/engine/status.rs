//! What the engine tells of itself.

use std::time::Instant;

use ztna_derp::client::Transport;
use ztna_local::{PathKind, PathStatus, PskState, PskStatus, RelayTransport};
use ztna_path::Selected;
use ztna_proto::keys::hex;

use super::run::Engine;
use super::{EnginePeer, EngineStatus};

/// What waited too long, or found no room, on its way from the TUN device into the mesh.
const QUEUE: &str = "queue";

/// How things stand right now. `queue_lost`: what the mesh never got.
pub fn of(engine: &mut Engine, queue_lost: u64) -> EngineStatus {
    let relay = engine.relays.home_state();
    let now = Instant::now();
    let endpoints = engine.endpoints.list(now.into());
    let peers = engine.mesh.status();
    let mut drops = counts(engine.mesh.drops());
    if queue_lost > 0 {
        drops.insert(QUEUE.to_owned(), queue_lost);
    }
    EngineStatus {
        endpoints: endpoints
            .into_iter()
            .map(|endpoint| endpoint.addr)
            .collect(),
        home_region: engine.home,
        home_latency: engine
            .home
            .and_then(|home| engine.check.latency(home, now.into())),
        netcheck: engine.check.last().cloned(),
        relay_connected: relay.connected,
        relay_transport: relay.transport.map(|transport| match transport {
            Transport::Tcp => RelayTransport::Tcp,
            Transport::Quic => RelayTransport::Quic,
        }),
        relay_error: relay.error,
        peers: peers
            .into_iter()
            .map(|peer| (peer.id, peer_status(engine, peer, now)))
            .collect(),
        drops,
        departed_drops: counts(engine.mesh.departed_drops()),
        totals: engine.mesh.totals(),
        warnings: engine.warnings.clone(),
    }
}

/// The way that a peer's packets go.
pub fn path(engine: &Engine, selected: Selected) -> PathStatus {
    match selected {
        Selected::None => PathStatus::default(),
        Selected::Relay(region) => PathStatus {
            kind: PathKind::Relay,
            region: Some(region),
            region_code: engine.relays.code(region),
            ..PathStatus::default()
        },
        Selected::Direct { addr, latency } => PathStatus {
            kind: PathKind::Direct,
            addr: Some(addr),
            latency_ms: Some(latency.as_secs_f64() * 1000.0),
            ..PathStatus::default()
        },
    }
}

fn peer_status(engine: &Engine, peer: ztna_mesh::PeerStatus, now: Instant) -> EnginePeer {
    let mut path = path(engine, peer.selected);
    if path.kind == PathKind::Direct {
        path.mtu = peer.mtu.map(|mtu| mtu.size);
        path.mtu_settled = peer.mtu.is_some_and(|mtu| mtu.is_settled);
    }
    let psk = match peer.psk {
        Some(psk) => PskStatus {
            state: PskState::Established,
            epoch: psk.epoch,
            fingerprint: Some(hex(&psk.fingerprint)),
            age_seconds: Some(now.duration_since(psk.since).as_secs()),
            full: psk.full,
        },
        None if peer.waiting => PskStatus {
            state: PskState::Pending,
            ..PskStatus::default()
        },
        None => PskStatus::default(),
    };
    EnginePeer {
        path,
        psk,
        tx_bytes: peer.tx_bytes,
        rx_bytes: peer.rx_bytes,
        last_handshake_seconds: peer.session_age.map(|age| age.as_secs()),
        drops: counts(&peer.drops),
    }
}

fn counts(drops: &ztna_mesh::DropCounts) -> std::collections::BTreeMap<String, u64> {
    drops
        .iter()
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect()
}
