//! Where servers and clients have their addresses.

// unshare has no safe wrapper in std.
#![allow(unsafe_code)]

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Result, bail};

/// Addresses for servers and clients.
pub struct Net {
    /// The server's.
    pub server: Ipv4Addr,
    /// Its second, for those that ask for one.
    pub second: Ipv4Addr,
    /// The first client's; the others follow.
    pub clients: Ipv4Addr,
    /// What a reader must know.
    pub note: String,
}

/// A net for benchmarks (RFC 2544), so that no server takes its clients for local ones.
const NET: &str = "198.18.0.1/24";

impl Net {
    /// As root: a network namespace of this process' own, where the loopback device has addresses
    /// of [`NET`]. Otherwise the loopback addresses. To be called before any thread is started.
    pub fn make() -> Result<Self> {
        if own_namespace()? {
            return Ok(Self {
                server: Ipv4Addr::new(198, 18, 0, 1),
                second: Ipv4Addr::new(198, 18, 0, 2),
                clients: Ipv4Addr::new(198, 18, 0, 100),
                note:
                    "in a network namespace; clients are strangers to the server, whose bound on \
                       answers per address is kept up, though never reached"
                        .to_owned(),
            });
        }
        Ok(Self {
            server: Ipv4Addr::LOCALHOST,
            second: Ipv4Addr::new(127, 0, 0, 2),
            clients: Ipv4Addr::new(127, 2, 0, 1),
            note: "not root: over 127.0.0.0/8, whose clients ztna-stun does not bound".to_owned(),
        })
    }
}

/// Whether there is one now.
fn own_namespace() -> Result<bool> {
    // SAFETY: no pointers; this process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Ok(false);
    }
    for args in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", NET, "dev", "lo"],
    ] {
        let status = Command::new("ip").args(args).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("`ip {}` failed; is iproute2 installed?", args.join(" "));
        }
    }
    Ok(true)
}
