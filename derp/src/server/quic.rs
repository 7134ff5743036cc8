//! The relay's QUIC port.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::BytesMut;
use metrics::counter;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ztna_tls::AddressGate;

use super::{ListenerLimits, Server, session};
use crate::key::RelayPrivateKey;
use crate::quic::{
    ALPN, CLOSED, QuicSink, QuicSource, SERVER_SOCKET_BUFFER, Side, enlarge_buffers, transport,
};
use crate::reader::FrameReader;

/// While this share of the handshakes that may go on at a time does so, strangers first have to
/// show that packets reach them (RFC 9000 §8.1.2).
const BUSY_SHARE: usize = 4;

/// A client that was told the last word gets so long to read it and close.
const LINGER: Duration = Duration::from_secs(3);

/// Connections whose first packet waits to be looked at, …
const MAX_INCOMING: usize = 1024;
/// … bytes that each may bring along, …
const INCOMING_BUFFER: u64 = 16 * 1024;
/// … and all of them.
const INCOMING_BUFFERS: u64 = 4 * 1024 * 1024;

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The TLS configuration is not fit for QUIC.
    #[error("this TLS configuration cannot serve QUIC: {0}")]
    Tls(String),
    /// The socket cannot be used.
    #[error("cannot use the UDP socket for QUIC: {0}")]
    Socket(#[from] io::Error),
}

/// Takes clients by QUIC on `socket`, with the certificate of `tls`, until `shutdown` is cancelled
/// and the connections have ended. `tls` has to allow TLS 1.3, which alone is used; the ALPN is set
/// here.
///
/// # Errors
/// The socket or the configuration cannot be used; later nothing fails.
pub async fn run_quic(
    server: Arc<Server>,
    socket: UdpSocket,
    tls: Arc<rustls::ServerConfig>,
    limits: ListenerLimits,
    shutdown: CancellationToken,
) -> Result<(), QuicError> {
    enlarge_buffers(&socket, SERVER_SOCKET_BUFFER);
    let endpoint = Endpoint::new(
        endpoint_config(&server.key),
        Some(server_config(&tls)?),
        socket,
        Arc::new(TokioRuntime),
    )?;
    let mut door = Door::new(&limits);
    let clients = TaskTracker::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shutdown.cancelled() => break,
        };
        let Some(incoming) = incoming else { break };
        if let Some((incoming, permit)) = door.look_at(incoming) {
            clients.spawn(serve(
                Arc::clone(&server),
                incoming,
                permit,
                limits.handshake_timeout,
                shutdown.clone(),
            ));
        }
    }
    // Nobody else comes in.
    endpoint.set_server_config(None);
    clients.close();
    let _ = tokio::time::timeout(limits.drain, clients.wait()).await;
    endpoint.close(CLOSED, b"");
    let _ = tokio::time::timeout(LINGER, endpoint.wait_idle()).await;
    Ok(())
}

/// A relay that comes back after a crash recognises what its clients send to the one before it, and
/// resets them (RFC 9000 §10.3): so what that takes is made of the relay's key.
fn endpoint_config(key: &RelayPrivateKey) -> EndpointConfig {
    let root = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let reset = hmac::sign(&root, b"ztna-derp QUIC stateless reset v1");
    let ids = hmac::sign(&root, b"ztna-derp QUIC connection ids v1");
    let ids = ids.as_ref().first_chunk().copied().unwrap_or_default();
    let reset = hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || {
        Box::new(HashedConnectionIdGenerator::from_key(u64::from_be_bytes(
            ids,
        )))
    });
    config
}

fn server_config(tls: &rustls::ServerConfig) -> Result<quinn::ServerConfig, QuicError> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| QuicError::Tls(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(transport(Side::Relay))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(config)
}

/// What a stranger can make the relay spend.
struct Door {
    handshakes: Arc<Semaphore>,
    busy_below: usize,
    /// For addresses that anybody may have written on the packet, …
    claimed: Option<AddressGate>,
    /// … and for those that have shown that they are theirs. One bucket for both would let
    /// strangers use up what an address has.
    proved: Option<AddressGate>,
}

impl Door {
    fn new(limits: &ListenerLimits) -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            busy_below: limits.handshakes - limits.handshakes / BUSY_SHARE,
            claimed: limits.per_address.map(AddressGate::new),
            proved: limits.per_address.map(AddressGate::new),
        }
    }

    /// Lets a connection in, or answers it otherwise.
    fn look_at(&mut self, incoming: Incoming) -> Option<(Incoming, OwnedSemaphorePermit)> {
        let proved = incoming.remote_address_validated();
        let gate = match proved {
            true => &mut self.proved,
            false => &mut self.claimed,
        };
        let ip = incoming.remote_address().ip();
        let admitted = gate
            .as_mut()
            .is_none_or(|gate| gate.admit(ip, Instant::now()));
        let busy = self.handshakes.available_permits() < self.busy_below;
        if !proved && (busy || !admitted) {
            counter!("ztna_derp_quic_retries_total").increment(1);
            let _ = incoming.retry();
            return None;
        }
        match Arc::clone(&self.handshakes).try_acquire_owned() {
            Ok(permit) if admitted => Some((incoming, permit)),
            _ => {
                counter!("ztna_derp_quic_ignored_total").increment(1);
                // It comes back, or takes TCP.
                incoming.ignore();
                None
            }
        }
    }
}

async fn serve(
    server: Arc<Server>,
    incoming: Incoming,
    permit: OwnedSemaphorePermit,
    handshake_timeout: Duration,
    shutdown: CancellationToken,
) {
    let address = incoming.remote_address();
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    // Keys before the client's last word are good for what the relay says first: nothing secret.
    let Ok((connection, established)) = connecting.into_0rtt() else {
        return;
    };
    let established = async {
        let _ = tokio::time::timeout(handshake_timeout, established).await;
        drop(permit);
    };
    let served = async {
        match tokio::time::timeout(handshake_timeout, connection.open_bi()).await {
            Ok(Ok(stream)) => {
                counter!("ztna_derp_quic_accepts_total").increment(1);
                serve_client(&server, &connection, stream, address, &shutdown).await;
                // Whoever was refused reads why, and closes.
                let _ = tokio::time::timeout(LINGER, connection.closed()).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "no QUIC session"),
            Err(_) => tracing::debug!(%address, "no QUIC session in time"),
        }
        connection.close(CLOSED, b"");
    };
    tokio::join!(established, served);
}

async fn serve_client(
    server: &Arc<Server>,
    connection: &Connection,
    (write, read): (SendStream, RecvStream),
    address: SocketAddr,
    shutdown: &CancellationToken,
) {
    server.metrics.accepts.increment(1);
    let read = FrameReader::new(read, BytesMut::new());
    let source = QuicSource::new(Side::Relay, connection.clone(), read);
    let into_sink = |write| QuicSink::new(connection.clone(), write);
    let ended = session::run(server, source, write, into_sink, address, shutdown).await;
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "relay client ended");
    }
}
