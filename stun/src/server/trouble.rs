//! Errors that may last, such as a machine out of memory or descriptors: they must neither spin
//! nor fill the log.

use std::io;
use std::time::{Duration, Instant};

/// How long to wait before the next try.
pub const PAUSE: Duration = Duration::from_millis(100);

/// At most one line per error and so long.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The log of one operation's failures.
pub struct Trouble {
    operation: &'static str,
    logged_at: Option<Instant>,
    since: u64,
}

impl Trouble {
    pub fn new(operation: &'static str) -> Self {
        Self {
            operation,
            logged_at: None,
            since: 0,
        }
    }

    /// Notes a failure. Whether it was logged.
    pub fn note(&mut self, error: &io::Error, now: Instant) -> bool {
        self.since += 1;
        let quiet = |at: Instant| now.saturating_duration_since(at) < LOG_INTERVAL;
        if self.logged_at.is_some_and(quiet) {
            return false;
        }
        tracing::warn!(%error, failures = self.since, "{} fails; trying again", self.operation);
        self.logged_at = Some(now);
        self.since = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_trouble_is_told_now_and_then() {
        let mut trouble = Trouble::new("reading");
        let error = io::Error::from(io::ErrorKind::OutOfMemory);
        let start = Instant::now();
        let told: Vec<u32> = (0..25)
            .filter(|second| trouble.note(&error, start + Duration::from_secs((*second).into())))
            .collect();
        assert_eq!(told, [0, 10, 20]);
    }
}
