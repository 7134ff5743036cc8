//! Leave for IP to fragment datagrams of a socket that otherwise keeps them whole.

#![allow(unsafe_code)] // These socket options have no safe form.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Size of IPv6 fragments: what every path of IPv6 carries (RFC 8200 §5). Of IPv4, routers cut.
const IPV6_FRAGMENT: libc::c_int = 1280;

/// Lets the kernel, and routers of IPv4, fragment what the socket sends from now on; or, as before, lets
/// nobody.
///
/// # Errors
/// The kernel knows no such option.
pub fn allow_fragments(socket: &impl AsFd, ipv6: bool, allowed: bool) -> io::Result<()> {
    if ipv6 {
        let (discover, size) = if allowed {
            (libc::IPV6_PMTUDISC_DONT, IPV6_FRAGMENT)
        } else {
            (libc::IPV6_PMTUDISC_PROBE, 0)
        };
        set(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            discover,
        )?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, size)?;
        let forbidden = libc::c_int::from(!allowed);
        return set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, forbidden);
    }
    let discover = if allowed {
        libc::IP_PMTUDISC_DONT
    } else {
        libc::IP_PMTUDISC_PROBE
    };
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)
}

fn set(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads one integer, of the size that is said, while the call lasts; the
    // descriptor is open as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
