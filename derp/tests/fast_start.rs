//! What the client asks of a relay that shows its key by certificate, and of one that does not.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{PATIENCE, Relay, new_key};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use ztna_derp::client::{ClientConfig, connect};
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{Limits, Port, tls_config};
use ztna_proto::relay::RelayNode;
use ztna_tls::{ServerIdentity, TrustedProxies};

fn identity() -> ServerIdentity {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::load_or_create(dir.path(), &["127.0.0.1".to_owned()]).unwrap()
}

/// The request that our client sends to a server with this TLS configuration.
async fn request(identity: &ServerIdentity, tls: Arc<rustls::ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = RelayNode {
        name: "test".into(),
        host: "127.0.0.1".into(),
        addresses: Vec::new(),
        derp_port: Some(listener.local_addr().unwrap().port()),
        stun_port: None,
        quic_port: None,
        http_port: None,
        certificate: identity.certificate_pin(),
    };
    let config = ClientConfig {
        node,
        key: new_key(),
        ticket: "ticket".into(),
    };
    let client = tokio::spawn(connect(config));
    let serve = async {
        let (stream, _): (TcpStream, SocketAddr) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(tls).accept(stream).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    };
    let head = tokio::time::timeout(PATIENCE, serve).await.unwrap();
    client.abort();
    head
}

#[tokio::test]
async fn a_key_in_the_chain_makes_the_start_fast() {
    let identity = identity();
    let key = RelayPrivateKey::generate(&mut rand::rng()).public();
    let with = tls_config(&identity, &key).unwrap();
    let head = request(&identity, with).await;
    assert!(head.contains("\r\nDerp-Fast-Start: 1\r\n"), "{head}");
    let without = identity.server_config().unwrap();
    let head = request(&identity, without).await;
    assert!(head.contains("\r\nUpgrade: DERP\r\n"), "{head}");
    assert!(!head.contains("Fast-Start"), "{head}");
}

#[tokio::test]
async fn clients_join_a_relay_that_shows_its_key() {
    let identity = identity();
    let key = RelayPrivateKey::generate(&mut rand::rng()).public();
    let tls = tls_config(&identity, &key).unwrap();
    let relay = Relay::with_tls(Limits::default(), &identity, tls).await;
    let (mut a, b) = (relay.join().await, relay.join().await);
    b.send(&a, b"\x04\0\0\0over a fast start");
    assert_eq!(a.packet().await.0, b.key);
}

/// Behind a proxy that does TLS and names the client's address.
#[tokio::test]
async fn without_tls_a_trusted_proxy_names_the_client() {
    use tokio::io::AsyncWriteExt;

    let proxies = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let relay = Relay::with_port(
        Limits::default(),
        &identity(),
        Port {
            security: ztna_tls::Security::Plain,
            proxies,
            limits: Default::default(),
        },
    )
    .await;
    let ask = async |forwarded: &str| {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let request =
            format!("GET /me HTTP/1.1\r\nHost: x\r\n{forwarded}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n").await;
    assert!(answer.ends_with("\r\n\r\n192.0.2.7"), "{answer}");
    assert!(ask("").await.ends_with("\r\n\r\n127.0.0.1"));

    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let upgrade = b"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
        X-Forwarded-For: 192.0.2.7\r\n\r\n";
    stream.write_all(upgrade).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}
