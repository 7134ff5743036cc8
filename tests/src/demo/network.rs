//! The demo's internet: a bridge that reaches this machine's server, and nothing else of it.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use anyhow::{Context, Result};

use crate::net::Net;

/// The demo's internet: from the range for tests between networks (RFC 2544), which no network
/// routes. `./dev` names its first address as the server's where there is no other.
const NETWORK: [u8; 3] = [198, 18, 77];
/// This machine's address on it.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 77, 1);

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
    let mut addresses = vec![HOST];
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

    let net = Net::with_network(NETWORK, None)?;
    let link = format!("zt{}", std::process::id());
    let internet = net.internet();
    // The far end is made in the namespace of this process, and goes with the near one.
    internet.ip(&format!(
        "link add host type veth peer name {link} netns {}",
        std::process::id()
    ))?;
    internet.nft(&rules(&addresses, port, stun_port))?;
    internet.ip("link set dev host master br0 up")?;
    let here = |args: &str| {
        crate::net::cmd::run(std::process::Command::new("ip").args(args.split_whitespace()))
    };
    here(&format!("addr add {HOST}/24 dev {link}"))?;
    here(&format!("link set dev {link} up"))?;
    Ok(net)
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
