//! What one direction of a link does to packets, as a state machine without IO or clock.
//!
//! A packet passes these, in this order:
//!
//! 1. a link that is cut drops it;
//! 2. the queue before the line takes it, or drops it if that would hold more than its bytes
//!    (drop-tail); a line without a rate has no queue;
//! 3. the line sends it at its rate;
//! 4. it is lost, or travels for the delay and its jitter.
//!
//! Order is kept, as netem keeps it with a FIFO below: jitter holds back what comes later and never
//! lets it overtake. So where packets are closer together than the jitter is wide, their delays tend
//! to its upper end. Only `reorder` makes packets overtake: a chosen packet skips the delay.
//!
//! Each kind of chance has a generator of its own, so which packets are lost depends on the seed and
//! their number alone, whatever else the link does to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bytes that may travel at a time: half a second at a gigabit per second. More are dropped as by a
/// full queue.
const MAX_TRAVELLING: u64 = 64 * 1024 * 1024;
/// Queue of a link whose shape names none, in bytes: 100 ms at 20 Mbit/s.
const DEFAULT_QUEUE: u64 = 250_000;

/// What one direction does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// How long a packet travels.
    pub delay: Duration,
    /// What is added to or taken from the delay, by packet.
    pub jitter: Jitter,
    /// Which packets never arrive.
    pub loss: Loss,
    /// Share of packets that skip the delay and so overtake those before them, 0 to 1.
    pub reorder: f64,
    /// What the line sends, in bits of IP per second. `None`: everything at once.
    pub rate: Option<u64>,
    /// What may wait for the line, in bytes of IP.
    pub queue: u64,
}

/// How delays vary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Not at all.
    None,
    /// Evenly between minus and plus this.
    Uniform(Duration),
    /// Normally with this standard deviation. A packet never travels for less than nothing.
    Normal(Duration),
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// None.
    None,
    /// Each with this probability.
    Random(f64),
    /// In bursts (Gilbert): the line goes bad with probability `begin` at each packet and good again with
    /// probability `end`; while it is bad it loses all. Mean burst: `1 / end` packets.
    Bursts {
        /// Probability of going bad.
        begin: f64,
        /// Probability of going good.
        end: f64,
    },
}

impl Shape {
    /// A line that does nothing to packets.
    pub const CLEAN: Self = Self {
        delay: Duration::ZERO,
        jitter: Jitter::None,
        loss: Loss::None,
        reorder: 0.0,
        rate: None,
        queue: DEFAULT_QUEUE,
    };
}

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came to the link.
    pub offered: u64,
    /// Left it on the other side.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped by a full queue.
    pub overflowed: u64,
    /// Dropped because the link was cut.
    pub cut: u64,
    /// Made to skip the delay.
    pub reordered: u64,
    /// Refused by the receiving side's system.
    pub refused: u64,
    /// Most that a packet left after it was due.
    pub latest: Duration,
}

impl Counts {
    /// Packets that are neither delivered nor dropped: on their way.
    #[must_use]
    pub fn travelling(&self) -> u64 {
        self.offered - self.delivered - self.dropped()
    }

    /// Packets that will never be delivered.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lost + self.overflowed + self.cut + self.refused
    }
}

/// One direction of a link.
pub struct Direction {
    shape: Shape,
    whole: bool,
    bad: bool,
    chances: Chances,
    /// When the line has sent all that it was given.
    idle_at: Option<Instant>,
    /// Due time of the last packet in order.
    last_due: Option<Instant>,
    number: u64,
    travelling: BTreeMap<(Instant, u64), Vec<u8>>,
    travelling_bytes: u64,
    counts: Counts,
    /// Of those lost by chance, how many had which length.
    lost_lengths: BTreeMap<usize, u64>,
}

struct Chances {
    loss: StdRng,
    jitter: StdRng,
    reorder: StdRng,
}

impl Direction {
    /// A direction whose chances are decided by `seed`.
    #[must_use]
    pub fn new(shape: Shape, seed: u64) -> Self {
        let mut seeds = StdRng::seed_from_u64(seed);
        Self {
            shape,
            whole: true,
            bad: false,
            chances: Chances {
                loss: StdRng::from_rng(&mut seeds),
                jitter: StdRng::from_rng(&mut seeds),
                reorder: StdRng::from_rng(&mut seeds),
            },
            idle_at: None,
            last_due: None,
            number: 0,
            travelling: BTreeMap::new(),
            travelling_bytes: 0,
            counts: Counts::default(),
            lost_lengths: BTreeMap::new(),
        }
    }

    /// Changes what happens to packets that come from now on.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Cuts the link: what travels is gone, and what comes as well, silently.
    pub fn cut(&mut self) {
        self.whole = false;
        self.counts.cut += self.travelling.len() as u64;
        self.travelling.clear();
        self.travelling_bytes = 0;
    }

    /// Mends a link that was cut.
    pub fn mend(&mut self) {
        self.whole = true;
        self.idle_at = None;
        self.last_due = None;
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Packets of a length, in bytes of IP, that were lost by chance so far.
    #[must_use]
    pub fn lost_of_length(&self, length: usize) -> u64 {
        self.lost_lengths.get(&length).copied().unwrap_or_default()
    }

    /// Takes a packet.
    pub fn offer(&mut self, now: Instant, packet: &[u8]) {
        self.counts.offered += 1;
        if !self.whole {
            self.counts.cut += 1;
            return;
        }
        let bytes = packet.len() as u64;
        let Some(sent_at) = self.send(now, bytes) else {
            self.counts.overflowed += 1;
            return;
        };
        if self.loses() {
            self.counts.lost += 1;
            *self.lost_lengths.entry(packet.len()).or_default() += 1;
            return;
        }
        let due = self.arrival(sent_at);
        self.travelling.insert((due, self.number), packet.to_vec());
        self.travelling_bytes += bytes;
        self.number += 1;
    }

    /// When the line has sent a packet that comes now. `None`: there is no room for it.
    fn send(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        if self.travelling_bytes + bytes > MAX_TRAVELLING {
            return None;
        }
        let Some(rate) = self.shape.rate else {
            return Some(now);
        };
        let begins = self.idle_at.map_or(now, |at| at.max(now));
        let waiting = (begins - now).as_secs_f64() * rate as f64 / 8.0;
        if waiting as u64 + bytes > self.shape.queue {
            return None;
        }
        let sent_at = begins + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        self.idle_at = Some(sent_at);
        Some(sent_at)
    }

    fn loses(&mut self) -> bool {
        let chance: f64 = self.chances.loss.random();
        match self.shape.loss {
            Loss::None => false,
            Loss::Random(share) => chance < share,
            Loss::Bursts { begin, end } => {
                self.bad = if self.bad {
                    chance >= end
                } else {
                    chance < begin
                };
                self.bad
            }
        }
    }

    fn arrival(&mut self, sent_at: Instant) -> Instant {
        let delay = self.delay();
        if self.chances.reorder.random::<f64>() < self.shape.reorder {
            self.counts.reordered += 1;
            return sent_at;
        }
        let due = sent_at + delay;
        let due = self.last_due.map_or(due, |last| due.max(last));
        self.last_due = Some(due);
        due
    }

    fn delay(&mut self) -> Duration {
        let jitter = match self.shape.jitter {
            Jitter::None => return self.shape.delay,
            Jitter::Uniform(span) => {
                span.as_secs_f64() * (2.0 * self.chances.jitter.random::<f64>() - 1.0)
            }
            Jitter::Normal(deviation) => deviation.as_secs_f64() * normal(&mut self.chances.jitter),
        };
        Duration::from_secs_f64((self.shape.delay.as_secs_f64() + jitter).max(0.0))
    }

    /// When the next packet is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.travelling.keys().next().map(|(due, _)| *due)
    }

    /// The next packet that is due. Tell [`Direction::left`] what became of it.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.travelling.first_entry()?;
        let due = first.key().0;
        if due > now {
            return None;
        }
        let packet = first.remove();
        self.travelling_bytes -= packet.len() as u64;
        self.counts.latest = self.counts.latest.max(now - due);
        Some(packet)
    }

    /// Notes whether the other side took a packet of [`Direction::take_due`].
    pub fn left(&mut self, taken: bool) {
        if taken {
            self.counts.delivered += 1;
        } else {
            self.counts.refused += 1;
        }
    }
}

/// A standard normal variate (Box and Muller, 1958).
fn normal(rng: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Offers `count` packets of `bytes`, one each `gap`, and returns number and time of arrival of
    /// those that come.
    fn through(
        direction: &mut Direction,
        count: u32,
        bytes: usize,
        gap: Duration,
    ) -> Vec<(u32, Duration)> {
        let start = Instant::now();
        for number in 0..count {
            let mut packet = number.to_be_bytes().to_vec();
            packet.resize(bytes, 0);
            direction.offer(start + gap * number, &packet);
        }
        let mut arrived = Vec::new();
        while let Some(due) = direction.next_due() {
            let packet = direction.take_due(due).unwrap();
            direction.left(true);
            let number = u32::from_be_bytes(*packet.first_chunk().unwrap());
            arrived.push((number, due - start));
        }
        arrived
    }

    fn numbers(arrived: &[(u32, Duration)]) -> Vec<u32> {
        arrived.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn delay_is_added_and_nothing_else() {
        let shape = Shape {
            delay: 20 * MS,
            ..Shape::CLEAN
        };
        let arrived = through(&mut Direction::new(shape, 1), 3, 100, MS);
        assert_eq!(arrived, [(0, 20 * MS), (1, 21 * MS), (2, 22 * MS)]);
    }

    #[test]
    fn packets_of_one_moment_keep_their_order() {
        let arrived = through(
            &mut Direction::new(Shape::CLEAN, 1),
            100,
            100,
            Duration::ZERO,
        );
        assert!(numbers(&arrived).is_sorted());
    }

    #[test]
    fn jitter_varies_the_delay_and_never_the_order() {
        for jitter in [Jitter::Uniform(5 * MS), Jitter::Normal(5 * MS)] {
            let shape = Shape {
                delay: 20 * MS,
                jitter,
                ..Shape::CLEAN
            };
            // So far apart that the order holds nobody back.
            let apart = through(&mut Direction::new(shape, 1), 4000, 100, 100 * MS);
            let delays: Vec<_> = apart
                .iter()
                .map(|(number, at)| (*at - 100 * MS * *number).as_secs_f64())
                .collect();
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            assert!((mean - 0.020).abs() < 0.0005, "{jitter:?}: {mean}");
            let spread = delays
                .iter()
                .map(|delay| (delay - mean).powi(2))
                .sum::<f64>();
            let deviation = (spread / delays.len() as f64).sqrt();
            let expected = match jitter {
                Jitter::Uniform(_) => 0.005 / 3.0_f64.sqrt(),
                _ => 0.005,
            };
            assert!(
                (deviation - expected).abs() < 0.0003,
                "{jitter:?}: {deviation}"
            );

            let close = through(&mut Direction::new(shape, 1), 4000, 100, MS / 10);
            assert!(numbers(&close).is_sorted(), "{jitter:?}");
        }
    }

    #[test]
    fn the_seed_alone_decides_what_is_lost() {
        let lossy = Shape {
            loss: Loss::Random(0.02),
            ..Shape::CLEAN
        };
        let busy = Shape {
            jitter: Jitter::Uniform(MS),
            reorder: 0.1,
            delay: 3 * MS,
            ..lossy
        };
        let mut one = Direction::new(lossy, 7);
        let mut first = numbers(&through(&mut one, 50_000, 100, MS));
        let lost = one.counts().lost;
        assert!((800..1200).contains(&lost), "{lost} of 50,000");
        assert_eq!(one.counts().delivered + lost, 50_000);
        assert_eq!(one.lost_of_length(100), lost);
        assert_eq!(one.lost_of_length(101), 0);
        let mut again = numbers(&through(&mut Direction::new(busy, 7), 50_000, 100, MS));
        first.sort_unstable();
        again.sort_unstable();
        assert_eq!(first, again);
        let other = numbers(&through(&mut Direction::new(lossy, 8), 50_000, 100, MS));
        assert_ne!(first, other);
    }

    #[test]
    fn bursts_are_as_long_and_as_frequent_as_asked() {
        let shape = Shape {
            loss: Loss::Bursts {
                begin: 0.01,
                end: 0.25,
            },
            ..Shape::CLEAN
        };
        let mut direction = Direction::new(shape, 3);
        let came = numbers(&through(&mut direction, 100_000, 100, MS));
        let bursts = came
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .count();
        let mean = direction.counts().lost as f64 / bursts as f64;
        assert!((mean - 4.0).abs() < 0.4, "{mean} packets a burst");
        // Of 1/0.01 + 1/0.25 packets, 1/0.25 are lost.
        let share = direction.counts().lost as f64 / 100_000.0;
        assert!((share - 4.0 / 104.0).abs() < 0.004, "{share}");
    }

    #[test]
    fn only_what_is_asked_to_overtakes() {
        let shape = Shape {
            delay: 10 * MS,
            reorder: 0.25,
            ..Shape::CLEAN
        };
        let mut direction = Direction::new(shape, 5);
        let arrived = through(&mut direction, 10_000, 100, MS);
        let early = arrived
            .iter()
            .filter(|(number, at)| *at == MS * *number)
            .count() as u64;
        assert_eq!(early, direction.counts().reordered);
        assert!((2300..2700).contains(&early), "{early}");
        assert!(!numbers(&arrived).is_sorted());
    }

    #[test]
    fn a_line_sends_at_its_rate_and_its_queue_is_bounded() {
        // A packet of 1,000 bytes takes 1 ms; 5 fit.
        let shape = Shape {
            rate: Some(8_000_000),
            queue: 5000,
            ..Shape::CLEAN
        };
        let mut direction = Direction::new(shape, 1);
        let arrived = through(&mut direction, 20, 1000, Duration::ZERO);
        let at: Vec<_> = arrived.iter().map(|(_, at)| at.as_millis()).collect();
        assert_eq!(at, [1, 2, 3, 4, 5]);
        assert_eq!(direction.counts().overflowed, 15);
        assert_eq!(direction.counts().travelling(), 0);
    }

    #[test]
    fn a_cut_link_keeps_nothing_and_a_mended_one_works() {
        let shape = Shape {
            delay: 20 * MS,
            ..Shape::CLEAN
        };
        let mut direction = Direction::new(shape, 1);
        let now = Instant::now();
        direction.offer(now, &[0; 100]);
        direction.cut();
        direction.offer(now, &[0; 100]);
        assert_eq!(direction.next_due(), None);
        assert_eq!(direction.counts().cut, 2);
        direction.mend();
        direction.offer(now, &[0; 100]);
        assert_eq!(direction.next_due(), Some(now + 20 * MS));
        assert_eq!(direction.take_due(now), None);
    }
}
