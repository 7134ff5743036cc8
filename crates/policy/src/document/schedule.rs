//! When a rule holds: weekdays, hours, a zone, an end.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// A window of the week. Days are those on which the window begins; one that ends no later than it
/// begins ends on the day after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Weekdays, Monday first. Empty: every day.
    pub days: Vec<Weekday>,
    /// Begin and end. `None`: the whole day.
    pub hours: Option<(Time, Time)>,
    /// IANA name of the zone.
    pub zone: String,
    tz: TimeZone,
}

/// Whether something holds, and when that may change next. The time may come without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it holds.
    pub holds: bool,
    /// When to ask again. `None`: never.
    pub until: Option<Timestamp>,
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Reads `mon`, `tue` …
pub(super) fn weekday(text: &str) -> Result<Weekday, String> {
    let found = DAYS.iter().find(|(name, _)| *name == text);
    found.map(|(_, day)| *day).ok_or_else(|| {
        format!(
            "`{text}` is no weekday; possible are `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`"
        )
    })
}

/// Reads `08:00`; `24:00` is the day's end.
pub(super) fn time(text: &str) -> Result<Time, String> {
    if text == "24:00" {
        return Ok(Time::midnight());
    }
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let plain = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !plain(hour) || !plain(minute) {
            return None;
        }
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    });
    parsed.ok_or_else(|| format!("`{text}` is no time of day; write one like `08:30`"))
}

impl Window {
    /// A window.
    ///
    /// # Errors
    /// The zone is unknown.
    pub(super) fn new(
        days: Vec<Weekday>,
        hours: Option<(Time, Time)>,
        zone: &str,
    ) -> Result<Self, String> {
        let tz = TimeZoneDatabase::bundled().get(zone).map_err(|_| {
            format!(
                "there is no time zone `{zone}`; write an IANA name like `Europe/Berlin` or `UTC`"
            )
        })?;
        Ok(Self {
            days,
            hours,
            zone: zone.to_owned(),
            tz,
        })
    }

    /// Whether the window is open.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let today = now.to_zoned(self.tz.clone()).date();
        let mut standing = Standing {
            holds: false,
            until: None,
        };
        // Yesterday's may still be open, and in a week every window has begun once.
        for offset in -1..=8 {
            let Some((start, end)) = self.on(today, offset) else {
                continue;
            };
            standing.holds |= start <= now && now < end;
            for edge in [start, end] {
                if now < edge && standing.until.is_none_or(|until| edge < until) {
                    standing.until = Some(edge);
                }
            }
        }
        standing
    }

    /// The window that begins so many days after `today`. `None`: none does, or time is over.
    fn on(&self, today: Date, offset: i64) -> Option<(Timestamp, Timestamp)> {
        let day = today.checked_add(offset.days()).ok()?;
        if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
            return None;
        }
        let (from, to) = self.hours.unwrap_or((Time::midnight(), Time::midnight()));
        let last = if to <= from {
            day.tomorrow().ok()?
        } else {
            day
        };
        // An hour that the clocks skip begins when it would have; one that comes twice, at the first.
        let at = |date: Date, time: Time| {
            let zoned = self.tz.to_ambiguous_zoned(date.to_datetime(time));
            zoned.compatible().ok().map(|zoned| zoned.timestamp())
        };
        Some((at(day, from)?, at(last, to)?))
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = DAYS
            .iter()
            .filter(|(_, day)| self.days.contains(day))
            .map(|(name, _)| *name)
            .collect();
        match names.is_empty() {
            true => f.write_str("every day")?,
            false => f.write_str(&names.join(", "))?,
        }
        if let Some((from, to)) = self.hours {
            write!(
                f,
                " {:02}:{:02}-{:02}:{:02}",
                from.hour(),
                from.minute(),
                to.hour(),
                to.minute()
            )?;
        }
        write!(f, " {}", self.zone)
    }
}
