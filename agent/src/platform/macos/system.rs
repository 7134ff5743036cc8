//! The process, the service's address, and options of sockets.

#![allow(unsafe_code)] // A socket option has no safe form.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;

use nix::sys::resource::{Resource, setrlimit};
use tokio::process::Command;

use crate::platform::is_administrator;

const IFCONFIG: &str = "/sbin/ifconfig";
/// The loopback device: an own address of a utun device is not answered by the system itself.
const LOOPBACK: &str = "lo0";
/// `IPV6_DONTFRAG` (netinet6/in6.h).
const IPV6_DONTFRAG: libc::c_int = 62;

/// Whether this process may make devices and set addresses and routes; if not, why and what to do.
///
/// # Errors
/// None here.
pub fn may_make_devices() -> anyhow::Result<Result<(), &'static str>> {
    Ok(match is_administrator() {
        true => Ok(()),
        false => Err("the ztna daemon needs root to make the tunnel device; run it with sudo"),
    })
}

/// What it means that there is no device, and what to do.
pub fn device_hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!("{error}; the daemon needs root"),
        Some(libc::EBUSY | libc::EINVAL) => {
            format!(
                "{error}; devices are named utun0, utun1, …: leave --tun out to get the next one"
            )
        }
        _ => error.to_string(),
    }
}

/// Keeps memory out of core dumps; macOS encrypts what it swaps.
pub fn protect_memory() -> Option<String> {
    // Fails only where a sandbox forbids the call itself.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    None
}

/// Gives this machine the address of a service for itself alone.
///
/// # Errors
/// What the system refused.
pub async fn add_service_address(_index: u32, address: Ipv4Addr) -> io::Result<()> {
    let address = address.to_string();
    let args = [
        LOOPBACK,
        "inet",
        &address,
        "netmask",
        "255.255.255.255",
        "alias",
    ];
    let output = Command::new(IFCONFIG)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or_default();
            Err(io::Error::other(format!("ifconfig refuses: {said}")))
        }
    }
}

/// Takes that back.
pub fn remove_service_address(address: Ipv4Addr) {
    let address = address.to_string();
    // One that is gone already is as good.
    let _ = std::process::Command::new(IFCONFIG)
        .args([LOOPBACK, "inet", &address, "-alias"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Lets the system, and routers of IPv4, fragment what the socket sends from now on; or lets nobody.
///
/// # Errors
/// The system knows no such option.
pub fn allow_fragments(socket: &impl AsFd, ipv6: bool, allowed: bool) -> io::Result<()> {
    let (level, name) = match ipv6 {
        true => (libc::IPPROTO_IPV6, IPV6_DONTFRAG),
        false => (libc::IPPROTO_IP, libc::IP_DONTFRAG),
    };
    let whole = libc::c_int::from(!allowed);
    // SAFETY: the kernel reads one integer, of the size that is said, while the call lasts; the
    // descriptor is open as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const whole).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
