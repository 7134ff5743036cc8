//! What the network check asks by TCP: a relay's HTTPS, and a host that shows whether a captive
//! portal answers in the place of others.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::RngExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use ztna_netcheck::{Answer, PORTAL_PHASE, STUN_PHASE, WHOLE_CHECK};
use ztna_proto::relay::RelayNode;
use ztna_tls::{KeyExchange, client_config};

use super::netcheck::{literal, look_up};

/// A relay is measured in this time: what is left of a check after its UDP part.
const HTTPS_TIME: Duration = WHOLE_CHECK.saturating_sub(STUN_PHASE);
/// A host has this long to show that nobody answers in its place: less than the check waits.
const PORTAL_TIME: Duration = PORTAL_PHASE.saturating_sub(Duration::from_millis(200));
/// Hosts that are asked for a captive portal.
const MAX_PORTAL_HOSTS: usize = 5;
/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 4;
/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// What a relay answers latency checks at (`derp/derphttp`).
const LATENCY_PATH: &str = "/derp/latency-check";
/// What shows a captive portal (`net/captivedetection`).
const PORTAL_PATH: &str = "/generate_204";
/// Request header of a challenge …
const CHALLENGE: HeaderName = HeaderName::from_static("x-tailscale-challenge");
/// … and of the answer to it.
const RESPONSE: HeaderName = HeaderName::from_static("x-tailscale-response");

/// What the hosts that were asked show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portal {
    /// One was reached itself.
    None,
    /// Somebody answers in their place.
    Found,
    /// None was reached.
    Unknown,
}

/// The round trip to the first of a region's relays that answers by HTTPS.
pub async fn https(nodes: &[RelayNode]) -> Option<Answer> {
    let ask = async {
        for node in nodes {
            match https_of(node).await {
                Ok(answer) => return Some(answer),
                Err(error) => tracing::debug!(host = node.host, %error, "no answer by HTTPS"),
            }
        }
        None
    };
    timeout(HTTPS_TIME, ask).await.ok().flatten()
}

async fn https_of(node: &RelayNode) -> io::Result<Answer> {
    let port = node.derp_port.ok_or(io::ErrorKind::Unsupported)?;
    let name = ServerName::try_from(node.host.clone()).map_err(io::Error::other)?;
    let tls = client_config(&node.certificate, KeyExchange::PreferPostQuantum)
        .map_err(io::Error::other)?;
    let stream = dial(node, port).await?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let group = stream.get_ref().1.negotiated_key_exchange_group();
    let tls_group = group.map(|group| format!("{:?}", group.name()));
    let request = get(node, port, LATENCY_PATH)?;
    let (latency, response) = ask(stream, request).await?;
    if !response.status().is_success() {
        return Err(io::Error::other(format!("HTTP {}", response.status())));
    }
    Ok(Answer { latency, tls_group })
}

/// Asks hosts of the relay map, all at once, whether they are reached themselves.
pub async fn portal(nodes: impl Iterator<Item = &RelayNode>) -> Portal {
    let mut attempts = JoinSet::new();
    for node in nodes
        .filter(|node| node.http_port.is_some())
        .take(MAX_PORTAL_HOSTS)
    {
        let node = node.clone();
        attempts.spawn(async move {
            let asked = timeout(PORTAL_TIME, portal_at(&node)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(host = node.host, %error, "no answer about a captive portal");
                    Portal::Unknown
                }
            }
        });
    }
    let mut found = Portal::Unknown;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Portal::None) => return Portal::None,
            Ok(Portal::Found) => found = Portal::Found,
            Ok(Portal::Unknown) | Err(_) => {}
        }
    }
    found
}

async fn portal_at(node: &RelayNode) -> io::Result<Portal> {
    let port = node.http_port.ok_or(io::ErrorKind::Unsupported)?;
    let challenge = format!("ztna-{:016x}", rand::rng().random::<u64>());
    let mut request = get(node, port, PORTAL_PATH)?;
    let value = HeaderValue::try_from(&challenge).map_err(io::Error::other)?;
    request.headers_mut().insert(CHALLENGE, value);
    let stream = dial(node, port).await?;
    let (_, response) = ask(stream, request).await?;
    let is_echoed = response
        .headers()
        .get(RESPONSE)
        .is_some_and(|value| value.as_bytes() == format!("response {challenge}").as_bytes());
    Ok(
        if response.status() == StatusCode::NO_CONTENT && is_echoed {
            Portal::None
        } else {
            Portal::Found
        },
    )
}

fn get(node: &RelayNode, port: u16, path: &str) -> io::Result<Request<Empty<Bytes>>> {
    let host = if node.host.contains(':') {
        format!("[{}]:{port}", node.host)
    } else {
        format!("{}:{port}", node.host)
    };
    let request = Request::get(path).header(header::HOST, host);
    request.body(Empty::new()).map_err(io::Error::other)
}

async fn dial(node: &RelayNode, port: u16) -> io::Result<TcpStream> {
    let known = literal(node).into_iter();
    let mut addresses: Vec<SocketAddr> = known.map(|ip| SocketAddr::new(ip, port)).collect();
    if addresses.is_empty() {
        addresses = look_up(&node.host, port).await?;
    }
    addresses.truncate(MAX_ADDRESSES);
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends one request and waits for the head of its answer; how long that took.
async fn ask<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> io::Result<(Duration, Response<Incoming>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let begun = Instant::now();
    let response = sender.send_request(request);
    tokio::pin!(response, connection);
    let response = tokio::select! {
        response = &mut response => response,
        // The connection's end says nothing that the answer does not.
        _ = &mut connection => response.await,
    };
    Ok((begun.elapsed(), response.map_err(io::Error::other)?))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;
    use ztna_proto::relay::CertificatePin;

    use super::*;

    fn node(http_port: u16) -> RelayNode {
        RelayNode {
            name: "node".into(),
            host: "127.0.0.1".into(),
            addresses: Vec::new(),
            derp_port: None,
            stun_port: None,
            quic_port: None,
            http_port: Some(http_port),
            certificate: CertificatePin::WebPki,
        }
    }

    /// A web server that answers every request so.
    async fn serve(
        answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + 'static,
    ) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let response = answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        port
    }

    fn honest(request: &Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!(request.uri().path(), PORTAL_PATH);
        let challenge = request.headers()[CHALLENGE].to_str().unwrap();
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(RESPONSE, format!("response {challenge}"))
            .body(Full::default())
            .unwrap()
    }

    #[tokio::test]
    async fn a_portal_cannot_echo_the_challenge() {
        let real = serve(honest).await;
        let polite = serve(|_| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        })
        .await;
        let redirecting = serve(|_| {
            Response::builder()
                .status(StatusCode::FOUND)
                .header(header::LOCATION, "http://login.example/")
                .body(Full::default())
                .unwrap()
        })
        .await;
        for (ports, expected) in [
            (vec![real], Portal::None),
            (vec![polite], Portal::Found),
            (vec![redirecting], Portal::Found),
            (vec![1], Portal::Unknown),
            (vec![1, redirecting, real], Portal::None),
            (vec![], Portal::Unknown),
        ] {
            let nodes: Vec<RelayNode> = ports.iter().copied().map(node).collect();
            assert_eq!(portal(nodes.iter()).await, expected, "{ports:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_say_nothing_hold_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut silent = node(port);
        silent.derp_port = Some(port);
        let begun = Instant::now();
        assert_eq!(portal([&silent].into_iter()).await, Portal::Unknown);
        assert_eq!(https(&[silent]).await, None);
        assert!(begun.elapsed() <= PORTAL_TIME + HTTPS_TIME + Duration::from_millis(50));
    }
}
