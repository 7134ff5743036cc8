//! HTTP/1.1 on one stream, answered by an axum router.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Where proxies write the addresses that they saw, each after those before it.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// A client gets this long for a request's head, and a kept-alive connection may idle as long.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Request extension: the address that the connection comes from. Behind a proxy, the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub SocketAddr);

/// Proxies whose word on a client's address is taken.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts connections from these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who sent a request that came over a connection from `peer`, with these `X-Forwarded-For`
    /// values: the last address that was written by a trusted proxy and is none itself. What stands
    /// before it, the client may have written. A forwarded address has port 0.
    pub fn client<'a>(
        &self,
        peer: SocketAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> SocketAddr {
        let mut client = peer;
        let mut hops = forwarded
            .rev()
            .flat_map(|list| list.rsplit(|byte| *byte == b','));
        while self.trusts(client.ip()) {
            let next = hops
                .next()
                .and_then(|hop| std::str::from_utf8(hop).ok()?.trim().parse().ok());
            let Some(ip) = next else { break };
            client = SocketAddr::new(ip, 0);
        }
        client
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Has a router see each request's [`ClientAddr`] as the trusted proxies tell it. A proxy sends
    /// requests of many clients over one connection.
    pub fn layer(&self, router: Router) -> Router {
        if self.is_empty() {
            return router;
        }
        let proxies = self.clone();
        router.layer(axum::middleware::map_request(
            move |mut request: axum::extract::Request| {
                let proxies = proxies.clone();
                async move {
                    if let Some(ClientAddr(peer)) = request.extensions().get().copied() {
                        let values: Vec<_> =
                            request.headers().get_all(FORWARDED_FOR).iter().collect();
                        let client =
                            proxies.client(peer, values.into_iter().map(HeaderValue::as_bytes));
                        request.extensions_mut().insert(ClientAddr(client));
                    }
                    request
                }
            },
        ))
    }
}

/// Serves HTTP/1.1 (upgrades included) on a decrypted stream until the client closes it or
/// `shutdown` is cancelled and the request at hand is answered. Every request carries a
/// [`ClientAddr`].
pub async fn serve_http<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ClientAddr(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_the_client() {
        let networks = ["10.0.0.0/8", "::1/128"];
        let proxies = TrustedProxies::new(networks.map(|net| net.parse().unwrap()).into());
        let client = |peer: &str, values: &[&str]| {
            let peer = SocketAddr::new(peer.parse().unwrap(), 7);
            let values = values.iter().map(|value| value.as_bytes());
            proxies.client(peer, values).ip().to_string()
        };
        let forged = "203.0.113.9";
        assert_eq!(
            client("192.0.2.1", &[forged]),
            "192.0.2.1",
            "a stranger's word"
        );
        assert_eq!(client("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[forged, "192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("::1", &["203.0.113.9, 192.0.2.1 , 10.2.3.4"]),
            "192.0.2.1"
        );
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.1, nonsense"]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }
}
