//! Options of sockets.

use std::io;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use socket2::{SockRef, Socket};

use super::steer::BYPASS_MARK;

/// Keeps what a socket sends outside the tunnel, whatever is routed into it.
///
/// # Errors
/// Without `CAP_NET_ADMIN`; then no route leads into a tunnel of ours either.
pub fn keep_outside(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_mark(BYPASS_MARK)
}

/// Asks for larger buffers, in bytes. Less than asked for is what unprivileged processes get; it costs bursts,
/// nothing else.
pub fn grow_buffers(socket: &SockRef<'_>, receive: usize, send: usize) {
    let socket: &Socket = socket;
    let forced = setsockopt(socket, RcvBufForce, &receive);
    let _ = forced.or_else(|_| setsockopt(socket, RcvBuf, &receive));
    let forced = setsockopt(socket, SndBufForce, &send);
    let _ = forced.or_else(|_| setsockopt(socket, SndBuf, &send));
}
