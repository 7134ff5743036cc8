//! One connection of the machine stream.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, header};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use ztna_proto::netmap::{ClientMessage, KEEP_ALIVE_SECONDS, MAX_MESSAGE};

use super::api::CONNECT_TIMEOUT;
use super::{Api, ControlError};

/// Silence after which the connection counts as dead: three missed keep-alives.
const SILENCE: Duration = Duration::from_secs(3 * KEEP_ALIVE_SECONDS);
/// A connection that [has to prove itself](MachineStream::prove) has so long to do so.
const PROOF_TIME: Duration = Duration::from_secs(2);
/// Time to hand a message to the system. More means that nothing is acknowledged any more.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// What a refused upgrade's answer is shown of, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// One connection of the machine stream (`GET /api/machine-stream`).
pub struct MachineStream {
    url: String,
    socket: WebSocketStream<Pin<Box<dyn Transport>>>,
    heard: Instant,
    /// By when something has to come, if a ping waits for its answer.
    proof_by: Option<Instant>,
}

impl MachineStream {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// The control plane was not reached, cannot be trusted, or refuses the token.
    pub async fn connect(api: &Api, token: &str) -> Result<Self, ControlError> {
        let url = api.server().origin().to_owned();
        match timeout(CONNECT_TIMEOUT * 2, Self::open(api, token)).await {
            Ok(opened) => opened,
            Err(_) => Err(ControlError::Unreachable {
                url,
                why: "no answer in time".to_owned(),
            }),
        }
    }

    async fn open(api: &Api, token: &str) -> Result<Self, ControlError> {
        let server = api.server();
        let url = server.origin();
        let io = |error: io::Error| ControlError::transport(url, &error);
        let tcp = timeout(
            CONNECT_TIMEOUT,
            TcpStream::connect((server.host(), server.port())),
        )
        .await
        .unwrap_or_else(|elapsed| Err(elapsed.into()))
        .map_err(io)?;
        tcp.set_nodelay(true).map_err(io)?;
        let transport: Pin<Box<dyn Transport>> = if server.encrypted() {
            let name = ServerName::try_from(server.host().to_owned())
                .map_err(|error| api.not_ours(error))?;
            let tls = TlsConnector::from(api.tls().clone());
            Box::pin(tls.connect(name, tcp).await.map_err(io)?)
        } else {
            Box::pin(tcp)
        };

        let request = request(url, token).map_err(|error| api.not_ours(error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        match client_async_with_config(request, transport, Some(config)).await {
            Ok((socket, _)) => Ok(Self {
                url: url.to_owned(),
                socket,
                heard: Instant::now(),
                proof_by: None,
            }),
            Err(WsError::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body = &body[..body.len().min(MAX_REFUSAL)];
                match api.open(answer.status(), body) {
                    Err(refused) => Err(refused),
                    Ok(_) => Err(api.not_ours(format!("HTTP {}", answer.status()))),
                }
            }
            Err(WsError::Io(error)) => Err(io(error)),
            Err(other) => Err(api.not_ours(other)),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), ControlError> {
        let text = serde_json::to_string(message).map_err(|error| self.lost(&error))?;
        match timeout(SEND_TIMEOUT, self.socket.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|error| self.lost(&error)),
            Err(elapsed) => Err(self.lost(&elapsed)),
        }
    }

    /// The network is another one: the connection may hang on an address that is gone, so the control
    /// plane has to answer a ping.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn prove(&mut self) -> Result<(), ControlError> {
        self.proof_by = Some(Instant::now() + PROOF_TIME);
        let ping = self.socket.send(Message::Ping(bytes::Bytes::new()));
        match timeout(PROOF_TIME, ping).await {
            Ok(sent) => sent.map_err(|error| self.lost(&error)),
            Err(elapsed) => Err(self.lost(&elapsed)),
        }
    }

    /// Waits for the next message and gives its text, a
    /// [`ServerMessage`](ztna_proto::netmap::ServerMessage). Dropping the future loses none.
    ///
    /// # Errors
    /// The connection is gone or has been silent for too long.
    pub async fn next(&mut self) -> Result<Utf8Bytes, ControlError> {
        loop {
            let latest = self.heard + SILENCE;
            let latest = self.proof_by.map_or(latest, |by| by.min(latest));
            let message = match timeout_at(latest, self.socket.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(self.lost(&error)),
                Ok(None) => {
                    return Err(self.lost(&io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                Err(elapsed) => return Err(self.lost(&elapsed)),
            };
            self.heard = Instant::now();
            self.proof_by = None;
            // Pings are answered below this, binary frames are of no version of the contract.
            if let Message::Text(text) = message {
                return Ok(text);
            }
        }
    }

    /// Says goodbye, if the other side still listens.
    pub async fn close(mut self) {
        // Nothing is to be done if it does not.
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }

    fn lost(&self, error: &(dyn std::error::Error + 'static)) -> ControlError {
        ControlError::Unreachable {
            url: self.url.clone(),
            why: format!("the connection broke ({})", super::root_cause(error)),
        }
    }
}

fn request(url: &str, token: &str) -> Result<Request<()>, WsError> {
    // http → ws, https → wss
    let mut request =
        format!("ws{}/api/machine-stream", url.trim_start_matches("http")).into_client_request()?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    request.headers_mut().insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("ztna/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}
