//! The relay's TCP port, shared with an HTTP service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::BytesMut;
use metrics::{Gauge, counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ztna_tls::{AcceptLimits, Prefixed, Security, ServerStream, TrustedProxies, serve, serve_http};

use super::head::{HEAD_TIMEOUT, Wants, forwarded_for, read_head};
use super::upgrade::{Upgrades, upgrade};
use super::{Server, websocket};
use crate::PROTOCOL_VERSION;
use crate::tcp::tune;

/// The farewell to a head that does not end.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Time to say it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What strangers may ask of the port.
pub type ListenerLimits = AcceptLimits;

/// How the relay's port is guarded.
pub struct Port {
    /// TLS, or a proxy in front that does it.
    pub security: Security,
    /// Whose word on a client's address is taken.
    pub proxies: TrustedProxies,
    /// What strangers may ask of it.
    pub limits: ListenerLimits,
}

impl From<Arc<rustls::ServerConfig>> for Port {
    /// TLS with default limits, and no proxy.
    fn from(tls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            security: tls.into(),
            proxies: TrustedProxies::default(),
            limits: ListenerLimits::default(),
        }
    }
}

/// Serves the relay on `/derp`, and `fallback` everything else, until `shutdown` is cancelled and
/// the connections have ended.
pub async fn run(
    server: Arc<Server>,
    listener: TcpListener,
    port: impl Into<Port>,
    fallback: Router,
    shutdown: CancellationToken,
) {
    let Port {
        security,
        proxies,
        limits,
    } = port.into();
    let upgrades = Upgrades::new(Arc::clone(&server), shutdown.clone());
    let layer = axum::middleware::from_fn_with_state(Arc::clone(&upgrades), upgrade);
    let shared = Arc::new(Shared {
        server,
        fallback: proxies.layer(fallback.layer(layer)),
        proxies,
        shutdown: shutdown.clone(),
    });
    let handler = move |stream: ServerStream, peer| {
        let shared = Arc::clone(&shared);
        async move {
            if let Err(error) = handle(&shared, stream, peer).await {
                tracing::debug!(%peer, %error, "connection ended before its first request");
            }
        }
    };
    serve(listener, security, limits, shutdown, handler).await;
    upgrades.drain(limits.drain).await;
}

/// What all connections of a port use.
struct Shared {
    server: Arc<Server>,
    fallback: Router,
    proxies: TrustedProxies,
    shutdown: CancellationToken,
}

async fn handle(shared: &Shared, mut stream: ServerStream, peer: SocketAddr) -> io::Result<()> {
    let (server, shutdown) = (&shared.server, &shared.shutdown);
    // Boxed is what does not last, here and below: a client's task is to be as small as its session.
    let head = Box::pin(read_head(&mut stream));
    let (wants, mut buf) = tokio::select! {
        head = tokio::time::timeout(HEAD_TIMEOUT, head) => head??,
        () = shutdown.cancelled() => return Ok(()),
    };
    // Only a relay's client is one for the whole connection.
    let client = || shared.proxies.client(peer, forwarded_for(&buf).into_iter());
    match wants {
        Wants::Relay {
            head,
            fast_start,
            not_ideal,
        } => {
            let _counted = not_ideal.then(NotIdeal::count);
            let client = client();
            let early = BytesMut::from(&buf[head..]);
            drop(buf);
            tune(stream.tcp());
            if !fast_start {
                answer_upgrade(server, &mut stream).await?;
            }
            server.serve_client(stream, early, client, shutdown).await;
        }
        Wants::WebSocket { not_ideal } => {
            let client = client();
            let _counted = not_ideal.then(NotIdeal::count);
            tune(stream.tcp());
            let accept = Box::pin(websocket::accept(Prefixed::new(buf, stream)));
            let stream = tokio::time::timeout(HEAD_TIMEOUT, accept).await??;
            counter!("ztna_derp_websocket_accepts_total").increment(1);
            let served = server.serve_client(stream, BytesMut::new(), client, shutdown);
            Box::pin(served).await;
        }
        Wants::Http => {
            buf.shrink_to_fit();
            let router = shared.fallback.clone();
            let served = serve_http(Prefixed::new(buf, stream), peer, router, shutdown);
            Box::pin(served).await;
        }
        Wants::Unclear => {
            tokio::time::timeout(FAREWELL_TIMEOUT, async {
                stream.write_all(TOO_LARGE).await?;
                stream.shutdown().await
            })
            .await??;
        }
    }
    Ok(())
}

/// A connection whose client wanted another relay of the region, counted while it lasts.
pub(super) struct NotIdeal(Gauge);

impl NotIdeal {
    pub fn count() -> Self {
        let gauge = gauge!("ztna_derp_current_notideal_connections");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for NotIdeal {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

async fn answer_upgrade(
    server: &Server,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
         Derp-Version: {PROTOCOL_VERSION}\r\nDerp-Public-Key: {}\r\n\r\n",
        server.public_key()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}
