//! Everything before packets: DNS, TCP, TLS, HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use rustls::{NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ztna_derp::MAX_HTTP_HEAD;
use ztna_derp::frame::{Decoder, Frame};
use ztna_proto::relay::CertificatePin;
use ztna_tls::{KeyExchange, client_config, validity_of};

use super::report::Fault;
use super::{Done, Outcome};

/// Each step takes this long at most.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests whose median is the latency.
const PROBES: usize = 5;
/// A public certificate that ends earlier should have been renewed.
const MIN_VALIDITY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Addresses of the host.
pub async fn resolve(host: &str, port: u16) -> Outcome<Vec<SocketAddr>> {
    let next = format!("check the spelling, and the A and AAAA records of {host}");
    let addresses: Vec<_> = match within(lookup_host((host, port))).await {
        Ok(found) => found.collect(),
        Err(error) => return Err(Fault::new(error, next)),
    };
    if addresses.is_empty() {
        return Err(Fault::new("no address", next));
    }
    let list: Vec<_> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    Ok(Done {
        detail: list.join(", "),
        value: addresses,
    })
}

/// Whether an address takes connections.
pub async fn reach(address: SocketAddr) -> Outcome<SocketAddr> {
    let start = Instant::now();
    match within(TcpStream::connect(address)).await {
        Ok(_) => Ok(Done {
            detail: format!("{address} in {}", milliseconds(start.elapsed())),
            value: address,
        }),
        Err(error) => Err(Fault::new(
            format!("{address}: {error}"),
            "is the relay running, and does a firewall let this port in?",
        )),
    }
}

/// One address of the relay.
pub struct Front {
    pub host: String,
    pub address: SocketAddr,
    pub pin: CertificatePin,
}

/// A TLS session with it.
pub struct Session(TlsStream<TcpStream>);

impl Front {
    /// Connects. Other groups than the one that must be are taken, so that the report can name them.
    pub async fn tls(&self) -> Outcome<Session> {
        let start = Instant::now();
        let session = self.connect().await?;
        let connection = session.0.get_ref().1;
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "an unknown version",
        };
        Ok(Done {
            detail: format!("{version} in {}", milliseconds(start.elapsed())),
            value: session,
        })
    }

    async fn connect(&self) -> Result<Session, Fault> {
        let entry = |error: &dyn ToString| Fault::new(error.to_string(), "correct the name or pin");
        let config = client_config(&self.pin, KeyExchange::PreferPostQuantum)
            .map_err(|error| entry(&error))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| entry(&error))?;
        let connect = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, stream).await
        };
        let next = match self.pin {
            CertificatePin::WebPki => {
                "a self-signed certificate needs --pin; a public one its whole chain, the right name and time"
            }
            CertificatePin::Sha256(_) => "take the pin from the relay's log or its derp.json",
        };
        let stream = within(connect)
            .await
            .map_err(|error| Fault::new(error, next))?;
        Ok(Session(stream))
    }

    /// Asks for the relay, and waits for its key.
    pub async fn upgrade(&self, session: Session) -> Outcome<()> {
        let next = "is this a relay, and does a proxy in front of it pass upgrades on?";
        let mut stream = session.0;
        let request = format!(
            "GET /derp HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n",
            self.host
        );
        let ask = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            let mut rest = head(&mut stream).await?;
            let status = String::from_utf8_lossy(&rest.0)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            if !status.starts_with("HTTP/1.1 101") {
                return Err(std::io::Error::other(format!("it answers {status:?}")));
            }
            let mut decoder = Decoder::default();
            loop {
                match decoder.decode(&mut rest.1) {
                    Ok(Some(Frame::ServerKey { key, .. })) => return Ok(key),
                    Ok(None) => {}
                    _ => return Err(std::io::Error::other("it does not speak DERP")),
                }
                if stream.read_buf(&mut rest.1).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        match within(ask).await {
            Ok(key) => Ok(Done {
                detail: format!("DERP, relay key {key}"),
                value: (),
            }),
            Err(error) => Err(Fault::new(error, next)),
        }
    }

    /// The median time of `/derp/probe` on one connection.
    pub async fn probe(&self) -> Outcome<()> {
        let mut stream = self.connect().await?.0;
        let request = format!("GET /derp/probe HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        let mut times = Vec::new();
        for _ in 0..PROBES {
            let start = Instant::now();
            let ask = async {
                stream.write_all(request.as_bytes()).await?;
                stream.flush().await?;
                head(&mut stream).await
            };
            match within(ask).await {
                Ok((answer, _)) if answer.starts_with(b"HTTP/1.1 200") => {
                    times.push(start.elapsed());
                }
                Ok((answer, _)) => {
                    let answer = String::from_utf8_lossy(&answer);
                    let status = answer.lines().next().unwrap_or_default();
                    return Err(Fault::new(
                        format!("/derp/probe answers {status:?}"),
                        "does a proxy in front answer in the relay's place?",
                    ));
                }
                Err(error) => return Err(Fault::new(error, "look into the relay's log")),
            }
        }
        Ok(Done {
            detail: format!("{} (median of {PROBES})", milliseconds(median(&mut times))),
            value: (),
        })
    }
}

impl Session {
    /// Whether the key exchange is the one that our machines insist on.
    pub fn key_exchange(&self) -> Result<String, Fault> {
        let group = self.0.get_ref().1.negotiated_key_exchange_group();
        match group.map(|group| group.name()) {
            Some(NamedGroup::X25519MLKEM768) => Ok("X25519MLKEM768".to_owned()),
            other => Err(Fault::new(
                format!("{other:?}, not X25519MLKEM768"),
                "what does TLS here must offer it (ztna-derp itself, Caddy 2.10, nginx with OpenSSL 3.5)",
            )),
        }
    }

    /// Until when the certificate holds. Who pins it does not look at that.
    pub fn certificate(&self, pin: &CertificatePin) -> Result<String, Fault> {
        let shown = self.0.get_ref().1.peer_certificates();
        let der = shown.and_then(|chain| chain.first());
        let end = der
            .and_then(|der| validity_of(der))
            .and_then(|(_, end)| Timestamp::from_second(end).ok());
        let Some(end) = end else {
            return Err(Fault::new("the certificate cannot be read", "replace it"));
        };
        let left = end.duration_since(Timestamp::now());
        let text = format!("until {} ({} days)", end, left.as_hours() / 24);
        if *pin == CertificatePin::WebPki && left < MIN_VALIDITY {
            return Err(Fault::new(
                text,
                "renew it; --acme-domain does that by itself",
            ));
        }
        Ok(text)
    }
}

/// An HTTP answer's head, and what came after it.
async fn head(stream: &mut TlsStream<TcpStream>) -> std::io::Result<(BytesMut, BytesMut)> {
    let mut buf = BytesMut::new();
    loop {
        if let Some(at) = buf.windows(4).position(|end| end == b"\r\n\r\n") {
            let rest = buf.split_off(at + 4);
            return Ok((buf, rest));
        }
        if buf.len() > MAX_HTTP_HEAD {
            return Err(std::io::Error::other("its answer is too long"));
        }
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn within<T>(step: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(STEP_TIMEOUT, step)
        .await
        .unwrap_or_else(|_| {
            let seconds = STEP_TIMEOUT.as_secs();
            Err(std::io::Error::other(format!("nothing within {seconds}s")))
        })
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The middle one; zero of none.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
