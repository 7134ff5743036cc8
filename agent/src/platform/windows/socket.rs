//! Options of sockets.

use std::io;
use std::os::windows::io::{AsRawSocket, AsSocket};
use std::ptr::null_mut;

use socket2::SockRef;
use windows_sys::Win32::Networking::WinSock::{
    IP_DONTFRAGMENT, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, SIO_UDP_CONNRESET, SOCKET, WSAEINVAL,
    WSAEMSGSIZE, WSAEOPNOTSUPP, WSAIoctl, setsockopt,
};

/// Keeps ICMP errors of earlier datagrams from failing the next receive (WSAECONNRESET).
///
/// # Errors
/// The system refused.
pub fn ignore_unreachable(socket: &SockRef<'_>) -> io::Result<()> {
    let report: u32 = 0;
    let mut written = 0;
    // SAFETY: the socket is open as long as it is borrowed; the system reads one integer, of the size that is
    // said, and writes one length.
    let result = unsafe {
        WSAIoctl(
            socket.as_raw_socket() as SOCKET,
            SIO_UDP_CONNRESET,
            (&raw const report).cast(),
            size_of::<u32>() as u32,
            null_mut(),
            0,
            &raw mut written,
            null_mut(),
            None,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the system, and routers of IPv4, fragment what the socket sends from now on; or lets nobody.
///
/// # Errors
/// The system knows no such option.
pub fn allow_fragments(socket: &impl AsSocket, ipv6: bool, allowed: bool) -> io::Result<()> {
    let (level, name) = match ipv6 {
        true => (IPPROTO_IPV6, IPV6_DONTFRAG),
        false => (IPPROTO_IP, IP_DONTFRAGMENT),
    };
    let whole = u32::from(!allowed);
    // SAFETY: the system reads one integer, of the size that is said, while the call lasts; the socket is open
    // as long as it is borrowed.
    let result = unsafe {
        setsockopt(
            socket.as_socket().as_raw_socket() as SOCKET,
            level,
            name,
            (&raw const whole).cast(),
            size_of::<u32>() as i32,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a datagram was larger than its path or its protocol lets it be.
pub fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEMSGSIZE)
}

/// Whether datagrams that were refused together may pass one by one.
pub fn may_go_singly(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(WSAEINVAL | WSAEMSGSIZE | WSAEOPNOTSUPP)
    )
}
