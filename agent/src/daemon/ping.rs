//! ICMP echo through the tunnel (RFC 792, RFC 4443 §4), by a raw socket of the daemon's: the
//! system's unprivileged ICMP sockets are switched off on many systems.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

/// Bytes of an echo message's header: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// What follows the header, as much as `ping` sends.
const PAYLOAD: usize = 56;
/// Longest answer that is read: an IPv4 header with options and our own message.
const MAX_ANSWER: usize = 256;

/// Pings one address.
pub struct Pinger {
    /// A raw socket: tokio's UDP type does for it what it does for a datagram socket.
    socket: UdpSocket,
    target: IpAddr,
    identifier: u16,
    sequence: u16,
}

impl Pinger {
    /// A socket for pings to `target`.
    ///
    /// # Errors
    /// Not permitted (`CAP_NET_RAW`), or the system has no such address family.
    pub fn new(target: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            target,
            identifier: rand::random(),
            sequence: 0,
        })
    }

    /// Sends one request and waits for its answer. `None`: none came in time.
    ///
    /// # Errors
    /// The request could not be sent (no route: the tunnel is down).
    pub async fn ping(&mut self, wait: Duration) -> io::Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = self.request();
        let sent = Instant::now();
        self.socket
            .send_to(&request, SocketAddr::new(self.target, 0))
            .await?;
        let until = tokio::time::Instant::from_std(sent + wait);
        match timeout_at(until, self.answer()).await {
            Ok(answer) => answer.map(|()| Some(sent.elapsed())),
            Err(_) => Ok(None),
        }
    }

    async fn answer(&self) -> io::Result<()> {
        let mut buffer = [0; MAX_ANSWER];
        loop {
            // The socket sees every ICMP message that reaches this machine.
            let length = self.socket.recv(&mut buffer).await?;
            if self.is_answer(&buffer[..length]) {
                return Ok(());
            }
        }
    }

    fn request(&self) -> [u8; HEADER + PAYLOAD] {
        let mut message = [0; HEADER + PAYLOAD];
        message[0] = match self.target {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128,
        };
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        if self.target.is_ipv4() {
            // The kernel fills in ICMPv6's, which covers the addresses too (RFC 3542 §3.1).
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        // A raw IPv4 socket gives the IP header too, a raw IPv6 socket does not.
        let (message, kind) = match self.target {
            IpAddr::V4(target) => {
                let Some(first) = packet.first() else {
                    return false;
                };
                let header = usize::from(first & 0x0f) * 4;
                if packet.get(12..16) != Some(&target.octets()) {
                    return false;
                }
                (packet.get(header..), 0)
            }
            IpAddr::V6(_) => (Some(packet), 129),
        };
        let Some(message) = message.filter(|message| message.len() >= HEADER) else {
            return false;
        };
        message[0] == kind
            && message[4..6] == self.identifier.to_be_bytes()
            && message[6..8] == self.sequence.to_be_bytes()
    }
}

/// The Internet checksum (RFC 1071) of a message with an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let mut sum: u32 = message
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_internets() {
        // RFC 1071 §3's example: the sum of these is ddf2.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[tokio::test]
    async fn this_machine_answers() {
        for target in ["127.0.0.1", "::1"] {
            let mut pinger = match Pinger::new(target.parse().unwrap()) {
                Ok(pinger) => pinger,
                Err(error) => {
                    eprintln!("skipped {target}: {error}");
                    continue;
                }
            };
            for _ in 0..2 {
                let answer = pinger.ping(Duration::from_secs(5)).await.unwrap();
                assert!(answer.is_some(), "{target} does not answer");
            }
        }
    }

    #[tokio::test]
    async fn other_packets_are_no_answers() {
        let Ok(pinger) = Pinger::new("127.0.0.1".parse().unwrap()) else {
            eprintln!("skipped: only root has raw sockets");
            return;
        };
        for length in 0..64 {
            assert!(!pinger.is_answer(&vec![0xff; length]));
            assert!(!pinger.is_answer(&vec![0; length]));
        }
    }
}
