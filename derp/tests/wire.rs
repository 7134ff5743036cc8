//! The relay's port byte by byte: what a stock client, a web browser and an attacker send.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::{PATIENCE, Relay, head, new_key};
use rustls::NamedGroup;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ztna_derp::frame::{Decoder, Frame, FrameError};
use ztna_derp::handshake::{
    ClientInfo, FRESHNESS_LEN, freshness_in, open_server_info, seal_client_info,
};
use ztna_derp::key::RelayPublicKey;
use ztna_proto::WgPrivateKey;
use ztna_tls::{KeyExchange, client_config};

const UPGRADE: &[u8] =
    b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n";
const FAST_START: &[u8] = b"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n";

async fn tls(relay: &Relay) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(relay.address).await.unwrap();
    let config = client_config(&relay.node.certificate, KeyExchange::PreferPostQuantum).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap()
}

/// Frames over a TLS stream, by hand.
struct Raw {
    stream: TlsStream<TcpStream>,
    buf: BytesMut,
    decoder: Decoder,
}

impl Raw {
    async fn fast_start(relay: &Relay) -> Self {
        let mut stream = tls(relay).await;
        stream.write_all(FAST_START).await.unwrap();
        Self::over(stream)
    }

    fn over(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream,
            buf: BytesMut::new(),
            decoder: Decoder::default(),
        }
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buf)? {
                return Ok(Some(frame));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buf)).await;
            // A reset is an end as well.
            if read.unwrap().unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn server_key(&mut self) -> (RelayPublicKey, Bytes) {
        match self.next().await {
            Ok(Some(Frame::ServerKey { key, spare })) => (key, spare),
            other => panic!("not a ServerKey: {other:?}"),
        }
    }

    /// Joins as our client does, and gives back its ClientInfo's bytes.
    async fn join(&mut self, relay: &Relay, key: &WgPrivateKey) -> Bytes {
        let (relay_key, spare) = self.server_key().await;
        let nonce = freshness_in(&spare);
        let info = ClientInfo::new("raw".into(), relay.ticket(key.public()), nonce.as_ref());
        let frame = seal_client_info(key, &relay_key, &info, &mut rand::rng()).unwrap();
        let bytes = frame.to_bytes();
        self.send(&bytes).await;
        match self.next().await {
            Ok(Some(Frame::ServerInfo { nonce, sealed })) => {
                open_server_info(key, &relay_key, &nonce, &sealed).unwrap();
            }
            other => panic!("not a ServerInfo: {other:?}"),
        }
        bytes
    }

    async fn refusal(&mut self) -> String {
        let Ok(Some(Frame::Health(reason))) = self.next().await else {
            panic!("no Health frame");
        };
        assert_eq!(self.next().await, Ok(None), "the connection stays open");
        reason
    }
}

fn assert_line(head: &str, line: &str) {
    assert!(
        head.contains(&format!("{line}\r\n")),
        "{head} has no {line}"
    );
}

/// Proxies send requests of many over one connection, until one of them is upgraded.
#[tokio::test]
async fn an_upgrade_may_come_after_other_requests() {
    let relay = Relay::start().await;
    let mut stream = tls(&relay).await;
    for _ in 0..2 {
        let probe = b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(probe).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // Whoever asks for no answer gets one here: it would be the proxy that waits for it.
    stream.write_all(FAST_START).await.unwrap();
    let answer = head(&mut stream).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    let public = relay.server.public_key().to_string().to_ascii_lowercase();
    let key_line = format!("derp-public-key: {public}");
    for line in [
        "upgrade: derp",
        "connection: upgrade",
        "derp-version: 2",
        &key_line,
    ] {
        assert_line(&answer, line);
    }
    let mut raw = Raw::over(stream);
    let key = new_key();
    raw.join(&relay, &key).await;
    let native = relay.join().await;
    native
        .sender
        .try_send(key.public(), Bytes::from_static(b"\x04\0\0\0late"))
        .unwrap();
    loop {
        match raw.next().await.unwrap().unwrap() {
            Frame::RecvPacket { from, packet } => {
                assert_eq!((from, &packet[4..]), (native.key, b"late".as_slice()));
                break;
            }
            Frame::KeepAlive | Frame::Health(_) => {}
            other => panic!("not a packet: {other:?}"),
        }
    }
    // A shutdown is told to it and waits for it, as for all others.
    relay.shutdown.cancel();
    let told = async { while !matches!(raw.next().await, Ok(Some(Frame::Restarting { .. }))) {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    tokio::time::timeout(PATIENCE, relay.task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_upgrade_is_answered_as_derper_does() {
    let relay = Relay::start().await;
    let mut stream = tls(&relay).await;
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    stream.write_all(UPGRADE).await.unwrap();
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let public = relay.server.public_key();
    let key_line = format!("Derp-Public-Key: {public}");
    for line in [
        "Upgrade: DERP",
        "Connection: Upgrade",
        "Derp-Version: 2",
        &key_line,
    ] {
        assert_line(&answer, line);
    }
    let mut raw = Raw::over(stream);
    let (key, spare) = raw.server_key().await;
    assert_eq!((key, spare.len()), (public, FRESHNESS_LEN));
}

#[tokio::test]
async fn fast_start_has_no_http_answer() {
    let relay = Relay::start().await;
    let mut raw = Raw::fast_start(&relay).await;
    raw.join(&relay, &new_key()).await;
    assert_eq!(relay.server.connections(), 1);
}

#[tokio::test]
async fn other_requests_go_to_the_router_and_keep_their_bytes() {
    let relay = Relay::start().await;
    for (request, expected) in [
        (
            "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "200 OK",
        ),
        (
            "GET /derp/probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "200 OK",
        ),
        (
            "GET /derp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "426",
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "404",
        ),
        ("no HTTP at all\r\n\r\n", "400"),
    ] {
        let mut stream = tls(&relay).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{request}: {answer}"
        );
    }
    let mut stream = tls(&relay).await;
    stream
        .write_all(b"GET /hello HTTP/1.1\r\nA: ")
        .await
        .unwrap();
    let filler = vec![b'a'; 20_000];
    let _ = stream.write_all(&filler).await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

#[tokio::test]
async fn stock_clients_without_a_ticket_are_told_and_closed() {
    let relay = Relay::start().await;
    let mut raw = Raw::fast_start(&relay).await;
    let (relay_key, _) = raw.server_key().await;
    let stock = ClientInfo {
        version: 2,
        ..ClientInfo::default()
    };
    let frame = seal_client_info(&new_key(), &relay_key, &stock, &mut rand::rng()).unwrap();
    raw.send(&frame.to_bytes()).await;
    assert!(raw.refusal().await.contains("ticket"));
    assert_eq!(relay.server.connections(), 0);
}

#[tokio::test]
async fn a_replayed_client_info_is_refused() {
    let relay = Relay::start().await;
    let mut first = Raw::fast_start(&relay).await;
    let recorded = first.join(&relay, &new_key()).await;
    let mut second = Raw::fast_start(&relay).await;
    second.server_key().await;
    second.send(&recorded).await;
    let reason = second.refusal().await;
    assert!(reason.contains("prove its key"), "{reason}");
}

#[tokio::test]
async fn a_client_info_sealed_by_another_key_is_refused() {
    let relay = Relay::start().await;
    let victim = new_key();
    let mut raw = Raw::fast_start(&relay).await;
    let (relay_key, spare) = raw.server_key().await;
    let nonce = freshness_in(&spare);
    let info = ClientInfo::new(String::new(), relay.ticket(victim.public()), nonce.as_ref());
    let frame = seal_client_info(&new_key(), &relay_key, &info, &mut rand::rng()).unwrap();
    let Frame::ClientInfo { nonce, sealed, .. } = frame else {
        panic!("not a ClientInfo");
    };
    let forged = Frame::ClientInfo {
        key: victim.public(),
        nonce,
        sealed,
    };
    raw.send(&forged.to_bytes()).await;
    assert!(raw.refusal().await.contains("not sealed by the key"));
}

#[tokio::test]
async fn frames_between_relays_end_the_connection() {
    let relay = Relay::start().await;
    let key = new_key().public();
    for frame in [
        Frame::WatchConns,
        Frame::ClosePeer(key),
        Frame::ForwardPacket {
            org: None,
            from: key,
            to: key,
            packet: Bytes::new(),
        },
    ] {
        let mut raw = Raw::fast_start(&relay).await;
        raw.join(&relay, &new_key()).await;
        raw.send(&frame.to_bytes()).await;
        assert!(raw.refusal().await.contains("not permitted"));
    }
}

#[tokio::test]
async fn unknown_frames_are_skipped_and_pings_answered() {
    let relay = Relay::start().await;
    let mut raw = Raw::fast_start(&relay).await;
    raw.join(&relay, &new_key()).await;
    let mut frames = BytesMut::new();
    Frame::Unknown {
        kind: 0x7e,
        len: 5000,
    }
    .encode(&mut frames);
    Frame::Ping(*b"12345678").encode(&mut frames);
    // A long Ping: the first eight bytes come back.
    frames.put_slice(&[0x12, 0, 0, 0, 16]);
    frames.put_slice(b"abcdefgh--------");
    raw.send(&frames).await;
    assert_eq!(raw.next().await, Ok(Some(Frame::Pong(*b"12345678"))));
    assert_eq!(raw.next().await, Ok(Some(Frame::Pong(*b"abcdefgh"))));
}

#[tokio::test]
async fn oversized_frames_end_the_connection() {
    let relay = Relay::start().await;
    for header in [[0x04, 0, 2, 0, 0], [0x7e, 0, 2, 0, 0], [0x07, 0, 0, 0, 2]] {
        let mut raw = Raw::fast_start(&relay).await;
        raw.join(&relay, &new_key()).await;
        raw.send(&header).await;
        assert_eq!(raw.next().await, Ok(None), "{header:?}");
    }
}

/// Garbage at every stage; afterwards the relay still serves.
#[tokio::test]
async fn random_bytes_do_not_hurt() {
    let relay = Relay::start().await;
    let garbage = || -> Vec<u8> { (0..4096).map(|_| rand::random()).collect() };
    for _ in 0..5 {
        let mut bare = TcpStream::connect(relay.address).await.unwrap();
        let _ = bare.write_all(&garbage()).await;
        let mut inside = tls(&relay).await;
        let _ = inside.write_all(&garbage()).await;
        let mut upgraded = Raw::fast_start(&relay).await;
        upgraded.server_key().await;
        let _ = upgraded.stream.write_all(&garbage()).await;
        let mut joined = Raw::fast_start(&relay).await;
        joined.join(&relay, &new_key()).await;
        let _ = joined.stream.write_all(&garbage()).await;
    }
    let (a, mut b) = (relay.join().await, relay.join().await);
    a.send(&b, b"still here");
    assert_eq!(b.packet().await.1, "still here");
}

/// Virtual time over an in-memory stream: what a relay does with clients that say nothing.
mod silence {
    use super::*;
    use jiff::{SignedDuration, Timestamp};
    use tokio_util::sync::CancellationToken;
    use ztna_derp::key::RelayPrivateKey;
    use ztna_derp::server::{Limits, Server, ServerConfig, TicketAdmission};
    use ztna_proto::ticket::{TicketClaims, TicketSigner};
    use ztna_proto::{MachineId, OrgId, RegionId, WgPublicKey};

    struct Quiet {
        stream: tokio::io::DuplexStream,
        buf: BytesMut,
        decoder: Decoder,
    }

    impl Quiet {
        async fn next(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = self.decoder.decode(&mut self.buf).unwrap() {
                    return Some(frame);
                }
                if self.stream.read_buf(&mut self.buf).await.unwrap() == 0 {
                    return None;
                }
            }
        }
    }

    fn connect() -> (Arc<Server>, TicketSigner, Quiet) {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let server = Server::new(ServerConfig {
            key: RelayPrivateKey::from_bytes([2; 32]),
            admission: Arc::new(TicketAdmission::with_system_clock(
                signer.verifier(),
                RegionId(1),
            )),
            limits: Limits::default(),
            mesh: None,
        });
        let (near, far) = tokio::io::duplex(4096);
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            let address = "192.0.2.1:1".parse().unwrap();
            let shutdown = CancellationToken::new();
            serving
                .serve_client(far, BytesMut::new(), address, &shutdown)
                .await;
        });
        let quiet = Quiet {
            stream: near,
            buf: BytesMut::new(),
            decoder: Decoder::default(),
        };
        (server, signer, quiet)
    }

    /// A ticket for so many hours.
    fn ticket(signer: &TicketSigner, org: OrgId, key: WgPublicKey, hours: i64) -> String {
        let issued_at = Timestamp::now();
        let lifetime = SignedDuration::from_hours(hours);
        signer.sign(&TicketClaims {
            org,
            machine: MachineId::generate(),
            wg_key: key,
            regions: Vec::new(),
            issued_at,
            expires_at: issued_at.checked_add(lifetime).unwrap(),
            bytes_per_second: None,
        })
    }

    /// Joins with a ticket of one hour; gives back a longer one for the same machine.
    async fn join(signer: &TicketSigner, quiet: &mut Quiet, can_ack_pings: bool) -> String {
        let Some(Frame::ServerKey { key, spare }) = quiet.next().await else {
            panic!("no ServerKey");
        };
        let us = new_key();
        let org = OrgId::generate();
        let short = ticket(signer, org, us.public(), 1);
        let info = ClientInfo {
            can_ack_pings,
            ..ClientInfo::new(String::new(), short, freshness_in(&spare).as_ref())
        };
        let frame = seal_client_info(&us, &key, &info, &mut rand::rng()).unwrap();
        quiet.stream.write_all(&frame.to_bytes()).await.unwrap();
        assert!(matches!(quiet.next().await, Some(Frame::ServerInfo { .. })));
        ticket(signer, org, us.public(), 2)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_pinged_and_then_given_up() {
        let (server, signer, mut quiet) = connect();
        join(&signer, &mut quiet, true).await;
        let start = tokio::time::Instant::now();
        assert_eq!(quiet.next().await, Some(Frame::KeepAlive));
        let keep_alive = start.elapsed().as_secs();
        assert!((60..=65).contains(&keep_alive), "{keep_alive}");
        assert!(matches!(quiet.next().await, Some(Frame::Ping(_))));
        assert_eq!(start.elapsed().as_secs(), 75);
        while quiet.next().await.is_some() {}
        assert_eq!(start.elapsed().as_secs(), 150);
        assert_eq!(server.connections(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_or_cannot_stays() {
        for can_ack_pings in [true, false] {
            let (server, signer, mut quiet) = connect();
            join(&signer, &mut quiet, can_ack_pings).await;
            let start = tokio::time::Instant::now();
            while start.elapsed() < Duration::from_secs(600) {
                match quiet.next().await {
                    Some(Frame::Ping(data)) => {
                        assert!(can_ack_pings);
                        let pong = Frame::Pong(data).to_bytes();
                        quiet.stream.write_all(&pong).await.unwrap();
                    }
                    Some(Frame::KeepAlive) => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
            assert_eq!(server.connections(), 1);
        }
    }

    /// The last word of the relay, and the hours after which the connection ended.
    async fn end(quiet: &mut Quiet, start: tokio::time::Instant) -> (Option<Frame>, u64) {
        let mut last = None;
        while let Some(frame) = quiet.next().await {
            last = Some(frame);
        }
        (last, (start.elapsed().as_secs() + 1800) / 3600)
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_that_ends_ends_the_connection_unless_renewed() {
        for (renew, expected) in [("nothing", 1), ("nonsense", 1), ("a fresh one", 2)] {
            let (_server, signer, mut quiet) = connect();
            let fresh = join(&signer, &mut quiet, false).await;
            let start = tokio::time::Instant::now();
            let ticket = match renew {
                "nothing" => None,
                "nonsense" => Some("nonsense".to_owned()),
                _ => Some(fresh),
            };
            if let Some(ticket) = ticket {
                let frame = Frame::RenewTicket(ticket).to_bytes();
                quiet.stream.write_all(&frame).await.unwrap();
            }
            let (last, hours) = end(&mut quiet, start).await;
            assert_eq!(hours, expected, "renewed with {renew}");
            let Some(Frame::Health(reason)) = last else {
                panic!("ended without a reason: {last:?}");
            };
            assert!(reason.contains("expired"), "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_has_its_time() {
        let (_server, _signer, mut quiet) = connect();
        let start = tokio::time::Instant::now();
        assert!(matches!(quiet.next().await, Some(Frame::ServerKey { .. })));
        assert_eq!(quiet.next().await, None);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
