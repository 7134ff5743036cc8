//! Topologies of network namespaces: an internet, hosts on it, routers with NAT and LANs behind.
//!
//! ```text
//!   server ──┐                       ┌── host 10.1.0.2
//!            ├── internet ── router ─┤
//!   host ────┘   (bridge)    (NAT)   └── host 10.1.0.3
//! ```
//!
//! Everything of a lab is named after the process that made it, so labs never meet, and
//! [`sweep`] removes what a killed process left behind.

pub mod cmd;
pub mod nat;
pub mod netns;

use std::cell::Cell;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

pub use nat::Nat;
pub use netns::Netns;

/// What every namespace of every lab starts with, before the process id.
const PREFIX: &str = "zt";

/// The internet of a lab: TEST-NET-2 (RFC 5737), inside namespaces only.
pub const INTERNET: [u8; 3] = [198, 51, 100];

/// The internet's own address, the default gateway of all that is on it.
const INTERNET_GATEWAY: u8 = 1;

/// A topology. Dropped, it takes all its namespaces and the processes in them along.
pub struct Net {
    prefix: String,
    internet: Netns,
    network: [u8; 3],
    routers: Cell<u8>,
}

/// A machine of a topology.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name in the topology.
    pub name: String,
    /// Where its programs run.
    pub netns: Netns,
    /// Address of its one interface, `eth0`.
    pub address: Ipv4Addr,
    /// Its address as the internet sees it.
    pub public: Ipv4Addr,
}

/// A router with a LAN.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its namespace, with the interfaces `wan` and `lan`.
    pub netns: Netns,
    /// Its address on the internet.
    pub public: Ipv4Addr,
    lan: [u8; 3],
    prefix: String,
    hosts: std::rc::Rc<Cell<u8>>,
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
        let internet = Netns::create(&format!("{prefix}inet"))?;
        let net = Self {
            prefix,
            internet,
            network,
            routers: Cell::new(0),
        };
        net.internet.ip("link add br0 type bridge")?;
        net.internet.ip("link set br0 up")?;
        if let Some(last) = gateway {
            let address = net.public(last);
            net.internet.ip(&format!("addr add {address}/24 dev br0"))?;
        }
        Ok(net)
    }

    /// Namespace of the bridge `br0` that is the internet.
    #[must_use]
    pub fn internet(&self) -> &Netns {
        &self.internet
    }

    /// Address `last` of the internet.
    #[must_use]
    pub fn public(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last)
    }

    /// A host with a public address and no firewall. Routers have the addresses from `.11` on.
    ///
    /// # Errors
    /// `ip` refuses: the name or address is taken.
    pub fn host(&self, name: &str, last: u8) -> Result<Host> {
        let netns = Netns::create(&format!("{}{name}", self.prefix))?;
        let address = self.public(last);
        self.join_internet(&netns, "eth0", address, name)?;
        netns.nft(&nat::meter_rules("eth0"))?;
        Ok(Host {
            name: name.to_owned(),
            netns,
            address,
            public: address,
        })
    }

    /// A router with a LAN of its own, `10.N.0.0/24`, behind the address `.10+N`.
    ///
    /// # Errors
    /// `ip` refuses: the name is taken.
    pub fn router(&self, name: &str, kind: Nat) -> Result<Router> {
        let number = self.routers.get() + 1;
        self.routers.set(number);
        let netns = Netns::create(&format!("{}{name}", self.prefix))?;
        let public = self.public(10 + number);
        self.join_internet(&netns, "wan", public, name)?;
        let lan = [10, number, 0];
        netns.ip("link add lan type bridge")?;
        netns.ip(&format!("addr add 10.{number}.0.1/24 dev lan"))?;
        netns.ip("link set lan up")?;
        netns.nft(&kind.rules())?;
        netns.nft(&nat::meter_rules("wan"))?;
        netns.sysctl("net.ipv4.ip_forward=1")?;
        Ok(Router {
            netns,
            public,
            lan,
            prefix: self.prefix.clone(),
            hosts: std::rc::Rc::new(Cell::new(1)),
        })
    }

    /// Joins an interface of a namespace to the internet.
    fn join_internet(
        &self,
        netns: &Netns,
        interface: &str,
        address: Ipv4Addr,
        port: &str,
    ) -> Result<()> {
        let bridge = self.internet.name();
        netns.ip(&format!(
            "link add {interface} type veth peer name {port} netns {bridge}"
        ))?;
        self.internet
            .ip(&format!("link set dev {port} master br0 up"))?;
        netns.ip(&format!("addr add {address}/24 dev {interface}"))?;
        netns.ip(&format!("link set {interface} up"))?;
        let gateway = self.public(INTERNET_GATEWAY);
        netns.ip(&format!("route add default via {gateway}"))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Err(error) = destroy_all(&self.prefix) {
            eprintln!("cannot remove the lab's namespaces: {error:#}");
        }
    }
}

impl Router {
    /// A host on the router's LAN.
    ///
    /// # Errors
    /// `ip` refuses: the name is taken.
    pub fn host(&self, name: &str) -> Result<Host> {
        let last = self.hosts.get() + 1;
        self.hosts.set(last);
        let netns = Netns::create(&format!("{}{name}", self.prefix))?;
        let [a, b, c] = self.lan;
        let address = Ipv4Addr::new(a, b, c, last);
        netns.ip(&format!(
            "link add eth0 type veth peer name {name} netns {}",
            self.netns.name()
        ))?;
        self.netns
            .ip(&format!("link set dev {name} master lan up"))?;
        netns.ip(&format!("addr add {address}/24 dev eth0"))?;
        netns.ip("link set eth0 up")?;
        netns.ip(&format!("route add default via {a}.{b}.{c}.1"))?;
        netns.nft(&nat::meter_rules("eth0"))?;
        Ok(Host {
            name: name.to_owned(),
            netns,
            address,
            public: self.public,
        })
    }

    /// Drops all UDP between LAN and internet from now on, running flows included.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn block_udp(&self) -> Result<()> {
        self.netns
            .nft("add rule ip lab block meta l4proto udp drop")
    }

    /// Drops all UDP between LAN and one address of the internet from now on.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn block_udp_with(&self, address: Ipv4Addr) -> Result<()> {
        self.netns.nft(&format!(
            "add rule ip lab block ip daddr {address} meta l4proto udp drop
             add rule ip lab block ip saddr {address} meta l4proto udp drop"
        ))
    }

    /// Lets UDP pass again.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn unblock_udp(&self) -> Result<()> {
        self.netns.nft("flush chain ip lab block")
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
