//! What `ztna netcheck` is told.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ztna_local::{NatKind, NetcheckReport, PortMappings, RegionDistance, StunStatus};
use ztna_netcheck::Report;
use ztna_proto::RegionId;
use ztna_proto::relay::RelayMap;

/// A report for people and scripts. `home`: the home region as it is now.
#[must_use]
pub fn told(report: &Report, map: &RelayMap, home: Option<RegionId>) -> NetcheckReport {
    let preferred = report.preferred.or(home);
    let public = report.global_v4.or(report.global_v6);
    let nat = nat(report);
    let mut regions: Vec<RegionDistance> = map
        .regions
        .values()
        .map(|region| {
            let found = report.regions.get(&region.id).cloned().unwrap_or_default();
            RegionDistance {
                id: region.id,
                code: region.code.clone(),
                name: region.name.clone(),
                latency_ms: found.latency().map(milliseconds),
                ipv4_ms: found.v4.map(milliseconds),
                ipv6_ms: found.v6.map(milliseconds),
                https_ms: found.https.map(milliseconds),
                preferred: preferred == Some(region.id),
            }
        })
        .collect();
    regions.sort_by(|a, b| {
        let distance = |region: &RegionDistance| region.latency_ms.unwrap_or(f64::INFINITY);
        distance(a).total_cmp(&distance(b))
    });
    let has_stun = |region: &&ztna_proto::relay::RelayRegion| {
        region.nodes.iter().any(|node| node.stun_port.is_some())
    };
    let stun_status = match (report.udp, map.regions.values().find(has_stun)) {
        (true, _) => StunStatus::Ok,
        (false, Some(_)) => StunStatus::NoAnswer,
        (false, None) => StunStatus::NoService,
    };
    let nearest = preferred.and_then(|region| report.regions.get(&region));
    let any_tls = report
        .regions
        .values()
        .find_map(|region| region.tls_group.clone());
    let mapping = &report.port_mapping;
    NetcheckReport {
        verdict: verdict(report, nat, stun_status).to_owned(),
        udp: report.udp,
        ipv4: report.ipv4,
        ipv6: report.ipv6,
        stun_status,
        public_ip: public.map(|addr| addr.ip()),
        public_port: public.map(|addr| addr.port()),
        public_ipv6: report.global_v6,
        nat,
        port_mapping: PortMappings {
            upnp: mapping.upnp,
            nat_pmp: mapping.nat_pmp,
            pcp: mapping.pcp,
            address: mapping.mapped,
        },
        captive_portal: report.captive_portal,
        nearest_derp: preferred
            .and_then(|region| map.regions.get(&region))
            .map(|region| region.code.clone()),
        relay_tls_group: nearest
            .and_then(|region| region.tls_group.clone())
            .or(any_tls),
        regions,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn nat(report: &Report) -> NatKind {
    match (report.global_v4, report.mapping_varies) {
        (Some(global), _) if is_own(global.ip()) => NatKind::None,
        (Some(_), Some(false)) => NatKind::Easy,
        (Some(_), Some(true)) => NatKind::Hard,
        _ => NatKind::Unknown,
    }
}

/// Whether an address is one of this machine's: only then a socket can have it.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// What it comes to.
fn verdict(report: &Report, nat: NatKind, stun: StunStatus) -> &'static str {
    let is_reached = !report.by_latency().is_empty();
    match (report.udp, nat) {
        _ if report.captive_portal == Some(true) && !is_reached => {
            "a captive portal stands between: sign in to this network with a browser"
        }
        (false, _) if stun == StunStatus::NoService => {
            "the relay map names no STUN service: peers are reached directly on shared networks only"
        }
        (false, _) if is_reached => "UDP is blocked: traffic goes by relay, over TCP",
        (false, _) => "no relay region answers: check this machine's network and firewall",
        (true, NatKind::None) => "good: no NAT, peers reach this machine directly",
        (true, _) if report.port_mapping.mapped.is_some() => {
            "good: the router has opened a port, peers reach this machine directly"
        }
        (true, NatKind::Hard) => {
            "fair: a hard NAT; peers behind another hard NAT are reached by relay, others directly"
        }
        (true, _) => {
            "good: UDP passes, peers are reached directly wherever their network lets them"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ztna_netcheck::RegionReport;
    use ztna_proto::relay::{CertificatePin, RelayNode, RelayRegion};

    use super::*;

    fn map() -> RelayMap {
        let region = |id: u32, code: &str| RelayRegion {
            id: RegionId(id),
            code: code.to_owned(),
            name: code.to_uppercase(),
            nodes: vec![RelayNode {
                name: "n".into(),
                host: "relay.example".into(),
                addresses: Vec::new(),
                derp_port: Some(443),
                stun_port: Some(3478),
                quic_port: None,
                http_port: None,
                certificate: CertificatePin::WebPki,
            }],
        };
        let regions = [(1, "ams"), (2, "blr"), (3, "cdg")];
        let regions = regions.map(|(id, code)| (RegionId(id), region(id, code)));
        RelayMap {
            regions: regions.into(),
        }
    }

    fn measured(latencies: &[(u32, u64)]) -> Report {
        let regions: BTreeMap<_, _> = latencies
            .iter()
            .map(|(id, ms)| {
                let found = RegionReport {
                    v4: Some(Duration::from_millis(*ms)),
                    ..RegionReport::default()
                };
                (RegionId(*id), found)
            })
            .collect();
        Report {
            udp: true,
            ipv4: true,
            global_v4: Some("203.0.113.9:41641".parse().unwrap()),
            mapping_varies: Some(false),
            preferred: latencies.first().map(|(id, _)| RegionId(*id)),
            regions,
            ..Report::default()
        }
    }

    #[test]
    fn regions_stand_by_distance_with_the_silent_ones_last() {
        let told = told(&measured(&[(3, 9), (2, 70)]), &map(), Some(RegionId(1)));
        let order: Vec<_> = told
            .regions
            .iter()
            .map(|region| (region.code.as_str(), region.latency_ms, region.preferred))
            .collect();
        assert_eq!(
            order,
            [
                ("cdg", Some(9.0), true),
                ("blr", Some(70.0), false),
                ("ams", None, false)
            ]
        );
        assert_eq!(told.nearest_derp.as_deref(), Some("cdg"));
        assert_eq!((told.public_port, told.nat), (Some(41641), NatKind::Easy));
        assert_eq!(told.stun_status, StunStatus::Ok);
    }

    #[test]
    fn the_verdict_says_what_it_comes_to() {
        let good = measured(&[(1, 5)]);
        let hard = Report {
            mapping_varies: Some(true),
            ..good.clone()
        };
        let mut mapped = hard.clone();
        mapped.port_mapping.mapped = good.global_v4;
        let own = Report {
            global_v4: Some("127.0.0.1:41641".parse().unwrap()),
            ..good.clone()
        };
        let mut blocked = Report::default();
        let by_https = RegionReport {
            https: Some(Duration::from_millis(20)),
            ..RegionReport::default()
        };
        blocked.regions.insert(RegionId(1), by_https);
        let portal = Report {
            captive_portal: Some(true),
            ..Report::default()
        };
        for (report, map, expected) in [
            (&good, map(), "good: UDP passes"),
            (&hard, map(), "fair: a hard NAT"),
            (&mapped, map(), "good: the router"),
            (&own, map(), "good: no NAT"),
            (&blocked, map(), "UDP is blocked"),
            (&Report::default(), map(), "no relay region answers"),
            (
                &Report::default(),
                RelayMap::default(),
                "the relay map names no STUN",
            ),
            (&portal, map(), "a captive portal"),
        ] {
            let verdict = told(report, &map, None).verdict;
            assert!(verdict.starts_with(expected), "{verdict}");
        }
    }
}
