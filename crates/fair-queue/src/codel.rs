//! Controlled delay (RFC 8289): decides which packets of a queue are dropped so that a standing
//! queue does not stand.

use std::time::{Duration, Instant};

/// A wait that is no fault: bursts are shorter (RFC 8289 §4.3).
pub(crate) const TARGET: Duration = Duration::from_millis(5);
/// A queue that waits longer than [`TARGET`] for so long is a standing one (RFC 8289 §4.2).
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Below so many queued bytes nothing is dropped: one packet of full size.
const MIN_BACKLOG: usize = 1514;

/// What one queue's control remembers (RFC 8289 §5.3).
#[derive(Debug, Default)]
pub(crate) struct CoDel {
    /// When the wait will have been above target for an interval.
    first_above: Option<Instant>,
    dropping: bool,
    drop_next: Option<Instant>,
    count: u32,
    last_count: u32,
}

impl CoDel {
    /// Judges the packet at the queue's front, which has waited for `wait` with `backlog` bytes
    /// behind it. `true`: drop it and judge the next one.
    pub(crate) fn drops(&mut self, wait: Duration, backlog: usize, now: Instant) -> bool {
        let standing = self.is_standing(wait, backlog, now);
        if self.dropping {
            if !standing {
                self.dropping = false;
                return false;
            }
            let Some(next) = self.drop_next.filter(|next| now >= *next) else {
                return false;
            };
            self.count += 1;
            self.drop_next = Some(next + self.spacing());
            return true;
        }
        if !standing {
            return false;
        }
        self.dropping = true;
        // Soon after the last time, go on at about the rate that was right then.
        let recent = self
            .drop_next
            .is_some_and(|last| now.saturating_duration_since(last) < 16 * INTERVAL);
        let since = self.count - self.last_count;
        self.count = if recent && since > 1 { since } else { 1 };
        self.last_count = self.count;
        self.drop_next = Some(now + self.spacing());
        true
    }

    fn is_standing(&mut self, wait: Duration, backlog: usize, now: Instant) -> bool {
        if wait < TARGET || backlog <= MIN_BACKLOG {
            self.first_above = None;
            return false;
        }
        let since = *self.first_above.get_or_insert(now + INTERVAL);
        now >= since
    }

    /// Drops get closer with the square root of their number: TCP's rate falls linearly.
    fn spacing(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(50);
    const BACKLOG: usize = 100_000;

    #[test]
    fn a_burst_costs_nothing() {
        let (mut codel, start) = (CoDel::default(), Instant::now());
        for ms in 0..99 {
            assert!(!codel.drops(LONG, BACKLOG, start + Duration::from_millis(ms)));
        }
        // It ends in time, and the next one has an interval of its own.
        assert!(!codel.drops(TARGET / 2, BACKLOG, start + INTERVAL));
        assert!(!codel.drops(LONG, BACKLOG, start + 2 * INTERVAL));
        assert!(!codel.drops(LONG, BACKLOG, start + 2 * INTERVAL + INTERVAL / 2));
    }

    #[test]
    fn a_standing_queue_loses_more_and_more() {
        let (mut codel, start) = (CoDel::default(), Instant::now());
        let mut drops = Vec::new();
        for ms in 0..2_000 {
            if codel.drops(LONG, BACKLOG, start + Duration::from_millis(ms)) {
                drops.push(ms);
            }
        }
        assert_eq!(drops[0], 100);
        let gaps: Vec<u64> = drops.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[0], 100, "one interval");
        assert!(gaps.iter().rev().take(5).all(|gap| *gap < 30), "{gaps:?}");
    }

    #[test]
    fn the_last_packet_is_never_dropped() {
        let (mut codel, start) = (CoDel::default(), Instant::now());
        for second in 0..100 {
            assert!(!codel.drops(LONG, MIN_BACKLOG, start + Duration::from_secs(second)));
        }
    }
}
