//! Whether a relay that says nothing is still there.
//!
//! A relay host that vanishes sends no farewell, and TCP takes its time to notice. So a relay that is
//! silent while traffic should bring something back is pinged. Without traffic nothing is sent.

use std::time::Duration;

use tokio::time::Instant;

/// A relay that was silent for so long while there was traffic is pinged …
pub const QUIET: Duration = Duration::from_millis(400);
/// … but not before the traffic had this long to bring an answer.
const ANSWER_TO_TRAFFIC: Duration = Duration::from_millis(150);
/// An answer to the ping, or anything else, has to come within this time …
pub const ANSWER: Duration = Duration::from_millis(700);
/// … or within so many of the round trips that were measured, if that is more …
const ROUND_TRIPS: u32 = 4;
/// … and longer if a queue may stand before the ping: the time that what was sent since the relay was
/// heard last takes at this rate, in bytes per second.
const SLOW_LINK: u64 = 512 * 1024;
/// Never longer than this.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);
/// With half of the time gone, another region's connection may be made ready.
const DOUBT: u32 = 2;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Ping the relay.
    Ping,
    /// It may be gone.
    Doubtful,
    /// It is gone.
    Dead,
}

/// Watches one connection.
#[derive(Debug)]
pub struct Liveness {
    heard: Instant,
    /// Traffic that nothing has confirmed to pass.
    traffic: Option<Traffic>,
    pinged: Option<Ping>,
    /// Bytes sent since the relay was heard.
    unheard: u64,
    rtt: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Traffic {
    first: Instant,
    last: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Ping {
    at: Instant,
    doubted: bool,
    /// How long an answer may take.
    allowance: Duration,
}

impl Liveness {
    /// A connection that stands since now.
    pub fn new(now: Instant) -> Self {
        Self {
            heard: now,
            traffic: None,
            pinged: None,
            unheard: 0,
            rtt: Duration::ZERO,
        }
    }

    /// When the relay was heard last.
    pub fn heard_at(&self) -> Instant {
        self.heard
    }

    /// So many bytes were given to the relay; 0 if answers are to be expected here to what went by
    /// another one.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        self.note_traffic(now);
        self.unheard = self.unheard.saturating_add(bytes as u64);
    }

    /// A packet came. When no other follows, one ping finds out whether that is the relay's doing.
    pub fn packet(&mut self, now: Instant) {
        self.heard(now);
        self.note_traffic(now);
    }

    fn note_traffic(&mut self, now: Instant) {
        let first = self.traffic.map_or(now, |traffic| traffic.first);
        self.traffic = Some(Traffic { first, last: now });
    }

    /// Anything else came.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.unheard = 0;
        let confirms = |ping: &Ping| self.traffic.is_none_or(|traffic| traffic.last <= ping.at);
        if self.pinged.take().is_some_and(|ping| confirms(&ping)) {
            self.traffic = None;
        }
    }

    /// The answer to a ping came.
    pub fn pong(&mut self, rtt: Duration, now: Instant) {
        self.rtt = rtt;
        self.heard(now);
    }

    /// A ping left, whatever for.
    pub fn ping_sent(&mut self, now: Instant) {
        self.pinged = Some(Ping {
            at: now,
            doubted: false,
            allowance: self.allowance(),
        });
    }

    /// When [`Liveness::check`] wants to be called.
    pub fn next(&self) -> Option<Instant> {
        match self.pinged {
            Some(ping) if ping.doubted => Some(ping.at + ping.allowance),
            Some(ping) => Some(ping.at + ping.allowance / DOUBT),
            None => self
                .traffic
                .map(|traffic| (self.heard + QUIET).max(traffic.first + ANSWER_TO_TRAFFIC)),
        }
    }

    /// What is due.
    pub fn check(&mut self, now: Instant) -> Verdict {
        if self.next().is_none_or(|at| at > now) {
            return Verdict::Fine;
        }
        match &mut self.pinged {
            None => {
                self.ping_sent(now);
                Verdict::Ping
            }
            Some(ping) if now.duration_since(ping.at) >= ping.allowance => Verdict::Dead,
            Some(ping) => {
                ping.doubted = true;
                Verdict::Doubtful
            }
        }
    }

    /// How long the answer to a ping may take that leaves now.
    fn allowance(&self) -> Duration {
        let queue = Duration::from_millis(self.unheard.saturating_mul(1000) / SLOW_LINK);
        (ANSWER.max(self.rtt * ROUND_TRIPS) + queue).min(LONGEST_ANSWER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Runs until something is due; what, and how much later.
    fn run(liveness: &mut Liveness, now: &mut Instant) -> Option<(Verdict, u128)> {
        let begin = *now;
        let next = liveness.next()?;
        *now = next.max(*now);
        Some((liveness.check(*now), now.duration_since(begin).as_millis()))
    }

    #[test]
    fn without_traffic_nothing_is_sent() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        assert_eq!(liveness.next(), None);
        liveness.heard(now + ms(60_000));
        assert_eq!(liveness.next(), None);
        assert_eq!(liveness.check(now + ms(600_000)), Verdict::Fine);
    }

    #[test]
    fn one_packet_into_silence_finds_a_vanished_relay_in_about_a_second() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Doubtful, 350)));
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Dead, 350)));

        // Into long silence: as soon as there might have been an answer.
        let mut liveness = Liveness::new(now);
        now += ms(60_000);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 150)));
    }

    #[test]
    fn an_answer_ends_the_probing_until_there_is_traffic_again() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        now += ms(30);
        liveness.pong(ms(30), now);
        assert_eq!(liveness.next(), None);
        liveness.sent(100, now + ms(10));
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
    }

    #[test]
    fn traffic_both_ways_needs_no_pings_and_its_end_takes_one() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        for _ in 0..1000 {
            now += ms(50);
            liveness.sent(1000, now);
            liveness.packet(now);
            assert_eq!(liveness.check(now), Verdict::Fine);
        }
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        liveness.pong(ms(10), now + ms(10));
        assert_eq!(liveness.next(), None);
    }

    #[test]
    fn a_sender_that_hears_nothing_pings_a_few_times_a_second_at_most() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        let mut pings = 0;
        for tick in 0..10_000 {
            let now = start + ms(tick);
            liveness.sent(100, now);
            match liveness.check(now) {
                Verdict::Ping => pings += 1,
                Verdict::Fine => {}
                other => panic!("{other:?} at {tick} ms"),
            }
            if liveness.pinged.is_some_and(|ping| now >= ping.at + ms(20)) {
                liveness.pong(ms(20), now);
            }
        }
        assert!((20..=25).contains(&pings), "{pings} in 10 s");
    }

    #[test]
    fn what_follows_a_ping_gives_its_answer_no_more_time() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(1024 * 1024, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        liveness.sent(1024 * 1024, now);
        assert_eq!(
            run(&mut liveness, &mut now),
            Some((Verdict::Doubtful, 1350))
        );
        liveness.sent(1024 * 1024, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Dead, 1350)));
    }

    #[test]
    fn a_long_way_and_a_full_uplink_get_more_time() {
        let now = Instant::now();
        let mut far = Liveness::new(now);
        far.pong(ms(400), now);
        assert_eq!(far.allowance(), ms(1600));
        let mut bulk = Liveness::new(now);
        bulk.sent(1024 * 1024, now);
        assert_eq!(bulk.allowance(), ms(2700));
        bulk.sent(usize::MAX, now);
        assert_eq!(bulk.allowance(), LONGEST_ANSWER);
        bulk.heard(now);
        assert_eq!(bulk.allowance(), ANSWER);
    }
}
