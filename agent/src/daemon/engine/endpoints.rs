//! Where this machine may be reached: its own addresses, and what STUN services see.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;
use ztna_proto::RegionId;
use ztna_proto::netmap::{Endpoint, EndpointKind, MAX_ENDPOINTS};

/// What a STUN service saw is believed for this long without being seen again: longer than a few
/// rounds, shorter than most NATs keep a mapping that is not used.
const STUN_MEMORY: Duration = Duration::from_secs(90);
/// A region must be this much nearer than the home region to become it (also by a third).
const HOME_HYSTERESIS: Duration = Duration::from_millis(10);

/// Where this machine may be reached, and how far the regions are.
#[derive(Default)]
pub struct Endpoints {
    local: Vec<SocketAddr>,
    seen: BTreeMap<SocketAddr, Instant>,
    /// How far each region is, and when that was measured.
    latencies: BTreeMap<RegionId, (Duration, Instant)>,
}

impl Endpoints {
    /// The machine's own addresses changed. What was seen from outside may hold no more.
    pub fn set_local(&mut self, addresses: &[IpAddr], port: u16) {
        self.local = addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, port))
            .collect();
        self.seen.clear();
        self.latencies.clear();
    }

    /// A STUN service of a region saw us.
    pub fn stun_answer(
        &mut self,
        region: RegionId,
        seen: SocketAddr,
        latency: Duration,
        now: Instant,
    ) {
        self.seen.insert(seen, now);
        self.latencies.insert(region, (latency, now));
    }

    /// Every endpoint, own addresses first, without repetition.
    pub fn list(&mut self, now: Instant) -> Vec<Endpoint> {
        self.seen
            .retain(|_, at| now.duration_since(*at) < STUN_MEMORY);
        let local = self.local.iter().map(|addr| Endpoint {
            addr: *addr,
            kind: EndpointKind::Local,
        });
        let seen = self
            .seen
            .keys()
            .filter(|addr| !self.local.contains(addr))
            .map(|addr| Endpoint {
                addr: *addr,
                kind: EndpointKind::Stun,
            });
        local.chain(seen).take(MAX_ENDPOINTS).collect()
    }

    /// Whether any region's distance is known.
    pub fn is_measured(&self) -> bool {
        !self.latencies.is_empty()
    }

    /// The region to call home: the nearest, and the present one unless another is clearly nearer.
    /// Without any measurement the present one, or the first of `regions`. A region that has not
    /// answered for long has no distance.
    pub fn home(
        &mut self,
        present: Option<RegionId>,
        regions: &[RegionId],
        now: Instant,
    ) -> Option<RegionId> {
        self.latencies
            .retain(|_, (_, at)| now.duration_since(*at) < STUN_MEMORY);
        let present = present.filter(|region| regions.contains(region));
        let nearest = self
            .latencies
            .iter()
            .filter(|(region, _)| regions.contains(region))
            .min_by_key(|(_, (latency, _))| *latency);
        let Some((nearest, (latency, _))) = nearest else {
            return present.or(regions.first().copied());
        };
        match present.and_then(|region| Some((region, self.latencies.get(&region)?.0))) {
            Some((region, old))
                if old.saturating_sub(*latency) < HOME_HYSTERESIS || *latency > old * 2 / 3 =>
            {
                Some(region)
            }
            _ => Some(*nearest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn what_stun_saw_is_forgotten_in_time_and_with_a_new_network() {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        endpoints.set_local(&["10.0.0.2".parse().unwrap()], 41641);
        endpoints.stun_answer(
            RegionId(1),
            addr("192.0.2.1:5000"),
            Duration::from_millis(3),
            now,
        );
        endpoints.stun_answer(
            RegionId(2),
            addr("10.0.0.2:41641"),
            Duration::from_millis(9),
            now,
        );
        let list = endpoints.list(now);
        assert_eq!(list.len(), 2, "an address is told once: {list:?}");
        assert_eq!(list[0].kind, EndpointKind::Local);
        assert_eq!(endpoints.list(now + STUN_MEMORY).len(), 1);

        endpoints.stun_answer(
            RegionId(1),
            addr("192.0.2.1:5000"),
            Duration::from_millis(3),
            now,
        );
        endpoints.set_local(&["10.9.0.2".parse().unwrap()], 41641);
        assert_eq!(
            endpoints.list(now),
            [Endpoint {
                addr: addr("10.9.0.2:41641"),
                kind: EndpointKind::Local
            }]
        );
    }

    #[tokio::test]
    async fn home_is_the_nearest_region_and_stays_unless_another_is_clearly_nearer() {
        let now = Instant::now();
        let regions = [RegionId(1), RegionId(2)];
        let mut endpoints = Endpoints::default();
        assert_eq!(endpoints.home(None, &regions, now), Some(RegionId(1)));
        assert_eq!(
            endpoints.home(Some(RegionId(2)), &regions, now),
            Some(RegionId(2))
        );
        assert_eq!(
            endpoints.home(Some(RegionId(7)), &regions, now),
            Some(RegionId(1))
        );

        let mut measure = |region, ms| {
            let seen = addr("192.0.2.1:1");
            endpoints.stun_answer(RegionId(region), seen, Duration::from_millis(ms), now);
            endpoints.home(Some(RegionId(1)), &regions, now)
        };
        measure(1, 40);
        assert_eq!(
            measure(2, 35),
            Some(RegionId(1)),
            "5 ms are not worth a move"
        );
        assert_eq!(
            measure(2, 28),
            Some(RegionId(1)),
            "nor is less than a third"
        );
        assert_eq!(measure(2, 20), Some(RegionId(2)));
        assert_eq!(endpoints.home(None, &regions, now), Some(RegionId(2)));
        assert_eq!(endpoints.home(None, &[], now), None);

        // Region 2 falls silent.
        let later = now + STUN_MEMORY;
        let seen = addr("192.0.2.1:1");
        endpoints.stun_answer(RegionId(1), seen, Duration::from_millis(90), later);
        assert_eq!(
            endpoints.home(Some(RegionId(2)), &regions, later),
            Some(RegionId(1))
        );
    }
}
