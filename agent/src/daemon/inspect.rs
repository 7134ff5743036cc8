//! What people ask about one peer: does it answer, by which path, and why by that one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use ztna_local::{
    Answer, Failure, FailureKind, PathKind, PathStatus, PathsOptions, PathsReport, PingOptions,
    Pong, Replies,
};
use ztna_proto::MachineId;

use super::ping::Pinger;
use super::session::Session;
use super::supervisor::{Supervisor, failed};
use super::{peers, report};

/// Pause between two pings, as `ping` has it.
const PING_INTERVAL: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Pings a peer through the tunnel.
    pub(super) async fn ping(
        &self,
        options: PingOptions,
        replies: &mut Replies,
    ) -> Result<(), Failure> {
        let in_bounds = (1..=PingOptions::MAX_COUNT).contains(&options.count)
            && options.timeout_ms <= PingOptions::MAX_TIMEOUT_MS;
        if !in_bounds {
            return Err(Failure::new(
                FailureKind::BadRequest,
                format!(
                    "a ping has 1 to {} requests and waits {} ms at most",
                    PingOptions::MAX_COUNT,
                    PingOptions::MAX_TIMEOUT_MS
                ),
            ));
        }
        let session = self.session()?;
        let (peer, address) = session.read_map(|map| peers::find(map, &options.peer))?;
        let cannot = |error: io::Error| failed(anyhow::anyhow!("cannot ping {address}: {error}"));
        let mut pinger = Pinger::new(address).map_err(cannot)?;
        let wait = Duration::from_millis(u64::from(options.timeout_ms));
        for seq in 1..=options.count {
            let begun = Instant::now();
            let latency = pinger.ping(wait).await.map_err(cannot)?;
            let path = path_of(&session, peer.id, latency).await;
            let pong = Pong {
                peer: peer.name.clone(),
                address,
                seq,
                latency_ms: latency.map(|latency| latency.as_secs_f64() * 1000.0),
                path: path.kind,
                addr: path.addr,
                region: path.region,
                region_code: path
                    .region
                    .and_then(|region| session.read_map(|map| report::code(map, region))),
            };
            if replies.send(&Answer::Pong(pong)).await.is_err() {
                // Whoever asked is gone.
                return Ok(());
            }
            if seq < options.count {
                sleep(PING_INTERVAL.saturating_sub(begun.elapsed())).await;
            }
        }
        Ok(())
    }

    /// Why packets to a peer go the way they go.
    pub(super) async fn paths(&self, options: PathsOptions) -> Result<PathsReport, Failure> {
        let session = self.session()?;
        let (peer, _) = session.read_map(|map| peers::find(map, &options.peer))?;
        let report = session.engine().paths(peer.id).await.ok_or_else(|| {
            Failure::new(
                FailureKind::Failed,
                format!(
                    "the tunnel does not know {} yet; try again in a second",
                    peer.name
                ),
            )
        })?;
        let online = session.read_map(|map| map.volatile(&peer.id).is_some_and(|it| it.online));
        Ok(PathsReport {
            peer: peer.name,
            online,
            ..report
        })
    }
}

/// The way that an answer came by, which was the last packet of the peer; without an answer, the way
/// that packets go.
async fn path_of(session: &Arc<Session>, peer: MachineId, latency: Option<Duration>) -> PathStatus {
    let Some(report) = session.engine().paths(peer).await else {
        return PathStatus::default();
    };
    match report.heard.filter(|_| latency.is_some()) {
        Some(heard) => PathStatus {
            kind: match heard.addr {
                Some(_) => PathKind::Direct,
                None => PathKind::Relay,
            },
            addr: heard.addr,
            region: heard.region,
            ..PathStatus::default()
        },
        None => report.path,
    }
}
