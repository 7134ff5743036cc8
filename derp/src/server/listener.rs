//! The relay's TLS port, shared with an HTTP service.

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
use ztna_tls::{AcceptLimits, Prefixed, ServerStream, serve, serve_http};

use super::head::{HEAD_TIMEOUT, Wants, read_head};
use super::{Server, websocket};
use crate::PROTOCOL_VERSION;
use crate::tcp::notice_vanished;

/// The farewell to a head that does not end.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Time to say it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// What strangers may ask of the port.
pub type ListenerLimits = AcceptLimits;

/// Serves the relay on `/derp`, and `fallback` everything else, until `shutdown` is cancelled and
/// the connections have ended. Default limits; see [`run_with`].
pub async fn run(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    fallback: Router,
    shutdown: CancellationToken,
) {
    run_with(
        server,
        listener,
        tls,
        fallback,
        shutdown,
        ListenerLimits::default(),
    )
    .await;
}

/// [`run`] with limits.
pub async fn run_with(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    fallback: Router,
    shutdown: CancellationToken,
    limits: ListenerLimits,
) {
    let stop = shutdown.clone();
    let handler = move |stream: ServerStream, peer| {
        let (server, fallback, stop) = (Arc::clone(&server), fallback.clone(), stop.clone());
        async move {
            if let Err(error) = handle(&server, stream, peer, fallback, &stop).await {
                tracing::debug!(%peer, %error, "connection ended before its first request");
            }
        }
    };
    serve(listener, tls, limits, shutdown, handler).await;
}

async fn handle(
    server: &Arc<Server>,
    mut stream: ServerStream,
    peer: SocketAddr,
    fallback: Router,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let (wants, mut buf) = tokio::select! {
        head = tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream)) => head??,
        () = shutdown.cancelled() => return Ok(()),
    };
    match wants {
        Wants::Relay {
            head,
            fast_start,
            not_ideal,
        } => {
            let _counted = not_ideal.then(NotIdeal::count);
            let early = BytesMut::from(&buf[head..]);
            notice_vanished(stream.get_ref().0);
            if !fast_start {
                answer_upgrade(server, &mut stream).await?;
            }
            server.serve_client(stream, early, peer, shutdown).await;
        }
        Wants::WebSocket { not_ideal } => {
            let _counted = not_ideal.then(NotIdeal::count);
            notice_vanished(stream.get_ref().0);
            let accept = websocket::accept(Prefixed::new(buf, stream));
            let stream = tokio::time::timeout(HEAD_TIMEOUT, accept).await??;
            counter!("derp_websocket_accepts").increment(1);
            server
                .serve_client(stream, BytesMut::new(), peer, shutdown)
                .await;
        }
        Wants::Http => {
            buf.shrink_to_fit();
            serve_http(Prefixed::new(buf, stream), peer, fallback, shutdown).await;
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
struct NotIdeal(Gauge);

impl NotIdeal {
    fn count() -> Self {
        let gauge = gauge!("derp_current_notideal_connections");
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
