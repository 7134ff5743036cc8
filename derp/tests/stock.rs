//! A client that we did not write: `ts_derp`, of Tailscale's Rust client.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use common::{PATIENCE, Relay, new_key};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::timeout;
use ts_derp::{Client, IpUsage, ServerConnInfo, TlsValidationConfig};
use ts_keys::{NodeKeyPair, NodePublicKey};
use ztna_derp::server::{Admission, Admitted, Applicant, Refusal};
use ztna_proto::WgPublicKey;

/// Stock clients bring no ticket.
struct Everybody;

impl Admission for Everybody {
    fn admit<'a>(&'a self, _: &'a Applicant) -> BoxFuture<'a, Result<Admitted, Refusal>> {
        Box::pin(std::future::ready(Ok(Admitted::default())))
    }

    fn revoke(&self, _key: &WgPublicKey, _at: Timestamp) {}
}

fn node(relay: SocketAddr) -> ServerConnInfo {
    ServerConnInfo {
        hostname: "127.0.0.1".into(),
        ipv4: IpUsage::FixedAddr(Ipv4Addr::LOCALHOST),
        ipv6: IpUsage::Disable,
        // The relay's certificate is its own.
        tls_validation_config: TlsValidationConfig::InsecureForTests,
        https_port: relay.port(),
        stun_port: None,
        stun_only: false,
        supports_port_80: false,
    }
}

#[tokio::test]
async fn stock_clients_exchange_packets_with_each_other_and_with_ours() {
    let relay = Relay::admitting(Arc::new(Everybody)).await;
    let node = node(relay.address);
    let (a, b) = (NodeKeyPair::random(), NodeKeyPair::random());
    let one = Client::connect([&node], &a).await.unwrap();
    let two = Client::connect([&node], &b).await.unwrap();
    for len in [1, 100, 1280, 60_000] {
        let packet = vec![len as u8; len];
        one.send_one(b.public, &packet).await.unwrap();
        let (from, got) = timeout(PATIENCE, two.recv_one()).await.unwrap().unwrap();
        assert_eq!(from, a.public);
        assert!(got.as_ref() == packet, "{len} bytes");
    }

    let mut ours = relay.try_join(&new_key(), String::new()).await.unwrap();
    let key = NodePublicKey::from_bytes(ours.key.0);
    two.send_one(key, b"from stock").await.unwrap();
    let stock = WgPublicKey(b.public.to_crypto_box().to_bytes());
    let got = timeout(PATIENCE, ours.packet()).await.unwrap();
    assert_eq!(got, (stock, Bytes::from_static(b"from stock")));
    let answer = Bytes::from_static(b"to stock");
    ours.sender.try_send(stock, answer.clone()).unwrap();
    let (from, got) = timeout(PATIENCE, two.recv_one()).await.unwrap().unwrap();
    assert_eq!((from, got.as_ref()), (key, answer.as_ref()));
}

#[tokio::test]
async fn a_closed_relay_keeps_stock_clients_out() {
    let relay = Relay::start().await;
    let node = node(relay.address);
    let refused = Client::connect([&node], &NodeKeyPair::random()).await;
    assert!(refused.is_err());
    assert_eq!(relay.server.connections(), 0);
}
