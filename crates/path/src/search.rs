//! When the candidates are tried: quickly at first, then ever more slowly.

use std::time::{Duration, Instant};

/// Pauses after the first, second, … round of a search: rounds at 0, 0.2, 0.5, 1, 2, 4, 8 and 16 s.
pub const ROUND_GAPS: [Duration; 7] = [
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Pause between later rounds, as long as no direct path is found: one that opens without a sign is
/// found within 30 s. Varied by a tenth, so that a peer's rounds and ours do not stay out of step.
pub const SLOW_GAP: Duration = Duration::from_secs(25);

/// Rounds that are run even if an early one finds a path: a better one may have lost a packet.
pub const SETTLE_ROUNDS: usize = 4;

/// Pause between rounds that look for something better than the direct path in use.
pub const UPGRADE_GAP: Duration = Duration::from_secs(60);

/// The rounds of one search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Rounds run.
    rounds: usize,
    next: Instant,
}

impl Search {
    pub(crate) fn start(now: Instant) -> Self {
        Self {
            rounds: 0,
            next: now,
        }
    }

    /// A search that has found something: the next round looks for something better.
    pub(crate) fn settled(now: Instant) -> Self {
        Self {
            rounds: SETTLE_ROUNDS,
            next: now + UPGRADE_GAP,
        }
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Whether the first quick rounds are done.
    pub(crate) fn is_settled(&self) -> bool {
        self.rounds >= SETTLE_ROUNDS
    }

    /// A round was run. `spread` in -1.0 to 1.0 varies the slow pause.
    pub(crate) fn ran(&mut self, found: bool, spread: f64, now: Instant) {
        let gap = match ROUND_GAPS.get(self.rounds) {
            _ if found && self.rounds + 1 >= SETTLE_ROUNDS => UPGRADE_GAP,
            Some(gap) => *gap,
            None => SLOW_GAP.mul_f64(1.0 + spread.clamp(-1.0, 1.0) / 10.0),
        };
        self.rounds = self.rounds.saturating_add(1);
        self.next = now + gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(found_from: usize, rounds: usize) -> Vec<f64> {
        let start = Instant::now();
        let mut search = Search::start(start);
        (0..rounds)
            .map(|round| {
                let now = search.next();
                search.ran(round >= found_from, 0.0, now);
                (now - start).as_secs_f64()
            })
            .collect()
    }

    #[test]
    fn a_search_in_vain_slows_down() {
        assert_eq!(
            times(usize::MAX, 10),
            [0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 41.0, 66.0]
        );
    }

    #[test]
    fn a_search_that_finds_settles_first() {
        assert_eq!(times(1, 6), [0.0, 0.2, 0.5, 1.0, 61.0, 121.0]);
    }
}
