//! The client against a relay played by hand, in virtual time.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::Instant;
use ztna_proto::WgPublicKey;
use ztna_proto::relay::CertificatePin;

use super::*;
use crate::frame::{Decoder, GoneReason};
use crate::handshake::{FRESHNESS_LEN, open_client_info, seal_server_info};
use crate::key::RelayPrivateKey;

struct Relay {
    key: RelayPrivateKey,
    stream: DuplexStream,
    buf: BytesMut,
    decoder: Decoder,
}

impl Relay {
    async fn send(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).await.unwrap();
    }

    /// The client's next frame; `None` when it has closed the connection.
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

    /// Sends ServerKey and opens the client's answer.
    async fn greet(&mut self, spare: &'static [u8]) -> (WgPublicKey, ClientInfo) {
        let greeting = Frame::ServerKey {
            key: self.key.public(),
            spare: Bytes::from_static(spare),
        };
        self.send(&greeting).await;
        let Some(Frame::ClientInfo { key, nonce, sealed }) = self.next().await else {
            panic!("no ClientInfo");
        };
        let info = open_client_info(&self.key, &key, &nonce, &sealed).unwrap();
        (key, info)
    }

    async fn admit(&mut self, client: &WgPublicKey) {
        let info = ServerInfo::default();
        let frame = seal_server_info(&self.key, client, &info, &mut rand::rng()).unwrap();
        self.send(&frame).await;
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        node: RelayNode {
            name: "test".into(),
            host: "relay.example".into(),
            addresses: Vec::new(),
            derp_port: Some(443),
            stun_port: None,
            quic_port: None,
            http_port: None,
            certificate: CertificatePin::WebPki,
        },
        key: WgPrivateKey::from_bytes([3; 32]),
        ticket: "the ticket".into(),
    }
}

type Started = Result<(Sender, Receiver), ConnectError>;

/// Runs the client's handshake against what `play` does.
async fn against<T>(play: impl AsyncFnOnce(&mut Relay) -> T) -> (Started, Relay, T) {
    let (near, stream) = tokio::io::duplex(1 << 20);
    let mut relay = Relay {
        key: RelayPrivateKey::from_bytes([4; 32]),
        stream,
        buf: BytesMut::new(),
        decoder: Decoder::default(),
    };
    let (config, mut rng) = (config(), rand::rng());
    let (started, played) = tokio::join!(
        start(near, BytesMut::new(), &config, &mut rng),
        play(&mut relay)
    );
    (started, relay, played)
}

async fn connected() -> (Sender, Receiver, Relay) {
    let (started, relay, ()) = against(async |relay| {
        let (client, _) = relay.greet(b"").await;
        relay.admit(&client).await;
    })
    .await;
    let (sender, receiver) = started.unwrap();
    (sender, receiver, relay)
}

#[tokio::test]
async fn the_relays_nonce_comes_back_and_a_stock_relay_gets_none() {
    for (spare, fresh) in [
        (&b"0123456789abcdef and more"[..], true),
        (b"too short", false),
        (b"", false),
    ] {
        let (started, _, info) = against(async |relay| {
            let (client, info) = relay.greet(spare).await;
            // What a client does not know, it skips.
            relay.send(&Frame::KeepAlive).await;
            relay.send(&Frame::Unknown { kind: 0x7e, len: 9 }).await;
            relay.admit(&client).await;
            info
        })
        .await;
        assert!(started.is_ok());
        assert_eq!(info.ticket.as_deref(), Some("the ticket"));
        assert!(info.can_ack_pings);
        assert_eq!(info.nonce.is_some(), fresh);
        let nonce = spare.first_chunk::<FRESHNESS_LEN>();
        assert!(nonce.is_none_or(|nonce| info.is_fresh(nonce)));
    }
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let (started, _, ()) = against(async |relay| {
        relay.greet(b"").await;
        relay
            .send(&Frame::Health("no ticket, no service".into()))
            .await;
    })
    .await;
    let Err(ConnectError::Refused(reason)) = started else {
        panic!("not refused");
    };
    assert_eq!(reason, "no ticket, no service");
}

#[tokio::test]
async fn server_info_of_another_relay_is_no_handshake() {
    let (started, _, ()) = against(async |relay| {
        let (client, _) = relay.greet(b"").await;
        relay.key = RelayPrivateKey::from_bytes([5; 32]);
        relay.admit(&client).await;
    })
    .await;
    assert!(matches!(started, Err(ConnectError::Handshake(_))));
}

#[tokio::test]
async fn frames_become_events_and_pings_are_answered() {
    let (_sender, mut receiver, mut relay) = connected().await;
    let peer = WgPublicKey([8; 32]);
    let packet = Bytes::from_static(b"packet");
    let second = Duration::from_secs(1);
    relay.send(&Frame::Ping(*b"12345678")).await;
    relay.send(&Frame::KeepAlive).await;
    // Not the answer to a ping of ours.
    relay.send(&Frame::Pong(*b"12345678")).await;
    for (frame, event) in [
        (
            Frame::RecvPacket {
                from: peer,
                packet: packet.clone(),
            },
            Event::Packet { from: peer, packet },
        ),
        (
            Frame::PeerGone {
                peer,
                reason: GoneReason::NotHere,
            },
            Event::PeerGone {
                peer,
                reason: GoneReason::NotHere,
            },
        ),
        (Frame::Health("ill".into()), Event::Health("ill".into())),
        (
            Frame::Restarting {
                reconnect_in: second,
                try_for: second,
            },
            Event::Restarting {
                reconnect_in: second,
                try_for: second,
            },
        ),
    ] {
        relay.send(&frame).await;
        assert_eq!(receiver.next().await.unwrap(), event);
    }
    assert_eq!(relay.next().await, Some(Frame::Pong(*b"12345678")));
}

#[tokio::test]
async fn what_is_sent_arrives_as_frames() {
    let (sender, _receiver, mut relay) = connected().await;
    let peer = WgPublicKey([8; 32]);
    let packet = Bytes::from_static(b"packet");
    let sent = Frame::SendPacket {
        to: peer,
        packet: packet.clone(),
    };
    sender.try_send(peer, packet).unwrap();
    assert_eq!(relay.next().await, Some(sent));
    sender.note_preferred(true).unwrap();
    assert_eq!(relay.next().await, Some(Frame::NotePreferred(true)));
    sender.renew_ticket("fresh".into()).unwrap();
    assert_eq!(relay.next().await, Some(Frame::RenewTicket("fresh".into())));
}

#[tokio::test]
async fn dropping_the_receiver_closes_the_connection() {
    let (sender, receiver, mut relay) = connected().await;
    drop(receiver);
    assert_eq!(relay.next().await, None);
    let late = sender.try_send(WgPublicKey([8; 32]), Bytes::new());
    assert_eq!(late, Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_silent_relay_is_given_up() {
    let (_sender, mut receiver, mut relay) = connected().await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(100)).await;
    relay.send(&Frame::KeepAlive).await;
    let ended = receiver.next().await;
    assert!(matches!(ended, Err(RelayError::Silent)), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(100) + link::SILENCE);
}

/// The relay keeps talking and takes nothing: the connection is of no use.
#[tokio::test(start_paused = true)]
async fn a_relay_that_takes_nothing_is_given_up() {
    let (sender, mut receiver, _relay) = connected().await;
    for _ in 0..100 {
        let packet = Bytes::from([4, 0, 0, 0].repeat(4000));
        sender.try_send(WgPublicKey([8; 32]), packet).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ended = receiver.next().await;
    assert!(matches!(ended, Err(RelayError::Stalled)), "{ended:?}");
    assert!(sender.is_closed());
}
