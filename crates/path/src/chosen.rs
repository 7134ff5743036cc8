//! The direct path in use, and how far it is trusted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Pause between pings of the path in use.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// The same while data is sent: a path that died costs at most this and [`DOUBT_AFTER`].
pub const LOADED_HEARTBEAT: Duration = Duration::from_secs(1);

/// Data sent this shortly before counts as load.
pub const LOAD_WINDOW: Duration = Duration::from_secs(1);

/// An unanswered ping of the path in use is repeated after this.
pub const PROBE_RETRY: Duration = Duration::from_millis(400);

/// A ping and its repetitions that stay unanswered this long cost the path its trust: three pings, so
/// that a single lost one does not.
pub const DOUBT_AFTER: Duration = Duration::from_millis(1200);

/// An answer makes a path trusted this long at most: two heartbeats and some slack. It matters only
/// where the timers did not run, as in a suspended process.
pub const TRUST: Duration = Duration::from_millis(6500);

/// A doubted path is still sent on for this long, beside the relay.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) addr: SocketAddr,
    answered_at: Instant,
    trusted_until: Instant,
    /// First and last ping since the last answer.
    unanswered: Option<(Instant, Instant)>,
    doubted_since: Option<Instant>,
}

impl Chosen {
    /// A path that has just answered.
    pub(crate) fn new(addr: SocketAddr, now: Instant) -> Self {
        Self {
            addr,
            answered_at: now,
            trusted_until: now + TRUST,
            unanswered: None,
            doubted_since: None,
        }
    }

    pub(crate) fn is_trusted(&self, now: Instant) -> bool {
        self.doubted_since.is_none() && now < self.trusted_until
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted_since.is_some()
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        let first = self.unanswered.map_or(now, |(first, _)| first);
        self.unanswered = Some((first, now));
    }

    pub(crate) fn doubt(&mut self, now: Instant) {
        self.doubted_since.get_or_insert(now);
    }

    /// Trust ends now; the next answer restores it.
    pub(crate) fn distrust(&mut self, now: Instant) {
        self.trusted_until = now;
    }

    /// There is no traffic: what is unanswered now will not be asked again.
    pub(crate) fn rest(&mut self) {
        self.unanswered = None;
    }

    /// Whether a ping and its first repetition are unanswered.
    pub(crate) fn is_suspect(&self) -> bool {
        self.unanswered.is_some_and(|(first, last)| last > first)
    }

    /// When the next ping is due, if data was last sent at `sent_at`.
    pub(crate) fn ping_at(&self, sent_at: Option<Instant>) -> Instant {
        if let Some((_, last)) = self.unanswered {
            return last + PROBE_RETRY;
        }
        let loaded = self.answered_at + LOADED_HEARTBEAT;
        match sent_at {
            Some(sent_at) if sent_at + LOAD_WINDOW >= loaded => loaded,
            _ => self.answered_at + HEARTBEAT,
        }
    }

    /// When silence turns into doubt.
    pub(crate) fn doubt_at(&self) -> Option<Instant> {
        match (self.doubted_since, self.unanswered) {
            (None, Some((first, _))) => Some(first + DOUBT_AFTER),
            _ => None,
        }
    }

    /// When doubt turns into giving up.
    pub(crate) fn give_up_at(&self) -> Option<Instant> {
        self.doubted_since.map(|since| since + GIVE_UP_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn chosen(now: Instant) -> Chosen {
        Chosen::new("192.0.2.1:1".parse().unwrap(), now)
    }

    #[test]
    fn load_quickens_the_heartbeat() {
        let start = Instant::now();
        let path = chosen(start);
        assert_eq!(path.ping_at(None), start + HEARTBEAT);
        assert_eq!(path.ping_at(Some(start)), start + LOADED_HEARTBEAT);
        assert_eq!(
            path.ping_at(Some(start + ms(500))),
            start + LOADED_HEARTBEAT
        );
        // Data after a quiet while: the ping is overdue.
        assert_eq!(
            path.ping_at(Some(start + ms(2000))),
            start + LOADED_HEARTBEAT
        );
    }

    #[test]
    fn silence_is_doubted_soon_under_load() {
        let start = Instant::now();
        let mut path = chosen(start);
        let mut pings = 0;
        let mut now = start;
        while path.doubt_at().is_none_or(|at| at > now) {
            if path.ping_at(Some(now)) <= now {
                path.pinged(now);
                pings += 1;
            }
            now += ms(1);
        }
        assert_eq!(now - start, ms(2200));
        assert_eq!(pings, 3);
    }

    #[test]
    fn trust_ends_by_itself() {
        let start = Instant::now();
        let mut path = chosen(start);
        assert!(path.is_trusted(start));
        assert!(path.is_trusted(start + TRUST - ms(1)));
        assert!(!path.is_trusted(start + TRUST));
        path.doubt(start);
        assert!(!path.is_trusted(start));
        assert_eq!(path.give_up_at(), Some(start + GIVE_UP_AFTER));
    }
}
