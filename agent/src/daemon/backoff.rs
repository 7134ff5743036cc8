//! How long to wait before the next try.

use std::time::{Duration, Instant};

use rand::RngExt;

/// First pause; it doubles with every failure.
const FIRST: Duration = Duration::from_millis(250);
/// Longest pause while the trouble is young: most restarts of a server take less than this.
const EARLY_CAP: Duration = Duration::from_secs(5);
/// How long trouble is young.
const EARLY: Duration = Duration::from_secs(60);
/// Longest pause after that: many machines may be waiting for one server.
const LATE_CAP: Duration = Duration::from_secs(30);

/// Pauses between tries that fail: doubling, capped, and random between half and whole, so that the
/// machines that one server lost do not come back in step.
#[derive(Debug, Default)]
pub struct Backoff {
    failing_since: Option<Instant>,
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub fn after_failure(&mut self, now: Instant, rng: &mut impl rand::Rng) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        let cap = if now.duration_since(since) < EARLY {
            EARLY_CAP
        } else {
            LATE_CAP
        };
        let whole = FIRST
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(cap);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_in_the_first_minute_and_to_thirty_later() {
        let mut rng = rand::rng();
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let first = backoff.after_failure(start, &mut rng);
        assert!(first <= FIRST && first >= FIRST / 2, "{first:?}");
        for second in 0..60 {
            let pause = backoff.after_failure(start + Duration::from_secs(second), &mut rng);
            assert!(pause <= EARLY_CAP, "{pause:?} after {second} s");
        }
        let late = backoff.after_failure(start + EARLY, &mut rng);
        assert!(late >= LATE_CAP / 2 && late <= LATE_CAP, "{late:?}");
        backoff.reset();
        assert!(backoff.after_failure(start + EARLY, &mut rng) <= FIRST);
    }
}
