//! The relay and its client by QUIC, over real sockets on loopback.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Client, PATIENCE, REGION, Relay, data, new_key};
use jiff::{SignedDuration, Timestamp};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ztna_derp::MAX_PACKET;
use ztna_derp::client::{ConnectError, Event, RelayError, Transport, connect};
use ztna_derp::frame::GoneReason;
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{
    Limits, ListenerLimits, QuicError, Server, ServerConfig, TicketAdmission, run_quic,
};
use ztna_proto::relay::RelayNode;
use ztna_proto::ticket::{TicketClaims, TicketSigner};
use ztna_proto::{WgPrivateKey, WgPublicKey};
use ztna_tls::{AddressRate, KeyExchange, ServerIdentity, client_config};

/// A relay with both transports.
struct Both {
    relay: Relay,
    /// The same node as a client sees it that knows of TCP only.
    tcp: RelayNode,
    udp: SocketAddr,
    task: JoinHandle<Result<(), QuicError>>,
}

impl Both {
    async fn start() -> Self {
        Self::with_limits(ListenerLimits::default()).await
    }

    async fn with_limits(limits: ListenerLimits) -> Self {
        let identity = identity();
        let tls = identity.server_config().unwrap();
        let mut relay = Relay::with_tls(Limits::default(), &identity, Arc::clone(&tls)).await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = socket.local_addr().unwrap();
        let (server, stop) = (Arc::clone(&relay.server), relay.shutdown.clone());
        let task = tokio::spawn(run_quic(server, socket, tls, limits, stop));
        let tcp = relay.node.clone();
        relay.node.quic_port = Some(udp.port());
        Self {
            relay,
            tcp,
            udp,
            task,
        }
    }

    async fn join(&self) -> Client {
        let client = self.relay.join().await;
        assert_eq!(client.sender.transport(), Transport::Quic);
        client
    }

    async fn join_by_tcp(&self) -> Client {
        let key = new_key();
        let mut config = self.relay.config(&key, self.relay.ticket(key.public()));
        config.node = self.tcp.clone();
        let (sender, receiver) = connect(config).await.unwrap();
        assert_eq!(sender.transport(), Transport::Tcp);
        Client {
            key: key.public(),
            sender,
            receiver,
        }
    }

    async fn refusal(&self, key: &WgPrivateKey, ticket: String) -> String {
        match self.relay.try_join(key, ticket).await {
            Err(ConnectError::Refused(reason)) => reason,
            Err(other) => panic!("refused otherwise: {other}"),
            Ok(_) => panic!("admitted"),
        }
    }
}

fn identity() -> ServerIdentity {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::load_or_create(dir.path(), &["127.0.0.1".to_owned()]).unwrap()
}

fn packet(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

async fn passes(from: &Client, to: &mut Client, len: usize) {
    from.send(to, &packet(len));
    assert_eq!(to.packet().await, (from.key, Bytes::from(packet(len))));
}

#[tokio::test]
async fn clients_of_both_transports_reach_each_other_with_packets_of_every_size() {
    let relay = Both::start().await;
    let (mut a, mut b) = (relay.join().await, relay.join().await);
    let mut c = relay.join_by_tcp().await;
    // The middle ones fit a datagram, the others go by the stream.
    for len in [0, 1, 32, 1100, 1280, 1344, 1500, 16 * 1024, MAX_PACKET] {
        passes(&a, &mut b, len).await;
        passes(&a, &mut c, len).await;
        passes(&c, &mut a, len).await;
        passes(&b, &mut a, len).await;
    }
}

#[tokio::test]
async fn packets_that_only_the_stream_takes_are_not_held_up_by_datagrams() {
    let relay = Both::start().await;
    let (a, mut b) = (relay.join().await, relay.join().await);
    let large = packet(5000);
    for number in 0..300 {
        a.send(&b, &data(number, 1100));
    }
    a.send(&b, &large);
    while b.packet().await.1 != large {
        for number in 0..10 {
            a.send(&b, &data(number, 1100));
        }
    }
}

#[tokio::test]
async fn whoever_has_no_valid_ticket_is_told_why() {
    let relay = Both::start().await;
    let key = new_key();
    let expired = TicketClaims {
        expires_at: Timestamp::now()
            .checked_sub(SignedDuration::from_hours(1))
            .unwrap(),
        ..relay.relay.claims(key.public())
    };
    let reason = relay.refusal(&key, relay.relay.signer.sign(&expired)).await;
    assert!(reason.contains("expired"), "{reason}");
    let reason = relay.refusal(&key, String::new()).await;
    assert!(reason.contains("malformed"), "{reason}");
    let other = relay.relay.ticket(WgPublicKey([7; 32]));
    let reason = relay.refusal(&key, other).await;
    assert!(reason.contains("another machine"), "{reason}");
    assert_eq!(relay.relay.server.connections(), 0);
}

#[tokio::test]
async fn a_revoked_client_is_cut_at_once_and_stays_out() {
    let relay = Both::start().await;
    let key = new_key();
    let ticket = relay.relay.ticket(key.public());
    let mut revoked = relay.relay.try_join(&key, ticket.clone()).await.unwrap();
    let server = &relay.relay.server;
    assert_eq!(server.revoke(&key.public(), Timestamp::now()), 1);
    let last = revoked.last_events().await;
    let [Event::Health(reason)] = last.as_slice() else {
        panic!("not cut with a reason: {last:?}");
    };
    assert!(reason.contains("revoked"), "{reason}");
    let reason = relay.refusal(&key, ticket).await;
    assert!(reason.contains("revoked"), "{reason}");
}

#[tokio::test]
async fn a_ticket_that_expires_ends_the_connection() {
    let relay = Both::start().await;
    let key = new_key();
    let claims = TicketClaims {
        expires_at: Timestamp::now()
            .checked_add(SignedDuration::from_secs(2))
            .unwrap(),
        ..relay.relay.claims(key.public())
    };
    let ticket = relay.relay.signer.sign(&claims);
    let mut client = relay.relay.try_join(&key, ticket).await.unwrap();
    let last = client.last_events().await;
    let [Event::Health(reason)] = last.as_slice() else {
        panic!("not cut with a reason: {last:?}");
    };
    assert!(reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn a_peer_that_leaves_is_missed_by_those_it_wrote_to() {
    let relay = Both::start().await;
    let (a, mut b) = (relay.join().await, relay.join_by_tcp().await);
    passes(&a, &mut b, 100).await;
    let gone = a.key;
    drop(a);
    let expected = Event::PeerGone {
        peer: gone,
        reason: GoneReason::Disconnected,
    };
    assert_eq!(b.event().await, expected);
}

#[tokio::test]
async fn shutdown_tells_clients_when_to_come_back() {
    let relay = Both::start().await;
    let mut client = relay.join().await;
    relay.relay.shutdown.cancel();
    let last = client.last_events().await;
    assert!(
        matches!(last.as_slice(), [Event::Restarting { .. }]),
        "{last:?}"
    );
    relay.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn where_udp_does_not_pass_it_is_tcp_and_udp_is_left_alone() {
    let mut relay = Both::start().await;
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    hole.set_nonblocking(true).unwrap();
    relay.relay.node.quic_port = Some(hole.local_addr().unwrap().port());
    let mut a = relay.relay.join().await;
    assert_eq!(a.sender.transport(), Transport::Tcp);
    let b = relay.relay.join().await;
    assert_eq!(b.sender.transport(), Transport::Tcp);
    // One attempt has one socket.
    let mut tried = HashSet::new();
    while let Ok((_, from)) = hole.recv_from(&mut [0; 2048]) {
        tried.insert(from);
    }
    assert_eq!(tried.len(), 1);
    passes(&b, &mut a, 1280).await;
}

#[tokio::test]
async fn a_wrong_pin_is_refused() {
    let relay = Both::start().await;
    let key = new_key();
    let mut config = relay.relay.config(&key, relay.relay.ticket(key.public()));
    config.node.certificate = ztna_tls::pin_of(b"another certificate");
    let error = connect(config.clone()).await.err().unwrap();
    assert!(error.to_string().contains("pinned"), "{error}");
    config.node.derp_port = None;
    let error = connect(config).await.err().unwrap();
    assert!(matches!(error, ConnectError::Quic { .. }), "{error}");
    assert!(error.to_string().contains("pinned"), "{error}");
}

/// Forwards between one client and the relay, under a new address of its own when told.
async fn nat(relay: SocketAddr, mut moves: tokio::sync::mpsc::Receiver<()>, inside: UdpSocket) {
    inside.set_nonblocking(true).unwrap();
    let inside = tokio::net::UdpSocket::from_std(inside).unwrap();
    let mut outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            received = inside.recv_from(&mut up) => {
                let (len, from) = received.unwrap();
                client = Some(from);
                outside.send_to(&up[..len], relay).await.unwrap();
            }
            received = outside.recv_from(&mut down) => {
                let (len, _) = received.unwrap();
                if let Some(client) = client {
                    inside.send_to(&down[..len], client).await.unwrap();
                }
            }
            moved = moves.recv() => match moved {
                Some(()) => outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap(),
                None => return,
            },
        }
    }
}

#[tokio::test]
async fn a_client_whose_address_changes_keeps_its_session() {
    let mut relay = Both::start().await;
    let mut peer = relay.join_by_tcp().await;
    let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.relay.node.quic_port = Some(inside.local_addr().unwrap().port());
    let (moves, told) = tokio::sync::mpsc::channel(1);
    let nat = tokio::spawn(nat(relay.udp, told, inside));
    let mut client = relay.join().await;
    passes(&client, &mut peer, 500).await;
    for _ in 0..3 {
        moves.send(()).await.unwrap();
        // Until the relay hears of the new address, what it sends is lost.
        client.settle().await;
        passes(&client, &mut peer, 500).await;
        passes(&peer, &mut client, 500).await;
    }
    assert_eq!(relay.relay.server.connections(), 2, "nobody came anew");
    drop(moves);
    nat.await.unwrap();
}

#[tokio::test]
async fn strangers_show_that_their_address_is_theirs_and_have_no_more_than_their_share() {
    let limits = ListenerLimits {
        per_address: Some(AddressRate {
            per_second: 0.0,
            burst: 1.0,
            addresses: 16,
        }),
        ..ListenerLimits::default()
    };
    let relay = Both::with_limits(limits).await;
    let mut transports = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = relay.relay.join().await;
        transports.push(client.sender.transport());
        clients.push(client);
    }
    // The second one after a retry; the third one finds no bucket left.
    assert_eq!(
        transports,
        [Transport::Quic, Transport::Quic, Transport::Tcp]
    );
}

#[tokio::test]
async fn garbage_at_the_port_harms_nobody() {
    let relay = Both::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..2000_usize {
        let mut bytes: Vec<u8> = (0..round % 1400).map(|_| rand::random()).collect();
        if let Some(first) = bytes.first_mut() {
            // Short and long headers of all types, with QUIC's fixed bit.
            *first |= 0x40;
        }
        if round % 3 == 0 && bytes.len() > 5 {
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        socket.send_to(&bytes, relay.udp).unwrap();
    }
    let (a, mut b) = (relay.join().await, relay.join().await);
    passes(&a, &mut b, 1280).await;
}

/// A QUIC connection that is no client's.
async fn stranger(relay: &Both, streams: u8) -> (quinn::Endpoint, quinn::Connection) {
    let pin = &relay.relay.node.certificate;
    let tls = client_config(pin, KeyExchange::RequirePostQuantum).unwrap();
    let mut tls = rustls::ClientConfig::clone(&tls);
    tls.alpn_protocols = vec![b"ztna-derp/1".to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(streams.into());
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, relay.udp, "127.0.0.1");
    let connection = connecting.unwrap().await.unwrap();
    (endpoint, connection)
}

async fn closed(connection: &quinn::Connection) {
    tokio::time::timeout(PATIENCE, connection.closed())
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_takes_no_stream_is_closed() {
    let relay = Both::with_limits(ListenerLimits {
        handshake_timeout: Duration::from_millis(200),
        ..ListenerLimits::default()
    })
    .await;
    let (_endpoint, connection) = stranger(&relay, 0).await;
    closed(&connection).await;
}

#[tokio::test]
async fn random_frames_and_datagrams_end_the_connection() {
    let relay = Both::start().await;
    let mut strangers = Vec::new();
    for _ in 0..10 {
        let (endpoint, connection) = stranger(&relay, 1).await;
        let (mut write, _) = connection.accept_bi().await.unwrap();
        for len in [0, 1, 31, 32, 33, 1000] {
            let _ = connection.send_datagram(packet(len).into());
        }
        let bytes: Vec<u8> = (0..200).map(|_| rand::random()).collect();
        let _ = write.write_all(&bytes).await;
        let _ = write.finish();
        strangers.push((endpoint, connection));
    }
    for (_, connection) in &strangers {
        closed(connection).await;
    }
    assert_eq!(relay.relay.server.connections(), 0);
}

/// Runs a relay in a runtime of its own, which can die without a word.
fn run_apart(
    server: &Arc<Server>,
    socket: UdpSocket,
    tls: &Arc<rustls::ServerConfig>,
) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(run_quic(
        Arc::clone(server),
        socket,
        Arc::clone(tls),
        ListenerLimits::default(),
        CancellationToken::new(),
    ));
    runtime
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_relay_that_crashed_learn_it_from_the_next_one() {
    let identity = identity();
    let tls = identity.server_config().unwrap();
    let signer = TicketSigner::from_seed(&rand::random());
    let server = || {
        Server::new(ServerConfig {
            key: RelayPrivateKey::from_bytes([6; 32]),
            admission: Arc::new(TicketAdmission::with_system_clock(
                signer.verifier(),
                REGION,
            )),
            limits: Limits::default(),
            mesh: None,
        })
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let first = run_apart(&server(), socket, &tls);

    let relay = Relay::start().await;
    let key = new_key();
    let mut config = relay.config(&key, signer.sign(&relay.claims(key.public())));
    config.node.certificate = identity.certificate_pin();
    config.node.derp_port = None;
    config.node.quic_port = Some(address.port());
    let (sender, mut receiver) = connect(config).await.unwrap();

    first.shutdown_background();
    let socket = loop {
        match UdpSocket::bind(address) {
            Ok(socket) => break socket,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let second = run_apart(&server(), socket, &tls);
    sender.ping().unwrap();
    let ended = tokio::time::timeout(PATIENCE, receiver.next()).await;
    assert!(
        matches!(ended, Ok(Err(RelayError::Lost(_)))),
        "not reset: {ended:?}"
    );
    second.shutdown_background();
}
