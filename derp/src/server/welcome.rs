//! The handshake: who a client is, and whether it may come in.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use ztna_proto::WgPublicKey;

use super::Server;
use super::admission::{Admitted, Applicant, Refusal};
use super::mesh::{Claim, Mesh};
use super::session::SessionError;
use crate::PROTOCOL_VERSION;
use crate::frame::{Frame, NONCE_LEN};
use crate::handshake::{FRESHNESS_LEN, Freshness, ServerInfo, open_client_info, seal_server_info};
use crate::transport::Source;

/// From the upgrade to the ticket's verdict.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const FALSE_CLAIM: &str =
    "the mesh key is not this region's; give all relays of a region the same --mesh-key-file";

/// A client that may come in.
pub(super) struct Welcome {
    pub applicant: Applicant,
    pub admitted: Admitted,
    /// It is another relay of the region.
    pub is_relay: bool,
    pub can_ack_pings: bool,
    pub app_name: String,
    /// ServerInfo.
    pub answer: Frame,
}

/// Shakes hands within [`HANDSHAKE_TIMEOUT`]. A client that is refused is told why.
pub(super) async fn welcome(
    server: &Server,
    source: &mut impl Source,
    write: &mut (impl AsyncWrite + Unpin),
    address: SocketAddr,
) -> Result<Welcome, SessionError> {
    tokio::time::timeout(
        HANDSHAKE_TIMEOUT,
        shake_hands(server, source, write, address),
    )
    .await
    .unwrap_or(Err(SessionError::HandshakeTimeout))
}

async fn shake_hands(
    server: &Server,
    source: &mut impl Source,
    write: &mut (impl AsyncWrite + Unpin),
    address: SocketAddr,
) -> Result<Welcome, SessionError> {
    let freshness: Freshness = rand::random();
    let server_key = Frame::ServerKey {
        key: server.public_key(),
        spare: Bytes::copy_from_slice(&freshness),
    };
    write.write_all(&server_key.to_bytes()).await?;
    write.flush().await?;
    let Frame::ClientInfo { key, nonce, sealed } = source.next().await? else {
        return Err(SessionError::NoClientInfo);
    };
    match judge(server, key, address, &freshness, &nonce, &sealed).await {
        Ok(welcome) => Ok(welcome),
        Err(error) => {
            server.metrics.refused.increment(1);
            let reason = match &error {
                SessionError::Refused(refusal) => refusal.to_string(),
                other => other.to_string(),
            };
            tracing::debug!(%address, %key, reason, "relay client refused");
            write.write_all(&Frame::Health(reason).to_bytes()).await?;
            write.shutdown().await?;
            Err(error)
        }
    }
}

async fn judge(
    server: &Server,
    key: WgPublicKey,
    address: SocketAddr,
    freshness: &[u8; FRESHNESS_LEN],
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<Welcome, SessionError> {
    let info = open_client_info(&server.key, &key, nonce, sealed)?;
    let limits = *server.limits.borrow();
    let is_relay = match Mesh::judge(server.mesh.as_ref(), &info) {
        Claim::Client => false,
        Claim::Relay => true,
        Claim::False => return Err(Refusal(FALSE_CLAIM.into()).into()),
    };
    if !is_relay && server.clients.len() >= limits.clients {
        return Err(Refusal("this relay is full".into()).into());
    }
    let applicant = Applicant {
        key,
        address,
        fresh: info.is_fresh(freshness),
        ticket: info.ticket,
    };
    let admitted = if is_relay {
        Admitted::default()
    } else {
        server.admission.admit(&applicant).await?
    };
    let bound = limits.of_client(&admitted).filter(|_| !is_relay);
    let (bytes_per_second, burst) = bound.unwrap_or_default();
    let server_info = ServerInfo {
        version: PROTOCOL_VERSION,
        bytes_per_second,
        burst,
    };
    let answer = seal_server_info(&server.key, &key, &server_info, &mut rand::rng())?;
    Ok(Welcome {
        applicant,
        admitted,
        is_relay,
        can_ack_pings: info.can_ack_pings,
        app_name: info.app_name,
        answer,
    })
}
