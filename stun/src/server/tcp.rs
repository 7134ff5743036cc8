//! STUN over TCP (RFC 8489 §6.2.2): messages follow each other without framing of their own, as
//! each header says how long its message is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::stats::{Disposition, Stats};
use super::trouble::{PAUSE, Trouble};
use crate::client::is_stun;
use crate::limit::network;
use crate::respond::{Answer, MAX_ANSWER, MAX_REQUEST, respond};

/// Connections at a time; more are closed at once. Each costs a few KiB.
const MAX_CONNECTIONS: usize = 1024;

/// Connections at a time from one source network (IPv4 address, IPv6 /56).
const MAX_CONNECTIONS_PER_NETWORK: usize = 16;

/// A connection is closed if no request was answered for so long. A client that waits for an answer
/// gives up after 39.5 s (RFC 8489 §6.2.2), and leaves room for one that asks only once.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a header.
const HEADER: usize = 20;

/// Serves connections until it is told to stop.
pub async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut trouble = Trouble::new("accepting STUN connections");
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the STUN service cannot listen on TCP");
            return stop.cancelled().await;
        }
    };
    let guests = Arc::new(Guests::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let Some(seat) = guests.admit(from.ip()) else {
                    metrics::counter!("ztna_stun_tcp_connections_total", "disposition" => "refused")
                        .increment(1);
                    continue;
                };
                metrics::counter!("ztna_stun_tcp_connections_total", "disposition" => "accepted")
                    .increment(1);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    converse(stream, from, &shared).await;
                    drop(seat);
                });
            }
            Err(error) => {
                trouble.note(&error, Instant::now());
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Answers requests of one connection until the client closes it, says something else, or nothing.
async fn converse(mut stream: TcpStream, from: SocketAddr, shared: &Shared) {
    let mut stats = Stats::new();
    let mut request = [0; MAX_REQUEST];
    loop {
        let turn = turn(&mut stream, &mut request, from, shared);
        let result = match tokio::time::timeout(IDLE_TIMEOUT, turn).await {
            Ok(Ok(disposition)) => disposition,
            // The client went, or said nothing for long.
            Ok(Err(_)) | Err(_) => return,
        };
        stats.count(result);
        let answered = matches!(result, Disposition::Success | Disposition::UnknownAttribute);
        if answered {
            stats.family(from);
        }
        stats.flush();
        if !answered {
            return;
        }
    }
}

/// Reads one request and answers it.
async fn turn(
    stream: &mut TcpStream,
    request: &mut [u8; MAX_REQUEST],
    from: SocketAddr,
    shared: &Shared,
) -> io::Result<Disposition> {
    let (header, body) = request.split_at_mut(HEADER);
    stream.read_exact(header).await?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // Without the cookie, there is no telling where the next message begins.
    if !is_stun(header) || length > body.len() {
        return Ok(Disposition::NotStun);
    }
    stream.read_exact(&mut body[..length]).await?;
    let mut memory = [0; MAX_ANSWER];
    // Behaviour discovery is about UDP (RFC 5780 §4).
    let (length, disposition) = match respond(&request[..HEADER + length], from, None, &mut memory)
    {
        Answer::Success { length, .. } => (length, Disposition::Success),
        Answer::UnknownAttribute { length } => (length, Disposition::UnknownAttribute),
        Answer::Silence => return Ok(Disposition::NotStun),
    };
    if !shared.admits(from.ip(), Instant::now()) {
        return Ok(Disposition::RateLimited);
    }
    match stream.write_all(&memory[..length]).await {
        Ok(()) => Ok(disposition),
        Err(_) => Ok(Disposition::WriteError),
    }
}

/// Connections that are open, by source network.
#[derive(Default)]
struct Guests {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Guests {
    /// `None`: there are too many, or too many from there.
    fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let network = network(from);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        let count = open.entry(network).or_default();
        if *count >= MAX_CONNECTIONS_PER_NETWORK {
            return None;
        }
        *count += 1;
        let guests = Arc::clone(self);
        Some(Seat { guests, network })
    }
}

/// A connection's place, given back when it ends.
struct Seat {
    guests: Arc<Guests>,
    network: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self
            .guests
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_and_given_back() {
        let guests = Arc::new(Guests::default());
        let take = |address: String| guests.admit(address.parse().unwrap());
        let seats: Vec<_> = (0..100).filter_map(|_| take("192.0.2.1".into())).collect();
        assert_eq!(seats.len(), MAX_CONNECTIONS_PER_NETWORK);
        let others: Vec<_> = (0..8_000)
            .filter_map(|n| take(format!("198.51.{}.{}", n / 256, n % 256)))
            .collect();
        assert_eq!(seats.len() + others.len(), MAX_CONNECTIONS);
        drop((seats, others));
        assert!(guests.open.lock().unwrap().is_empty());
        assert!(take("192.0.2.1".into()).is_some());
    }
}
