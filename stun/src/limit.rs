//! A bound on answers per source network.
//!
//! Each network (IPv4 address, IPv6 /56) has a rate and a burst, kept as a single instant (the generic
//! cell rate algorithm, ITU-T I.371). The instants stand in a table of fixed size, found by a hash
//! with a random key: a flood from many forged addresses costs no memory, and an attacker cannot know
//! which addresses share a place with a victim's.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Places in the table: 1 MiB.
const PLACES: usize = 65_536;

/// Answers per second to one source network in the long run. Agents ask a few times in 20 s; many may
/// stand behind one address.
const ANSWERS_PER_SECOND: u32 = 100;

/// Answers at once to one source network.
const ANSWER_BURST: u32 = 200;

/// Bits of an IPv6 address that name a network: what a site gets (RFC 6177).
const IPV6_PREFIX: u32 = 56;

/// The table.
pub struct RateLimit {
    hasher: RandomState,
    /// When each place's budget is whole again, after `start`.
    whole_at: Vec<Duration>,
    start: Instant,
    interval: Duration,
    tolerance: Duration,
}

impl RateLimit {
    /// Every budget whole.
    pub fn new(now: Instant) -> Self {
        let interval = Duration::from_secs(1) / ANSWERS_PER_SECOND;
        Self {
            hasher: RandomState::new(),
            whole_at: vec![Duration::ZERO; PLACES],
            start: now,
            interval,
            tolerance: interval * (ANSWER_BURST - 1),
        }
    }

    /// Whether this source may be answered now; if so, the answer is counted.
    pub fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let place = self.hasher.hash_one(network(source)) % PLACES as u64;
        let Some(whole_at) = usize::try_from(place)
            .ok()
            .and_then(|at| self.whole_at.get_mut(at))
        else {
            return false;
        };
        let now = now.saturating_duration_since(self.start);
        let from = (*whole_at).max(now);
        if from - now > self.tolerance {
            return false;
        }
        *whole_at = from + self.interval;
        true
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (128 - IPV6_PREFIX);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limit: &mut RateLimit, source: &str, tries: u32, now: Instant) -> u32 {
        let source: IpAddr = source.parse().unwrap();
        (0..tries)
            .map(|_| u32::from(limit.admit(source, now)))
            .sum()
    }

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert_eq!(
            admitted(&mut limit, "192.0.2.1", 1_000, start),
            ANSWER_BURST
        );
        let later = start + Duration::from_secs(1);
        assert_eq!(
            admitted(&mut limit, "192.0.2.1", 1_000, later),
            ANSWERS_PER_SECOND
        );
        let much_later = start + Duration::from_secs(1_000);
        assert_eq!(
            admitted(&mut limit, "192.0.2.1", 1_000, much_later),
            ANSWER_BURST
        );
    }

    #[test]
    fn a_network_shares_its_budget() {
        let start = Instant::now();
        for (one, same) in [
            ("2001:db8:0:1200::1", "2001:db8:0:12ff::2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            let mut limit = RateLimit::new(start);
            admitted(&mut limit, one, 1_000, start);
            assert_eq!(admitted(&mut limit, same, 10, start), 0, "{same}");
        }
    }

    /// A place is shared by chance in one of 65,536 cases: of ten other networks some have their own.
    #[test]
    fn others_have_their_own() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        admitted(&mut limit, "192.0.2.1", 1_000, start);
        admitted(&mut limit, "2001:db8:0:1200::1", 1_000, start);
        let v4 = (0..10).map(|n| format!("198.51.100.{n}"));
        let v6 = (0..10).map(|n| format!("2001:db8:1:{n}00::"));
        let others: u32 = v4
            .chain(v6)
            .map(|source| admitted(&mut limit, &source, 1, start))
            .sum();
        assert!(others >= 15, "{others} of 20");
    }
}
