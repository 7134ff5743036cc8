//! A relay behind real TLS on loopback, and clients for it.

// Each test program uses a part of it; a failed unwrap is a failed test.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ztna_derp::client::{ClientConfig, ConnectError, Event, Receiver, Sender, connect};
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{
    Admission, Limits, Mesh, Port, Server, ServerConfig, TicketAdmission, routes, run,
};
use ztna_proto::relay::RelayNode;
use ztna_proto::ticket::{TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId, RegionId, WgPrivateKey, WgPublicKey};
use ztna_tls::{ClientAddr, ServerIdentity};

pub const REGION: RegionId = RegionId(1);

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Relay {
    pub server: Arc<Server>,
    pub address: SocketAddr,
    pub node: RelayNode,
    pub signer: TicketSigner,
    pub org: OrgId,
    pub shutdown: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

pub fn self_signed() -> ServerIdentity {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::load_or_create(dir.path(), &["127.0.0.1".to_owned()]).unwrap()
}

impl Relay {
    pub async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let identity = self_signed();
        Self::with_tls(limits, &identity, identity.server_config().unwrap()).await
    }

    pub async fn with_tls(
        limits: Limits,
        identity: &ServerIdentity,
        tls: Arc<rustls::ServerConfig>,
    ) -> Self {
        Self::with_port(limits, identity, tls.into()).await
    }

    pub async fn with_port(limits: Limits, identity: &ServerIdentity, port: Port) -> Self {
        Self::with_mesh(limits, identity, port, None, rand::random()).await
    }

    /// A relay whose tickets are signed by the key of this seed.
    pub async fn with_mesh(
        limits: Limits,
        identity: &ServerIdentity,
        port: impl Into<Port>,
        mesh: Option<Mesh>,
        seed: [u8; 32],
    ) -> Self {
        let signer = TicketSigner::from_seed(&seed);
        let tickets = TicketAdmission::with_system_clock(signer.verifier(), REGION);
        Self::with_all(
            limits,
            identity,
            port.into(),
            mesh,
            signer,
            Arc::new(tickets),
        )
        .await
    }

    /// A relay that admits as it is told.
    pub async fn admitting(admission: Arc<dyn Admission>) -> Self {
        let identity = self_signed();
        let tls = identity.server_config().unwrap();
        let signer = TicketSigner::from_seed(&rand::random());
        Self::with_all(
            Limits::default(),
            &identity,
            tls.into(),
            None,
            signer,
            admission,
        )
        .await
    }

    async fn with_all(
        limits: Limits,
        identity: &ServerIdentity,
        port: Port,
        mesh: Option<Mesh>,
        signer: TicketSigner,
        admission: Arc<dyn Admission>,
    ) -> Self {
        let server = Server::new(ServerConfig {
            key: RelayPrivateKey::generate(&mut rand::rng()),
            admission,
            limits,
            mesh,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route(
                "/me",
                get(
                    |Extension(ClientAddr(me)): Extension<ClientAddr>| async move {
                        me.ip().to_string()
                    },
                ),
            )
            .merge(routes());
        let stop = shutdown.clone();
        let task = tokio::spawn(run(Arc::clone(&server), listener, port, router, stop));
        let node = RelayNode {
            name: "test".into(),
            host: "127.0.0.1".into(),
            addresses: Vec::new(),
            derp_port: Some(address.port()),
            stun_port: None,
            quic_port: None,
            http_port: None,
            certificate: identity.certificate_pin(),
        };
        Self {
            server,
            address,
            node,
            signer,
            org: OrgId::generate(),
            shutdown,
            task,
        }
    }

    /// What a good ticket for `key` says.
    pub fn claims(&self, key: WgPublicKey) -> TicketClaims {
        let issued_at = Timestamp::now();
        TicketClaims {
            org: self.org,
            machine: MachineId::generate(),
            wg_key: key,
            regions: vec![REGION],
            issued_at,
            expires_at: issued_at
                .checked_add(SignedDuration::from_hours(1))
                .unwrap(),
            bytes_per_second: None,
        }
    }

    pub fn ticket(&self, key: WgPublicKey) -> String {
        self.signer.sign(&self.claims(key))
    }

    pub fn config(&self, key: &WgPrivateKey, ticket: String) -> ClientConfig {
        ClientConfig {
            node: self.node.clone(),
            key: key.clone(),
            ticket,
        }
    }

    pub async fn try_join(
        &self,
        key: &WgPrivateKey,
        ticket: String,
    ) -> Result<Client, ConnectError> {
        let (sender, receiver) = connect(self.config(key, ticket)).await?;
        Ok(Client {
            key: key.public(),
            sender,
            receiver,
        })
    }

    /// A client with a good ticket, known to the relay.
    pub async fn join_as(&self, key: &WgPrivateKey) -> Client {
        self.try_join(key, self.ticket(key.public())).await.unwrap()
    }

    pub async fn join(&self) -> Client {
        self.join_as(&new_key()).await
    }
}

pub fn new_key() -> WgPrivateKey {
    WgPrivateKey::generate(&mut rand::rng())
}

pub struct Client {
    pub key: WgPublicKey,
    pub sender: Sender,
    pub receiver: Receiver,
}

impl Client {
    pub fn send(&self, to: &Client, packet: &[u8]) {
        let packet = Bytes::copy_from_slice(packet);
        self.sender.try_send(to.key, packet).unwrap();
    }

    pub async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.receiver.next())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next packet, whatever else comes before it.
    pub async fn packet(&mut self) -> (WgPublicKey, Bytes) {
        loop {
            if let Event::Packet { from, packet } = self.event().await {
                return (from, packet);
            }
        }
    }

    /// Waits until the relay has handled all that this client sent.
    pub async fn settle(&mut self) {
        self.sender.ping().unwrap();
        while !matches!(self.event().await, Event::Pong { .. }) {}
    }

    /// Everything until the connection is over.
    pub async fn last_events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let all = async {
            while let Ok(event) = self.receiver.next().await {
                events.push(event);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
        events
    }
}

/// A packet that looks like WireGuard data.
pub fn data(number: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![4, 0, 0, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(len.max(8), 0xda);
    packet
}

/// The head of an HTTP answer that has no body.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    String::from_utf8(answer).unwrap()
}
