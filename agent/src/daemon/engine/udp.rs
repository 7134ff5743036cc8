//! The UDP sockets: one port, IPv4 and IPv6, many datagrams a system call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use bytes::BytesMut;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;

use super::burst::{Burst, MAX_BURST};
use crate::platform::{allow_fragments, grow_buffers, keep_outside, may_go_singly};

/// Kernel receive buffer asked for: 10 ms at 5 Gbit/s. The kernel may grant less.
const RECEIVE_BUFFER: usize = 7 << 20;
/// Kernel send buffer asked for.
const SEND_BUFFER: usize = 2 << 20;
/// Receive buffers, one for each message of a system call. What is taken at once is opened before
/// anything of it goes on, so it should fit a CPU's cache.
const RECEIVE_MESSAGES: usize = 16;

/// A socket of one address family.
struct Family {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl Family {
    fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        } else {
            // What this machine sends to a group is not for itself. The hop limit is 1 unless set.
            socket.set_multicast_loop_v4(false)?;
        }
        socket.set_nonblocking(true)?;
        // Without the right to it no route leads into a tunnel of ours either.
        if let Err(error) = keep_outside(&SockRef::from(&socket)) {
            tracing::debug!(%error, "datagrams to peers carry no mark");
        }
        grow_buffers(&SockRef::from(&socket), RECEIVE_BUFFER, SEND_BUFFER);
        socket.bind(&addr.into())?;
        let io = tokio::net::UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        Ok(Self { io, state })
    }

    async fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
        buffers.prepare();
        let Buffers { memory, meta } = buffers;
        let mut slices: Vec<IoSliceMut<'_>> = memory
            .iter_mut()
            .map(|buffer| IoSliceMut::new(buffer))
            .collect();
        self.io
            .async_io(Interest::READABLE, || {
                self.state
                    .recv(UdpSockRef::from(&self.io), &mut slices, meta)
            })
            .await
    }

    async fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io
            .async_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.io), transmit)
            })
            .await
    }
}

/// Room for one batch of received datagrams.
struct Buffers {
    memory: Vec<BytesMut>,
    meta: Vec<RecvMeta>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            // Zeroed by the kernel when it is first written to, which most of it never is.
            memory: (0..RECEIVE_MESSAGES)
                .map(|_| BytesMut::zeroed(MAX_BURST))
                .collect(),
            meta: vec![RecvMeta::default(); RECEIVE_MESSAGES],
        }
    }

    /// Makes every buffer as long as a message may be. The memory is that of datagrams before, if
    /// all of them are gone.
    fn prepare(&mut self) {
        for buffer in &mut self.memory {
            if buffer.len() < MAX_BURST {
                buffer.resize(MAX_BURST, 0);
            }
        }
    }

    /// Takes the datagrams of the first `count` messages out. They are parts of the buffers.
    fn take(&mut self, count: usize, into: &mut Vec<(SocketAddr, BytesMut)>) {
        for (meta, buffer) in self.meta.iter().zip(&mut self.memory).take(count) {
            let mut message = buffer.split();
            message.truncate(meta.len);
            while !message.is_empty() {
                let length = meta.stride.clamp(1, message.len());
                into.push((meta.addr, message.split_to(length)));
            }
        }
    }
}

/// Both families at one port.
pub struct UdpPort {
    v4: Family,
    /// `None`: this machine has no IPv6.
    v6: Option<Family>,
    v4_buffers: Buffers,
    v6_buffers: Buffers,
}

impl UdpPort {
    /// Opens the port, or any port if it is 0.
    ///
    /// # Errors
    /// The port is in use by either family, or the system has no sockets left.
    pub fn bind(port: u16) -> io::Result<Self> {
        let v4 = Family::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), port).into())?;
        let port = v4.io.local_addr()?.port();
        let v6 = match Family::bind((IpAddr::from(Ipv6Addr::UNSPECIFIED), port).into()) {
            Ok(v6) => Some(v6),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::debug!(%error, port, "no IPv6 socket");
                None
            }
        };
        Ok(Self {
            v4,
            v6,
            v4_buffers: Buffers::new(),
            v6_buffers: Buffers::new(),
        })
    }

    /// The port.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.v4.io.local_addr()?.port())
    }

    /// Waits for datagrams and takes what is there into `into`. Dropping the future loses none.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn receive(&mut self, into: &mut Vec<(SocketAddr, BytesMut)>) -> io::Result<()> {
        let v6 = async {
            match &self.v6 {
                Some(v6) => v6.receive(&mut self.v6_buffers).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            count = self.v4.receive(&mut self.v4_buffers) => {
                self.v4_buffers.take(count?, into);
            }
            count = v6 => {
                let count = count?;
                self.v6_buffers.take(count, into);
            }
        }
        Ok(())
    }

    /// Sends a burst to one address.
    ///
    /// # Errors
    /// As the network says: unreachable, too big, not permitted, … That datagram is lost, or several.
    pub async fn send(&self, burst: &Burst) -> io::Result<()> {
        let family = self.family(burst.to)?;
        let result = family.send(&burst.transmit()).await;
        match result {
            // One by one, then.
            Err(error) if burst.count() > 1 && may_go_singly(&error) => {
                let mut result = Ok(());
                for datagram in burst.transmits() {
                    result = result.and(family.send(&datagram).await);
                }
                result
            }
            result => result,
        }
    }

    /// Sends a datagram to a multicast group on the link of one of this machine's addresses. One that
    /// the system has no room for is lost.
    ///
    /// # Errors
    /// As the network says.
    pub fn send_multicast(
        &self,
        datagram: &[u8],
        group: SocketAddrV4,
        by: Ipv4Addr,
    ) -> io::Result<()> {
        SockRef::from(&self.v4.io).set_multicast_if_v4(&by)?;
        match self.v4.io.try_send_to(datagram, group.into()) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Sends a datagram, in fragments if it must be.
    ///
    /// # Errors
    /// As the network says. The datagram is lost.
    pub async fn send_in_fragments(&self, to: SocketAddr, datagram: BytesMut) -> io::Result<()> {
        let family = self.family(to)?;
        allow_fragments(&family.io, to.is_ipv6(), true)?;
        let result = family.send(&Burst::one(to, datagram).transmit()).await;
        allow_fragments(&family.io, to.is_ipv6(), false).and(result)
    }

    fn family(&self, to: SocketAddr) -> io::Result<&Family> {
        match (to, &self.v6) {
            (SocketAddr::V4(_), _) => Ok(&self.v4),
            (SocketAddr::V6(_), Some(v6)) => Ok(v6),
            (SocketAddr::V6(_), None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Datagrams that one burst may hold.
    pub fn max_segments(&self) -> usize {
        self.v4.state.max_gso_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::engine::burst::Bursts;

    fn bytes(length: usize) -> BytesMut {
        BytesMut::from(&vec![5; length][..])
    }

    #[tokio::test]
    async fn what_is_too_large_takes_nothing_else_with_it() {
        let receiver = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let limit = std::time::Duration::from_secs(10);
        receiver.set_read_timeout(Some(limit)).unwrap();
        let port = UdpPort::bind(0).unwrap();
        // One byte more than a datagram of UDP over IPv4 can have.
        let to = receiver.local_addr().unwrap();
        let burst = Burst::of(to, &[&bytes(MAX_BURST + 1), &bytes(10)]);
        let error = port.send(&burst).await.unwrap_err();
        assert!(crate::platform::is_too_big(&error), "{error}");
        assert_eq!(receiver.recv(&mut [0; 100]).unwrap(), 10);
    }

    #[tokio::test]
    async fn a_port_is_taken_in_both_families_or_not_at_all() {
        let taken = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let Err(error) = UdpPort::bind(port) else {
            panic!("port {port} was taken twice");
        };
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    /// The loopback device takes packets of 65,536 bytes, so of IPv4 nothing is cut here.
    #[tokio::test]
    async fn what_may_be_fragmented_arrives_whole_and_what_comes_after_is_kept_whole() {
        let mut receiver = UdpPort::bind(0).unwrap();
        let sender = UdpPort::bind(0).unwrap();
        let port = receiver.port().unwrap();
        for ip in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            let to = SocketAddr::from((ip, port));
            sender.send_in_fragments(to, bytes(9000)).await.unwrap();
            sender.send(&Burst::one(to, bytes(3000))).await.unwrap();
            let mut received = Vec::new();
            while received.len() < 2 {
                receiver.receive(&mut received).await.unwrap();
            }
            let sizes: Vec<usize> = received.iter().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(sizes, [9000, 3000], "{ip}");
        }
    }

    #[tokio::test]
    async fn bursts_arrive_as_datagrams() {
        let mut receiver = UdpPort::bind(0).unwrap();
        let sender = UdpPort::bind(0).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port().unwrap()));
        let mut bursts = Bursts::default();
        for length in [[1000; 10].as_slice(), &[7]].concat() {
            bursts.push(to, None, bytes(length), sender.max_segments().max(11));
        }
        let [burst] = &bursts.take()[..] else {
            panic!("one burst");
        };
        sender.send(burst).await.unwrap();
        let mut received = Vec::new();
        while received.len() < 11 {
            receiver.receive(&mut received).await.unwrap();
        }
        assert!(
            received
                .iter()
                .all(|(_, datagram)| datagram.iter().all(|byte| *byte == 5))
        );
        let sizes: Vec<usize> = received
            .iter()
            .map(|(_, datagram)| datagram.len())
            .collect();
        assert_eq!(sizes, [[1000; 10].as_slice(), &[7]].concat());
    }
}
