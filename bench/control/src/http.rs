//! As much of HTTP/1.1 as calls of the control plane take, so that the load generator costs little.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use ztna_proto::error::Envelope;

use crate::deployment::Target;

/// Longest head of an answer that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

pub trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// Connects from an address of the loopback network: every agent has its own, as in the world.
pub async fn connect(target: &Target, from: Ipv4Addr) -> Result<Pin<Box<dyn Io>>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let tcp: TcpStream = socket.connect(target.address).await?;
    tcp.set_nodelay(true)?;
    Ok(match &target.tls {
        None => Box::pin(tcp),
        Some(tls) => {
            let name = ServerName::try_from("127.0.0.1")?;
            Box::pin(tls.connect(name, tcp).await?)
        }
    })
}

/// One connection that is kept.
pub struct Client {
    io: Pin<Box<dyn Io>>,
    bearer: String,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn new(target: &Target, from: Ipv4Addr, bearer: &str) -> Result<Self> {
        Ok(Self {
            io: connect(target, from).await?,
            bearer: bearer.to_owned(),
            buffer: Vec::new(),
        })
    }

    pub fn set_bearer(&mut self, bearer: &str) {
        bearer.clone_into(&mut self.bearer);
    }

    pub async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: impl Serialize,
    ) -> Result<T> {
        let request = request(method, path, &self.bearer, &serde_json::to_vec(&body)?);
        let (status, answer) = self.exchange(&request).await?;
        let envelope: Envelope<T> =
            serde_json::from_slice(answer).with_context(|| format!("{method} {path}: {status}"))?;
        envelope
            .into_result()
            .map_err(|error| anyhow::anyhow!("{method} {path}: {error}"))
    }

    /// Sends a request that is made, and gives the status and the body of the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.io.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                bail!(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                break (end + 4, content_length(head)?);
            }
            if self.buffer.len() > MAX_HEAD {
                bail!("an answer's head has more than {MAX_HEAD} bytes");
            }
        };
        while self.buffer.len() < head + length {
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                bail!(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        // `HTTP/1.1 200 OK`
        let status = self.buffer.get(9..12).unwrap_or_default();
        let status = std::str::from_utf8(status)?.parse()?;
        Ok((status, &self.buffer[head..head + length]))
    }
}

/// A request as it is sent.
pub fn request(method: &str, path: &str, bearer: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {bearer}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn content_length(head: &str) -> Result<usize> {
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse())
    });
    Ok(lengths
        .next_back()
        .context("an answer without a length")??)
}
