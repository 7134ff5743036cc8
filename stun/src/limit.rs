//! A bound on answers per source network.
//!
//! Each network (IPv4 address, IPv6 /56) has a rate and a burst, kept as a single instant (the generic
//! cell rate algorithm, ITU-T I.371). The instants stand in a table of fixed size, found by a hash
//! with a random key: a flood from many forged addresses costs no memory, and an attacker cannot know
//! which addresses share a place with a victim's. All threads share the table without a lock.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Places in the table: 512 KiB.
const PLACES: usize = 65_536;

/// Answers per second to one source network in the long run, unless told otherwise. Agents ask a
/// few times in 20 s; many may stand behind one address.
pub const ANSWERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Answers at once to one source network: so many seconds' worth.
const BURST_SECONDS: u32 = 2;

/// Bits of an IPv6 address that name a network: what a site gets (RFC 6177).
const IPV6_PREFIX: u32 = 56;

/// The table.
pub struct RateLimit {
    hasher: RandomState,
    /// When each place's budget is whole again, in ns after `start`.
    whole_at: Vec<AtomicU64>,
    start: Instant,
    /// What an answer costs, in ns.
    interval: u64,
    /// How far ahead of now a budget may be spent, in ns.
    tolerance: u64,
}

impl RateLimit {
    /// Every budget whole.
    pub fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.get());
        let burst = u64::from(per_second.get()) * u64::from(BURST_SECONDS);
        Self {
            hasher: RandomState::new(),
            whole_at: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            start: now,
            interval,
            tolerance: interval * (burst - 1),
        }
    }

    /// Whether this source may be answered now; if so, the answer is counted. This machine's own
    /// programs always may: no network delivers a packet with a loopback source (RFC 1122
    /// §3.2.1.3).
    pub fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let source = network(source);
        if source.is_loopback() {
            return true;
        }
        let place = self.hasher.hash_one(source) % PLACES as u64;
        let Some(whole_at) = usize::try_from(place)
            .ok()
            .and_then(|at| self.whole_at.get(at))
        else {
            return false;
        };
        let now = nanoseconds(now.saturating_duration_since(self.start));
        whole_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |whole_at| {
                let from = whole_at.max(now);
                (from - now <= self.tolerance).then_some(from + self.interval)
            })
            .is_ok()
    }
}

/// 584 years fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// What counts as one source: an IPv4 address, an IPv6 /56.
pub fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let mask = u128::MAX << (128 - IPV6_PREFIX);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = ANSWERS_PER_SECOND.get();

    fn limit(start: Instant) -> RateLimit {
        RateLimit::new(ANSWERS_PER_SECOND, start)
    }

    fn admitted(limit: &RateLimit, source: &str, tries: u32, now: Instant) -> u32 {
        let source: IpAddr = source.parse().unwrap();
        (0..tries)
            .map(|_| u32::from(limit.admit(source, now)))
            .sum()
    }

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let limit = limit(start);
        let burst = RATE * BURST_SECONDS;
        assert_eq!(admitted(&limit, "192.0.2.1", 1_000, start), burst);
        let later = start + Duration::from_secs(1);
        assert_eq!(admitted(&limit, "192.0.2.1", 1_000, later), RATE);
        let much_later = start + Duration::from_secs(1_000);
        assert_eq!(admitted(&limit, "192.0.2.1", 1_000, much_later), burst);
    }

    #[test]
    fn threads_share_a_budget() {
        let start = Instant::now();
        let limit = limit(start);
        let limit = &limit;
        let all: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(move || admitted(limit, "192.0.2.1", 1_000, start)))
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(all, RATE * BURST_SECONDS);
    }

    #[test]
    fn a_network_shares_its_budget() {
        let start = Instant::now();
        for (one, same) in [
            ("2001:db8:0:1200::1", "2001:db8:0:12ff::2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            let limit = limit(start);
            admitted(&limit, one, 1_000, start);
            assert_eq!(admitted(&limit, same, 10, start), 0, "{same}");
        }
    }

    #[test]
    fn this_machine_is_not_limited() {
        let start = Instant::now();
        let limit = limit(start);
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(admitted(&limit, own, 1_000, start), 1_000, "{own}");
        }
    }

    /// A place is shared by chance in one of 65,536 cases: of ten other networks some have their own.
    #[test]
    fn others_have_their_own() {
        let start = Instant::now();
        let limit = limit(start);
        admitted(&limit, "192.0.2.1", 1_000, start);
        admitted(&limit, "2001:db8:0:1200::1", 1_000, start);
        let v4 = (0..10).map(|n| format!("198.51.100.{n}"));
        let v6 = (0..10).map(|n| format!("2001:db8:1:{n}00::"));
        let others: u32 = v4
            .chain(v6)
            .map(|source| admitted(&limit, &source, 1, start))
            .sum();
        assert!(others >= 15, "{others} of 20");
    }
}
