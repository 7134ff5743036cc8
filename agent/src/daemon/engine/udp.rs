//! The UDP sockets: one port, IPv4 and IPv6, many datagrams a system call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use ztna_proto::MachineId;

/// Kernel receive buffer asked for: 10 ms at 5 Gbit/s. The kernel may grant less.
const RECEIVE_BUFFER: usize = 7 << 20;
/// Kernel send buffer asked for.
const SEND_BUFFER: usize = 2 << 20;
/// Largest UDP payload, and so the most that segmentation offload takes at once (RFC 768).
const MAX_BURST: usize = 65_507;

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
        }
        socket.set_nonblocking(true)?;
        // Less than asked for is what unprivileged processes get; it costs bursts, nothing else.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        socket.bind(&addr.into())?;
        let io = tokio::net::UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        Ok(Self { io, state })
    }

    async fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
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
    memory: Vec<Box<[u8]>>,
    meta: Vec<RecvMeta>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            memory: (0..BATCH_SIZE)
                .map(|_| vec![0; MAX_BURST].into_boxed_slice())
                .collect(),
            meta: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }

    fn datagrams(&self, count: usize) -> impl Iterator<Item = (SocketAddr, BytesMut)> {
        self.meta
            .iter()
            .zip(&self.memory)
            .take(count)
            .flat_map(|(meta, memory)| {
                memory[..meta.len]
                    .chunks(meta.stride.max(1))
                    .map(|datagram| (meta.addr, BytesMut::from(datagram)))
            })
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
                into.extend(self.v4_buffers.datagrams(count?));
            }
            count = v6 => into.extend(self.v6_buffers.datagrams(count?)),
        }
        Ok(())
    }

    /// Sends a burst to one address.
    ///
    /// # Errors
    /// As the network says: unreachable, too big, not permitted, … The burst is lost.
    pub async fn send(&self, burst: &Burst) -> io::Result<()> {
        let family = match (burst.to, &self.v6) {
            (SocketAddr::V4(_), _) => &self.v4,
            (SocketAddr::V6(_), Some(v6)) => v6,
            (SocketAddr::V6(_), None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let result = family
            .send(&burst.transmit(&burst.contents, burst.count > 1))
            .await;
        match result {
            // Some kernels and devices refuse segmentation offload (EIO, EINVAL): one by one, then.
            Err(error)
                if burst.count > 1
                    && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) =>
            {
                for datagram in burst.contents.chunks(burst.segment) {
                    family.send(&burst.transmit(datagram, false)).await?;
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Datagrams that one burst may hold.
    pub fn max_segments(&self) -> usize {
        self.v4.state.max_gso_segments()
    }
}

/// Datagrams to one address that leave in one system call: all of one size, the last maybe shorter.
pub struct Burst {
    pub to: SocketAddr,
    /// Whom for, if that is known.
    pub peer: Option<MachineId>,
    segment: usize,
    contents: BytesMut,
    count: usize,
}

impl Burst {
    /// A burst of one.
    pub fn new(to: SocketAddr, peer: Option<MachineId>, datagram: BytesMut) -> Self {
        Self {
            to,
            peer,
            segment: datagram.len(),
            contents: datagram,
            count: 1,
        }
    }

    /// Adds a datagram, or gives it back if it does not fit this burst.
    pub fn push(
        &mut self,
        to: SocketAddr,
        peer: Option<MachineId>,
        datagram: BytesMut,
        max: usize,
    ) -> Option<BytesMut> {
        let closed = self.contents.len() != self.segment * self.count;
        let fits = to == self.to
            && peer == self.peer
            && !closed
            && self.count < max
            && datagram.len() <= self.segment
            && self.contents.len() + datagram.len() <= MAX_BURST;
        if !fits {
            return Some(datagram);
        }
        self.contents.extend_from_slice(&datagram);
        self.count += 1;
        None
    }

    fn transmit<'a>(&self, contents: &'a [u8], segmented: bool) -> Transmit<'a> {
        Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size: segmented.then_some(self.segment),
            src_ip: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> BytesMut {
        BytesMut::zeroed(length)
    }

    #[test]
    fn a_burst_takes_equal_datagrams_and_a_shorter_last_one() {
        let to: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut burst = Burst::new(to, None, bytes(100));
        assert!(burst.push(to, None, bytes(100), 64).is_none());
        assert!(
            burst
                .push("192.0.2.2:1".parse().unwrap(), None, bytes(100), 64)
                .is_some()
        );
        assert!(burst.push(to, None, bytes(101), 64).is_some());
        assert!(burst.push(to, None, bytes(40), 64).is_none());
        assert!(
            burst.push(to, None, bytes(40), 64).is_some(),
            "nothing follows a shorter one"
        );
        assert_eq!(burst.contents.len(), 240);

        let mut burst = Burst::new(to, None, bytes(1400));
        let taken = (1..100)
            .filter(|_| burst.push(to, None, bytes(1400), 64).is_none())
            .count();
        assert!(taken < 64 && burst.contents.len() <= MAX_BURST);
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

    #[tokio::test]
    async fn bursts_arrive_as_datagrams() {
        let mut receiver = UdpPort::bind(0).unwrap();
        let sender = UdpPort::bind(0).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port().unwrap()));
        let mut burst = Burst::new(to, None, bytes(1000));
        for _ in 0..9 {
            assert!(
                burst
                    .push(to, None, bytes(1000), sender.max_segments().max(10))
                    .is_none()
            );
        }
        assert!(burst.push(to, None, bytes(7), 64).is_none());
        sender.send(&burst).await.unwrap();
        let mut received = Vec::new();
        while received.len() < 11 {
            receiver.receive(&mut received).await.unwrap();
        }
        let sizes: Vec<usize> = received
            .iter()
            .map(|(_, datagram)| datagram.len())
            .collect();
        assert_eq!(sizes, [[1000; 10].as_slice(), &[7]].concat());
    }
}
