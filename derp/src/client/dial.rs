//! A TCP connection to a relay, whichever of its addresses answers first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use ztna_proto::relay::RelayNode;

use super::ConnectError;
use crate::tcp::tune;

/// An address that has not answered by then is not waited for.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1500);
/// Head start of an address over the next one (RFC 8305 §5 asks for 100 ms to 2 s).
pub(super) const STAGGER: Duration = Duration::from_millis(200);
/// Most addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// Connects to the node.
pub(super) async fn dial(node: &RelayNode, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = resolve(node, port).await?;
    let mut attempts = JoinSet::new();
    let mut delay = Duration::ZERO;
    for address in interleave(addresses) {
        attempts.spawn(async move {
            tokio::time::sleep(delay).await;
            let stream =
                tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await??;
            // Handshakes and small packets must not wait for one another.
            stream.set_nodelay(true)?;
            tune(&stream);
            Ok::<_, io::Error>(stream)
        });
        delay += STAGGER;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(error) => last = error.into(),
        }
    }
    Err(ConnectError::Dial {
        host: node.host.clone(),
        port,
        source: last,
    })
}

pub(super) async fn resolve(node: &RelayNode, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if !node.addresses.is_empty() {
        let with_port = |ip: &IpAddr| SocketAddr::new(*ip, port);
        return Ok(node.addresses.iter().map(with_port).collect());
    }
    match lookup_host((node.host.as_str(), port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(source) => Err(ConnectError::Resolve {
            host: node.host.clone(),
            source,
        }),
    }
}

/// Families in turn, beginning with the first address's (RFC 8305 §4), so that a family that does
/// not work here costs one head start and not several.
pub(super) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut out = Vec::new();
    while out.len() < MAX_ADDRESSES {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        out.extend(pair.into_iter().flatten());
    }
    out.truncate(MAX_ADDRESSES);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let all = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let order = parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(interleave(all), order);
        assert_eq!(interleave(parse(&["1.1.1.1:1"; 20])).len(), MAX_ADDRESSES);
        assert!(interleave(Vec::new()).is_empty());
    }
}
