//! What happens to a network while machines use it: other addresses, other routes, NATs that forget.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::cmd::run;
use super::nat;
use super::segment::{Host, Router};

/// Outer ports of a NAT that keeps no source port.
const OTHER_PORTS: &str = "20000-29999";

impl Router {
    /// Joins a second interface of a host to the router's LAN. Its default route by this router is used
    /// when there is no other.
    ///
    /// # Errors
    /// `ip` refuses: the interface's name is taken.
    pub fn attach(&self, host: &Host, interface: &str) -> Result<Ipv4Addr> {
        let (address, port) = (self.next_address(), format!("{}-{interface}", host.name));
        self.plug(&host.netns, interface, address, &port)?;
        host.netns.ip(&format!(
            "route add default via {} dev {interface} metric 200",
            self.gateway()
        ))?;
        Ok(address)
    }

    /// A router on this router's LAN, with a LAN of its own behind it: NAT behind NAT.
    ///
    /// # Errors
    /// `ip` refuses: the name is taken.
    pub fn router(&self, name: &str, kind: nat::Nat) -> Result<Router> {
        let netns = self.create(name)?;
        self.plug(&netns, "wan", self.next_address(), name)?;
        netns.ip(&format!("route add default via {}", self.gateway()))?;
        self.nested(netns, kind)
    }

    /// The NAT forgets every flow, and gives UDP other outer ports from now on, the same towards everybody.
    ///
    /// # Errors
    /// `nft` or `conntrack` refuses.
    pub fn rebind_ports(&self) -> Result<()> {
        self.netns.nft(&format!(
            "flush chain ip lab postrouting
             add rule ip lab postrouting oifname \"wan\" meta l4proto udp masquerade to :{OTHER_PORTS}
             add rule ip lab postrouting oifname \"wan\" masquerade"
        ))?;
        self.forget_flows()
    }

    /// The NAT has another outer address, and has forgotten every flow.
    ///
    /// # Errors
    /// `ip` or `conntrack` refuses.
    pub fn renumber(&mut self, last: u8) -> Result<()> {
        let (old, [a, b, c, _]) = (self.public, self.public.octets());
        let new = Ipv4Addr::new(a, b, c, last);
        self.netns.ip(&format!("addr del {old}/24 dev wan"))?;
        self.netns.ip(&format!("addr add {new}/24 dev wan"))?;
        self.public = new;
        self.default_route()?;
        self.forget_flows()
    }

    /// Sets the route to the internet, which goes when the interface or its address does.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn default_route(&self) -> Result<()> {
        let [a, b, c, _] = self.public.octets();
        self.netns
            .ip(&format!("route replace default via {a}.{b}.{c}.1"))
    }

    fn forget_flows(&self) -> Result<()> {
        run(self.netns.command("conntrack").arg("-F"))?;
        Ok(())
    }
}

impl Host {
    /// Gives the host's `eth0` another address of its network; its router is the same.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn readdress(&mut self, last: u8) -> Result<()> {
        let [a, b, c, _] = self.address.octets();
        let new = Ipv4Addr::new(a, b, c, last);
        self.netns.ip("addr flush dev eth0 scope global")?;
        self.netns.ip(&format!("addr add {new}/24 dev eth0"))?;
        self.netns
            .ip(&format!("route replace default via {a}.{b}.{c}.1 dev eth0"))?;
        self.address = new;
        Ok(())
    }

    /// Takes the host's `eth0` down, and its routes with it.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn unplug(&self) -> Result<()> {
        self.netns.ip("link set eth0 down")
    }

    /// Brings `eth0` up again, with its default route.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn replug(&self) -> Result<()> {
        self.netns.ip("link set eth0 up")?;
        self.default_by_eth0()
    }

    /// Packets leave by `eth0`'s router again.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn default_by_eth0(&self) -> Result<()> {
        let [a, b, c, _] = self.address.octets();
        self.netns
            .ip(&format!("route replace default via {a}.{b}.{c}.1 dev eth0"))
    }

    /// Packets do not leave by `eth0`'s router any more; its address stays.
    ///
    /// # Errors
    /// There is no such route.
    pub fn no_default_by_eth0(&self) -> Result<()> {
        self.netns.ip("route del default dev eth0")
    }
}
