//! Relays and STUN services on the loopback address, and the ways in which they fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::{SignedDuration, Timestamp};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{Limits, Server, ServerConfig, TicketAdmission, routes, run};
use ztna_proto::relay::{CertificatePin, RelayNode, RelayRegion};
use ztna_proto::ticket::{TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId, RegionId, WgPublicKey};
use ztna_tls::ServerIdentity;

/// Who signs tickets, and for which org.
pub struct Realm {
    signer: TicketSigner,
    org: OrgId,
}

impl Realm {
    pub fn new() -> Self {
        Self {
            signer: TicketSigner::from_seed(&rand::random()),
            org: OrgId::generate(),
        }
    }

    pub fn ticket(&self, key: WgPublicKey, regions: &[u32]) -> String {
        let issued_at = Timestamp::now();
        self.signer.sign(&TicketClaims {
            org: self.org,
            machine: MachineId::generate(),
            wg_key: key,
            regions: regions.iter().copied().map(RegionId).collect(),
            issued_at,
            expires_at: issued_at
                .checked_add(SignedDuration::from_hours(1))
                .unwrap(),
            bytes_per_second: None,
        })
    }
}

/// A relay behind a wire that can be cut without a word.
pub struct TestRelay {
    pub node: RelayNode,
    pub server: Arc<Server>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    wire: Wire,
}

impl TestRelay {
    pub async fn start(realm: &Realm, region: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let identity = ServerIdentity::load_or_create(folder.path(), &names).unwrap();
        let admission =
            TicketAdmission::with_system_clock(realm.signer.verifier(), RegionId(region));
        let server = Server::new(ServerConfig {
            key: RelayPrivateKey::generate(&mut rand::rng()),
            admission: Arc::new(admission),
            limits: Limits::default(),
            mesh: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(listener.local_addr().unwrap()).await;
        let stop = CancellationToken::new();
        let tls = identity.server_config().unwrap();
        let router: Router = routes();
        let task = tokio::spawn(run(
            Arc::clone(&server),
            listener,
            tls,
            router,
            stop.clone(),
        ));
        let node = RelayNode {
            name: format!("{region}-{}", wire.addr.port()),
            host: "127.0.0.1".into(),
            addresses: Vec::new(),
            derp_port: Some(wire.addr.port()),
            stun_port: None,
            quic_port: None,
            http_port: None,
            certificate: identity.certificate_pin(),
        };
        Self {
            node,
            server,
            stop,
            task,
            wire,
        }
    }

    /// The process dies: its connections break.
    pub fn kill(&self) {
        self.task.abort();
        self.wire.fate.send_replace(Fate::Broken);
    }

    /// The process is told to stop: it sends its clients elsewhere first.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// The host vanishes: nothing comes back, and nobody says so.
    pub fn vanish(&self) {
        self.wire.fate.send_replace(Fate::Silent);
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Carries,
    Silent,
    Broken,
}

struct Wire {
    addr: SocketAddr,
    fate: watch::Sender<Fate>,
}

impl Wire {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fate = watch::Sender::new(Fate::Carries);
        let mut told = fate.subscribe();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = told.wait_for(|fate| *fate == Fate::Broken) => return,
                };
                let (client, _) = accepted.unwrap();
                connections.spawn(carry(client, server, told.clone()));
            }
        });
        Self { addr, fate }
    }
}

/// Carries one connection while the wire does.
async fn carry(mut client: TcpStream, server: SocketAddr, mut fate: watch::Receiver<Fate>) {
    let mut there = None;
    if *fate.borrow() == Fate::Carries {
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = fate.wait_for(|fate| *fate != Fate::Carries) => {}
        }
        there = Some(server);
    }
    // Held, without a word, until the wire breaks.
    let _ = fate.wait_for(|fate| *fate == Fate::Broken).await;
    drop(there);
}

/// A STUN service, asked through a wire of a given length.
pub struct TestStun {
    pub addr: SocketAddr,
    /// One way; `None`: nothing passes.
    pub delay: watch::Sender<Option<Duration>>,
    stop: CancellationToken,
}

impl TestStun {
    pub async fn start(delay: Duration) -> Self {
        let listener = ztna_stun::server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = listener.local_addr();
        let stop = CancellationToken::new();
        tokio::spawn(ztna_stun::server::run(listener, stop.clone()));
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let addr = near.local_addr().unwrap();
        let delay = watch::Sender::new(Some(delay));
        let told = delay.subscribe();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut on_the_way = JoinSet::new();
            let mut datagram = [0; 2048];
            loop {
                let received = tokio::select! {
                    received = near.recv_from(&mut datagram) => received,
                    () = stopped.cancelled() => return,
                };
                let (length, from) = received.unwrap();
                let (near, delay) = (Arc::clone(&near), *told.borrow());
                let request = datagram[..length].to_vec();
                on_the_way.spawn(async move {
                    let delay = delay?;
                    let far = UdpSocket::bind("127.0.0.1:0").await.ok()?;
                    tokio::time::sleep(delay).await;
                    far.send_to(&request, server).await.ok()?;
                    let mut answer = [0; 2048];
                    let length = far.recv(&mut answer).await.ok()?;
                    tokio::time::sleep(delay).await;
                    near.send_to(&answer[..length], from).await.ok()
                });
            }
        });
        Self { addr, delay, stop }
    }

    /// A host of the relay map that has this service and no relay.
    pub fn node(&self) -> RelayNode {
        RelayNode {
            name: format!("stun-{}", self.addr.port()),
            host: "127.0.0.1".into(),
            addresses: Vec::new(),
            derp_port: None,
            stun_port: Some(self.addr.port()),
            quic_port: None,
            http_port: None,
            certificate: CertificatePin::WebPki,
        }
    }
}

impl Drop for TestStun {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A region of these hosts.
pub fn region(id: u32, nodes: Vec<RelayNode>) -> (RegionId, RelayRegion) {
    let region = RelayRegion {
        id: RegionId(id),
        code: format!("r{id}"),
        name: format!("Region {id}"),
        nodes,
    };
    (RegionId(id), region)
}
