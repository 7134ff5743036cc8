//! A network of public addresses: a bridge, the hosts and routers on it, and the links to more.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;

use anyhow::Result;

use super::INTERNET_GATEWAY;
use super::link::{Link, Spec};
use super::nat::{self, Nat};
use super::netns::Netns;

/// TCP segments that a line for 1,280 bytes carries.
const LEAST_SEGMENT: u16 = 1240;

/// A bridge `br0` in a namespace of its own, with a network of public addresses.
pub struct Segment {
    /// Where the bridge is.
    pub netns: Netns,
    prefix: String,
    network: [u8; 3],
    /// Routers so far, of all segments of a topology: their LANs' networks differ.
    routers: Rc<Cell<u8>>,
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
    hosts: Rc<Cell<u8>>,
    /// Routers so far, of the whole topology.
    routers: Rc<Cell<u8>>,
}

impl Segment {
    pub(super) fn new(
        prefix: &str,
        name: &str,
        network: [u8; 3],
        gateway: Option<u8>,
        routers: Rc<Cell<u8>>,
    ) -> Result<Self> {
        let segment = Self {
            netns: Netns::create(&format!("{prefix}{name}"))?,
            prefix: prefix.to_owned(),
            network,
            routers,
        };
        segment.netns.ip("link add br0 type bridge")?;
        segment.netns.ip("link set br0 up")?;
        if let Some(last) = gateway {
            let address = segment.public(last);
            segment
                .netns
                .ip(&format!("addr add {address}/24 dev br0"))?;
        }
        Ok(segment)
    }

    pub(super) fn numbers(&self) -> Rc<Cell<u8>> {
        Rc::clone(&self.routers)
    }

    /// Address `last` of the segment.
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
        let netns = self.create(name)?;
        self.plug(&netns, "eth0", self.public(last), name)?;
        self.public_host(name, netns, last)
    }

    /// [`Segment::host`] behind a link. Outward is away from the host.
    ///
    /// # Errors
    /// As [`Segment::host`] and [`Link::lay`].
    pub fn host_behind(&self, name: &str, last: u8, link: &Spec) -> Result<(Host, Link)> {
        let netns = self.create(name)?;
        let link = self.link(&netns, "eth0", self.public(last), name, link)?;
        Ok((self.public_host(name, netns, last)?, link))
    }

    fn public_host(&self, name: &str, netns: Netns, last: u8) -> Result<Host> {
        netns.nft(&nat::meter_rules("eth0"))?;
        let address = self.public(last);
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
        let (netns, number) = (self.create(name)?, self.next_router());
        self.plug(&netns, "wan", self.public(10 + number), name)?;
        self.nat_router(netns, number, kind)
    }

    /// [`Segment::router`] behind a link. Outward is away from the router.
    ///
    /// # Errors
    /// As [`Segment::router`] and [`Link::lay`].
    pub fn router_behind(&self, name: &str, kind: Nat, link: &Spec) -> Result<(Router, Link)> {
        let (netns, number) = (self.create(name)?, self.next_router());
        let link = self.link(&netns, "wan", self.public(10 + number), name, link)?;
        Ok((self.nat_router(netns, number, kind)?, link))
    }

    fn next_router(&self) -> u8 {
        self.routers.set(self.routers.get() + 1);
        self.routers.get()
    }

    fn nat_router(&self, netns: Netns, number: u8, kind: Nat) -> Result<Router> {
        let (public, routers) = (self.public(10 + number), self.numbers());
        Router::set_up(netns, kind, [10, number, 0], public, &self.prefix, routers)
    }

    fn create(&self, name: &str) -> Result<Netns> {
        Netns::create(&format!("{}{name}", self.prefix))
    }

    /// Joins an interface of a namespace to the bridge.
    fn plug(&self, netns: &Netns, interface: &str, address: Ipv4Addr, port: &str) -> Result<()> {
        let bridge = self.netns.name();
        netns.ip(&format!(
            "link add {interface} type veth peer name {port} netns {bridge}"
        ))?;
        self.netns
            .ip(&format!("link set dev {port} master br0 up"))?;
        netns.ip(&format!("addr add {address}/24 dev {interface}"))?;
        netns.ip(&format!("link set {interface} up"))?;
        let gateway = self.public(INTERNET_GATEWAY);
        netns.ip(&format!("route add default via {gateway}"))
    }

    /// Joins a device of a namespace to the segment by a link. A TUN device cannot be a port of a
    /// bridge, so the segment routes, and answers on the bridge for the address.
    fn link(
        &self,
        netns: &Netns,
        device: &str,
        address: Ipv4Addr,
        port: &str,
        spec: &Spec,
    ) -> Result<Link> {
        let link = Link::lay((netns, device), (&self.netns, port), spec)?;
        netns.ip(&format!("addr add {address}/32 dev {device}"))?;
        netns.ip(&format!("route add default dev {device}"))?;
        self.forward()?;
        self.netns
            .ip(&format!("route add {address}/32 dev {port}"))?;
        self.netns
            .ip(&format!("neigh add proxy {address} dev br0"))?;
        Ok(link)
    }

    /// Joins another segment by a link. Outward is away from that one.
    pub(super) fn join(&self, other: &Self, spec: &Spec) -> Result<Link> {
        let link = Link::lay((&other.netns, "out"), (&self.netns, "beyond"), spec)?;
        for (from, to, device) in [(self, other, "beyond"), (other, self, "out")] {
            from.forward()?;
            let network = to.public(0);
            from.netns
                .ip(&format!("route add {network}/24 dev {device}"))?;
        }
        Ok(link)
    }

    /// Lets the namespace of the bridge route, and answer for others without the delay of a proxy.
    fn forward(&self) -> Result<()> {
        self.netns.sysctl("net.ipv4.ip_forward=1")?;
        self.netns.sysctl("net.ipv4.neigh.br0.proxy_delay=0")
    }
}

impl Router {
    /// A host on the router's LAN.
    ///
    /// # Errors
    /// `ip` refuses: the name is taken.
    pub fn host(&self, name: &str) -> Result<Host> {
        let (netns, address) = (self.create(name)?, self.next_address());
        self.plug(&netns, "eth0", address, name)?;
        netns.ip(&format!("route add default via {}", self.gateway()))?;
        netns.nft(&nat::meter_rules("eth0"))?;
        Ok(Host {
            name: name.to_owned(),
            netns,
            address,
            public: self.public,
        })
    }

    /// The router's address on its LAN.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.lan;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// The LAN's network, `/24`.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        let [a, b, c] = self.lan;
        Ipv4Addr::new(a, b, c, 0)
    }

    pub(super) fn create(&self, name: &str) -> Result<Netns> {
        Netns::create(&format!("{}{name}", self.prefix))
    }

    pub(super) fn next_address(&self) -> Ipv4Addr {
        self.hosts.set(self.hosts.get() + 1);
        let [a, b, c] = self.lan;
        Ipv4Addr::new(a, b, c, self.hosts.get())
    }

    /// Joins an interface of a namespace to the LAN; `port` is the name of the other end.
    pub(super) fn plug(
        &self,
        netns: &Netns,
        interface: &str,
        address: Ipv4Addr,
        port: &str,
    ) -> Result<()> {
        netns.ip(&format!(
            "link add {interface} type veth peer name {port} netns {}",
            self.netns.name()
        ))?;
        self.netns
            .ip(&format!("link set dev {port} master lan up"))?;
        netns.ip(&format!("addr add {address}/24 dev {interface}"))?;
        netns.ip(&format!("link set {interface} up"))
    }

    /// Makes a namespace with a `wan` interface a router behind this one.
    pub(super) fn nested(&self, netns: Netns, kind: Nat) -> Result<Self> {
        self.routers.set(self.routers.get() + 1);
        let lan = [10, self.routers.get(), 0];
        let routers = Rc::clone(&self.routers);
        Self::set_up(netns, kind, lan, self.public, &self.prefix, routers)
    }

    fn set_up(
        netns: Netns,
        kind: Nat,
        lan: [u8; 3],
        public: Ipv4Addr,
        prefix: &str,
        routers: Rc<Cell<u8>>,
    ) -> Result<Self> {
        let [a, b, c] = lan;
        netns.ip("link add lan type bridge")?;
        netns.ip(&format!("addr add {a}.{b}.{c}.1/24 dev lan"))?;
        netns.ip("link set lan up")?;
        netns.nft(&kind.rules())?;
        netns.nft(&nat::meter_rules("wan"))?;
        netns.sysctl("net.ipv4.ip_forward=1")?;
        Ok(Self {
            netns,
            public,
            lan,
            prefix: prefix.to_owned(),
            hosts: Rc::new(Cell::new(1)),
            routers,
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

    /// Drops all TCP between LAN and one address of the internet from now on.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn block_tcp_with(&self, address: Ipv4Addr) -> Result<()> {
        self.netns.nft(&format!(
            "add rule ip lab block ip daddr {address} meta l4proto tcp drop
             add rule ip lab block ip saddr {address} meta l4proto tcp drop"
        ))
    }

    /// Has the line to the internet carry packets of so many bytes at most.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        self.netns.ip(&format!("link set wan mtu {mtu}"))
    }

    /// Tells nobody of a packet that does not pass, neither by itself nor for others. As such routers do,
    /// it holds TCP of the LAN to segments that any line carries.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn drop_icmp_errors(&self) -> Result<()> {
        let errors = "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop";
        self.netns.nft(&format!(
            "table inet silent {{
                chain own {{ type filter hook output priority -10; {errors}; }}
                chain others {{
                    type filter hook forward priority -10; {errors};
                    tcp flags syn tcp option maxseg size set {LEAST_SEGMENT};
                }}
            }}"
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
