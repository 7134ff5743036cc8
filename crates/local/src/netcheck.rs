//! What the network lets through: what `ztna netcheck` shows.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use ztna_proto::RegionId;

/// What the network lets through. `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetcheckReport {
    /// What it comes to, for people: one line.
    pub verdict: String,
    /// Whether UDP passes.
    pub udp: bool,
    /// Whether it passes by IPv4.
    pub ipv4: bool,
    /// Whether it passes by IPv6.
    pub ipv6: bool,
    /// Whether STUN services answer.
    pub stun_status: StunStatus,
    /// Where the outside sees this machine: its IPv4 address, else its IPv6 address.
    pub public_ip: Option<IpAddr>,
    /// The UDP port that goes with it.
    pub public_port: Option<u16>,
    /// Where the outside sees it by IPv6.
    pub public_ipv6: Option<SocketAddr>,
    /// What kind of NAT is between, for IPv4.
    pub nat: NatKind,
    /// What the router offers.
    pub port_mapping: PortMappings,
    /// Whether a captive portal answers in the place of servers.
    pub captive_portal: Option<bool>,
    /// Code of the region that is to be home.
    pub nearest_derp: Option<String>,
    /// TLS key exchange that its relay agreed to.
    pub relay_tls_group: Option<String>,
    /// The regions of the relay map, the nearest first.
    pub regions: Vec<RegionDistance>,
}

/// Whether STUN services answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StunStatus {
    /// At least one does.
    Ok,
    /// None does: UDP is blocked, or this machine is offline.
    NoAnswer,
    /// The relay map names none.
    #[default]
    NoService,
}

/// What kind of NAT is between this machine and the outside (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// None: the outside sees an address of this machine's own.
    None,
    /// One that shows the same address to everybody (endpoint-independent mapping).
    Easy,
    /// One that shows another address to each destination.
    Hard,
    /// There is one, or UDP does not pass; more is not known.
    #[default]
    Unknown,
}

/// What the router offers. `None`: not asked, since there is no router or not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMappings {
    /// UPnP IGD.
    pub upnp: Option<bool>,
    /// NAT-PMP.
    pub nat_pmp: Option<bool>,
    /// PCP.
    pub pcp: Option<bool>,
    /// The port that it has opened for this machine.
    pub address: Option<SocketAddr>,
}

/// How far a region is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionDistance {
    /// Its number.
    pub id: RegionId,
    /// Its code.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Best round trip in milliseconds: by UDP, else by HTTPS.
    pub latency_ms: Option<f64>,
    /// Round trip by UDP over IPv4.
    pub ipv4_ms: Option<f64>,
    /// Round trip by UDP over IPv6.
    pub ipv6_ms: Option<f64>,
    /// Round trip by HTTPS, if it was asked so.
    pub https_ms: Option<f64>,
    /// Whether it is to be home.
    pub preferred: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_that_scripts_depend_on() {
        let json = serde_json::to_value(NetcheckReport::default()).unwrap();
        for member in [
            "verdict",
            "udp",
            "ipv4",
            "ipv6",
            "stun_status",
            "public_ip",
            "public_port",
            "nat",
            "port_mapping",
            "captive_portal",
            "nearest_derp",
            "relay_tls_group",
            "regions",
        ] {
            assert!(json.get(member).is_some(), "{member} is missing");
        }
        assert_eq!(json["stun_status"], "no_service");
        assert_eq!(json["nat"], "unknown");
        let other: NetcheckReport = serde_json::from_str(r#"{"udp":true,"later":1}"#).unwrap();
        assert!(other.udp);
    }
}
