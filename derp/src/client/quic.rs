//! A QUIC connection to a relay.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use tokio::task::JoinSet;
use ztna_proto::relay::RelayNode;
use ztna_tls::{KeyExchange, client_config};

use super::dial::{STAGGER, interleave, resolve};
use super::link::{self, Incoming};
use super::{ClientConfig, ConnectError, Receiver, Sender, Transport, introduce, shake_hands};
use crate::quic::{
    ALPN, CLIENT_SOCKET_BUFFER, CLOSED, QuicSink, QuicSource, Side, enlarge_buffers, transport,
};
use crate::reader::FrameReader;

/// Connects and shakes hands. Takes its time: the caller bounds it.
pub(super) async fn connect(
    config: &ClientConfig,
    port: u16,
) -> Result<(Sender, Receiver), ConnectError> {
    let connection = dial(&config.node, port).await?;
    let joined = join(&connection, config).await;
    if joined.is_err() {
        connection.close(CLOSED, b"");
    }
    joined
}

async fn join(
    connection: &Connection,
    config: &ClientConfig,
) -> Result<(Sender, Receiver), ConnectError> {
    let (mut write, read) = connection.accept_bi().await.map_err(io::Error::from)?;
    let mut reader = FrameReader::new(read, BytesMut::new());
    let mut rng = rand::make_rng::<rand::rngs::StdRng>();
    // Without the datagrams: packets may overtake the handshake's last word.
    let (_, server_info) = shake_hands(
        &mut reader,
        &mut write,
        &config.key,
        introduce(config),
        &mut rng,
    )
    .await?;
    let source = QuicSource::new(Side::Client, connection.clone(), reader);
    let sink = QuicSink::new(connection.clone(), write);
    Ok(link::start(
        Transport::Quic,
        Incoming::Quic(source),
        sink,
        &server_info,
    ))
}

async fn dial(node: &RelayNode, port: u16) -> Result<Connection, ConnectError> {
    let entry_error = |reason: String| ConnectError::Entry {
        host: node.host.clone(),
        reason,
    };
    let tls = client_config(&node.certificate, KeyExchange::RequirePostQuantum)
        .map_err(|error| entry_error(error.to_string()))?;
    let mut tls = rustls::ClientConfig::clone(&tls);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| entry_error(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(Side::Client));

    let addresses = resolve(node, port).await?;
    let mut attempts = JoinSet::new();
    let mut delay = Duration::ZERO;
    for address in interleave(addresses) {
        let (config, host) = (config.clone(), node.host.clone());
        attempts.spawn(async move {
            tokio::time::sleep(delay).await;
            let connecting = endpoint(address)?
                .connect_with(config, address, &host)
                .map_err(io::Error::other)?;
            Ok::<_, io::Error>(connecting.await?)
        });
        delay += STAGGER;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = error,
            Err(error) => last = error.into(),
        }
    }
    Err(ConnectError::Quic {
        host: node.host.clone(),
        port,
        source: last,
    })
}

/// A socket of its own, bound to no address: when the machine's changes, the connection goes along
/// (RFC 9000 §9).
fn endpoint(remote: SocketAddr) -> io::Result<Endpoint> {
    let local: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    enlarge_buffers(&socket, CLIENT_SOCKET_BUFFER);
    Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )
}
