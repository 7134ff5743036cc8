//! Clients whose upgrade is not the first request of their connection: a proxy sends requests of many over one, and
//! any of them may be the one that the connection then belongs to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ztna_tls::{ClientAddr, Prefixed, ServerStream};

use super::head::{Wants, classify_request};
use super::listener::NotIdeal;
use super::{Server, websocket};
use crate::PROTOCOL_VERSION;
use crate::tcp::tune;

/// The stream that a connection's HTTP was served on.
type Served = TokioIo<Prefixed<ServerStream>>;

/// What such clients are served with.
pub(super) struct Upgrades {
    pub server: Arc<Server>,
    pub shutdown: CancellationToken,
    sessions: TaskTracker,
    abort: CancellationToken,
}

impl Upgrades {
    pub fn new(server: Arc<Server>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            server,
            shutdown,
            sessions: TaskTracker::new(),
            abort: CancellationToken::new(),
        })
    }

    /// After the shutdown: waits until all have left, for so long at most, and cuts off who has not.
    pub async fn drain(&self, patience: Duration) {
        self.sessions.close();
        if tokio::time::timeout(patience, self.sessions.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.sessions.wait().await;
        }
    }

    async fn serve(
        &self,
        wants: Wants,
        upgrade: OnUpgrade,
        address: SocketAddr,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (stream, early) = taken_over(upgrade.await?)?;
        tune(stream.tcp());
        match wants {
            Wants::WebSocket { not_ideal } => {
                let _counted = not_ideal.then(NotIdeal::count);
                counter!("ztna_derp_websocket_accepts_total").increment(1);
                let stream = websocket::upgraded(Prefixed::new(early, stream)).await;
                let served =
                    self.server
                        .serve_client(stream, BytesMut::new(), address, &self.shutdown);
                served.await;
            }
            Wants::Relay { not_ideal, .. } => {
                let _counted = not_ideal.then(NotIdeal::count);
                let early = BytesMut::from(early.as_slice());
                self.server
                    .serve_client(stream, early, address, &self.shutdown)
                    .await;
            }
            Wants::Unclear | Wants::Http => {}
        }
        Ok(())
    }
}

/// Has requests that want the relay upgraded, and passes the others on.
pub(super) async fn upgrade(
    State(upgrades): State<Arc<Upgrades>>,
    mut request: Request,
    next: Next,
) -> Response {
    let wants = classify_request(&request);
    if !matches!(wants, Wants::Relay { .. } | Wants::WebSocket { .. }) {
        return next.run(request).await;
    }
    let extensions = request.extensions_mut();
    let (Some(ClientAddr(address)), Some(upgrade)) =
        (extensions.get().copied(), extensions.remove::<OnUpgrade>())
    else {
        return next.run(request).await;
    };
    let answer = match wants {
        Wants::WebSocket { .. } => websocket::answer(request.headers()),
        _ => Some(answer(&upgrades.server)),
    };
    let Some(answer) = answer else {
        return next.run(request).await;
    };
    let serving = Arc::clone(&upgrades);
    upgrades.sessions.spawn(async move {
        let served = Box::pin(serving.serve(wants, upgrade, address));
        let ended = tokio::select! {
            ended = served => ended,
            () = serving.abort.cancelled() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "connection ended as it was upgraded");
        }
    });
    answer
}

fn answer(server: &Server) -> Response {
    let headers = [(header::UPGRADE, "DERP"), (header::CONNECTION, "Upgrade")];
    let mut answer = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    let own = [
        ("derp-version", PROTOCOL_VERSION.to_string()),
        ("derp-public-key", server.public_key().to_string()),
    ];
    for (name, value) in own {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// The connection itself, and what of the relay's protocol was read from it already.
fn taken_over(upgraded: Upgraded) -> io::Result<(ServerStream, Vec<u8>)> {
    let parts = upgraded
        .downcast::<Served>()
        .map_err(|_| io::Error::other("the connection is not one of this listener"))?;
    let (unread, stream) = parts.io.into_inner().into_parts();
    Ok((stream, [parts.read_buf.as_ref(), &unread].concat()))
}
