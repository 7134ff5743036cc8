//! STUN on UDP sockets.
//!
//! An answer leaves from the very address that its request came to: a machine with several addresses
//! would else answer from another one, and no NAT lets that through.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::limit::RateLimit;
use crate::respond::{Answer, respond};

/// Reads at once: each may hold several datagrams that the kernel joined.
const READS: usize = 8;
/// Largest such read.
const READ_LEN: usize = 65_535;

/// Opens a socket to serve at. An unspecified IPv6 address serves IPv4 as well.
///
/// # Errors
/// The address is in use, not this machine's, or not permitted.
pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(addr.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers binding requests until it is told to stop. Counts what it does in
/// `stun_requests{disposition}`.
pub async fn run(socket: UdpSocket, stop: CancellationToken) {
    let service = match Service::new(socket) {
        Ok(service) => service,
        Err(error) => {
            tracing::error!(%error, "the STUN socket cannot be used");
            return;
        }
    };
    let mut limit = RateLimit::new(Instant::now());
    let mut memory = vec![0; READS * READ_LEN];
    let mut meta = [RecvMeta::default(); READS];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = service.receive(&mut memory, &mut meta) => received,
        };
        match received {
            Ok(count) => {
                for (meta, read) in meta.iter().zip(memory.chunks(READ_LEN)).take(count) {
                    for datagram in read[..meta.len].chunks(meta.stride.max(1)) {
                        count_one(service.serve(&mut limit, datagram, meta));
                    }
                }
            }
            // ICMP errors of earlier answers show up here.
            Err(error) => tracing::debug!(%error, "STUN receive"),
        }
    }
}

struct Service {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Service {
    fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state })
    }

    async fn receive(&self, memory: &mut [u8], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let mut slices: Vec<_> = memory.chunks_mut(READ_LEN).map(IoSliceMut::new).collect();
        self.socket
            .async_io(Interest::READABLE, || {
                self.state
                    .recv(UdpSockRef::from(&self.socket), &mut slices, meta)
            })
            .await
    }

    /// Answers one datagram; tells what became of it.
    fn serve(&self, limit: &mut RateLimit, datagram: &[u8], meta: &RecvMeta) -> &'static str {
        let (answer, disposition) = match respond(datagram, meta.addr) {
            Answer::Success(answer) => (answer, "success"),
            Answer::UnknownAttribute(answer) => (answer, "unknown_attribute"),
            Answer::Silence => return "not_stun",
        };
        if !limit.admit(meta.addr.ip(), Instant::now()) {
            return "rate_limited";
        }
        // A full send buffer drops the answer, as the network might; the client asks again.
        match self.send(meta.addr, meta.dst_ip, &answer) {
            Ok(()) => disposition,
            Err(_) => "write_error",
        }
    }

    fn send(&self, to: SocketAddr, from: Option<IpAddr>, answer: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: answer,
            segment_size: None,
            src_ip: from,
        };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
        })
    }
}

fn count_one(disposition: &'static str) {
    metrics::counter!("stun_requests", "disposition" => disposition).increment(1);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::client::{TransactionId, parse_response, request};

    #[tokio::test]
    async fn the_answer_comes_from_where_the_request_went() {
        let socket = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        tokio::spawn(run(socket, stop.clone()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for asked in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 9, 8, 7)] {
            let server = SocketAddr::from((asked, port));
            client
                .send_to(&request(TransactionId([4; 12])), server)
                .await
                .unwrap();
            let mut answer = [0; 200];
            let (_, from) = client.recv_from(&mut answer).await.unwrap();
            assert_eq!(from, server);
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn a_client_learns_its_address() {
        let stop = CancellationToken::new();
        for (at, to) in [
            ("127.0.0.1:0", Ipv4Addr::LOCALHOST.into()),
            ("[::]:0", std::net::IpAddr::from(Ipv4Addr::LOCALHOST)),
        ] {
            let socket = bind(at.parse().unwrap()).unwrap();
            let server = SocketAddr::new(to, socket.local_addr().unwrap().port());
            tokio::spawn(run(socket, stop.clone()));
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.send_to(b"noise", server).await.unwrap();
            client
                .send_to(&request(TransactionId([3; 12])), server)
                .await
                .unwrap();
            let mut answer = [0; 200];
            let (length, _) = client.recv_from(&mut answer).await.unwrap();
            let (transaction, seen) = parse_response(&answer[..length]).unwrap();
            assert_eq!(transaction, TransactionId([3; 12]));
            assert_eq!(seen, client.local_addr().unwrap());
        }
        stop.cancel();
    }
}
