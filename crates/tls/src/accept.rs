//! The accept loop in front of TLS.
//!
//! What an unauthenticated stranger can make a server spend is bounded here: connections per
//! second and address, handshakes at a time, and the time that a handshake may take.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stream::ServerStream;
use crate::tls_stream::TlsStream;

/// ALPN of a certificate authority's check (RFC 8737 §6.2).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// What a listener does with a connection before anything is read from it.
#[derive(Clone)]
pub enum Security {
    /// TLS.
    Tls(Arc<ServerConfig>),
    /// TLS, where a certificate authority may check that this is the server of a name: who asks for
    /// [`ACME_TLS_ALPN`] is shown what `challenges` holds and gets nothing else.
    TlsWithChallenges {
        /// For everybody else.
        tls: Arc<ServerConfig>,
        /// For the authority.
        challenges: Arc<ServerConfig>,
    },
    /// Nothing: a proxy in front does TLS.
    Plain,
}

impl From<Arc<ServerConfig>> for Security {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::Tls(config)
    }
}

/// Pause after the system refused to accept (out of descriptors, mostly): the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// IPv6 hosts have a whole /64 to call from, so they count by it.
const IPV6_PREFIX: u32 = 64;

/// New connections that one address (IPv6: one /64) may make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressRate {
    /// Connections per second, in the long run.
    pub per_second: f64,
    /// Connections at once.
    pub burst: f64,
    /// Addresses remembered. When so many are busy at a time, new ones share one bucket.
    pub addresses: usize,
}

impl Default for AddressRate {
    /// 50 per second, 500 at once: an office behind one address comes through, a flood does not.
    fn default() -> Self {
        Self {
            per_second: 50.0,
            burst: 500.0,
            addresses: 16_384,
        }
    }
}

/// Bounds of [`serve`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AcceptLimits {
    /// A TLS handshake takes this long at most.
    pub handshake_timeout: Duration,
    /// TLS handshakes going on at a time. Further connections wait in the system's backlog.
    pub handshakes: usize,
    /// New connections of one address. `None`: no bound (behind a proxy, which has one address).
    pub per_address: Option<AddressRate>,
    /// After shutdown, connections get this long to end by themselves.
    pub drain: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes: 2048,
            per_address: Some(AddressRate::default()),
            drain: Duration::from_secs(10),
        }
    }
}

/// Accepts connections, does the TLS handshake (if there is to be one) and runs `handler` for each, until `shutdown` is
/// cancelled. Handlers should then end by themselves; those that have not after
/// [`AcceptLimits::drain`] are dropped.
///
/// Sockets have TCP_NODELAY set.
pub async fn serve<H, F>(
    listener: TcpListener,
    security: impl Into<Security>,
    limits: AcceptLimits,
    shutdown: CancellationToken,
    handler: H,
) where
    H: Fn(ServerStream, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let security = security.into();
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let mut gate = limits.per_address.map(AddressGate::new);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();

    loop {
        let next = async {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Some(gate) = &mut gate
            && !gate.admit(peer.ip(), Instant::now())
        {
            tracing::debug!(%peer, "too many connections from this address");
            continue;
        }
        let (security, handler) = (security.clone(), handler.clone());
        let (shutdown, abort) = (shutdown.clone(), abort.clone());
        connections.spawn(async move {
            // What is over leaves no room behind: the task is as large as the larger of its parts.
            let handshake = Box::pin(secure(&security, stream));
            let handshake = tokio::time::timeout(limits.handshake_timeout, handshake);
            let stream = tokio::select! {
                stream = handshake => stream,
                () = shutdown.cancelled() => return,
            };
            drop(permit);
            let stream = match stream.map_err(io::Error::from).flatten() {
                Ok(Some(stream)) => stream,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%peer, %error, "no TLS session");
                    return;
                }
            };
            let served = Box::pin(handler(stream, peer));
            tokio::select! {
                () = served => {}
                () = abort.cancelled() => {}
            }
        });
    }

    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::info!(
            count = connections.len(),
            "closing connections that did not end"
        );
        abort.cancel();
        connections.wait().await;
    }
}

/// The stream to serve; `None` if the handshake was all that was wanted.
async fn secure(security: &Security, tcp: TcpStream) -> io::Result<Option<ServerStream>> {
    tcp.set_nodelay(true)?;
    let stream = match security {
        Security::Plain => return Ok(Some(ServerStream::Plain(tcp))),
        Security::Tls(config) => TlsStream::accept(tcp, Arc::clone(config), Vec::new()).await?,
        Security::TlsWithChallenges { tls, challenges } => {
            let (hello, is_challenge) = read_hello(&tcp).await?;
            if is_challenge {
                let mut stream = TlsStream::accept(tcp, Arc::clone(challenges), hello).await?;
                stream.shutdown().await?;
                return Ok(None);
            }
            TlsStream::accept(tcp, Arc::clone(tls), hello).await?
        }
    };
    Ok(Some(ServerStream::Tls(stream)))
}

/// Reads a ClientHello, and says whether it is of an authority that checks a name (RFC 8737).
async fn read_hello(tcp: &TcpStream) -> io::Result<(Vec<u8>, bool)> {
    let mut hello = Vec::new();
    let mut acceptor = Acceptor::default();
    loop {
        tcp.readable().await?;
        let start = hello.len();
        match tcp.try_read_buf(&mut hello) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut fresh = &hello[start..];
        // It takes what it has room for, and judges it before the next piece.
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let names = accepted.client_hello().alpn();
                    let is_challenge = names
                        .into_iter()
                        .flatten()
                        .any(|name| name == ACME_TLS_ALPN);
                    return Ok((hello, is_challenge));
                }
                // The handshake itself finds out and says so.
                Err(_) => return Ok((hello, false)),
            }
        }
    }
}

/// A token bucket per address, as many as [`AddressRate::addresses`].
pub struct AddressGate {
    rate: AddressRate,
    buckets: HashMap<IpAddr, Bucket>,
    /// For addresses that find no room in `buckets`.
    shared: Option<Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn level(&self, rate: &AddressRate, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + gained).min(rate.burst)
    }
}

impl AddressGate {
    /// Every address has its burst.
    #[must_use]
    pub fn new(rate: AddressRate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
            shared: None,
        }
    }

    /// Whether the address may make one more connection now.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> bool {
        let rate = self.rate;
        let prefix = prefix_of(address);
        if self.buckets.len() >= rate.addresses && !self.buckets.contains_key(&prefix) {
            // A full bucket says nothing that a new one would not.
            self.buckets
                .retain(|_, bucket| bucket.level(&rate, now) < rate.burst);
        }
        let new = Bucket {
            tokens: rate.burst,
            at: now,
        };
        let bucket = if self.buckets.len() >= rate.addresses && !self.buckets.contains_key(&prefix)
        {
            self.shared.get_or_insert(new)
        } else {
            self.buckets.entry(prefix).or_insert(new)
        };
        let level = bucket.level(&rate, now);
        let admitted = level >= 1.0;
        *bucket = Bucket {
            tokens: if admitted { level - 1.0 } else { level },
            at: now,
        };
        admitted
    }
}

fn prefix_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - IPV6_PREFIX);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> AddressRate {
        AddressRate {
            per_second: 1.0,
            burst: 2.0,
            addresses: 2,
        }
    }

    #[test]
    fn an_address_has_its_burst_and_then_its_rate() {
        let mut gate = AddressGate::new(rate());
        let start = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(gate.admit(address, start));
        assert!(gate.admit(address, start));
        assert!(!gate.admit(address, start));
        assert!(gate.admit("192.0.2.2".parse().unwrap(), start));
        assert!(gate.admit(address, start + Duration::from_secs(1)));
        assert!(!gate.admit(address, start + Duration::from_secs(1)));
    }

    #[test]
    fn a_v6_host_counts_by_its_64() {
        let mut gate = AddressGate::new(rate());
        let now = Instant::now();
        assert!(gate.admit("2001:db8::1".parse().unwrap(), now));
        assert!(gate.admit("2001:db8::2".parse().unwrap(), now));
        assert!(!gate.admit("2001:db8::3".parse().unwrap(), now));
        assert!(gate.admit("2001:db8:0:1::3".parse().unwrap(), now));
    }

    #[test]
    fn memory_stays_bounded_and_strangers_share_a_bucket() {
        let mut gate = AddressGate::new(rate());
        let now = Instant::now();
        let admitted = (0..=255u8)
            .filter(|last| gate.admit([192, 0, 2, *last].into(), now))
            .count();
        assert_eq!(gate.buckets.len(), 2);
        assert_eq!(admitted, 2 + 2, "two of their own, the shared burst of two");
        let later = now + Duration::from_secs(60);
        assert!(
            gate.admit([198, 51, 100, 1].into(), later),
            "idle ones made room"
        );
    }
}
