//! Volatile state: where a machine is reached, and whether it is there.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ztna_proto::api::OFFLINE_AFTER_SECONDS;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{PeerVolatile, VolatileReport};

use super::load::PresenceRow;

/// Silence after which a machine counts as offline.
const OFFLINE_AFTER: Duration = Duration::from_secs(OFFLINE_AFTER_SECONDS);

/// That a machine is there is written down this often; that it changed, at once.
const WRITE_PERIOD: Duration = Duration::from_secs(60);

/// What is known of a machine right now.
pub(super) struct Presence {
    version: u64,
    online: bool,
    last_seen: Option<Timestamp>,
    /// When it was last heard of, on the clock that does not jump.
    heard: Option<Instant>,
    /// `None`: it has not told since we know of it, which is another thing than having no endpoints.
    report: Option<VolatileReport>,
    /// Not in the database yet.
    dirty: bool,
    written: Option<Instant>,
}

impl Presence {
    /// A machine that was never heard of.
    pub(super) fn unknown() -> Self {
        Self {
            version: first_version(),
            online: false,
            last_seen: None,
            heard: None,
            report: None,
            dirty: false,
            written: None,
        }
    }

    /// A machine as it was when it was last written down.
    pub(super) fn restored(row: PresenceRow, now: Instant) -> Self {
        let silence = Timestamp::now()
            .duration_since(row.last_seen)
            .unsigned_abs();
        Self {
            version: first_version(),
            online: silence < OFFLINE_AFTER,
            last_seen: Some(row.last_seen),
            heard: now.checked_sub(silence),
            // A process that ended between a machine's first report and the one with its home wrote
            // down the first. Peers know better: those that hold a home keep it until the machine tells.
            report: Some(row.report).filter(|report| report.home_region.is_some()),
            dirty: false,
            written: None,
        }
    }

    /// The machine was heard of. Whether peers have to be told: it was offline.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        self.last_seen = Some(Timestamp::now());
        self.dirty |= self
            .written
            .is_none_or(|at| now.saturating_duration_since(at) >= WRITE_PERIOD);
        let news = !self.online;
        self.online = true;
        if news {
            self.version += 1;
        }
        news
    }

    /// The machine reported. Whether peers have to be told.
    pub(super) fn report(&mut self, report: VolatileReport, now: Instant) -> bool {
        let came = self.hear(now);
        if self.report.as_ref() == Some(&report) {
            return came;
        }
        self.report = Some(report);
        self.dirty = true;
        self.version += 1;
        true
    }

    /// The machine took its leave. Whether peers have to be told.
    pub(super) fn leave(&mut self) -> bool {
        let news = self.online;
        self.online = false;
        self.dirty = true;
        if news {
            self.version += 1;
        }
        news
    }

    /// Whether the machine counts as there, and has been silent for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.online
            && self
                .heard
                .is_none_or(|heard| now.saturating_duration_since(heard) >= OFFLINE_AFTER)
    }

    pub(super) fn online(&self) -> bool {
        self.online
    }

    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// What to write down, if anything; it counts as written.
    pub(super) fn take_dirty(&mut self, now: Instant) -> Option<(Timestamp, VolatileReport)> {
        if !self.dirty {
            return None;
        }
        let row = (self.last_seen?, self.report.clone()?);
        self.dirty = false;
        self.written = Some(now);
        Some(row)
    }

    /// What peers are told. Nothing before the machine's first report: an empty one in its place
    /// would have them drop the paths that they have.
    pub(super) fn tell(&self, id: MachineId) -> Option<PeerVolatile> {
        Some(PeerVolatile {
            id,
            version: self.version,
            online: self.online,
            last_seen: self.last_seen.filter(|_| !self.online),
            report: self.report.clone()?,
        })
    }
}

/// Versions go on growing over a restart of the control plane: they start at the time.
fn first_version() -> u64 {
    Timestamp::now().as_microsecond().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_proto::ids::RegionId;

    fn report(region: u32) -> VolatileReport {
        VolatileReport {
            home_region: Some(RegionId(region)),
            ..VolatileReport::default()
        }
    }

    #[test]
    fn peers_are_told_of_news_only_and_versions_grow() {
        let start = Instant::now();
        let id = MachineId::generate();
        let mut presence = Presence::unknown();
        assert!(presence.hear(start));
        assert!(presence.tell(id).is_none(), "it has not told yet");
        assert!(presence.report(VolatileReport::default(), start));
        let tell = |presence: &Presence| presence.tell(id).unwrap();
        let mut version = tell(&presence).version;
        let mut grown = |presence: &Presence| {
            let now = tell(presence).version;
            std::mem::replace(&mut version, now) < now
        };
        assert!(!presence.hear(start) && !grown(&presence));
        assert!(presence.report(report(1), start) && grown(&presence));
        assert!(!presence.report(report(1), start) && !grown(&presence));
        assert!(presence.leave() && grown(&presence));
        assert!(tell(&presence).last_seen.is_some());
        assert!(!presence.leave() && !grown(&presence));
        assert!(presence.report(report(1), start) && grown(&presence));
        assert!(tell(&presence).last_seen.is_none());
    }

    #[test]
    fn what_was_written_before_a_machine_had_a_home_takes_nobodys_home_away() {
        let start = Instant::now();
        let id = MachineId::generate();
        let restored = |report| {
            let last_seen = Timestamp::now();
            let row = PresenceRow {
                id,
                last_seen,
                report,
            };
            Presence::restored(row, start)
        };
        let mut homeless = restored(VolatileReport::default());
        assert!(homeless.tell(id).is_none());
        assert!(homeless.report(report(1), start));
        for presence in [homeless, restored(report(1))] {
            assert_eq!(presence.tell(id).unwrap().report, report(1));
        }
    }

    #[test]
    fn three_minutes_of_silence_are_too_many() {
        let start = Instant::now();
        let mut presence = Presence::unknown();
        assert!(!presence.is_overdue(start), "it was never there");
        presence.hear(start);
        let just = Duration::from_secs(OFFLINE_AFTER_SECONDS - 1);
        assert!(!presence.is_overdue(start + just));
        assert!(presence.is_overdue(start + OFFLINE_AFTER));
        presence.hear(start + just);
        assert!(!presence.is_overdue(start + OFFLINE_AFTER));
    }

    #[test]
    fn changes_are_written_down_at_once_and_life_signs_now_and_then() {
        let start = Instant::now();
        let mut presence = Presence::unknown();
        presence.hear(start);
        assert!(
            presence.take_dirty(start).is_none(),
            "there is nothing to write yet"
        );
        presence.report(report(2), start);
        let written = |row: Option<(Timestamp, VolatileReport)>| row.map(|(_, report)| report);
        assert_eq!(written(presence.take_dirty(start)), Some(report(2)));
        presence.hear(start + WRITE_PERIOD / 2);
        assert!(presence.take_dirty(start + WRITE_PERIOD / 2).is_none());
        presence.report(report(3), start + WRITE_PERIOD / 2);
        let at = start + WRITE_PERIOD / 2;
        assert_eq!(written(presence.take_dirty(at)), Some(report(3)));
        presence.hear(at + WRITE_PERIOD);
        assert_eq!(
            written(presence.take_dirty(at + WRITE_PERIOD)),
            Some(report(3))
        );
    }
}
