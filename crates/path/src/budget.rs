//! A bound on pings per second, whatever a peer or the control plane sends.

use std::time::Instant;

/// Pings that may be sent at once.
const BURST: f64 = 120.0;
/// Pings per second in the long run.
const PER_SECOND: f64 = 40.0;

pub struct Budget {
    tokens: f64,
    at: Instant,
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    /// Takes one ping from the budget. `false`: none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * PER_SECOND).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}
