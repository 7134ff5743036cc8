//! Volatile state: where a machine is reached, and whether it is there.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ztna_proto::api::OFFLINE_AFTER_SECONDS;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{PeerVolatile, VolatileReport};

use super::load::PresenceRow;

/// Silence after which a machine counts as offline.
const OFFLINE_AFTER: Duration = Duration::from_secs(OFFLINE_AFTER_SECONDS);

/// What is known of a machine right now.
pub(super) struct Presence {
    version: u64,
    online: bool,
    last_seen: Option<Timestamp>,
    /// When it was last heard of, on the clock that does not jump.
    heard: Option<Instant>,
    report: VolatileReport,
    /// Not in the database yet.
    dirty: bool,
}

impl Presence {
    /// A machine that was never heard of.
    pub(super) fn unknown() -> Self {
        Self {
            version: first_version(),
            online: false,
            last_seen: None,
            heard: None,
            report: VolatileReport::default(),
            dirty: false,
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
            report: row.report,
            dirty: false,
        }
    }

    /// The machine was heard of. Whether peers have to be told: it was offline.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        self.last_seen = Some(Timestamp::now());
        self.dirty = true;
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
        if self.report == report {
            return came;
        }
        self.report = report;
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
    pub(super) fn take_dirty(&mut self) -> Option<(Timestamp, VolatileReport)> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        Some((self.last_seen?, self.report.clone()))
    }

    /// What peers are told.
    pub(super) fn tell(&self, id: MachineId) -> PeerVolatile {
        PeerVolatile {
            id,
            version: self.version,
            online: self.online,
            last_seen: self.last_seen.filter(|_| !self.online),
            report: self.report.clone(),
        }
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
        let mut version = presence.tell(id).version;
        let mut grown = |presence: &Presence| {
            let now = presence.tell(id).version;
            std::mem::replace(&mut version, now) < now
        };
        assert!(presence.hear(start) && grown(&presence));
        assert!(!presence.hear(start) && !grown(&presence));
        assert!(presence.report(report(1), start) && grown(&presence));
        assert!(!presence.report(report(1), start) && !grown(&presence));
        assert!(presence.leave() && grown(&presence));
        assert!(presence.tell(id).last_seen.is_some());
        assert!(!presence.leave() && !grown(&presence));
        assert!(presence.report(report(1), start) && grown(&presence));
        assert!(presence.tell(id).last_seen.is_none());
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
    fn what_is_written_down_once_is_clean() {
        let mut presence = Presence::unknown();
        assert!(presence.take_dirty().is_none());
        presence.report(report(2), Instant::now());
        assert_eq!(
            presence.take_dirty().map(|(_, report)| report),
            Some(report(2))
        );
        assert!(presence.take_dirty().is_none());
    }
}
