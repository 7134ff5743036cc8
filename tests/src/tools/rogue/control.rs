//! The rogue's side of the control plane: its identity, the machine stream, peers' ML-KEM keys.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};
use ztna_handshake::{Identity, KemPrivateKey};
use ztna_proto::api::KemKeyAnswer;
use ztna_proto::error::Envelope;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::ClientMessage;
use ztna_proto::{KemKeyHash, WgPrivateKey};
use ztna_tls::{KeyExchange, client_config, parse_pin};

/// An enrolled machine, as its agent's state file has it.
pub struct Member {
    /// Its WireGuard key.
    pub wg: WgPrivateKey,
    kem: KemPrivateKey,
    token: String,
    url: String,
    pin: String,
}

impl Member {
    /// Reads a state file.
    ///
    /// # Errors
    /// It is not one of an enrolled machine.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let state: Value = serde_json::from_str(&text)?;
        let member = |pointer: &str| {
            let text = state.pointer(pointer).and_then(Value::as_str);
            text.with_context(|| format!("the state file has no {pointer}"))
        };
        let seed: [u8; 64] = BASE64
            .decode(member("/keys/kem")?)?
            .try_into()
            .map_err(|_| anyhow::anyhow!("the ML-KEM key has another length"))?;
        Ok(Self {
            wg: member("/keys/wg")?.parse()?,
            kem: KemPrivateKey::from_seed(seed),
            token: member("/machine/token")?.to_owned(),
            url: member("/server/url")?.trim_end_matches('/').to_owned(),
            pin: member("/server/pin")?.to_owned(),
        })
    }

    /// Who it is in handshakes.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            wg: self.wg.clone(),
            kem: self.kem.clone(),
        }
    }
}

/// The machine stream.
pub struct Control {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    tls: Arc<ClientConfig>,
    url: String,
    token: String,
}

impl Control {
    /// Opens the stream.
    ///
    /// # Errors
    /// The control plane does not answer, or refuses.
    pub async fn connect(member: &Member) -> Result<Self> {
        let tls = client_config(&parse_pin(&member.pin)?, KeyExchange::RequirePostQuantum)?;
        let url = reqwest::Url::parse(&member.url)?;
        let host = url.host_str().context("the server's URL has no host")?;
        let port = url.port_or_known_default().context("no port")?;
        let tcp = TcpStream::connect((host, port)).await?;
        let name = ServerName::try_from(host.to_owned())?;
        let socket = TlsConnector::from(Arc::clone(&tls))
            .connect(name, tcp)
            .await?;
        let mut request =
            format!("wss://{host}:{port}/api/machine-stream").into_client_request()?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", member.token))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let (stream, _) = client_async(request, socket).await?;
        Ok(Self {
            stream,
            tls,
            url: member.url.clone(),
            token: member.token.clone(),
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The stream is broken.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<()> {
        let text = serde_json::to_string(message)?;
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// The next message's text.
    ///
    /// # Errors
    /// The stream is broken.
    pub async fn next(&mut self) -> Result<String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the control plane closed the stream"),
            }
        }
    }

    /// Fetches a peer's ML-KEM key and checks it.
    ///
    /// # Errors
    /// The control plane does not have it, or gives another.
    pub async fn kem_key(&self, hash: KemKeyHash) -> Result<KemPublicKey> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*self.tls).clone())
            .no_proxy()
            .build()?;
        let url = format!("{}/api/kem-keys/{hash}", self.url);
        let answer: Envelope<KemKeyAnswer> = client
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await?
            .json()
            .await?;
        let key = answer.into_result()?.kem_key;
        if KemKeyHash::of(&key) != hash {
            bail!("the control plane gave another ML-KEM key than asked for");
        }
        Ok(key)
    }
}
