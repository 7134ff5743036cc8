//! The seam between the daemon's supervisor and the engine that moves packets.
//!
//! The supervisor owns the state file, the connection to the control plane, the TUN device's
//! addresses and routes, and the netmap's life (resume, cache, resync). The engine owns the UDP
//! socket, the relay connections and the mesh, and nothing that outlives a `down`.
//!
//! The netmap is shared: the control task applies a message under the write lock and then tells the
//! engine by [`ControlEvent::Netmap`]. The engine takes the read lock briefly, never across an
//! `await`, and may find a state newer than the update that it is told of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use ztna_handshake::KemPrivateKey;
use ztna_local::{PathStatus, PathsReport, PskStatus, RelayTransport};
use ztna_mesh::RouteUse;
use ztna_mesh::tunnel::NewWireGuard;
use ztna_netcheck::Report;
use ztna_netmap::{Netmap, Update};
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::VolatileReport;
use ztna_proto::{KemKeyHash, MachineId, RegionId, WgPrivateKey};

pub use self::device::Device;
use self::run::Engine;
use crate::platform::NetworkMonitor;

mod burst;
mod device;
mod endpoints;
mod lan;
mod netcheck;
mod oversize;
mod paths;
mod portmap;
mod probes;
mod relays;
mod run;
mod status;
mod udp;

pub use burst::Bursts;
pub use udp::UdpPort;

/// Events that may wait in either direction before the sender has to.
pub const CHANNEL_CAPACITY: usize = 256;

/// What an engine is started with.
pub struct EngineConfig {
    /// This machine's WireGuard key.
    pub wg_key: WgPrivateKey,
    /// This machine's ML-KEM key.
    pub kem: KemPrivateKey,
    /// Where IP packets come from and go to.
    pub device: Device,
    /// UDP port to listen at; 0: any. A port in use is no error: another is taken, with a warning
    /// in [`EngineStatus::warnings`].
    pub port: u16,
    /// Whether to ask the router for a port of its own.
    pub port_mapping: bool,
    /// Whether to look for peers on this machine's own links by multicast, and to be found so.
    pub lan_discovery: bool,
    /// Epoch length of preshared keys. `None`: the handshake's own.
    pub psk_interval: Option<Duration>,
    /// What seals packets.
    pub wireguard: NewWireGuard,
    /// This machine's addresses, and when they change.
    pub network: NetworkMonitor,
    /// What is known of the org: empty, or the map that was on disk.
    pub netmap: Arc<RwLock<Netmap>>,
}

/// Control plane → engine.
pub enum ControlEvent {
    /// The shared netmap changed so.
    Netmap(Update),
    /// A fresh relay ticket ([`ztna_proto::ticket`]).
    Ticket(String),
    /// The answer to [`EngineEvent::NeedKemKey`], already checked against its hash. A key that could
    /// not be had is not answered: the supervisor tries again until it has it or the peer is gone.
    KemKey(KemPublicKey),
    /// The stream stands. The supervisor has sent the last report; nothing is to be done.
    Connected,
    /// The stream broke. What the engine knows stays good.
    Disconnected,
    /// Which networks behind peers packets go to.
    RouteUse(RouteUse),
}

/// Engine → control plane.
pub enum EngineEvent {
    /// Fetch this ML-KEM key.
    NeedKemKey(KemKeyHash),
    /// This machine's volatile state, whole, whenever it changes.
    Report(VolatileReport),
    /// The relay refused the ticket, or it ends soon: fetch a fresh one now.
    NeedTicket,
    /// This machine's addresses or routes changed, or it slept: connections may hang.
    NetworkChanged,
    /// The engine cannot go on (the TUN device is gone, no socket opens): what happened, for people.
    Failed(String),
}

/// A snapshot of the engine, for `ztna status`.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// Where this machine may be reached.
    pub endpoints: Vec<SocketAddr>,
    /// The region whose relay it keeps a connection to.
    pub home_region: Option<RegionId>,
    /// Round trip to that region, as it was measured lately.
    pub home_latency: Option<Duration>,
    /// The last network check.
    pub netcheck: Option<Report>,
    /// Whether that connection stands and the relay has admitted this machine.
    pub relay_connected: bool,
    /// By what it stands.
    pub relay_transport: Option<RelayTransport>,
    /// Why there is none, for people.
    pub relay_error: Option<String>,
    /// By peer. A peer that the engine does not know (yet) is not in it.
    pub peers: BTreeMap<MachineId, EnginePeer>,
    /// Packets dropped that belong to no peer, by reason.
    pub drops: BTreeMap<String, u64>,
    /// The same of peers that are gone.
    pub departed_drops: BTreeMap<String, u64>,
    /// What the mesh has counted.
    pub totals: ztna_mesh::Totals,
    /// What a person should look at, one line each.
    pub warnings: Vec<String>,
}

/// One peer in [`EngineStatus`].
#[derive(Clone, Debug, Default)]
pub struct EnginePeer {
    /// How packets reach it.
    pub path: PathStatus,
    /// The tunnel's preshared key.
    pub psk: PskStatus,
    /// Bytes of IP packets sent to it.
    pub tx_bytes: u64,
    /// Bytes of IP packets from it.
    pub rx_bytes: u64,
    /// Seconds since the last WireGuard handshake.
    pub last_handshake_seconds: Option<u64>,
    /// Packets to and from it that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// A running engine. Dropping it stops it without ceremony; [`EngineHandle::shutdown`] takes leave.
pub struct EngineHandle {
    requests: mpsc::Sender<Request>,
    ended: watch::Receiver<()>,
    task: AbortHandle,
}

/// What a running engine is asked.
pub enum Request {
    /// How things stand.
    Status(oneshot::Sender<EngineStatus>),
    /// A network check, made now.
    Netcheck(oneshot::Sender<Report>),
    /// Why packets to a peer go the way they go. `None`: there is no such peer.
    Paths(MachineId, oneshot::Sender<Option<PathsReport>>),
    /// Tell peers and relays goodbye, close everything, end.
    Shutdown,
}

impl EngineHandle {
    /// How things stand. The default if the engine has ended.
    pub async fn status(&self) -> EngineStatus {
        let (answer, status) = oneshot::channel();
        if self.requests.send(Request::Status(answer)).await.is_err() {
            return EngineStatus::default();
        }
        status.await.unwrap_or_default()
    }

    /// Makes a network check. `None`: the engine has ended.
    pub async fn netcheck(&self) -> Option<Report> {
        let (answer, report) = oneshot::channel();
        self.requests.send(Request::Netcheck(answer)).await.ok()?;
        report.await.ok()
    }

    /// Why packets to a peer go the way they go; name and presence are the caller's to add. `None`:
    /// there is no such peer, or the engine has ended.
    pub async fn paths(&self, peer: MachineId) -> Option<PathsReport> {
        let (answer, report) = oneshot::channel();
        let request = Request::Paths(peer, answer);
        self.requests.send(request).await.ok()?;
        report.await.ok().flatten()
    }

    /// Stops the engine and waits until the TUN device and the sockets are closed.
    pub async fn shutdown(&self) {
        // Fails only if the engine has ended already.
        let _ = self.requests.send(Request::Shutdown).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts an engine.
///
/// # Errors
/// No UDP socket can be opened.
pub fn start(
    config: EngineConfig,
    control: mpsc::Receiver<ControlEvent>,
    events: mpsc::Sender<EngineEvent>,
) -> std::io::Result<EngineHandle> {
    let (requests, inbox) = mpsc::channel(CHANNEL_CAPACITY);
    let (alive, ended) = watch::channel(());
    let (engine, inputs) = Engine::new(config, events)?;
    let task = tokio::spawn(async move {
        engine.run(inputs, control, inbox).await;
        drop(alive);
    });
    Ok(EngineHandle {
        requests,
        ended,
        task: task.abort_handle(),
    })
}
