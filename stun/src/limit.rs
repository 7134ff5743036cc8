//! A bound on answers per source, so that a forged source address is not worth forging.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Answers per second to one IPv4 address, or one IPv6 /56.
const PER_SECOND: u32 = 200;
/// Sources that are counted in a second. More than that share one count.
const MAX_SOURCES: usize = 65_536;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the answers of the present second.
pub struct RateLimit {
    since: Instant,
    counts: BTreeMap<IpAddr, u32>,
    /// What sources beyond the table's end have had.
    overflow: u32,
}

impl RateLimit {
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            counts: BTreeMap::new(),
            overflow: 0,
        }
    }

    /// Whether the source may have another answer.
    pub fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            self.since = now;
            self.counts.clear();
            self.overflow = 0;
        }
        let prefix = prefix(source.to_canonical());
        let is_full = self.counts.len() >= MAX_SOURCES && !self.counts.contains_key(&prefix);
        let count = if is_full {
            &mut self.overflow
        } else {
            self.counts.entry(prefix).or_default()
        };
        *count = count.saturating_add(1);
        *count <= PER_SECOND
    }
}

fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_each_second() {
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let admitted = (0..1000).filter(|_| limit.admit(source, now)).count();
        assert_eq!(admitted, PER_SECOND as usize);
        assert!(limit.admit("192.0.2.2".parse().unwrap(), now));
        assert!(limit.admit(source, now + WINDOW));
    }

    #[test]
    fn an_ipv6_site_is_one_source() {
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        let admitted = (0..1000_u128)
            .filter(|host| {
                let ip = Ipv6Addr::from_bits(0x2001_0db8 << 96 | host << 64);
                // 256 /64s make up a /56.
                *host < 256 && limit.admit(ip.into(), now)
            })
            .count();
        assert_eq!(admitted, PER_SECOND as usize);
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let mut limit = RateLimit::new(now);
        let admitted = (0..100_000_u32)
            .filter(|host| limit.admit(std::net::Ipv4Addr::from_bits(*host).into(), now))
            .count();
        assert_eq!(admitted, MAX_SOURCES + PER_SECOND as usize);
        assert_eq!(limit.counts.len(), MAX_SOURCES);
    }
}
