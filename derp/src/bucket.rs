//! A token bucket. Time comes from the caller.

#[cfg(feature = "server")]
use std::time::Duration;

use tokio::time::Instant;

use crate::MAX_PACKET;
use crate::frame::{HEADER_LEN, PacketHead};

/// No bucket of bytes is smaller: the largest frame must fit.
pub(crate) const MIN_BURST: u64 = (MAX_PACKET + size_of::<PacketHead>() + HEADER_LEN) as u64;

/// Lets `rate` tokens per second through, and `burst` at once.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: f64,
    burst: f64,
    /// Below zero: what was taken ahead of time.
    level: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let burst = burst as f64;
        Self {
            rate: (rate as f64).max(1.0),
            burst,
            level: burst,
            at: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.level = (self.level + gained).min(self.burst);
        self.at = now;
    }

    /// Takes `tokens` if they are there.
    pub(crate) fn take(&mut self, tokens: usize, now: Instant) -> bool {
        self.refill(now);
        let there = self.level >= tokens as f64;
        if there {
            self.level -= tokens as f64;
        }
        there
    }

    /// Takes another rate and burst from now on. What was taken ahead of time stays owed.
    #[cfg(feature = "server")]
    pub(crate) fn set(&mut self, rate: u64, burst: u64, now: Instant) {
        self.refill(now);
        self.rate = (rate as f64).max(1.0);
        self.burst = burst as f64;
        self.level = self.level.min(self.burst);
    }

    /// Takes `tokens` in any case, and says how long to wait until the bucket is even again.
    #[cfg(feature = "server")]
    pub(crate) fn charge(&mut self, tokens: usize, now: Instant) -> Duration {
        self.refill(now);
        self.level -= tokens as f64;
        if self.level >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.level / self.rate)
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let burst = usize::try_from(MIN_BURST).unwrap();
        let mut bucket = TokenBucket::new(1000, MIN_BURST, start);
        assert!(bucket.take(burst, start));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1001, start + Duration::from_secs(1)));
        assert!(bucket.take(1000, start + Duration::from_secs(1)));
        assert!(!bucket.take(burst + 1, start + Duration::from_secs(86_400)));
    }

    #[test]
    fn charging_ahead_is_waited_for() {
        let start = Instant::now();
        let burst = usize::try_from(MIN_BURST).unwrap();
        let mut bucket = TokenBucket::new(1000, MIN_BURST, start);
        assert_eq!(bucket.charge(burst, start), Duration::ZERO);
        assert_eq!(bucket.charge(500, start), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.charge(0, later), Duration::ZERO);
    }
}
