//! The relay as a library.
//!
//! [`Server`] knows the clients and carries packets between them; [`run`] puts it behind a TLS
//! listener that it shares with an axum router. Each client has one task that reads and one that
//! writes, with a bounded queue between them; a slow receiver loses its own oldest packets and
//! holds up nobody. Nothing is forwarded for a client that the [`Admission`] has not let in, nor
//! between clients of different orgs.

mod admission;
mod bootstrap;
mod figures;
mod head;
mod histogram;
mod limits;
mod listener;
mod mesh;
mod meta;
mod metrics;
mod quic;
mod registry;
mod routes;
mod session;
mod upgrade;
mod websocket;
mod welcome;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use ztna_proto::WgPublicKey;
use ztna_proto::revocation::{Revocation, WgKeyHash};

pub use admission::{
    Admission, Admitted, Applicant, Clock, OpenAdmission, Refusal, TicketAdmission,
};
pub use bootstrap::{BootstrapDns, MAX_BOOTSTRAP_NAMES};
pub use head::{Wants, classify};
pub use limits::Limits;
pub use listener::{ListenerLimits, Port, run};
pub use mesh::{Mesh, MeshKey};
pub use meta::{meta_certificate, tls_config};
pub use quic::{QuicError, run_quic};
pub use routes::{captive_portal_routes, routes};

use crate::frame::Frame;
use crate::key::{RelayPrivateKey, RelayPublicKey};
use crate::reader::FrameReader;
use crate::transport::StreamSink;
use limits::OrgBuckets;
use metrics::Metrics;
use registry::Registry;

/// Last word to a client that lost its right.
const REVOKED: &str = "this machine's access was revoked by the control plane";

/// How a relay is set up.
pub struct ServerConfig {
    /// The relay's key.
    pub key: RelayPrivateKey,
    /// Who decides on clients.
    pub admission: Arc<dyn Admission>,
    /// What clients may use, to begin with.
    pub limits: Limits,
    /// What it shares with the other relays of its region. `None`: it stands alone.
    pub mesh: Option<Mesh>,
}

/// A relay: the clients that are connected, and the way between them.
pub struct Server {
    key: RelayPrivateKey,
    admission: Arc<dyn Admission>,
    mesh: Option<Mesh>,
    limits: watch::Sender<Limits>,
    org_buckets: OrgBuckets,
    clients: Registry,
    next_id: AtomicU64,
    metrics: Metrics,
}

impl Server {
    /// Makes a relay without clients. Install the metrics recorder first, if there is to be one.
    #[must_use]
    pub fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            key: config.key,
            admission: config.admission,
            mesh: config.mesh,
            limits: watch::Sender::new(config.limits),
            org_buckets: OrgBuckets::default(),
            clients: Registry::default(),
            next_id: AtomicU64::new(0),
            metrics: Metrics::new(),
        })
    }

    /// The relay's public key.
    #[must_use]
    pub fn public_key(&self) -> RelayPublicKey {
        self.key.public()
    }

    /// Connections at this moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Metrics in Prometheus' text format that the metrics recorder does not hold: to be appended to
    /// what it renders.
    #[must_use]
    pub fn prometheus(&self) -> String {
        self.metrics.prometheus()
    }

    /// Sets other limits, also for the clients that are connected.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.send_replace(limits);
    }

    /// Cuts every connection of a client, telling it why. Nothing more is carried for it; it may
    /// come back, see [`Server::revoke`]. Returns how many connections there were.
    pub fn disconnect(&self, key: &WgPublicKey, reason: &str) -> usize {
        let connections = self.clients.all(key);
        for connection in &connections {
            connection.close(&Frame::Health(reason.to_owned()));
        }
        connections.len()
    }

    /// Revokes the tickets that a client was given until `at` (the control plane's time), and cuts
    /// its connections: for a machine that was deleted, quarantined or expired.
    pub fn revoke(&self, key: &WgPublicKey, at: Timestamp) -> usize {
        self.admission.revoke(key, at);
        self.disconnect(key, REVOKED)
    }

    /// [`Server::revoke`] for the entries of a revocation list, in one pass over the clients.
    pub fn revoke_all(&self, entries: &[Revocation]) -> usize {
        for entry in entries {
            self.admission.revoke_hash(&entry.key_hash, entry.at);
        }
        let revoked: HashSet<WgKeyHash> = entries.iter().map(|entry| entry.key_hash).collect();
        if revoked.is_empty() {
            return 0;
        }
        let wanted = |key: &WgPublicKey| revoked.contains(&WgKeyHash::of(key));
        let connections = self.clients.matching(wanted);
        for connection in &connections {
            connection.close(&Frame::Health(REVOKED.to_owned()));
        }
        connections.len()
    }

    /// Serves one client on an upgraded stream, of which `early` was read already, until it leaves,
    /// is cut off, or `shutdown` is cancelled.
    pub async fn serve_client<S>(
        self: &Arc<Self>,
        stream: S,
        early: BytesMut,
        address: SocketAddr,
        shutdown: &CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.metrics.accepts.increment(1);
        let (read, write) = tokio::io::split(stream);
        let source = FrameReader::new(read, early);
        let ended = session::run(self, source, write, StreamSink, address, shutdown).await;
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "relay client ended");
        }
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}
