//! One probe of one node: STUN over UDP, and the relay's own probe page over TLS.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::select_ok;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ztna_proto::relay::{CertificatePin, RelayNode};
use ztna_stun::client::{TransactionId, parse_response, request};
use ztna_tls::{KeyExchange, client_config, format_pin};

use super::address::is_public;

/// A name resolves, a STUN service answers and a relay answers, each within this time.
const LIMIT: Duration = Duration::from_secs(3);
/// A STUN request is sent again after these times: one lost datagram is no outage.
const STUN_PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
];
/// Addresses of a node that are tried, at once.
const MAX_ADDRESSES: usize = 4;
/// Longest answer's head that is read.
const MAX_HEAD: usize = 4096;
/// Headers of the answer that are read.
const MAX_HEADERS: usize = 32;
/// Longest text that is kept of what went wrong, in characters.
const MAX_ERROR: usize = 200;
/// TLS configurations that are kept, one per pin.
const MAX_CONFIGS: usize = 1024;

/// Where a probe may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Wherever the node is: the operator or the configuration says so.
    Anywhere,
    /// To the public internet only: an org named the host.
    Public,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// Whether all that the node serves answers. `None`: it was not probed.
    pub(super) up: Option<bool>,
    /// Round trip of STUN; where there is none, of the request to the relay.
    pub(super) latency: Option<Duration>,
    /// What does not answer and why, or why there was no probe.
    pub(super) error: Option<String>,
}

impl Finding {
    fn not(up: Option<bool>, error: &str) -> Self {
        Self {
            up,
            latency: None,
            error: Some(error.chars().take(MAX_ERROR).collect()),
        }
    }
}

/// TLS configurations by pin, so that they are not made for every probe.
#[derive(Default)]
pub(super) struct Configs(Mutex<HashMap<Option<String>, Arc<ClientConfig>>>);

impl Configs {
    fn get(&self, pin: &CertificatePin) -> Result<Arc<ClientConfig>, String> {
        let key = format_pin(pin);
        let mut configs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = client_config(pin, KeyExchange::PreferPostQuantum);
        let config = config.map_err(|error| error.to_string())?;
        if configs.len() >= MAX_CONFIGS {
            configs.clear();
        }
        configs.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

/// Probes a node.
pub(super) async fn probe(node: &RelayNode, reach: Reach, configs: &Configs) -> Finding {
    let found = match resolve(node).await {
        Ok(found) => found,
        Err(error) => return Finding::not(Some(false), &error),
    };
    let addresses = choose(&found, reach);
    if addresses.is_empty() {
        let error = "not probed: none of its addresses is on the public internet";
        return Finding::not(None, error);
    }
    let stun = async {
        let port = node.stun_port?;
        Some(first(&addresses, port, "STUN", stun).await)
    };
    let relay = async {
        let port = node.derp_port?;
        let one = |address| relay(address, node, configs);
        Some(first(&addresses, port, "relay", one).await)
    };
    let (stun, relay) = tokio::join!(stun, relay);
    let errors: Vec<String> = [&stun, &relay]
        .into_iter()
        .filter_map(|result| result.as_ref()?.as_ref().err().cloned())
        .collect();
    if !errors.is_empty() {
        return Finding::not(Some(false), &errors.join("; "));
    }
    Finding {
        up: Some(true),
        latency: stun.or(relay).and_then(Result::ok),
        error: None,
    }
}

async fn resolve(node: &RelayNode) -> Result<Vec<IpAddr>, String> {
    if !node.addresses.is_empty() {
        return Ok(node.addresses.clone());
    }
    match timeout(LIMIT, lookup_host((node.host.as_str(), 0))).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(format!("its name does not resolve: {error}")),
        Err(_) => Err("its name does not resolve in time".to_owned()),
    }
}

/// Addresses to try: both families if there are two.
fn choose(found: &[IpAddr], reach: Reach) -> Vec<IpAddr> {
    let allowed = found
        .iter()
        .filter(|ip| reach == Reach::Anywhere || is_public(**ip));
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = allowed.partition(|ip| ip.is_ipv4());
    let other = v6.len().min(MAX_ADDRESSES / 2);
    let chosen: Vec<IpAddr> = v4.iter().take(MAX_ADDRESSES - other).copied().collect();
    let left = MAX_ADDRESSES - chosen.len();
    chosen
        .into_iter()
        .chain(v6.into_iter().take(left))
        .collect()
}

/// The first address that answers within the limit; else what was wrong with the last.
async fn first<F>(
    addresses: &[IpAddr],
    port: u16,
    what: &str,
    one: impl Fn(SocketAddr) -> F,
) -> Result<Duration, String>
where
    F: Future<Output = Result<Duration, String>> + Send,
{
    let tries = addresses
        .iter()
        .map(|ip| Box::pin(one(SocketAddr::new(*ip, port))) as Pin<Box<F>>);
    match timeout(LIMIT, select_ok(tries)).await {
        Ok(Ok((took, _))) => Ok(took),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: no answer within {} s", LIMIT.as_secs())),
    }
}

async fn stun(address: SocketAddr) -> Result<Duration, String> {
    let transaction = TransactionId(rand::random());
    exchange(address, transaction)
        .await
        .map_err(|error| error.to_string())
}

async fn exchange(address: SocketAddr, transaction: TransactionId) -> io::Result<Duration> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let datagram = request(transaction);
    let mut buffer = [0; 512];
    for pause in STUN_PAUSES {
        let sent = Instant::now();
        socket.send(&datagram).await?;
        let answer = async {
            loop {
                let len = socket.recv(&mut buffer).await?;
                let answer = parse_response(&buffer[..len]);
                if answer.is_some_and(|(of, _)| of == transaction) {
                    return Ok(sent.elapsed());
                }
            }
        };
        if let Ok(answer) = timeout(pause, answer).await {
            return answer;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn relay(
    address: SocketAddr,
    node: &RelayNode,
    configs: &Configs,
) -> Result<Duration, String> {
    let name = ServerName::try_from(node.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(configs.get(&node.certificate)?);
    let connection = TcpStream::connect(address).await;
    let connection = connection.map_err(|error| format!("no connection: {error}"))?;
    // One small request: it must not wait for an acknowledgement.
    let _ = connection.set_nodelay(true);
    let stream = connector.connect(name, connection).await;
    let mut stream = stream.map_err(|error| format!("no TLS: {error}"))?;
    let asked = Instant::now();
    let status = ask(&mut stream, &node.host).await?;
    if status == 200 {
        return Ok(asked.elapsed());
    }
    Err(format!("/derp/probe answers with status {status}"))
}

/// The status of the relay's answer to `GET /derp/probe`.
async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> Result<u16, String> {
    let request = format!(
        "GET /derp/probe HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ztna-api\r\nConnection: close\r\n\r\n"
    );
    let io = |error: io::Error| format!("no answer: {error}");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let len = stream.read(&mut chunk).await.map_err(io)?;
        head.extend_from_slice(&chunk[..len]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                return response.code.ok_or_else(|| "no HTTP status".to_owned());
            }
            Ok(httparse::Status::Partial) if len > 0 && head.len() < MAX_HEAD => {}
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err("what answers is no HTTP server".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_both_families_are_tried() {
        let list = |text: &str| -> Vec<IpAddr> {
            text.split(' ')
                .filter(|ip| !ip.is_empty())
                .map(|ip| ip.parse().unwrap())
                .collect()
        };
        let found = list("127.0.0.1 8.8.8.8 169.254.169.254 2606::1 ::1");
        assert_eq!(choose(&found, Reach::Public), list("8.8.8.8 2606::1"));
        let many = list("1.0.0.1 1.0.0.2 1.0.0.3 1.0.0.4 1.0.0.5 2606::1 2606::2 2606::3");
        let chosen = list("1.0.0.1 1.0.0.2 2606::1 2606::2");
        assert_eq!(choose(&many, Reach::Anywhere), chosen);
        let mostly_v6 = list("1.0.0.1 2606::1 2606::2 2606::3 2606::4");
        let chosen = list("1.0.0.1 2606::1 2606::2 2606::3");
        assert_eq!(choose(&mostly_v6, Reach::Anywhere), chosen);
        assert!(choose(&list("10.0.0.1"), Reach::Public).is_empty());
    }
}
