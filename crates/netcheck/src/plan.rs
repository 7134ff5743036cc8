//! Which service is asked when.
//!
//! Families are asked apart, since one may work and not the other. A further try goes to the region's
//! next node, and is dropped if it would tell nothing new.

use std::net::SocketAddr;
use std::time::Duration;

use ztna_proto::RegionId;

use crate::report::Report;

/// Tries per region and family in a full check …
pub const FULL_TRIES: u32 = 3;
/// … this far apart.
pub const FULL_SPACING: Duration = Duration::from_millis(100);
/// Regions that an incremental check asks beside home: the nearest of the last report.
pub const FASTEST: usize = 3;
/// Tries for the home region in an incremental check: its silence is what moves a machine.
pub const HOME_TRIES: u32 = 4;
/// Tries for the two nearest; the others get one.
pub const NEAR_TRIES: u32 = 2;
/// A region that has not been measured is waited for this long before the next try.
pub const UNKNOWN_LATENCY: Duration = Duration::from_millis(200);
/// Each try waits so much longer than the one before.
pub const TRY_STEP: Duration = Duration::from_millis(50);
/// Nodes of a region and family that are asked, at most.
pub const MAX_NODES: usize = 4;

/// A region as far as a check is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its number.
    pub id: RegionId,
    /// Whether it has a relay: only then it can be home, or be measured by HTTPS.
    pub relay: bool,
    /// Whether names of its services are still being looked up.
    pub resolving: bool,
    /// Its STUN services, by IPv4.
    pub v4: Vec<SocketAddr>,
    /// Its STUN services, by IPv6.
    pub v6: Vec<SocketAddr>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When, from the start of the check.
    pub at: Duration,
    /// The region asked.
    pub region: RegionId,
    /// The service.
    pub to: SocketAddr,
}

/// The requests to one region in a full check.
pub fn full(region: &Region) -> impl Iterator<Item = Probe> {
    let families = [&region.v4, &region.v6];
    families
        .into_iter()
        .flat_map(|nodes| probes(region.id, nodes, FULL_TRIES, |number| FULL_SPACING * number))
}

/// The requests of an incremental check, in no order: those that `last` found nearest, and home.
#[must_use]
pub fn incremental(regions: &[Region], last: &Report, home: Option<RegionId>) -> Vec<Probe> {
    let nearest = last.by_latency();
    let mut asked: Vec<(RegionId, u32)> = Vec::new();
    for (place, (region, _)) in nearest.iter().take(FASTEST).enumerate() {
        asked.push((*region, if place < 2 { NEAR_TRIES } else { 1 }));
    }
    if let Some(home) = home {
        asked.retain(|(region, _)| *region != home);
        asked.push((home, HOME_TRIES));
    }
    let mut plan = Vec::new();
    for (id, tries) in asked {
        let Some(region) = regions.iter().find(|region| region.id == id) else {
            continue;
        };
        let found = last.regions.get(&id);
        let families = [
            (&region.v4, found.and_then(|found| found.v4)),
            (&region.v6, found.and_then(|found| found.v6)),
        ];
        for (nodes, before) in families {
            // 1.2 × the last round trip.
            let wait = before.map_or(UNKNOWN_LATENCY, |latency| latency * 6 / 5);
            let delay = |number: u32| match number {
                0 => Duration::ZERO,
                1 => wait,
                _ => (wait + TRY_STEP) * number,
            };
            plan.extend(probes(id, nodes, tries, delay));
        }
    }
    plan
}

fn probes(
    region: RegionId,
    nodes: &[SocketAddr],
    tries: u32,
    delay: impl Fn(u32) -> Duration,
) -> impl Iterator<Item = Probe> {
    let nodes = &nodes[..nodes.len().min(MAX_NODES)];
    let tries = if nodes.is_empty() { 0 } else { tries };
    (0..tries).map(move |number| Probe {
        at: delay(number),
        region,
        to: nodes[number as usize % nodes.len()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::RegionReport;

    fn region(id: u32, nodes: u8) -> Region {
        let addr = |node| SocketAddr::from(([192, 0, 2, node], 3478));
        Region {
            id: RegionId(id),
            relay: true,
            resolving: false,
            v4: (0..nodes).map(addr).collect(),
            v6: Vec::new(),
        }
    }

    fn found(latencies: &[(u32, u64)]) -> Report {
        let regions = latencies.iter().map(|(id, ms)| {
            let v4 = Some(Duration::from_millis(*ms));
            let found = RegionReport {
                v4,
                ..RegionReport::default()
            };
            (RegionId(*id), found)
        });
        Report {
            regions: regions.collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_full_check_asks_three_times_and_goes_round_the_nodes() {
        let plan: Vec<Probe> = full(&region(1, 2)).collect();
        let at: Vec<u64> = plan
            .iter()
            .map(|probe| probe.at.as_millis() as u64)
            .collect();
        assert_eq!(at, [0, 100, 200]);
        assert_eq!(plan[0].to, plan[2].to);
        assert_ne!(plan[0].to, plan[1].to);
        assert_eq!(full(&region(1, 0)).count(), 0);

        let mut both = region(1, 1);
        both.v6 = vec!["[2001:db8::1]:3478".parse().unwrap()];
        assert_eq!(full(&both).count(), 6);
    }

    #[test]
    fn an_incremental_check_asks_home_most_and_the_nearest() {
        let regions: Vec<Region> = (1..=6).map(|id| region(id, 1)).collect();
        let last = found(&[(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]);
        let count = |home: Option<u32>| -> Vec<usize> {
            let plan = incremental(&regions, &last, home.map(RegionId));
            let of = |id| {
                plan.iter()
                    .filter(|probe| probe.region == RegionId(id))
                    .count()
            };
            (1..=6).map(of).collect()
        };
        assert_eq!(count(Some(1)), [4, 2, 1, 0, 0, 0]);
        assert_eq!(count(Some(3)), [2, 2, 4, 0, 0, 0]);
        assert_eq!(count(Some(5)), [2, 2, 1, 0, 4, 0]);
        assert_eq!(count(Some(9)), [2, 2, 1, 0, 0, 0]);
        assert_eq!(count(None), [2, 2, 1, 0, 0, 0]);
    }

    #[test]
    fn tries_wait_for_what_the_last_one_took() {
        let regions = [region(1, 1), region(2, 1)];
        let plan = incremental(&regions, &found(&[(1, 100)]), Some(RegionId(1)));
        let at: Vec<u128> = plan.iter().map(|probe| probe.at.as_millis()).collect();
        assert_eq!(at, [0, 120, 340, 510]);
        let plan = incremental(&regions, &found(&[]), Some(RegionId(2)));
        let at: Vec<u128> = plan.iter().map(|probe| probe.at.as_millis()).collect();
        assert_eq!(at, [0, 200, 500, 750]);
    }
}
