use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    items: 1024,
    bytes: 512 * 1024,
};

/// A receiver that takes packets at a fixed rate, in virtual time.
struct Line {
    queue: FairQueue<u8, (u8, u32)>,
    start: Instant,
    /// When the line is free again, in nanoseconds.
    free_at: u64,
    bits_per_second: u64,
    delays: Vec<(u8, Duration)>,
    lost: Lost,
}

impl Line {
    fn new(bits_per_second: u64) -> Self {
        Self {
            queue: FairQueue::default(),
            start: Instant::now(),
            free_at: 0,
            bits_per_second,
            delays: Vec::new(),
            lost: Lost::default(),
        }
    }

    fn at(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }

    fn push(&mut self, from: u8, number: u32, len: usize, nanos: u64) {
        let now = self.at(nanos);
        let lost = self.queue.push(from, (from, number), len, now, BOUNDS);
        self.lost.packets += lost.packets;
    }

    /// Sends until `nanos`. The wait includes the time on the line.
    fn run_until(&mut self, nanos: u64, lens: impl Fn(u8) -> usize) {
        while self.free_at <= nanos {
            let now = self.at(self.free_at);
            let Some(((from, _), wait)) = self.queue.pop(now, &mut self.lost) else {
                self.free_at = nanos;
                return;
            };
            let on_line = lens(from) as u64 * 8 * 1_000_000_000 / self.bits_per_second;
            self.free_at += on_line.max(1);
            self.delays
                .push((from, wait + Duration::from_nanos(on_line)));
        }
    }

    fn delays_of(&self, from: u8) -> Vec<Duration> {
        let mut delays: Vec<_> = self
            .delays
            .iter()
            .filter(|(sender, _)| *sender == from)
            .map(|(_, delay)| *delay)
            .collect();
        delays.sort_unstable();
        delays
    }
}

/// Five seconds at a receiver of 10 Mbit/s: `floods` senders of 40 Mbit/s each, and one that sends
/// 50 packets of 200 bytes a second.
fn beside_floods(floods: u8) -> Line {
    const SECONDS: u64 = 5;
    let lens = |from| if from == 0 { 200 } else { 1280 };
    let mut line = Line::new(10_000_000);
    let step = 256_000;
    for tick in 0..SECONDS * 1_000_000_000 / step {
        let nanos = tick * step;
        line.run_until(nanos, lens);
        for flood in 1..=floods {
            line.push(flood, tick as u32, 1280, nanos);
        }
        if nanos % 20_000_000 < step {
            line.push(0, tick as u32, 200, nanos);
        }
    }
    line.run_until(SECONDS * 1_000_000_000, lens);
    line
}

#[test]
fn a_flood_neither_delays_nor_loses_anothers_packets() {
    for floods in [1, 5] {
        let line = beside_floods(floods);
        let delays = line.delays_of(0);
        let sent = 250;
        assert!(delays.len() * 100 >= sent * 99, "{} arrived", delays.len());
        let p99 = delays[delays.len() * 99 / 100];
        assert!(p99 <= Duration::from_millis(20), "{floods} floods: {p99:?}");
        assert!(line.lost.packets > 1_000, "the flood was no flood");
    }
}

#[test]
fn floods_share_the_line_by_bytes() {
    let line = beside_floods(4);
    let counts: Vec<usize> = (1..=4).map(|from| line.delays_of(from).len()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= most / 50, "{counts:?}");
}

#[test]
fn the_longest_flow_pays_for_a_full_queue() {
    let mut queue = FairQueue::default();
    let now = Instant::now();
    let bounds = Bounds {
        items: 10,
        bytes: 10_000,
    };
    for number in 0..9 {
        queue.push(1, (1, number), 100, now, bounds);
    }
    let mut lost = queue.push(2, (2, 0), 100, now, bounds);
    assert_eq!(lost, Lost::default());
    lost = queue.push(2, (2, 1), 100, now, bounds);
    let one = Lost {
        packets: 1,
        bytes: 100,
    };
    assert_eq!(lost, one);
    let mut left = Vec::new();
    while let Some((item, _)) = queue.pop(now, &mut lost) {
        left.push(item);
    }
    assert!(!left.contains(&(1, 0)) && left.contains(&(1, 1)));
    assert!(left.contains(&(2, 0)) && left.contains(&(2, 1)));
}

#[test]
fn what_is_stale_is_not_sent() {
    let mut queue = FairQueue::default();
    let now = Instant::now();
    queue.push(1, 'a', 100, now, BOUNDS);
    let later = now + STALE + Duration::from_millis(1);
    queue.push(1, 'b', 100, later, BOUNDS);
    let mut lost = Lost::default();
    let next = queue.pop(later, &mut lost);
    assert_eq!(next, Some(('b', Duration::ZERO)));
    assert_eq!(lost.packets, 1);
}

proptest! {
    /// Whatever is pushed comes out once, in its flow's order, or is counted as lost.
    #[test]
    fn nothing_vanishes(
        steps in prop::collection::vec((0u8..6, 0usize..3000, 0u64..30_000_000, any::<bool>()), 0..300),
    ) {
        let bounds = Bounds { items: 20, bytes: 20_000 };
        let mut queue = FairQueue::default();
        let start = Instant::now();
        let (mut nanos, mut pushed, mut popped) = (0, 0u64, 0u64);
        let mut lost = Lost::default();
        let mut last: HashMap<u8, u32> = HashMap::new();
        let mut take = |queue: &mut FairQueue<u8, (u8, u32)>, now, lost: &mut Lost| {
            let Some(((from, number), _)) = queue.pop(now, lost) else { return false };
            let before = last.insert(from, number);
            assert!(before.is_none_or(|before| before < number), "order of {from}");
            popped += 1;
            true
        };
        for (number, (from, len, wait, pop)) in steps.into_iter().enumerate() {
            nanos += wait;
            let now = start + Duration::from_nanos(nanos);
            let gone = queue.push(from, (from, number as u32), len, now, bounds);
            lost.packets += gone.packets;
            pushed += 1;
            prop_assert!(queue.items <= bounds.items && queue.bytes <= bounds.bytes);
            if pop {
                take(&mut queue, now, &mut lost);
            }
        }
        let end = start + Duration::from_nanos(nanos);
        while take(&mut queue, end, &mut lost) {}
        prop_assert_eq!(pushed, popped + lost.packets);
        prop_assert_eq!((queue.items, queue.bytes, queue.flows.len()), (0, 0, 0));
    }
}
