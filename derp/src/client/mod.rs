//! The client half: one connection to one relay.
//!
//! [`connect`] resolves, dials, does TLS with the relay's pin (X25519MLKEM768 or nothing), upgrades
//! and shakes hands; where the relay map names a QUIC port, QUIC has a head start over all that.
//! Then [`Sender`] queues packets without ever waiting and [`Receiver`] yields what comes. A
//! connection that breaks stays broken: when and where to connect again is the
//! caller's to decide, who knows the relay map and holds fresh tickets.

mod dial;
mod link;
mod meta;
mod quic;
mod race;
mod upgrade;

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rand::CryptoRng;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ztna_proto::WgPrivateKey;
use ztna_proto::relay::RelayNode;
use ztna_tls::{KeyExchange, client_config};

pub use link::{Event, Receiver, RelayError, SendError, Sender, Transport};
pub use race::network_changed;

use crate::frame::{Frame, FrameError};
use crate::handshake::{
    ClientInfo, Freshness, HandshakeError, ServerInfo, freshness_in, open_server_info,
    seal_client_info,
};
use crate::key::RelayPublicKey;
use crate::reader::{FrameReader, ReadError};
use crate::transport::{Source, StreamSink};
use link::Incoming;

/// From the first look-up to the last frame of the handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What we call ourselves in ClientInfo.
const APP_NAME: &str = concat!("ztna/", env!("CARGO_PKG_VERSION"));

/// Frames that a relay may send before ServerInfo and that mean nothing to us yet.
const MAX_EARLY_FRAMES: usize = 16;

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct ClientConfig {
    /// The relay.
    pub node: RelayNode,
    /// The machine's WireGuard key: its address on the relay, and what it proves to hold.
    pub key: WgPrivateKey,
    /// The control plane's ticket for that key.
    pub ticket: String,
}

/// No connection to the relay.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The relay map lists the node for STUN only.
    #[error("{node} is no relay: the relay map gives it no relay port")]
    NoRelay {
        /// The node's name.
        node: String,
    },
    /// The host's name has no address.
    #[error("cannot find the address of relay {host}: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// None of the host's addresses answers.
    #[error("cannot reach relay {host} on TCP port {port}: {source}")]
    Dial {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why the last address did not answer.
        source: io::Error,
    },
    /// No QUIC session: UDP does not pass, or the relay is another one.
    #[error("no QUIC session with relay {host} on UDP port {port}: {source}")]
    Quic {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up: a malformed pin or host name.
    #[error("the relay map's entry for {host} cannot be used: {reason}")]
    Entry {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// No TLS session: wrong certificate, no X25519MLKEM768, or something in between.
    #[error("no TLS session with relay {host}: {source}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The server did not take the upgrade.
    #[error("{host} did not upgrade to DERP: {reason}")]
    Upgrade {
        /// The host.
        host: String,
        /// What it answered.
        reason: String,
    },
    /// The relay does not admit this machine, and says why.
    #[error("the relay refused this machine: {0}")]
    Refused(String),
    /// The relay broke the connection during the handshake.
    #[error("the relay ended the handshake: {0}")]
    Lost(#[from] io::Error),
    /// The relay sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The relay's box cannot be opened.
    #[error("the relay's handshake is not valid: {0}")]
    Handshake(#[from] HandshakeError),
    /// The relay sent something else than the handshake.
    #[error("the relay did not shake hands")]
    Protocol,
    /// It took longer than [`CONNECT_TIMEOUT`].
    #[error("relay {host} did not answer within {}s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// The host.
        host: String,
    },
}

impl From<ReadError> for ConnectError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Lost(error),
            ReadError::Frame(error) => Self::Frame(error),
        }
    }
}

/// Connects to a relay: at most [`CONNECT_TIMEOUT`]. Starts a task for the writer, which ends when
/// the [`Receiver`] is dropped or the connection breaks.
///
/// # Errors
/// Why there is no connection. [`ConnectError::Refused`] calls for a fresh ticket, the others for
/// another try later or another relay.
pub async fn connect(config: ClientConfig) -> Result<(Sender, Receiver), ConnectError> {
    let host = config.node.host.clone();
    tokio::time::timeout(CONNECT_TIMEOUT, race::connect(&config))
        .await
        .unwrap_or(Err(ConnectError::Timeout { host }))
}

async fn by_tcp(config: &ClientConfig) -> Result<(Sender, Receiver), ConnectError> {
    let (stream, early) = open(&config.node).await?;
    start(
        stream,
        early,
        config,
        &mut rand::make_rng::<rand::rngs::StdRng>(),
    )
    .await
}

/// Opens an upgraded stream to a relay. Returns it with what was read of it already.
pub(crate) async fn open(
    node: &RelayNode,
) -> Result<(TlsStream<TcpStream>, BytesMut), ConnectError> {
    let host = &node.host;
    let port = node.derp_port.ok_or_else(|| ConnectError::NoRelay {
        node: node.name.clone(),
    })?;
    let entry_error = |reason: String| ConnectError::Entry {
        host: host.clone(),
        reason,
    };
    let tls = client_config(&node.certificate, KeyExchange::RequirePostQuantum)
        .map_err(|error| entry_error(error.to_string()))?;
    let name =
        ServerName::try_from(host.clone()).map_err(|error| entry_error(error.to_string()))?;

    let stream = dial::dial(node, port).await?;
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(|source| ConnectError::Tls {
            host: host.clone(),
            source,
        })?;
    let start = match meta::relay_key(stream.get_ref().1) {
        Some(_) => upgrade::Start::Fast,
        None => upgrade::Start::Answered,
    };
    upgrade::upgrade(stream, host, port, start).await
}

/// Shakes hands on an upgraded stream, of which `early` was read already, and starts the writer.
async fn start<S, R>(
    stream: S,
    early: BytesMut,
    config: &ClientConfig,
    rng: &mut R,
) -> Result<(Sender, Receiver), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: CryptoRng,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, early);
    let (_, server_info) =
        shake_hands(&mut reader, &mut write, &config.key, introduce(config), rng).await?;
    Ok(link::start(
        Transport::Tcp,
        Incoming::Stream(reader.boxed()),
        StreamSink(write),
        &server_info,
    ))
}

/// What a client says of itself.
fn introduce(
    config: &ClientConfig,
) -> impl FnOnce(&RelayPublicKey, Option<&Freshness>) -> ClientInfo {
    let ticket = config.ticket.clone();
    move |_, freshness| ClientInfo::new(APP_NAME.to_owned(), ticket, freshness)
}

/// Shakes hands as the owner of `key`, with what `introduce` makes of the relay's key and nonce.
pub(crate) async fn shake_hands(
    source: &mut impl Source,
    write: &mut (impl AsyncWrite + Unpin),
    key: &WgPrivateKey,
    introduce: impl FnOnce(&RelayPublicKey, Option<&Freshness>) -> ClientInfo,
    rng: &mut impl CryptoRng,
) -> Result<(RelayPublicKey, ServerInfo), ConnectError> {
    let (relay, freshness) = match source.next().await? {
        Frame::ServerKey { key, spare } => (key, freshness_in(&spare)),
        Frame::Health(reason) => return Err(ConnectError::Refused(reason)),
        _ => return Err(ConnectError::Protocol),
    };
    let info = introduce(&relay, freshness.as_ref());
    let frame = seal_client_info(key, &relay, &info, rng)?;
    write.write_all(&frame.to_bytes()).await?;
    write.flush().await?;

    for _ in 0..MAX_EARLY_FRAMES {
        match source.next().await? {
            Frame::ServerInfo { nonce, sealed } => {
                return Ok((relay, open_server_info(key, &relay, &nonce, &sealed)?));
            }
            Frame::Health(reason) if !reason.is_empty() => {
                return Err(ConnectError::Refused(reason));
            }
            _ => {}
        }
    }
    Err(ConnectError::Protocol)
}

#[cfg(test)]
mod tests;
