//! Opening the sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::Options;

/// Bytes that the kernel may hold for a worker that is not running: some thousand requests. It
/// grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A worker looks this often whether it is to stop, should the shutdown of its socket not wake it.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// TCP connections that wait to be accepted.
const TCP_BACKLOG: i32 = 128;

/// Tries to find a port that is free on UDP and TCP, where any will do.
const PORT_TRIES: usize = 16;

/// UDP sockets, one per worker, and a TCP listener, all at one address: which, if any port would
/// do.
pub fn udp_and_tcp(
    address: SocketAddr,
    options: &Options,
) -> io::Result<(SocketAddr, Vec<Socket>, TcpListener)> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let sockets = udp(address, options)?;
        let local = local_addr(&sockets)?;
        match tcp(local, options) {
            Ok(listener) => return Ok((local, sockets, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn local_addr(sockets: &[Socket]) -> io::Result<SocketAddr> {
    sockets
        .first()
        .ok_or(io::ErrorKind::InvalidInput)?
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// UDP sockets at one address, one per worker.
pub fn udp(address: SocketAddr, options: &Options) -> io::Result<Vec<Socket>> {
    let workers = options.workers.get();
    if workers == 1 {
        return Ok(vec![udp_socket(address, options, false)?]);
    }
    // Sockets that share a port would as well share it with those of another server: this one is
    // refused if there is one.
    let alone = udp_socket(address, options, false)?;
    let address = alone
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::InvalidInput)?;
    drop(alone);
    (0..workers)
        .map(|_| udp_socket(address, options, true))
        .collect()
}

fn udp_socket(address: SocketAddr, options: &Options, shares: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    set_family(&socket, address, options)?;
    if shares {
        socket.set_reuse_port(true)?;
    }
    // With one address to answer from, the kernel need not tell it with each request.
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn tcp(address: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    set_family(&socket, address, options)?;
    // Connections of an earlier run that are not quite over do not count.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn set_family(socket: &Socket, address: SocketAddr, options: &Options) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(!(options.dual_stack && address.ip().is_unspecified()))?;
    }
    Ok(())
}
