//! How far regions were lately, and which one is to be home.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ztna_proto::RegionId;

/// A region's distance is its best round trip of so long: one full check and the one before.
pub const MEMORY: Duration = Duration::from_secs(305);
/// Round trips that are kept of a region: one per [`ROUND`](crate::ROUND) in [`MEMORY`].
pub const MAX_SAMPLES: usize = 16;
/// Another region must be nearer than home by this much (and by a third) to be worth a move.
pub const WORTH_A_MOVE: Duration = Duration::from_millis(10);
/// A home whose relay said something within this time is there, whatever its STUN service does.
pub const HEARD_LATELY: Duration = Duration::from_secs(8);

/// The home region as it is.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// Which.
    pub region: RegionId,
    /// When its relay was last heard.
    pub heard: Option<Instant>,
}

/// Round trips to regions.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<RegionId, VecDeque<(Instant, Duration)>>);

impl History {
    /// A round trip was measured.
    pub fn note(&mut self, region: RegionId, latency: Duration, now: Instant) {
        let samples = self.0.entry(region).or_default();
        while samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back((now, latency));
    }

    /// Nothing holds any more: another network.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets regions that are not in the map any more.
    pub fn retain(&mut self, is_known: impl Fn(RegionId) -> bool) {
        self.0.retain(|region, _| is_known(*region));
    }

    /// The best round trip of the last [`MEMORY`].
    #[must_use]
    pub fn best(&self, region: RegionId, now: Instant) -> Option<Duration> {
        let samples = self.0.get(&region)?.iter();
        let fresh = samples.filter(|(at, _)| now.duration_since(*at) < MEMORY);
        fresh.map(|(_, latency)| *latency).min()
    }

    /// The region to be home: of those that are `fit` and answer now (`answers`) the nearest; the
    /// present one unless another is clearly nearer or it is silent. If none answers, the present
    /// one, or the first that is fit.
    #[must_use]
    pub fn choose(
        &self,
        present: Option<Present>,
        fit: &[RegionId],
        answers: impl Fn(RegionId) -> bool,
        now: Instant,
    ) -> Option<RegionId> {
        let present = present.filter(|present| fit.contains(&present.region));
        let nearest = fit
            .iter()
            .filter(|region| answers(**region))
            .filter_map(|region| Some((self.best(*region, now)?, *region)))
            .min();
        let Some((best, nearest)) = nearest else {
            let kept = present.map(|present| present.region);
            return kept.or(fit.first().copied());
        };
        let Some(present) = present else {
            return Some(nearest);
        };
        let was_heard = |at: Instant| now.duration_since(at) < HEARD_LATELY;
        if !answers(present.region) && !present.heard.is_some_and(was_heard) {
            return Some(nearest);
        }
        // One that was heard and never measured has no distance to beat.
        let is_near_enough = self
            .best(present.region, now)
            .is_none_or(|old| old.saturating_sub(best) < WORTH_A_MOVE || best > old * 2 / 3);
        Some(if is_near_enough {
            present.region
        } else {
            nearest
        })
    }

    /// All that are fit, in the order in which they are to be tried: the choice, then the others by
    /// distance, then those of unknown distance.
    #[must_use]
    pub fn rank(
        &self,
        present: Option<Present>,
        fit: &[RegionId],
        answers: impl Fn(RegionId) -> bool,
        now: Instant,
    ) -> Vec<RegionId> {
        let first = self.choose(present, fit, &answers, now);
        let mut ranked: Vec<RegionId> = fit.to_vec();
        ranked.sort_by_key(|region| {
            let distance = self.best(*region, now);
            (
                Some(*region) != first,
                !answers(*region),
                distance.is_none(),
                distance,
            )
        });
        ranked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: RegionId = RegionId(1);
    const B: RegionId = RegionId(2);
    const BOTH: [RegionId; 2] = [A, B];

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn at(region: RegionId) -> Option<Present> {
        Some(Present {
            region,
            heard: None,
        })
    }

    #[test]
    fn another_region_must_be_clearly_nearer() {
        let now = Instant::now();
        // Home's round trip, the other's, which is home then.
        let table = [
            (40, 35, A, "5 ms are not worth a move"),
            (40, 28, A, "nor is less than a third"),
            (40, 20, B, "half is"),
            (12, 3, A, "nor is a share of little"),
            (200, 150, A, "nor is much that is not a third"),
            (200, 120, B, "much that is more than a third is"),
        ];
        for (home, other, expected, why) in table {
            let mut history = History::default();
            history.note(A, ms(home), now);
            history.note(B, ms(other), now);
            assert_eq!(
                history.choose(at(A), &BOTH, |_| true, now),
                Some(expected),
                "{why}"
            );
            assert_eq!(history.choose(None, &BOTH, |_| true, now), Some(B), "{why}");
        }
    }

    #[test]
    fn without_measurements_home_stays_or_is_the_first() {
        let (now, history) = (Instant::now(), History::default());
        assert_eq!(history.choose(None, &BOTH, |_| false, now), Some(A));
        assert_eq!(history.choose(at(B), &BOTH, |_| false, now), Some(B));
        assert_eq!(
            history.choose(at(RegionId(7)), &BOTH, |_| false, now),
            Some(A)
        );
        assert_eq!(history.choose(at(A), &[], |_| false, now), None);
    }

    #[test]
    fn a_silent_home_is_left_and_one_that_was_heard_is_not() {
        let now = Instant::now();
        let mut history = History::default();
        history.note(A, ms(5), now);
        history.note(B, ms(90), now);
        let only_b = |region| region == B;
        assert_eq!(history.choose(at(A), &BOTH, only_b, now), Some(B));
        let later = now + ms(7_000);
        let heard = Some(Present {
            region: A,
            heard: Some(now),
        });
        assert_eq!(history.choose(heard, &BOTH, only_b, later), Some(A));
        let much_later = now + HEARD_LATELY;
        assert_eq!(history.choose(heard, &BOTH, only_b, much_later), Some(B));
    }

    #[test]
    fn the_order_of_trying_is_by_distance() {
        let now = Instant::now();
        let mut history = History::default();
        let all = [RegionId(1), RegionId(2), RegionId(3), RegionId(4)];
        for (id, latency) in [(2, 25), (3, 20), (4, 38)] {
            history.note(RegionId(id), ms(latency), now);
        }
        let ranked = history.rank(at(RegionId(2)), &all, |id| id != RegionId(4), now);
        assert_eq!(ranked, [2, 3, 1, 4].map(RegionId));
    }

    /// How often home moves while two regions measure so, a check apart.
    fn moves(latencies: impl Iterator<Item = (u64, u64)>) -> usize {
        let mut now = Instant::now();
        let mut history = History::default();
        let mut home = None;
        let mut moves = 0;
        for (a, b) in latencies {
            history.note(A, ms(a), now);
            history.note(B, ms(b), now);
            let next = history.choose(home.and_then(at), &BOTH, |_| true, now);
            moves += usize::from(home.is_some() && home != next);
            home = next;
            now += Duration::from_secs(23);
        }
        moves
    }

    #[test]
    fn regions_that_take_turns_in_being_slow_do_not_draw_home_to_and_fro() {
        let turns = (0..200).map(|round| if round % 2 == 0 { (20, 100) } else { (100, 20) });
        assert_eq!(moves(turns), 0);
        let congested_once = (0..200).map(|round| if round == 50 { (300, 30) } else { (28, 30) });
        assert_eq!(moves(congested_once), 0);
        let really_slower = (0..200).map(|round| (if round > 50 { 90 } else { 20 }, 40));
        assert_eq!(moves(really_slower), 1);
    }

    proptest! {
        /// Round trips that flutter by less than a third move nobody, however they do it.
        #[test]
        fn flutter_moves_nobody(
            base in 80_u64..200,
            jitter in proptest::collection::vec((0_u64..40, 0_u64..40), 40..120),
        ) {
            let latencies = jitter.iter().map(|(a, b)| (base + a, base + b));
            prop_assert_eq!(moves(latencies), 0);
        }

        #[test]
        fn memory_is_bounded(samples in proptest::collection::vec((0_u32..4, 0_u64..500), 0..400)) {
            let now = Instant::now();
            let mut history = History::default();
            for (region, latency) in samples {
                history.note(RegionId(region), ms(latency), now);
            }
            prop_assert!(history.0.values().all(|samples| samples.len() <= MAX_SAMPLES));
        }
    }
}
