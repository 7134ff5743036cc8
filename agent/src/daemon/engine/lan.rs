//! The multicast group in which machines on one link find each other.
//!
//! What is sent there are discovery pings, each sealed for one peer ([`ztna_disco`]): a stranger on the
//! link sees that a machine of this kind is there, at which address and port, and a key that is new at
//! each start; neither who it is nor whom it looks for. They are sent only while there is traffic for
//! a peer that is not reached on a network of our own, in the rounds of its search, and never beyond
//! the link (hop limit 1). IPv4 alone: a link without it has no NAT, so that reported addresses do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use ztna_mesh::demux::{Kind, classify};
use ztna_path::Budget;

use super::udp::UdpPort;
use crate::platform::LocalAddress;

/// The group: of the local scope (RFC 2365 §6.1), which its owners may use as they like.
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 122, 110), 41_642);
/// Pings a second in the long run, for all peers together, on each network.
const PINGS_PER_SECOND: u32 = 20;
/// Pings that may go out at once.
const PING_BURST: u32 = 40;
/// Networks of this machine that take part.
const MAX_NETWORKS: usize = 16;
/// Longest datagram that is read: a ping without padding is half of it.
const MAX_DATAGRAM: usize = 256;

/// This machine's membership.
pub struct Lan {
    /// `None`: switched off, or the system has no such socket.
    socket: Option<UdpSocket>,
    networks: Vec<Ipv4Addr>,
    pings: Budget,
}

impl Lan {
    /// Does nothing.
    pub fn off() -> Self {
        Self {
            socket: None,
            networks: Vec::new(),
            pings: Budget::new(PINGS_PER_SECOND, PING_BURST, Instant::now().into_std()),
        }
    }

    /// Joins the group on the networks of these addresses, other tunnels not among them.
    pub fn join(addresses: &[LocalAddress]) -> Self {
        let links = addresses.iter().filter(|address| !address.in_tunnel);
        let addresses = links.filter_map(|address| match address.ip {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let networks: Vec<Ipv4Addr> = addresses.take(MAX_NETWORKS).collect();
        let socket = match listen(&networks) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::info!(%error, group = %GROUP, "no discovery by multicast");
                None
            }
        };
        Self {
            socket,
            networks,
            ..Self::off()
        }
    }

    /// The next discovery message from the group. Dropping the future loses none.
    pub async fn receive(&self) -> (SocketAddr, BytesMut) {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) if classify(&buffer[..length]) == Kind::Disco => {
                    return (from, BytesMut::from(&buffer[..length]));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "multicast receive");
                    // A socket that keeps failing must not keep the engine busy.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Sends a ping to everybody on this machine's networks, from the port that peers use.
    pub fn send(&mut self, udp: &UdpPort, datagram: &[u8], now: Instant) {
        if self.socket.is_none() || !self.pings.take(now.into_std()) {
            return;
        }
        for network in &self.networks {
            if let Err(error) = udp.send_multicast(datagram, GROUP, *network) {
                tracing::trace!(%network, %error, "multicast not sent");
            }
        }
    }
}

fn listen(networks: &[Ipv4Addr]) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Other daemons on this machine listen to the same group.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(GROUP).into())?;
    for network in networks {
        if let Err(error) = socket.join_multicast_v4(GROUP.ip(), network) {
            tracing::debug!(%network, %error, "no multicast on this network");
        }
    }
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pings_are_bounded_in_the_long_run() {
        let mut lan = Lan::off();
        let start = Instant::now().into_std();
        let at_once = (0..1000).filter(|_| lan.pings.take(start)).count();
        assert_eq!(at_once, 40);
        let minute = (1..=60_000)
            .filter(|ms| lan.pings.take(start + Duration::from_millis(*ms)))
            .count();
        assert!((1195..=1205).contains(&minute), "{minute}");
    }

    #[tokio::test]
    async fn what_is_no_discovery_message_is_dropped_and_the_rest_arrives() {
        let loopback = Ipv4Addr::LOCALHOST;
        let Ok(socket) = listen(&[loopback]) else {
            eprintln!("skipped: no multicast on this machine");
            return;
        };
        let lan = Lan {
            socket: Some(socket),
            ..Lan::off()
        };
        let sender = std::net::UdpSocket::bind((loopback, 0)).unwrap();
        let reference = socket2::SockRef::from(&sender);
        if reference.set_multicast_if_v4(&loopback).is_err() {
            eprintln!("skipped: no multicast by the loopback interface");
            return;
        }
        let mut message = b"zDisc\x01".to_vec();
        message.resize(120, 7);
        for datagram in [b"hello".as_slice(), &message] {
            if sender.send_to(datagram, GROUP).is_err() {
                eprintln!("skipped: multicast has no route here");
                return;
            }
        }
        let (from, received) = lan.receive().await;
        assert_eq!(from, sender.local_addr().unwrap());
        assert_eq!(received, message.as_slice());
    }
}
