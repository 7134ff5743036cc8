//! Relays of one region know each other's clients, and hand packets over: one hop, no further.
//!
//! Each relay connects to each other one as a client that knows the region's mesh key, asks to be
//! told who is connected there (WatchConns), and sends packets for those clients on that same
//! connection (ForwardPacket). Clients of two orgs stay strangers across relays too.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use subtle::ConstantTimeEq;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, ZeroizeOnDrop};
use ztna_proto::keys::{KEY_LEN, KeyError, hex, parse_hex};
use ztna_proto::relay::RelayNode;
use ztna_proto::{OrgId, RegionId, WgPrivateKey, WgPublicKey};

use super::Server;
use super::registry::gone;
use crate::client::{ConnectError, open, shake_hands};
use crate::frame::Frame;
use crate::handshake::{ClientInfo, Freshness};
use crate::key::RelayPublicKey;
use crate::outbox::{Flow, Item, Lane, Outbox, Pushed};
use crate::reader::{FrameReader, ReadError};
use crate::transport::{Sink, Source, StreamSink};

/// From the first look-up to the last frame of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to reach another relay, up to twice that.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// A relay sends a KeepAlive each 60 to 65 s, and answers Pings: after so long a silence it is
/// pinged …
const PING_AFTER: Duration = Duration::from_secs(5);
/// … and after so long given up.
const SILENCE: Duration = Duration::from_secs(10);
/// The other relay must take a byte within this time while there are some for it.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// The secret that relays of a region share. Zeroizes on drop, has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MeshKey([u8; KEY_LEN]);

impl std::str::FromStr for MeshKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_hex(text).map(Self).ok_or(KeyError::Form {
            kind: "mesh key",
            expected: "64 hex digits (`openssl rand -hex 32` makes one)",
        })
    }
}

/// What makes a relay one of a region.
#[derive(Clone)]
pub struct Mesh {
    /// The secret.
    pub key: MeshKey,
    /// The region. Relays of another one are refused.
    pub region: Option<RegionId>,
}

/// What a client that shows a mesh key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It shows none.
    Client,
    /// A relay of this region.
    Relay,
    /// It shows a wrong one, or belongs to another region.
    False,
}

impl Mesh {
    /// Judges what a client says of itself.
    pub(super) fn judge(mesh: Option<&Self>, info: &ClientInfo) -> Claim {
        let Some(shown) = &info.mesh_key else {
            return Claim::Client;
        };
        let (Some(mesh), Some(shown)) = (mesh, parse_hex::<KEY_LEN>(shown)) else {
            return Claim::False;
        };
        let same_region = match (mesh.region, info.region) {
            (Some(ours), Some(theirs)) => ours == theirs,
            // A stock relay does not name one.
            _ => true,
        };
        if bool::from(mesh.key.0.ct_eq(&shown)) && same_region {
            Claim::Relay
        } else {
            Claim::False
        }
    }

    fn introduce(&self, freshness: Option<&Freshness>) -> ClientInfo {
        ClientInfo {
            ticket: None,
            mesh_key: Some(hex(&self.key.0)),
            region: self.region,
            ..ClientInfo::new("ztna-derp".into(), String::new(), freshness)
        }
    }
}

/// A connection to another relay, over which packets for its clients go.
pub(super) struct Link {
    /// Unique in this process.
    pub id: u64,
    outbox: Outbox,
}

impl Link {
    #[cfg(test)]
    pub fn for_tests(id: u64) -> Arc<Self> {
        let outbox = Outbox::default();
        Arc::new(Self { id, outbox })
    }

    /// Queues a packet for a client of the other relay.
    pub fn forward(
        &self,
        lane: Lane,
        org: Option<OrgId>,
        [from, to]: [WgPublicKey; 2],
        packet: Bytes,
        now: Instant,
    ) -> Pushed {
        let flow = Flow::of(from, &packet);
        let frame = Frame::ForwardPacket {
            org,
            from,
            to,
            packet,
        };
        self.outbox
            .push(lane, flow, Item::Frame(frame.to_bytes()), now)
    }
}

/// Why a link is down.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer within {}s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection is lost: {0}")]
    Lost(#[from] std::io::Error),
    #[error("nothing came for {}s", SILENCE.as_secs())]
    Silent,
    #[error("it does not take packets any more")]
    Stalled,
    #[error("the relay restarts")]
    Restarting,
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        Self::Connect(error.into())
    }
}

/// Keeps a link to another relay of the region until `shutdown` is cancelled, or the other relay
/// turns out to be this one. Without a mesh key there is nothing to do.
pub(super) async fn keep(server: &Arc<Server>, node: RelayNode, shutdown: CancellationToken) {
    let Some(mesh) = &server.mesh else { return };
    let mut was_up = true;
    loop {
        let ended = tokio::select! {
            ended = run(server, mesh, &node) => ended,
            () = shutdown.cancelled() => return,
        };
        match ended {
            Ok(()) => {
                tracing::info!(relay = %node.host, "this relay itself: no link is needed");
                return;
            }
            Err((error, up)) => {
                if up || was_up {
                    tracing::warn!(relay = %node.host, %error, "no link to a relay of the region");
                }
                was_up = up;
            }
        }
        let pause = RECONNECT_AFTER.mul_f64(1.0 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// One connection, from its beginning to its end. `Ok`: to this relay itself. The error comes with
/// whether the link was up.
async fn run(server: &Arc<Server>, mesh: &Mesh, node: &RelayNode) -> Result<(), (LinkError, bool)> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(server, mesh, node));
    let (relay, mut source, write) = match connected.await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err((error, false)),
        Err(_) => return Err((LinkError::Timeout, false)),
    };
    if relay == server.public_key() {
        return Ok(());
    }
    let link = Arc::new(Link {
        id: server.next_id(),
        outbox: Outbox::default(),
    });
    tracing::info!(relay = %node.host, "linked to a relay of the region");
    server.metrics.mesh_links.increment(1);
    link.outbox.signal(&Frame::WatchConns);

    let (outbox, written) = (Arc::clone(&link), CancellationToken::new());
    let (counting, done) = (Arc::clone(server), written.clone());
    let writer = tokio::spawn(async move {
        let drained = StreamSink(write).drain(&outbox.outbox, WRITE_STALL, &counting.metrics);
        if let Err(error) = drained.await {
            tracing::debug!(%error, "a link's writer ended");
        }
        done.cancel();
    });
    let cut = CutOnDrop {
        server,
        link: &link,
    };
    let error = tokio::select! {
        error = listen(server, &link, &mut source) => error,
        () = written.cancelled() => LinkError::Stalled,
    };
    drop(cut);
    let _ = writer.await;
    Err((error, true))
}

/// Takes a link out of service, also when its task is dropped.
struct CutOnDrop<'a> {
    server: &'a Arc<Server>,
    link: &'a Link,
}

impl Drop for CutOnDrop<'_> {
    fn drop(&mut self) {
        self.link.outbox.close();
        self.server.metrics.mesh_links.decrement(1);
        for (key, heard_by) in self.server.clients.remove_link(self.link) {
            self.server.tell_gone(key, &heard_by);
        }
    }
}

async fn connect(
    server: &Server,
    mesh: &Mesh,
    node: &RelayNode,
) -> Result<
    (
        RelayPublicKey,
        impl Source,
        impl AsyncWrite + Unpin + Send + 'static,
    ),
    LinkError,
> {
    let (stream, early): (_, BytesMut) = open(node).await?;
    let (read, mut write) = tokio::io::split(stream);
    let mut source = FrameReader::new(read, early);
    let key = WgPrivateKey::from_bytes(*server.key.expose());
    let introduce = |_: &RelayPublicKey, freshness: Option<&Freshness>| mesh.introduce(freshness);
    let mut rng = rand::make_rng::<rand::rngs::StdRng>();
    let (relay, _) = shake_hands(&mut source, &mut write, &key, introduce, &mut rng).await?;
    Ok((relay, source, write))
}

/// Learns who is connected at the other relay, until the link ends.
async fn listen(server: &Server, link: &Arc<Link>, source: &mut impl Source) -> LinkError {
    let mut heard = Instant::now();
    let mut pinged = false;
    loop {
        loop {
            match source.buffered() {
                Ok(Some(frame)) => {
                    if let Some(error) = handle(server, link, frame) {
                        return error;
                    }
                }
                Ok(None) => break,
                Err(error) => return ReadError::from(error).into(),
            }
        }
        let patience = if pinged { SILENCE } else { PING_AFTER };
        tokio::select! {
            read = source.fill() => match read {
                Ok(_) => (heard, pinged) = (Instant::now(), false),
                Err(error) => return error.into(),
            },
            () = tokio::time::sleep_until(heard + patience) => {
                if pinged {
                    return LinkError::Silent;
                }
                pinged = true;
                link.outbox.signal(&Frame::Ping(rand::random()));
            }
        }
    }
}

fn handle(server: &Server, link: &Arc<Link>, frame: Frame) -> Option<LinkError> {
    match frame {
        Frame::PeerPresent { peer, org, .. } => server.clients.add_remote(peer, link, org),
        Frame::PeerGone { peer, .. } => {
            let heard_by = server.clients.remove_remote(&peer, link);
            server.tell_gone(peer, &heard_by);
        }
        Frame::Ping(data) => {
            link.outbox.signal(&Frame::Pong(data));
        }
        Frame::Restarting { .. } => return Some(LinkError::Restarting),
        _ => {}
    }
    None
}

impl Server {
    /// Keeps a link to another relay of the region until `shutdown` is cancelled. To be run for
    /// each of them, here and there; one that turns out to be this relay itself is left alone.
    /// Needs [`super::ServerConfig::mesh`].
    pub async fn link(self: Arc<Self>, node: RelayNode, shutdown: CancellationToken) {
        keep(&self, node, shutdown).await;
    }

    /// Tells clients that got packets of a peer that it has left.
    pub(super) fn tell_gone<'a>(
        &self,
        peer: WgPublicKey,
        to: impl IntoIterator<Item = &'a WgPublicKey>,
    ) {
        for client in to {
            if let Some(client) = self.clients.active(client) {
                self.metrics.gone_disconnected.increment(1);
                client.outbox.signal(&gone(peer));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(mesh: Option<&Mesh>, key: Option<&str>, region: Option<u32>) -> Claim {
        let info = ClientInfo {
            mesh_key: key.map(str::to_owned),
            region: region.map(RegionId),
            ..ClientInfo::default()
        };
        Mesh::judge(mesh, &info)
    }

    #[test]
    fn only_the_key_of_the_region_makes_a_relay() {
        let (ours, theirs) = ("ab".repeat(32), "ac".repeat(32));
        let mesh = Mesh {
            key: ours.parse().unwrap(),
            region: Some(RegionId(1)),
        };
        assert_eq!(claim(Some(&mesh), None, None), Claim::Client);
        assert_eq!(claim(Some(&mesh), Some(&ours), Some(1)), Claim::Relay);
        assert_eq!(claim(Some(&mesh), Some(&ours), None), Claim::Relay);
        assert_eq!(claim(Some(&mesh), Some(&ours), Some(2)), Claim::False);
        assert_eq!(claim(Some(&mesh), Some(&theirs), Some(1)), Claim::False);
        assert_eq!(claim(Some(&mesh), Some("ab"), Some(1)), Claim::False);
        assert_eq!(claim(None, Some(&ours), Some(1)), Claim::False);
        assert!("ab".parse::<MeshKey>().is_err());
    }
}
