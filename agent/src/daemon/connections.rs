//! Tells the control plane of this machine's tunnels, for people who look at it: when something has changed, once a minute
//! at most, and now and then while there are some.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use ztna_local::{PathKind, PskState};
use ztna_proto::connections::{
    CONNECTIONS_REFRESH_SECONDS, CONNECTIONS_SECONDS, Connection, ConnectionPath, MAX_CONNECTIONS,
    MAX_WHY, ReportConnections,
};
use ztna_proto::ids::MachineId;
use ztna_proto::tokens::MachineToken;

use super::engine::{EngineHandle, EnginePeer};
use crate::control::Api;

/// Between two looks at the engine.
const PERIOD: Duration = Duration::from_secs(CONNECTIONS_SECONDS);
/// After so long the same is told again.
const REFRESH: Duration = Duration::from_secs(CONNECTIONS_REFRESH_SECONDS);
/// Round trips that differ by less are the same.
const LATENCY_STEP: u32 = 10;

/// Who tells.
pub struct Reporter {
    pub api: Api,
    pub token: watch::Receiver<MachineToken>,
    /// The engine ends when its session lets it go.
    pub engine: Weak<EngineHandle>,
    pub stop: CancellationToken,
}

impl Reporter {
    /// Runs until it is stopped.
    pub async fn run(self) {
        let mut turn = Turn::default();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(PERIOD) => {}
            }
            let Some(engine) = self.engine.upgrade() else {
                return;
            };
            let mut report = report(engine.status().await.peers);
            if !turn.is_due(&report) {
                continue;
            }
            for connection in &mut report.connections {
                let explained = engine.paths(connection.peer).await;
                let why = explained.map(|paths| paths.why).unwrap_or_default();
                connection.why = why.chars().take(MAX_WHY).collect();
            }
            drop(engine);
            let token = self.token.borrow().clone();
            let told = tokio::select! {
                () = self.stop.cancelled() => return,
                told = self.api.report_connections(token.expose(), &report) => told,
            };
            match told {
                Ok(_) => turn.told(&report),
                // Whoever looks sees when the machine told last.
                Err(error) => tracing::debug!(%error, "tunnels were not told of"),
            }
        }
    }
}

/// Peers with a tunnel; those whose handshake is the latest first.
fn report(peers: BTreeMap<MachineId, EnginePeer>) -> ReportConnections {
    let mut connections: Vec<Connection> = peers
        .into_iter()
        .filter(|(_, peer)| peer.last_handshake_seconds.is_some())
        .map(|(id, peer)| connection(id, &peer))
        .collect();
    connections.sort_by_key(|connection| connection.handshake_age_seconds);
    let count = connections.len().try_into().unwrap_or(u32::MAX);
    connections.truncate(MAX_CONNECTIONS);
    ReportConnections { connections, count }
}

fn connection(id: MachineId, peer: &EnginePeer) -> Connection {
    let latency = peer.path.latency_ms.filter(|latency| latency.is_finite());
    Connection {
        peer: id,
        path: match peer.path.kind {
            PathKind::Direct => ConnectionPath::Direct,
            PathKind::Relay => ConnectionPath::Relay,
            PathKind::None => ConnectionPath::None,
        },
        region: peer.path.region,
        // Saturates.
        latency_ms: latency.map(|latency| latency.round() as u32),
        post_quantum: peer.psk.state == PskState::Established,
        epoch: peer.psk.epoch,
        epoch_age_seconds: peer.psk.age_seconds,
        handshake_age_seconds: peer.last_handshake_seconds,
        // Asked for once it is told.
        why: String::new(),
    }
}

/// What the control plane was told last.
#[derive(Default)]
struct Turn {
    told: Option<(Vec<Essence>, Instant)>,
}

/// What counts as a change: not that keys are renewed, as they are every two minutes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Essence {
    peer: MachineId,
    path: u8,
    region: Option<u32>,
    latency: Option<u32>,
    post_quantum: bool,
}

fn essence(report: &ReportConnections) -> Vec<Essence> {
    let essence = |connection: &Connection| Essence {
        peer: connection.peer,
        path: connection.path as u8,
        region: connection.region.map(|region| region.0),
        latency: connection.latency_ms.map(|latency| latency / LATENCY_STEP),
        post_quantum: connection.post_quantum,
    };
    let mut all: Vec<Essence> = report.connections.iter().map(essence).collect();
    all.sort();
    all
}

impl Turn {
    fn is_due(&self, report: &ReportConnections) -> bool {
        match &self.told {
            None => !report.connections.is_empty(),
            Some((told, at)) => {
                *told != essence(report) || (!told.is_empty() && at.elapsed() >= REFRESH)
            }
        }
    }

    fn told(&mut self, report: &ReportConnections) {
        self.told = Some((essence(report), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_local::{PathStatus, PskStatus};

    fn peer(kind: PathKind, latency: f64, handshake: Option<u64>) -> EnginePeer {
        EnginePeer {
            path: PathStatus {
                kind,
                latency_ms: Some(latency),
                ..PathStatus::default()
            },
            psk: PskStatus {
                state: PskState::Established,
                epoch: 3,
                age_seconds: handshake,
                ..PskStatus::default()
            },
            last_handshake_seconds: handshake,
            ..EnginePeer::default()
        }
    }

    #[test]
    fn peers_with_a_tunnel_are_told_the_latest_first_and_so_many() {
        let ids: Vec<MachineId> = (0..60).map(|_| MachineId::generate()).collect();
        let mut peers: BTreeMap<_, _> = ids
            .iter()
            .zip(0..)
            .map(|(id, age)| (*id, peer(PathKind::Direct, 1.6, Some(1000 - age))))
            .collect();
        peers.insert(MachineId::generate(), peer(PathKind::Relay, 1.0, None));
        let report = report(peers);
        assert_eq!(
            (report.count, report.connections.len()),
            (60, MAX_CONNECTIONS)
        );
        let first = &report.connections[0];
        assert_eq!((first.peer, first.latency_ms), (ids[59], Some(2)));
        assert_eq!(
            (first.path, first.post_quantum, first.epoch),
            (ConnectionPath::Direct, true, 3)
        );
        let mut odd = peer(PathKind::None, f64::NAN, Some(1));
        odd.psk = PskStatus::default();
        let told = connection(ids[0], &odd);
        assert_eq!((told.latency_ms, told.post_quantum), (None, false));
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_and_renewed_keys_are_none() {
        let id = MachineId::generate();
        let at =
            |kind, latency, age| report(BTreeMap::from([(id, peer(kind, latency, Some(age)))]));
        let nothing = ReportConnections::default();
        let mut turn = Turn::default();
        assert!(!turn.is_due(&nothing), "an idle machine says nothing");
        let first = at(PathKind::Relay, 40.0, 1);
        assert!(turn.is_due(&first));
        turn.told(&first);
        assert!(!turn.is_due(&at(PathKind::Relay, 43.0, 99)));
        assert!(turn.is_due(&at(PathKind::Relay, 90.0, 99)));
        assert!(turn.is_due(&at(PathKind::Direct, 40.0, 99)));
        tokio::time::advance(REFRESH).await;
        assert!(turn.is_due(&first), "else it would be forgotten");
        assert!(turn.is_due(&nothing));
        turn.told(&nothing);
        tokio::time::advance(REFRESH).await;
        assert!(!turn.is_due(&nothing));
    }
}
