//! A client that comes by WebSocket, beside one that does not.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bytes::{Bytes, BytesMut};
use common::{PATIENCE, Relay, data, head, new_key};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use ztna_derp::frame::{Decoder, Frame};
use ztna_derp::handshake::{ClientInfo, freshness_in, open_server_info, seal_client_info};
use ztna_proto::{WgPrivateKey, WgPublicKey};
use ztna_tls::{KeyExchange, client_config};

struct Browser {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    buf: BytesMut,
    decoder: Decoder,
    key: WgPublicKey,
}

impl Browser {
    async fn connect(relay: &Relay, key: &WgPrivateKey) -> Self {
        Self::connect_after(relay, key, b"").await
    }

    /// Sends another request first, whose answer has no body.
    async fn connect_after(relay: &Relay, key: &WgPrivateKey, first: &[u8]) -> Self {
        let stream = TcpStream::connect(relay.address).await.unwrap();
        let config =
            client_config(&relay.node.certificate, KeyExchange::RequirePostQuantum).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap();
        if !first.is_empty() {
            stream.write_all(first).await.unwrap();
            head(&mut stream).await;
        }
        let mut request = "wss://127.0.0.1/derp".into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "derp".parse().unwrap());
        headers.insert("origin", "https://elsewhere.example".parse().unwrap());
        let (stream, answer) = client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "derp");
        let mut browser = Self {
            stream,
            buf: BytesMut::new(),
            decoder: Decoder::default(),
            key: key.public(),
        };
        let Frame::ServerKey {
            key: relay_key,
            spare,
        } = browser.frame().await
        else {
            panic!("no ServerKey");
        };
        let ticket = relay.ticket(key.public());
        let info = ClientInfo::new("browser".into(), ticket, freshness_in(&spare).as_ref());
        let info = seal_client_info(key, &relay_key, &info, &mut rand::rng()).unwrap();
        browser.send(&info).await;
        let Frame::ServerInfo { nonce, sealed } = browser.frame().await else {
            panic!("no ServerInfo");
        };
        open_server_info(key, &relay_key, &nonce, &sealed).unwrap();
        browser
    }

    /// Sends a frame in messages that are cut without regard to it.
    async fn send(&mut self, frame: &Frame) {
        for part in frame.to_bytes().chunks(100) {
            let message = Message::Binary(Bytes::copy_from_slice(part));
            self.stream.send(message).await.unwrap();
        }
    }

    async fn frame(&mut self) -> Frame {
        let next = async {
            loop {
                if let Some(frame) = self.decoder.decode(&mut self.buf).unwrap() {
                    return frame;
                }
                match self.stream.next().await.unwrap().unwrap() {
                    Message::Binary(message) => self.buf.extend_from_slice(&message),
                    other => panic!("not a binary message: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap()
    }

    /// The next packet, and who it is from.
    async fn packet(&mut self) -> (WgPublicKey, Bytes) {
        loop {
            if let Frame::RecvPacket { from, packet } = self.frame().await {
                return (from, packet);
            }
        }
    }
}

#[tokio::test]
async fn a_browser_and_a_native_client_exchange_packets() {
    let relay = Relay::start().await;
    let mut native = relay.join().await;
    let mut browser = Browser::connect(&relay, &new_key()).await;
    for number in 0..20 {
        let packet = data(number, 1280);
        browser
            .send(&Frame::SendPacket {
                to: native.key,
                packet: packet.clone().into(),
            })
            .await;
        assert_eq!(native.packet().await, (browser.key, packet.into()));

        let packet = data(number, 1400);
        native
            .sender
            .try_send(browser.key, packet.clone().into())
            .unwrap();
        assert_eq!(browser.packet().await, (native.key, packet.into()));
    }
    browser.stream.close(None).await.unwrap();
    loop {
        if let ztna_derp::client::Event::PeerGone { .. } = native.event().await {
            break;
        }
    }
}

#[tokio::test]
async fn a_proxy_may_have_sent_other_requests_before() {
    let relay = Relay::start().await;
    let native = relay.join().await;
    let probe = b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut browser = Browser::connect_after(&relay, &new_key(), probe).await;
    let packet = data(7, 1400);
    native
        .sender
        .try_send(browser.key, packet.clone().into())
        .unwrap();
    assert_eq!(browser.packet().await, (native.key, packet.into()));
}

#[tokio::test]
async fn a_text_message_ends_the_connection() {
    let relay = Relay::start().await;
    let mut browser = Browser::connect(&relay, &new_key()).await;
    browser.stream.send(Message::text("hello")).await.unwrap();
    let end = async { while let Some(Ok(_)) = browser.stream.next().await {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
}
