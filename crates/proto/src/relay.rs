//! The relay map: which relay and STUN services exist, by region.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::RegionId;

/// TCP port of a relay where the map names none (HTTPS).
pub const DEFAULT_DERP_PORT: u16 = 443;
/// UDP port of a STUN service where the map names none (RFC 8489 §18.6).
pub const DEFAULT_STUN_PORT: u16 = 3478;

/// Numbers of regions that orgs have for themselves; two orgs may use the same.
pub const ORG_REGIONS: std::ops::RangeInclusive<u32> = 900..=999;

/// All regions that a machine may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelayMap {
    /// The regions, in the order of their ids.
    pub regions: BTreeMap<RegionId, RelayRegion>,
}

/// Relays that stand near each other and know of each other's clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelayRegion {
    /// The region's number; the key in [`RelayMap::regions`].
    pub id: RegionId,
    /// Short code, as in `lon`.
    pub code: String,
    /// Name for people, as in `London`.
    pub name: String,
    /// The region's relays, in the order in which a client tries them.
    pub nodes: Vec<RelayNode>,
}

impl RelayRegion {
    /// Its hosts that carry packets; the others are STUN services alone.
    pub fn relays(&self) -> impl Iterator<Item = &RelayNode> {
        self.nodes.iter().filter(|node| node.derp_port.is_some())
    }
}

/// One relay host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelayNode {
    /// Unique within the region.
    pub name: String,
    /// DNS name or IP address; TLS server name.
    pub host: String,
    /// Addresses to use instead of resolving `host`. Empty: resolve.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// TCP port of the relay. `None`: no relay here.
    pub derp_port: Option<u16>,
    /// UDP port of the STUN service. `None`: no STUN here.
    pub stun_port: Option<u16>,
    /// UDP port of the relay's QUIC transport. `None`: TCP only.
    #[serde(default)]
    pub quic_port: Option<u16>,
    /// TCP port at which the host answers `/generate_204` without TLS, by which a machine finds out
    /// whether a captive portal stands between. `None`: it does not.
    #[serde(default)]
    pub http_port: Option<u16>,
    /// How the relay proves itself.
    #[serde(default)]
    pub certificate: CertificatePin,
}

/// A region as it is written and shown: what clients get, and where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegionDocument {
    /// What clients get.
    #[serde(flatten)]
    pub region: RelayRegion,
    /// Where it is, for maps that people look at.
    #[serde(flatten)]
    pub location: Location,
}

impl From<RelayRegion> for RegionDocument {
    fn from(region: RelayRegion) -> Self {
        Self {
            region,
            location: Location::default(),
        }
    }
}

/// A place on Earth (WGS 84), or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Location {
    /// Degrees, north positive.
    #[serde(default)]
    pub latitude: Option<f64>,
    /// Degrees, east positive.
    #[serde(default)]
    pub longitude: Option<f64>,
}

/// How a TLS server proves itself to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificatePin {
    /// By a certificate of the public web's authorities.
    #[default]
    WebPki,
    /// By a certificate whose DER has this SHA-256, 64 hex digits.
    Sha256(String),
}

/// `GET /api/derp-health`: whether the relays work, as the control plane sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelayHealth {
    /// The regions that the caller may see.
    pub regions: Vec<RegionHealth>,
}

/// A region's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegionHealth {
    /// The region's number.
    pub id: RegionId,
    /// Short code.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// Where it is.
    #[serde(flatten)]
    pub location: Location,
    /// Whether it is the org's own.
    pub own: bool,
    /// Its relays, in the order of the map.
    pub nodes: Vec<NodeHealth>,
}

/// A relay's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeHealth {
    /// The node's name.
    pub node: String,
    /// Whether everything that it serves answered the last probe. `None`: it is not probed (yet).
    pub up: Option<bool>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// Round trip from the control plane, in milliseconds.
    pub latency_ms: Option<f32>,
    /// When it was probed last.
    pub checked_at: Option<Timestamp>,
    /// What does not answer and why, or why there is no probe. Told of an org's own relays only.
    pub error: Option<String>,
}

/// Which region a machine reaches in what time: the result of a network check.
pub type RegionLatencies = BTreeMap<RegionId, std::time::Duration>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_with_unknown_members_reads() {
        let json = r#"{"regions":{"1":{"id":1,"code":"lon","name":"London","later":true,"nodes":[
            {"name":"lon1","host":"relay.example","derp_port":443,"stun_port":3478}]}}}"#;
        let map: RelayMap = serde_json::from_str(json).unwrap();
        let node = &map.regions[&RegionId(1)].nodes[0];
        assert_eq!(node.certificate, CertificatePin::WebPki);
        assert!(node.addresses.is_empty());
        assert_eq!((node.quic_port, node.http_port), (None, None));
        let back: RelayMap = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
        assert_eq!(back, map);
    }
}
