//! Topologies of network namespaces: an internet, hosts on it, routers with NAT and LANs behind.
//!
//! ```text
//!   server ──┐                       ┌── host 10.1.0.2
//!            ├── internet ── router ─┤
//!   host ────┘   (bridge)    (NAT)   └── host 10.1.0.3
//! ```
//!
//! A host or router may be behind a bad [`link`] instead of a wire, and the internet may have a part
//! beyond one ([`Net::beyond`]), as another continent.
//!
//! Everything of a lab is named after the process that made it, so labs never meet, and
//! [`sweep`] removes what a killed process left behind.

mod change;
pub mod cmd;
pub mod echo;
pub mod link;
pub mod nat;
pub mod netns;
mod segment;

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result};

use link::{Link, Spec};
pub use nat::Nat;
pub use netns::Netns;
pub use segment::{Host, Router, Segment};

/// What every namespace of every lab starts with, before the process id.
const PREFIX: &str = "zt";

/// The internet of a lab: TEST-NET-2 (RFC 5737), inside namespaces only.
pub const INTERNET: [u8; 3] = [198, 51, 100];

/// The part of a lab's internet beyond a link: TEST-NET-3 (RFC 5737).
pub const BEYOND: [u8; 3] = [203, 0, 113];

/// The internet's own address, the default gateway of all that is on it.
const INTERNET_GATEWAY: u8 = 1;

/// A topology. Dropped, it takes all its namespaces and the processes in them along.
pub struct Net {
    prefix: String,
    internet: Segment,
}

impl Net {
    /// An internet without anything on it.
    ///
    /// # Errors
    /// Not root, or `ip` is missing.
    pub fn new() -> Result<Self> {
        Self::with_network(INTERNET, Some(INTERNET_GATEWAY))
    }

    /// An internet of `network`/24. Its hosts' default gateway is `.1`; with `gateway` the bridge
    /// has that address itself.
    ///
    /// # Errors
    /// As [`Net::new`].
    pub fn with_network(network: [u8; 3], gateway: Option<u8>) -> Result<Self> {
        let prefix = own_prefix();
        let numbers = Rc::new(Cell::new(0));
        Ok(Self {
            internet: Segment::new(&prefix, "inet", network, gateway, numbers)?,
            prefix,
        })
    }

    /// Namespace of the bridge `br0` that is the internet.
    #[must_use]
    pub fn internet(&self) -> &Netns {
        &self.internet.netns
    }

    /// [`Segment::host`] on the internet.
    ///
    /// # Errors
    /// As there.
    pub fn host(&self, name: &str, last: u8) -> Result<Host> {
        self.internet.host(name, last)
    }

    /// [`Segment::host_behind`] on the internet.
    ///
    /// # Errors
    /// As there.
    pub fn host_behind(&self, name: &str, last: u8, link: &Spec) -> Result<(Host, Link)> {
        self.internet.host_behind(name, last, link)
    }

    /// [`Segment::router`] on the internet.
    ///
    /// # Errors
    /// As there.
    pub fn router(&self, name: &str, kind: Nat) -> Result<Router> {
        self.internet.router(name, kind)
    }

    /// [`Segment::router_behind`] on the internet.
    ///
    /// # Errors
    /// As there.
    pub fn router_behind(&self, name: &str, kind: Nat, link: &Spec) -> Result<(Router, Link)> {
        self.internet.router_behind(name, kind, link)
    }

    /// A part of the internet beyond a link, with the network [`BEYOND`]. There can be one.
    /// Outward is away from it.
    ///
    /// # Errors
    /// There is one already.
    pub fn beyond(&self, link: &Spec) -> Result<(Segment, Link)> {
        let numbers = self.internet.numbers();
        let gateway = Some(INTERNET_GATEWAY);
        let beyond = Segment::new(&self.prefix, "beyond", BEYOND, gateway, numbers)?;
        let link = self.internet.join(&beyond, link)?;
        Ok((beyond, link))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Err(error) = destroy_all(&self.prefix) {
            eprintln!("cannot remove the lab's namespaces: {error:#}");
        }
    }
}

/// What the names of this process's namespaces and directories start with.
#[must_use]
pub fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Removes this process's namespaces and what runs in them; for the way out on a signal.
///
/// # Errors
/// `ip` refuses.
pub fn destroy_own() -> Result<()> {
    destroy_all(&own_prefix())
}

fn destroy_all(prefix: &str) -> Result<()> {
    let mut result = Ok(());
    for name in netns::list(prefix)? {
        // One that fails must not keep the others.
        result = result.and(netns::destroy(&name));
    }
    result
}

/// Removes the namespaces of labs whose process is gone.
///
/// # Errors
/// `ip` refuses.
pub fn sweep() -> Result<()> {
    for name in netns::list(PREFIX)? {
        if is_leftover(&name) {
            netns::destroy(&name).with_context(|| format!("cannot remove leftover {name}"))?;
        }
    }
    Ok(())
}

/// Whether something of this name is a lab's whose process is gone.
#[must_use]
pub fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| !is_lab(pid))
}

/// Process that made something, by its name: `zt<pid>-…`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn is_lab(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ztna-lab")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_labs_have_an_owner() {
        assert_eq!(owner("zt123-inet"), Some(123));
        assert_eq!(owner("zt-inet"), None);
        assert_eq!(owner("ztna"), None);
        assert_eq!(owner("docker0"), None);
    }

    #[test]
    fn a_process_that_is_no_lab_is_swept() {
        assert!(!is_lab(1));
        assert!(is_leftover("zt1-inet"));
        assert!(!is_leftover("ztna"));
    }
}
