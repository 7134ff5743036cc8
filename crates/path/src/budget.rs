//! A rate with a burst, as a single instant (the generic cell rate algorithm of ATM, ITU-T I.371).

use std::time::{Duration, Instant};

/// So many events a second in the long run, and so many at once.
#[derive(Clone, Debug)]
pub struct Budget {
    interval: Duration,
    tolerance: Duration,
    /// When the budget is whole again.
    whole_at: Instant,
}

impl Budget {
    /// A whole budget. `per_second` and `burst` are at least one.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * burst.saturating_sub(1),
            whole_at: now,
        }
    }

    /// Whether one more may go now; if so, it is counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let whole_at = self.whole_at.max(now);
        if whole_at - now > self.tolerance {
            return false;
        }
        self.whole_at = whole_at + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(10, 5, start);
        let at_once = (0..20).filter(|_| budget.take(start)).count();
        assert_eq!(at_once, 5);
        let second = (1..=1000)
            .filter(|ms| budget.take(start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(second, 10);
    }

    #[test]
    fn rest_refills_no_more_than_the_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(10, 5, start);
        let later = start + Duration::from_secs(100);
        assert_eq!((0..20).filter(|_| budget.take(later)).count(), 5);
    }
}
