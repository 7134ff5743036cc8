//! Whether a relay that says nothing is still there.
//!
//! A relay host that vanishes sends no farewell, and TCP takes its time to notice. So a relay that is
//! silent while traffic should bring something back is pinged. Without traffic nothing is sent.
//!
//! What looks like a dead relay may be a busy machine, this one or the relay's. So no verdict is spoken by
//! a check that comes late (what has come may wait unread), nor while the relay's QUIC still sends
//! acknowledgements; and slow answers of late give the next one more time.

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
/// Never longer than this, whatever speaks for the relay.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);
/// A check that comes so late shows that this process does not get to run when it should.
const LATE: Duration = Duration::from_millis(50);
/// Of the longest round trip so much is left after each shorter one, in eighths.
const FADES: u32 = 7;
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
    /// The longest round trip of late.
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
    /// How long an answer may take until the relay is doubted, and then until it is given up.
    patience: Duration,
    /// When that is over.
    due: Instant,
    /// Datagrams that had come when this was set.
    received: u64,
}

impl Ping {
    /// Waits for the answer from now on, anew.
    fn wait(&mut self, time: Duration, now: Instant) {
        self.due = (now + time).min(self.at + LONGEST_ANSWER);
    }
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
        self.rtt = rtt.max(self.rtt * FADES / 8);
        self.heard(now);
    }

    /// A ping left, whatever for. `received`: datagrams that have come from the relay's host.
    pub fn ping_sent(&mut self, received: u64, now: Instant) {
        let patience = self.allowance() / DOUBT;
        self.pinged = Some(Ping {
            at: now,
            doubted: false,
            patience,
            due: now + patience,
            received,
        });
    }

    /// When [`Liveness::check`] wants to be called.
    pub fn next(&self) -> Option<Instant> {
        match self.pinged {
            Some(ping) => Some(ping.due),
            None => self
                .traffic
                .map(|traffic| (self.heard + QUIET).max(traffic.first + ANSWER_TO_TRAFFIC)),
        }
    }

    /// What is due. Whatever has come is to be read before. `received`: datagrams that have come from the
    /// relay's host, whether they held anything for us or not.
    pub fn check(&mut self, received: u64, now: Instant) -> Verdict {
        let Some(due) = self.next().filter(|due| *due <= now) else {
            return Verdict::Fine;
        };
        let Some(ping) = &mut self.pinged else {
            self.ping_sent(received, now);
            return Verdict::Ping;
        };
        let late = now.duration_since(due);
        let has_time = now < ping.at + LONGEST_ANSWER;
        if has_time && late >= LATE {
            ping.wait(late.min(ping.patience), now);
            return Verdict::Fine;
        }
        if has_time && received != ping.received {
            ping.received = received;
            ping.wait(ping.patience, now);
            return Verdict::Fine;
        }
        if ping.doubted {
            return Verdict::Dead;
        }
        ping.doubted = true;
        ping.wait(ping.patience, now);
        Verdict::Doubtful
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
        Some((
            liveness.check(0, *now),
            now.duration_since(begin).as_millis(),
        ))
    }

    #[test]
    fn without_traffic_nothing_is_sent() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        assert_eq!(liveness.next(), None);
        liveness.heard(now + ms(60_000));
        assert_eq!(liveness.next(), None);
        assert_eq!(liveness.check(0, now + ms(600_000)), Verdict::Fine);
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
            assert_eq!(liveness.check(0, now), Verdict::Fine);
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
            match liveness.check(0, now) {
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
    #[test]
    fn a_process_that_does_not_get_to_run_takes_no_relay_for_dead() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        let pinged = now;
        // Each check comes 80 ms too late.
        while now < pinged + LONGEST_ANSWER - ms(200) {
            now = liveness.next().unwrap() + ms(80);
            assert_eq!(liveness.check(0, now), Verdict::Fine);
        }
        liveness.pong(now.duration_since(pinged), now);
        assert_eq!(liveness.next(), None);
    }

    #[test]
    fn one_late_check_costs_no_more_than_it_was_late() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        now = liveness.next().unwrap() + ms(200);
        assert_eq!(liveness.check(0, now), Verdict::Fine);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Doubtful, 200)));
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Dead, 350)));
    }

    #[test]
    fn a_relay_that_acknowledges_is_there_though_its_answer_takes_long() {
        let mut now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        let pinged = now;
        let mut received = 0;
        let verdict = loop {
            received += 1;
            now = liveness.next().unwrap();
            match liveness.check(received, now) {
                Verdict::Fine => {}
                verdict => break verdict,
            }
        };
        // One that does nothing else is given up all the same.
        assert_eq!((verdict, now), (Verdict::Doubtful, pinged + LONGEST_ANSWER));
        assert_eq!(liveness.check(received, now), Verdict::Dead);

        // Acknowledgements end with it.
        liveness.pong(ms(20), now);
        liveness.sent(100, now);
        assert_eq!(run(&mut liveness, &mut now), Some((Verdict::Ping, 400)));
        now = liveness.next().unwrap();
        assert_eq!(liveness.check(1, now), Verdict::Fine);
        now = liveness.next().unwrap();
        assert_eq!(liveness.check(1, now), Verdict::Doubtful);
        now = liveness.next().unwrap();
        assert_eq!(liveness.check(1, now), Verdict::Dead);
    }

    #[test]
    fn a_quick_answer_does_not_make_up_for_slow_ones() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.pong(ms(800), now);
        liveness.pong(ms(10), now);
        assert_eq!(liveness.allowance(), ms(2800));
        for _ in 0..20 {
            liveness.pong(ms(10), now);
        }
        assert_eq!(liveness.allowance(), ANSWER);
    }
}
