//! Volatile state: where a machine is reached, and whether it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use ztna_proto::api::OFFLINE_AFTER_SECONDS;
use ztna_proto::ids::{MachineId, RegionId};
use ztna_proto::netmap::{PeerVolatile, VolatileReport};

use super::nodes::Said;

/// Silence after which a machine counts as offline.
const OFFLINE_AFTER: Duration = Duration::from_secs(OFFLINE_AFTER_SECONDS);

/// That a machine is there is written down this often; that it changed, at once.
const WRITE_PERIOD: Duration = Duration::from_secs(60);

/// A version is a time, and clocks differ; one further ahead than this is nobody's.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of a machine right now.
pub(super) struct Presence {
    version: u64,
    online: bool,
    last_seen: Option<Timestamp>,
    /// When it was last heard of, on the clock that does not jump.
    heard: Option<Instant>,
    /// `None`: it has not told since we know of it, which is another thing than having no endpoints.
    report: Option<VolatileReport>,
    /// The version at which the connection began that the machine has, here or at another node.
    stream: Option<u64>,
    /// Not in the database yet.
    dirty: bool,
    written: Option<Instant>,
    told: Option<Told>,
}

/// What peers are told, as it is sent: a hundred of them hear the same.
struct Told {
    version: u64,
    last_seen: Option<Timestamp>,
    text: Text,
}

/// A [`PeerVolatile`] as it is sent.
#[derive(Clone)]
pub(super) struct Text(Arc<RawValue>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What becomes of what another node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken, and peers have to be told.
    News,
    /// It is taken; peers know it already.
    Taken,
    /// It is what we have.
    Same,
    /// Ours is newer.
    Old,
    /// It is newer, and from before the machine connected to us: ours is newer now.
    Overruled,
    /// No node says so: its versions are of no time near ours.
    Absurd,
}

impl Presence {
    /// A machine that was never heard of.
    pub(super) fn unknown() -> Self {
        Self {
            version: 0,
            online: false,
            last_seen: None,
            heard: None,
            report: None,
            stream: None,
            dirty: false,
            written: None,
            told: None,
        }
    }

    /// A machine as it was when it was last written down.
    pub(super) fn restored(said: Said, now: Instant) -> Self {
        let silence = Duration::from_millis(said.silent_ms.unwrap_or(u64::MAX));
        Self {
            version: said.version,
            online: said.online && silence < OFFLINE_AFTER,
            last_seen: time_before(silence),
            heard: now.checked_sub(silence),
            // A process that ended between a machine's first report and the one with its home wrote
            // down the first. Peers know better: those that hold a home keep it until the machine tells.
            report: said.report.filter(|report| report.home_region.is_some()),
            stream: said.stream,
            dirty: false,
            written: None,
            told: None,
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
            self.version = self.next_version();
        }
        news
    }

    /// The machine has connected to this node. Whether peers have to be told: it was offline.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        let news = self.hear(now);
        self.version = self.next_version();
        self.stream = Some(self.version);
        self.dirty = true;
        news
    }

    /// When the machine's connection began, as a version.
    pub(super) fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// The machine reported. Whether peers have to be told.
    pub(super) fn report(&mut self, report: VolatileReport, now: Instant) -> bool {
        let came = self.hear(now);
        if self.report.as_ref() == Some(&report) {
            return came;
        }
        self.report = Some(report);
        self.dirty = true;
        self.version = self.next_version();
        true
    }

    /// The machine took its leave. Whether peers have to be told.
    pub(super) fn leave(&mut self) -> bool {
        let news = self.online;
        self.online = false;
        self.stream = None;
        self.dirty = true;
        if news {
            self.version = self.next_version();
        }
        news
    }

    /// Another node says how the machine is. `here`: the version at which its connection to this node
    /// began, if it has one.
    pub(super) fn hear_of(&mut self, said: &Said, here: Option<u64>, now: Instant) -> Verdict {
        if said.version.max(said.stream.unwrap_or(0)) > latest_version() {
            return Verdict::Absurd;
        }
        let silence = Duration::from_millis(said.silent_ms.unwrap_or(u64::MAX));
        if said.version <= self.version {
            if said.version < self.version {
                return Verdict::Old;
            }
            self.hear_at(now, silence);
            return Verdict::Same;
        }
        if here.is_some_and(|here| said.stream.is_none_or(|there| there <= here)) {
            self.version = said.version.saturating_add(1);
            self.dirty = true;
            return Verdict::Overruled;
        }
        let report = said.report.clone().or_else(|| self.report.take());
        let news = self.online != said.online || self.report != report;
        self.version = said.version;
        self.online = said.online;
        self.stream = said.stream;
        self.report = report;
        self.hear_at(now, silence);
        // Who says it writes it down.
        self.dirty = false;
        if news { Verdict::News } else { Verdict::Taken }
    }

    /// The machine was heard of elsewhere.
    pub(super) fn hear_elsewhere(&mut self, now: Instant) {
        self.hear_at(now, Duration::ZERO);
    }

    fn hear_at(&mut self, now: Instant, silence: Duration) {
        let Some(at) = now.checked_sub(silence) else {
            return;
        };
        if self.heard.is_none_or(|heard| heard < at) {
            self.heard = Some(at);
            self.last_seen = time_before(silence);
        }
    }

    /// What other nodes are told.
    pub(super) fn say(&self, id: MachineId, now: Instant) -> Said {
        let silence = self.heard.map(|at| now.saturating_duration_since(at));
        let milliseconds = |silence: Duration| u64::try_from(silence.as_millis()).ok();
        Said {
            id,
            version: self.version,
            online: self.online,
            stream: self.stream,
            silent_ms: silence.and_then(milliseconds),
            report: self.report.clone(),
        }
    }

    fn next_version(&self) -> u64 {
        microseconds().max(self.version.saturating_add(1))
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

    pub(super) fn home_region(&self) -> Option<RegionId> {
        self.report.as_ref()?.home_region
    }

    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen
    }

    /// What to write down, if anything; it counts as written. Before the machine's first report there
    /// is nothing.
    pub(super) fn take_dirty(&mut self, id: MachineId, now: Instant) -> Option<Said> {
        if !self.dirty || self.report.is_none() || self.heard.is_none() {
            return None;
        }
        self.dirty = false;
        self.written = Some(now);
        Some(self.say(id, now))
    }

    /// What was taken could not be written: it is taken again.
    pub(super) fn is_unwritten(&mut self) {
        self.dirty = true;
    }

    /// What peers are told. Nothing before the machine's first report: an empty one in its
    /// place would have them drop the paths that they have.
    pub(super) fn tell(&mut self, id: MachineId) -> serde_json::Result<Option<Text>> {
        let (version, online) = (self.version, self.online);
        let last_seen = self.last_seen.filter(|_| !online);
        if let Some(told) = &self.told
            && (told.version, told.last_seen) == (version, last_seen)
        {
            return Ok(Some(told.text.clone()));
        }
        let Some(report) = self.report.clone() else {
            return Ok(None);
        };
        let peer = PeerVolatile {
            id,
            version,
            online,
            last_seen,
            report,
        };
        let text = Text(to_raw_value(&peer)?.into());
        self.told = Some(Told {
            version,
            last_seen,
            text: text.clone(),
        });
        Ok(Some(text))
    }
}

fn microseconds() -> u64 {
    Timestamp::now().as_microsecond().unsigned_abs()
}

fn latest_version() -> u64 {
    let ahead = u64::try_from(MAX_AHEAD.as_micros()).unwrap_or(u64::MAX);
    microseconds().saturating_add(ahead)
}

/// The time of day so long ago, by this node's clock; for people.
fn time_before(silence: Duration) -> Option<Timestamp> {
    let silence = jiff::SignedDuration::try_from(silence).ok()?;
    Timestamp::now().checked_sub(silence).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(region: u32) -> VolatileReport {
        VolatileReport {
            home_region: Some(RegionId(region)),
            ..VolatileReport::default()
        }
    }

    fn told(presence: &mut Presence, id: MachineId) -> Option<PeerVolatile> {
        let text = presence.tell(id).unwrap()?;
        Some(serde_json::from_str(text.0.get()).unwrap())
    }

    #[test]
    fn peers_are_told_of_news_only_and_versions_grow() {
        let start = Instant::now();
        let id = MachineId::generate();
        let mut presence = Presence::unknown();
        assert!(presence.hear(start));
        assert!(told(&mut presence, id).is_none(), "it has not told yet");
        assert!(presence.report(VolatileReport::default(), start));
        let tell = |presence: &mut Presence| told(presence, id).unwrap();
        let mut version = tell(&mut presence).version;
        let mut grown = |presence: &mut Presence| {
            let now = tell(presence).version;
            std::mem::replace(&mut version, now) < now
        };
        assert!(!presence.hear(start) && !grown(&mut presence));
        assert!(presence.report(report(1), start) && grown(&mut presence));
        assert!(!presence.report(report(1), start) && !grown(&mut presence));
        assert!(presence.leave() && grown(&mut presence));
        assert!(tell(&mut presence).last_seen.is_some());
        assert!(!presence.leave() && !grown(&mut presence));
        assert!(presence.report(report(1), start) && grown(&mut presence));
        assert!(tell(&mut presence).last_seen.is_none());
    }

    #[test]
    fn what_was_written_before_a_machine_had_a_home_takes_nobodys_home_away() {
        let start = Instant::now();
        let id = MachineId::generate();
        let restored = |report| {
            let said = Said {
                id,
                version: 3,
                online: true,
                stream: None,
                silent_ms: Some(1000),
                report: Some(report),
            };
            Presence::restored(said, start)
        };
        let mut homeless = restored(VolatileReport::default());
        assert!(told(&mut homeless, id).is_none());
        assert!(homeless.report(report(1), start));
        for mut presence in [homeless, restored(report(1))] {
            assert_eq!(told(&mut presence, id).unwrap().report, report(1));
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
        let id = MachineId::generate();
        let mut presence = Presence::unknown();
        presence.hear(start);
        assert!(
            presence.take_dirty(id, start).is_none(),
            "there is nothing to write yet"
        );
        presence.report(report(2), start);
        let written = |row: Option<Said>| row.and_then(|row| row.report);
        assert_eq!(written(presence.take_dirty(id, start)), Some(report(2)));
        presence.hear(start + WRITE_PERIOD / 2);
        assert!(presence.take_dirty(id, start + WRITE_PERIOD / 2).is_none());
        presence.report(report(3), start + WRITE_PERIOD / 2);
        let at = start + WRITE_PERIOD / 2;
        assert_eq!(written(presence.take_dirty(id, at)), Some(report(3)));
        presence.hear(at + WRITE_PERIOD);
        assert_eq!(
            written(presence.take_dirty(id, at + WRITE_PERIOD)),
            Some(report(3))
        );
    }
    /// Two nodes, of which one has an old connection: they agree, and on the one that has the machine.
    #[test]
    fn the_later_connection_wins_whatever_is_said_in_which_order() {
        let start = Instant::now();
        let id = MachineId::generate();
        let (mut one, mut other) = (Presence::unknown(), Presence::unknown());
        one.connect(start);
        one.report(report(1), start);
        let at_one = one.stream();
        assert_eq!(
            other.hear_of(&one.say(id, start), None, start),
            Verdict::News
        );
        assert_eq!(told(&mut other, id), told(&mut one, id));
        assert_eq!(
            other.hear_of(&one.say(id, start), None, start),
            Verdict::Same
        );

        other.connect(start);
        let at_other = other.stream();
        // The old connection still delivers something, and then breaks.
        one.report(report(2), start);
        one.leave();
        let late = one.say(id, start);
        let verdict = other.hear_of(&late, at_other, start);
        assert!(
            matches!(verdict, Verdict::Overruled | Verdict::Old),
            "{verdict:?}"
        );
        assert!(other.online());
        assert_eq!(
            one.hear_of(&other.say(id, start), at_one, start),
            Verdict::News
        );
        assert_eq!((one.online(), one.stream()), (true, at_other));
        assert_eq!(told(&mut one, id), told(&mut other, id));
        assert_eq!(other.hear_of(&late, at_other, start), Verdict::Old);
    }

    #[test]
    fn versions_of_no_time_near_ours_change_nothing() {
        let start = Instant::now();
        let id = MachineId::generate();
        let mut presence = Presence::unknown();
        presence.report(report(1), start);
        let before = presence.say(id, start);
        for absurd in [latest_version() + 60_000_000, u64::MAX / 2, u64::MAX] {
            for (version, stream) in [(absurd, None), (before.version + 1, Some(absurd))] {
                let said = Said {
                    version,
                    stream,
                    online: false,
                    report: Some(report(2)),
                    ..before.clone()
                };
                for here in [None, Some(before.version)] {
                    assert_eq!(presence.hear_of(&said, here, start), Verdict::Absurd);
                }
            }
        }
        assert_eq!(presence.say(id, start), before);
        // Nor does one that was written down stop the count.
        let said = Said {
            version: u64::MAX,
            ..before
        };
        let mut presence = Presence::restored(said, start);
        assert!(presence.report(report(2), start));
        assert_eq!(presence.say(id, start).version, u64::MAX);
    }

    /// A node whose clock is behind hears what the others say, and is heard by them.
    #[test]
    fn clocks_that_differ_keep_no_version_back() {
        let start = Instant::now();
        let id = MachineId::generate();
        let ahead = Said {
            id,
            version: Timestamp::now().as_microsecond().unsigned_abs() + 600_000_000,
            online: true,
            stream: None,
            silent_ms: Some(5),
            report: Some(report(1)),
        };
        let mut presence = Presence::unknown();
        presence.report(report(9), start);
        assert_eq!(presence.hear_of(&ahead, None, start), Verdict::News);
        assert!(presence.report(report(2), start));
        assert_eq!(presence.say(id, start).version, ahead.version + 1);
        assert!(!presence.is_overdue(start));
    }
}
