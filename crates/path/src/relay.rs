//! At which region's relay a peer is reached.

use std::time::{Duration, Instant};

use ztna_proto::RegionId;

/// A peer that was heard at a region is reached there for this long: whoever sends there stays
/// connected a while.
pub const HEARD_FRESH: Duration = Duration::from_secs(5);

/// A peer that is heard elsewhere for this long, and never at its home, has left it.
pub const AWAY_AFTER: Duration = Duration::from_millis(500);

/// The home region that a peer reports, and where it is heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayChoice {
    home: Option<RegionId>,
    /// Where it was heard last, other than at home.
    elsewhere: Option<Heard>,
    heard_at_home: Option<Instant>,
    choice: Option<RegionId>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    region: RegionId,
    /// The first time in a row, and the last.
    since: Instant,
    last: Instant,
}

impl RelayChoice {
    /// The peer reports another home.
    pub fn set_home(&mut self, home: Option<RegionId>, now: Instant) {
        if self.home != home {
            self.home = home;
            self.heard_at_home = None;
        }
        self.update(now);
    }

    /// Authenticated data of the peer came through a region's relay.
    pub fn heard(&mut self, region: RegionId, now: Instant) {
        if Some(region) == self.home {
            self.heard_at_home = Some(now);
        } else {
            let in_a_row = self.elsewhere.filter(|before| {
                before.region == region && now.duration_since(before.last) < HEARD_FRESH
            });
            self.elsewhere = Some(Heard {
                region,
                since: in_a_row.map_or(now, |before| before.since),
                last: now,
            });
        }
        self.update(now);
    }

    /// Looks at the choice anew.
    ///
    /// Each of two machines with different homes begins to send to the other's. Both work, and the
    /// one that is heard at the region of the lower number follows there, so that one region carries
    /// both ways. In the other direction only silence at home counts: the peer has moved, or cannot
    /// reach its home any more, and the control plane has not said so yet.
    pub fn update(&mut self, now: Instant) {
        let is_fresh = |at: Instant| now.duration_since(at) < HEARD_FRESH;
        self.choice = match (self.home, self.elsewhere) {
            (Some(home), Some(heard)) if is_fresh(heard.last) => {
                let silent_since = self
                    .heard_at_home
                    .map_or(heard.since, |at| at.max(heard.since));
                let alone = heard.last.saturating_duration_since(silent_since);
                let is_away = alone >= AWAY_AFTER;
                Some(if heard.region < home || is_away {
                    heard.region
                } else {
                    home
                })
            }
            (Some(home), _) => Some(home),
            (None, heard) => heard.map(|heard| heard.region),
        };
    }

    /// The region to send to.
    pub fn region(&self) -> Option<RegionId> {
        self.choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: RegionId = RegionId(1);
    const HIGH: RegionId = RegionId(2);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_peer_is_reached_at_home_or_where_it_was_heard_if_it_has_none() {
        let now = Instant::now();
        let mut relay = RelayChoice::default();
        assert_eq!(relay.region(), None);
        relay.heard(HIGH, now);
        assert_eq!(relay.region(), Some(HIGH));
        relay.update(now + HEARD_FRESH * 9);
        assert_eq!(relay.region(), Some(HIGH), "there is nothing better");
        relay.set_home(Some(LOW), now + HEARD_FRESH * 9);
        assert_eq!(relay.region(), Some(LOW));
    }

    #[test]
    fn a_peer_that_left_its_home_is_followed_before_it_says_so() {
        let start = Instant::now();
        let mut relay = RelayChoice::default();
        relay.set_home(Some(LOW), start);
        relay.heard(LOW, start);
        for late in (0..2_000).step_by(20) {
            relay.heard(HIGH, start + ms(late));
            let expected = if late >= 500 { HIGH } else { LOW };
            assert_eq!(relay.region(), Some(expected), "after {late} ms");
        }
        // Heard at home again, it is reached there again.
        relay.heard(LOW, start + ms(2_000));
        relay.heard(HIGH, start + ms(2_001));
        assert_eq!(relay.region(), Some(LOW));
        // What it reports counts, in the end.
        relay.update(start + ms(2_001) + HEARD_FRESH);
        assert_eq!(relay.region(), Some(LOW));
        relay.set_home(Some(RegionId(3)), start + ms(9_000));
        assert_eq!(relay.region(), Some(RegionId(3)));
    }

    #[test]
    fn one_stray_packet_moves_nothing() {
        let start = Instant::now();
        let mut relay = RelayChoice::default();
        relay.set_home(Some(LOW), start);
        relay.heard(HIGH, start);
        relay.update(start + ms(4_900));
        assert_eq!(relay.region(), Some(LOW));
    }

    /// Two machines with different homes that send all the time.
    #[test]
    fn two_homes_agree_on_one_region_and_stay_there() {
        let start = Instant::now();
        let mut to_high = RelayChoice::default();
        let mut to_low = RelayChoice::default();
        to_high.set_home(Some(HIGH), start);
        to_low.set_home(Some(LOW), start);
        let mut regions = Vec::new();
        for late in (0..60_000).step_by(20) {
            let now = start + ms(late);
            to_high.update(now);
            to_low.update(now);
            let (a, b) = (to_high.region().unwrap(), to_low.region().unwrap());
            regions.push((a, b));
            to_low.heard(a, now + ms(10));
            to_high.heard(b, now + ms(10));
        }
        assert!(regions[1..].iter().all(|both| *both == (LOW, LOW)));
    }
}
