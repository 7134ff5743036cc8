//! What a router does to the packets between its LAN and the internet, and what it counts of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cmd::run;
use super::netns::Netns;

/// A kind of NAT.
///
/// Every kind drops what comes unsolicited from the internet, silently: a packet that the router
/// accepts or answers leaves a connection-tracking entry, and that entry occupies the port which a
/// later hole punch from inside needs, so the punch would be remapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Keeps the source port; filters by address and port. Punching works.
    Cone,
    /// Takes a random port for every destination. Punching works only towards open hosts.
    Hard,
    /// As [`Nat::Cone`], and no UDP leaves the LAN at all.
    UdpBlocked,
}

impl Nat {
    /// The word for it in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cone => "cone",
            Self::Hard => "hard",
            Self::UdpBlocked => "udp-blocked",
        }
    }

    /// Rules of a router with the interfaces `wan` and `lan`.
    pub(super) fn rules(self) -> String {
        let masquerade = match self {
            Self::Cone | Self::UdpBlocked => "masquerade",
            Self::Hard => "masquerade fully-random",
        };
        let block = match self {
            Self::UdpBlocked => "meta l4proto udp drop",
            Self::Cone | Self::Hard => "",
        };
        format!(
            "table ip lab {{
                chain input {{
                    type filter hook input priority filter; policy drop;
                    iifname != \"wan\" accept
                    ct state established,related accept
                }}
                chain block {{
                    {block}
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    jump block
                    iifname \"lan\" accept
                    ct state established,related accept
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    oifname \"wan\" {masquerade}
                }}
            }}"
        )
    }
}

/// Rules that count what leaves and enters by `interface`, by far address, protocol and far port.
/// Outside NAT, so that a router counts what the internet sees.
pub(super) fn meter_rules(interface: &str) -> String {
    let set = "{ type ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; }";
    format!(
        "table ip counted {{
            set sent {set}
            set received {set}
            chain leaving {{
                type filter hook postrouting priority 300;
                oifname \"{interface}\" update @sent {{ ip daddr . meta l4proto . th dport counter }}
            }}
            chain entering {{
                type filter hook prerouting priority -310;
                iifname \"{interface}\" update @received {{ ip saddr . meta l4proto . th sport counter }}
            }}
        }}"
    )
}

/// One end of a flow as a meter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FarEnd {
    /// Address of the far end.
    pub address: Ipv4Addr,
    /// Whether the protocol is UDP; else TCP.
    pub udp: bool,
    /// Port of the far end.
    pub port: u16,
}

/// Packets and bytes (of IP) counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP header included.
    pub bytes: u64,
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        })
    }
}

/// What a meter counted since the last [`reset`]: UDP and TCP, sent plus received.
#[derive(Clone, Debug, Default)]
pub struct Meter(BTreeMap<FarEnd, Count>);

impl Meter {
    /// UDP with an address, on any port.
    #[must_use]
    pub fn udp_with(&self, address: Ipv4Addr) -> Count {
        self.sum(|end| end.udp && end.address == address)
    }

    /// TCP with an address and port.
    #[must_use]
    pub fn tcp_with(&self, address: Ipv4Addr, port: u16) -> Count {
        self.sum(|end| !end.udp && end.address == address && end.port == port)
    }

    /// TCP and UDP with an address and port: a relay, by either of its transports.
    #[must_use]
    pub fn either_with(&self, address: Ipv4Addr, port: u16) -> Count {
        self.sum(|end| end.address == address && end.port == port)
    }

    /// UDP and TCP with anybody else than an address.
    #[must_use]
    pub fn without(&self, address: Ipv4Addr) -> Count {
        self.sum(|end| end.address != address)
    }

    /// UDP and TCP with an address, on any port.
    #[must_use]
    pub fn with(&self, address: Ipv4Addr) -> Count {
        self.sum(|end| end.address == address)
    }

    fn sum(&self, wanted: impl Fn(&FarEnd) -> bool) -> Count {
        self.0
            .iter()
            .filter(|(end, _)| wanted(end))
            .map(|(_, count)| *count)
            .sum()
    }
}

/// Sets a namespace's meter to zero.
///
/// # Errors
/// The namespace has no meter.
pub fn reset(namespace: &Netns) -> Result<()> {
    namespace.nft("flush set ip counted sent\nflush set ip counted received")
}

/// Reads a namespace's meter.
///
/// # Errors
/// The namespace has no meter.
pub fn read(namespace: &Netns) -> Result<Meter> {
    let mut meter = Meter::default();
    for set in ["sent", "received"] {
        let json = run(namespace
            .command("nft")
            .args(["-j", "list", "set", "ip", "counted", set]))?;
        add_elements(&mut meter, &json)
            .with_context(|| format!("cannot read the counters of {}", namespace.name()))?;
    }
    Ok(meter)
}

/// Adds the elements of `nft -j list set`.
fn add_elements(meter: &mut Meter, json: &str) -> Result<()> {
    let listing: Value = serde_json::from_str(json)?;
    let objects = listing["nftables"]
        .as_array()
        .context("no nftables array")?;
    let elements = objects
        .iter()
        .filter_map(|object| object["set"]["elem"].as_array())
        .flatten();
    for element in elements {
        let element = &element["elem"];
        let key = &element["val"]["concat"];
        let udp = match key[1].as_str() {
            Some("udp") => true,
            Some("tcp") => false,
            _ => continue,
        };
        let end = FarEnd {
            address: key[0].as_str().context("no address")?.parse()?,
            udp,
            port: u16::try_from(key[2].as_u64().context("no port")?)?,
        };
        let count = meter.0.entry(end).or_default();
        count.packets += element["counter"]["packets"].as_u64().unwrap_or(0);
        count.bytes += element["counter"]["bytes"].as_u64().unwrap_or(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nftables 1.0.6 prints it.
    const LISTING: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "ip",
        "name": "sent", "table": "meter", "elem": [
        {"elem": {"val": {"concat": ["198.51.100.12", "udp", 41641]}, "counter": {"packets": 3, "bytes": 300}}},
        {"elem": {"val": {"concat": ["198.51.100.12", "udp", 9]}, "counter": {"packets": 1, "bytes": 40}}},
        {"elem": {"val": {"concat": ["198.51.100.2", "tcp", 443]}, "counter": {"packets": 5, "bytes": 999}}}]}}]}"#;

    #[test]
    fn elements_are_summed_by_far_end() {
        let mut meter = Meter::default();
        add_elements(&mut meter, LISTING).unwrap();
        add_elements(&mut meter, LISTING).unwrap();
        let peer = meter.udp_with("198.51.100.12".parse().unwrap());
        assert_eq!((peer.packets, peer.bytes), (8, 680));
        let relay = meter.tcp_with("198.51.100.2".parse().unwrap(), 443);
        assert_eq!((relay.packets, relay.bytes), (10, 1998));
        assert_eq!(meter.udp_with(Ipv4Addr::LOCALHOST), Count::default());
    }

    #[test]
    fn an_empty_set_counts_nothing() {
        let mut meter = Meter::default();
        add_elements(&mut meter, r#"{"nftables":[{"set":{"name":"sent"}}]}"#).unwrap();
        assert!(meter.0.is_empty());
    }
}
