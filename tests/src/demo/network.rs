//! The demo's internet: a bridge that reaches this machine's server, and nothing else of it.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::process::Command;

use anyhow::{Context, Result};

use crate::net::Net;
use crate::net::cmd::run;

/// The demo's internet is a /24 of the range for tests between networks (RFC 2544), which nobody
/// routes: this one, or the next that no other demo on this machine has. `./dev` names the first
/// address of the first as the server's where the machine has no other.
const FIRST: u8 = 77;
/// So many demos run side by side at most.
const DEMOS: u8 = 16;

/// Makes the bridge, with this machine on it.
///
/// The link to this machine lets only the server's two ports through, in rules that are inside the
/// bridge's namespace and end with it: neither this machine's firewall nor its forwarding changes,
/// and the demo's machines cannot use it as a router.
///
/// # Errors
/// Not root, or the server's name does not resolve.
pub fn make(url: &str, stun_port: u16) -> Result<Net> {
    let (host, port) = authority(url).with_context(|| format!("{url} names no host and port"))?;
    let network = free_network()?;
    let here = Ipv4Addr::new(network[0], network[1], network[2], 1);
    let mut addresses = vec![here];
    for address in (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {host}"))?
    {
        if let IpAddr::V4(address) = address.ip()
            && !address.is_loopback()
        {
            addresses.push(address);
        }
    }
    addresses.sort_unstable();
    addresses.dedup();

    let net = Net::with_network(network, None)?;
    let link = format!("zt{}", std::process::id());
    let internet = net.internet();
    // The far end is made in the namespace of this process, and goes with the near one.
    internet.ip(&format!(
        "link add host type veth peer name {link} netns {}",
        std::process::id()
    ))?;
    internet.nft(&rules(&addresses, port, stun_port))?;
    internet.ip("link set dev host master br0 up")?;
    ip(&format!("addr add {here}/24 dev {link}"))?;
    ip(&format!("link set dev {link} up"))?;
    Ok(net)
}

/// `ip` on this machine.
fn ip(args: &str) -> Result<String> {
    run(Command::new("ip").args(args.split_whitespace()))
}

/// The first network that this machine has no address in.
fn free_network() -> Result<[u8; 3]> {
    let used = ip("-4 -oneline address show")?;
    (FIRST..FIRST + DEMOS)
        .map(|third| [198, 18, third])
        .find(|[a, b, c]| !used.contains(&format!(" {a}.{b}.{c}.")))
        .context("too many demos run on this machine; stop one")
}

/// Host and port of `https://HOST:PORT`.
fn authority(url: &str) -> Option<(&str, u16)> {
    let rest = url.strip_prefix("https://")?.trim_end_matches('/');
    match rest.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((rest, 443)),
    }
}

fn rules(addresses: &[Ipv4Addr], port: u16, stun_port: u16) -> String {
    let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let addresses = addresses.join(", ");
    format!(
        "table bridge demo {{
            chain forward {{
                type filter hook forward priority filter; policy accept;
                oifname \"host\" jump to_host
                iifname \"host\" jump from_host
            }}
            chain to_host {{
                ether type arp accept
                ip daddr {{ {addresses} }} tcp dport {port} accept
                ip daddr {{ {addresses} }} udp dport {stun_port} accept
                drop
            }}
            chain from_host {{
                ether type arp accept
                ip saddr {{ {addresses} }} tcp sport {port} accept
                ip saddr {{ {addresses} }} udp sport {stun_port} accept
                drop
            }}
        }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        assert_eq!(authority("https://10.0.0.1:8443"), Some(("10.0.0.1", 8443)));
        assert_eq!(
            authority("https://ztna.example/"),
            Some(("ztna.example", 443))
        );
        assert_eq!(authority("http://10.0.0.1:80"), None);
        assert_eq!(authority("https://10.0.0.1:many"), None);
    }
}
