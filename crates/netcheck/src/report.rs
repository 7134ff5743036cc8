//! What a check found.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ztna_proto::RegionId;

/// What a check found. `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Whether UDP passes: a STUN service answered.
    pub udp: bool,
    /// Whether it passes by IPv4.
    pub ipv4: bool,
    /// Whether it passes by IPv6.
    pub ipv6: bool,
    /// Where the outside sees this machine's socket, by IPv4: by the word of the nearest service.
    pub global_v4: Option<SocketAddr>,
    /// The same by IPv6.
    pub global_v6: Option<SocketAddr>,
    /// Whether the IPv4 NAT gives one socket different addresses towards different destinations
    /// (RFC 4787 §4.1: other than endpoint-independent mapping). Takes two services to know.
    pub mapping_varies: Option<bool>,
    /// What the router offers.
    pub port_mapping: PortMapping,
    /// Whether something answers in the place of servers until a person has clicked.
    pub captive_portal: Option<bool>,
    /// Every region that was asked, with what it answered.
    pub regions: BTreeMap<RegionId, RegionReport>,
    /// The region to be home.
    pub preferred: Option<RegionId>,
}

/// How far a region is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegionReport {
    /// Round trip by UDP over IPv4.
    pub v4: Option<Duration>,
    /// Round trip by UDP over IPv6.
    pub v6: Option<Duration>,
    /// Round trip by HTTPS.
    pub https: Option<Duration>,
    /// The TLS key exchange that its relay agreed to, if it was asked.
    pub tls_group: Option<String>,
}

impl RegionReport {
    /// The best round trip by UDP; by HTTPS, which takes longer, if UDP does not pass.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.v4.into_iter().chain(self.v6).min().or(self.https)
    }
}

/// What the router offers to open a port of its own. `None`: not asked (yet).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// UPnP IGD.
    pub upnp: Option<bool>,
    /// NAT-PMP (RFC 6886).
    pub nat_pmp: Option<bool>,
    /// PCP (RFC 6887).
    pub pcp: Option<bool>,
    /// The port that it has opened for this machine's socket.
    pub mapped: Option<SocketAddr>,
}

impl Report {
    /// The regions that answered, the nearest first.
    #[must_use]
    pub fn by_latency(&self) -> Vec<(RegionId, Duration)> {
        let measured = self.regions.iter();
        let mut sorted: Vec<(RegionId, Duration)> = measured
            .filter_map(|(region, found)| Some((*region, found.latency()?)))
            .collect();
        sorted.sort_by_key(|(region, latency)| (*latency, *region));
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_counts_before_https_and_the_faster_family_wins() {
        let ms = Duration::from_millis;
        let mut region = RegionReport {
            https: Some(ms(1)),
            ..RegionReport::default()
        };
        assert_eq!(region.latency(), Some(ms(1)));
        region.v4 = Some(ms(30));
        assert_eq!(region.latency(), Some(ms(30)));
        region.v6 = Some(ms(20));
        assert_eq!(region.latency(), Some(ms(20)));
        assert_eq!(RegionReport::default().latency(), None);
    }

    #[test]
    fn a_report_of_another_build_reads() {
        let report: Report = serde_json::from_str(r#"{"udp":true,"later":1}"#).unwrap();
        assert!(report.udp);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
