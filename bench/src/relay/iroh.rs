//! `iroh-relay`: its server in a process of its own, and its client.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use iroh_base::{EndpointId, RelayUrl, SecretKey};
use iroh_dns::dns::DnsResolver;
use iroh_relay::client::{ClientBuilder, ClientSink, ClientStream};
use iroh_relay::protos::relay::{ClientToRelayMsg, Datagrams, RelayToClientMsg};
use iroh_relay::server::{CertConfig, RelayConfig, Server, ServerConfig, TlsConfig};
use iroh_relay::tls::CaTlsConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::packet::{Flow, PACKET, stamp, template};

/// Runs the server until it is killed. Writes where it listens, and its certificate, to `ready`.
pub async fn serve(ready: &Path) -> Result<()> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let identity = rcgen::generate_simple_self_signed(names)?;
    let certificate = identity.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let mut relay = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
    relay.tls = Some(TlsConfig::new(
        (Ipv4Addr::LOCALHOST, 0),
        CertConfig::Manual { server_config: tls },
    ));
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    let server = Server::spawn(config)
        .await
        .map_err(|error| anyhow!("iroh-relay does not start: {error:#}"))?;
    let address = server.https_addr().context("iroh-relay serves no HTTPS")?;
    let text = serde_json::json!({
        "port": address.port(),
        "certificate": BASE64.encode(&certificate),
    });
    let part = ready.with_extension("part");
    std::fs::write(&part, text.to_string())?;
    std::fs::rename(&part, ready)?;
    std::future::pending().await
}

/// A running server.
pub struct Target {
    url: RelayUrl,
    tls: rustls::ClientConfig,
    dns: DnsResolver,
}

/// A client that has been admitted.
pub struct Client {
    pub key: EndpointId,
    client: iroh_relay::client::Client,
}

impl Target {
    /// Reads what [`serve`] wrote.
    pub fn new(ready: &serde_json::Value) -> Result<Self> {
        let port = ready["port"].as_u64().context("no port")?;
        let certificate = BASE64.decode(ready["certificate"].as_str().unwrap_or_default())?;
        Ok(Self {
            url: format!("https://127.0.0.1:{port}")
                .parse()
                .map_err(|error| anyhow!("no URL: {error}"))?,
            tls: CaTlsConfig::custom_roots([CertificateDer::from(certificate)])
                .client_config(Arc::new(default_provider()))?,
            dns: DnsResolver::new(),
        })
    }

    pub async fn join(&self) -> Result<Client> {
        let secret = SecretKey::generate();
        let key = secret.public();
        let client = ClientBuilder::new(self.url.clone(), secret, self.dns.clone())
            .tls_client_config(self.tls.clone())
            .key_cache_capacity(8)
            .connect()
            .await
            .map_err(|error| anyhow!("iroh-relay does not admit us: {error:#}"))?;
        Ok(Client { key, client })
    }
}

impl Client {
    /// The two halves, the first of which sends to `to`, so many datagrams in a frame.
    pub fn split(self, to: EndpointId, per_frame: usize) -> (Sender, Receiver) {
        let (stream, sink) = self.client.split();
        let sender = Sender {
            sink,
            to,
            template: template(),
            per_frame,
        };
        (sender, Receiver(stream))
    }

    /// Stays, answers Pings, and otherwise does nothing, until the relay closes the connection.
    pub async fn idle(mut self) -> Result<()> {
        loop {
            let message = self.client.next().await.context("closed")?;
            if let RelayToClientMsg::Ping(data) = message.map_err(|error| anyhow!("{error:#}"))? {
                self.client
                    .send(ClientToRelayMsg::Pong(data))
                    .await
                    .map_err(|error| anyhow!("{error:#}"))?;
            }
        }
    }
}

/// Sends packets to one client.
pub struct Sender {
    sink: ClientSink,
    to: EndpointId,
    template: [u8; PACKET],
    per_frame: usize,
}

impl Sender {
    /// Sends `count` packets.
    pub async fn send(&mut self, flow: &Flow, count: usize) -> Result<()> {
        let first = flow.leave(count as u64);
        let now = flow.clock().nanos();
        let mut number = first;
        let mut left = count;
        while left > 0 {
            let in_frame = left.min(self.per_frame);
            let message = self.message(number, in_frame, now)?;
            self.sink.feed(message).await.map_err(failed)?;
            number += in_frame as u64;
            left -= in_frame;
        }
        self.sink.flush().await.map_err(failed)
    }

    fn message(&mut self, first: u64, count: usize, now: u64) -> Result<ClientToRelayMsg> {
        let mut contents = BytesMut::with_capacity(count * PACKET);
        for number in (first..).take(count) {
            stamp(&mut self.template, number, now);
            contents.extend_from_slice(&self.template);
        }
        let segment = u16::try_from(PACKET)?.try_into().ok();
        Ok(ClientToRelayMsg::Datagrams {
            dst_endpoint_id: self.to,
            datagrams: Datagrams {
                ecn: None,
                segment_size: segment.filter(|_| count > 1),
                contents: contents.freeze(),
            },
        })
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("iroh-relay's client cannot send: {error:#}")
}

/// Receives.
pub struct Receiver(ClientStream);

impl Receiver {
    /// Waits for packets and notes them.
    pub async fn receive(&mut self, flow: &Flow) -> Result<()> {
        let Some(message) = self.0.next().await else {
            bail!("iroh-relay closed the connection");
        };
        if let RelayToClientMsg::Datagrams { datagrams, .. } =
            message.map_err(|error| anyhow!("iroh-relay's client: {error:#}"))?
        {
            let contents: &Bytes = &datagrams.contents;
            for packet in contents.chunks(PACKET) {
                flow.arrived(packet);
            }
            flow.wake();
        }
        Ok(())
    }
}
