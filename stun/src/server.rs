//! STUN on UDP sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::limit::RateLimit;
use crate::respond::{Answer, MAX_REQUEST, respond};

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
    let mut limit = RateLimit::new(Instant::now());
    let mut buffer = [0; MAX_REQUEST + 1];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                // ICMP errors of earlier answers show up here.
                tracing::debug!(%error, "STUN receive");
                continue;
            }
        };
        count(serve(&socket, &mut limit, &buffer[..length], from));
    }
}

/// Answers one datagram; tells what became of it.
fn serve(
    socket: &UdpSocket,
    limit: &mut RateLimit,
    datagram: &[u8],
    from: SocketAddr,
) -> &'static str {
    let (answer, disposition) = match respond(datagram, from) {
        Answer::Success(answer) => (answer, "success"),
        Answer::UnknownAttribute(answer) => (answer, "unknown_attribute"),
        Answer::Silence => return "not_stun",
    };
    if !limit.admit(from.ip(), Instant::now()) {
        return "rate_limited";
    }
    // A full send buffer drops the answer, as the network might; the client asks again.
    match socket.try_send_to(&answer, from) {
        Ok(_) => disposition,
        Err(_) => "write_error",
    }
}

fn count(disposition: &'static str) {
    metrics::counter!("stun_requests", "disposition" => disposition).increment(1);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::client::{TransactionId, parse_response, request};

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
