//! The packets that the generator sends, and what it learns from those that come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Size of a packet, in bytes: what a tunnel with an inner MTU of 1,280 sends at most, roughly.
pub const PACKET: usize = 1280;

/// First bytes of WireGuard data, which a relay may tell from handshakes.
const DATA: [u8; 4] = [4, 0, 0, 0];

/// Where the number is, and where the time.
const NUMBER: std::ops::Range<usize> = 4..12;
const TIME: std::ops::Range<usize> = 12..20;

/// A packet with its number and time still zero. Its content does not compress.
pub fn template() -> [u8; PACKET] {
    let mut packet: [u8; PACKET] = std::array::from_fn(|at| {
        let mixed = (at as u32).wrapping_mul(2_654_435_761);
        mixed.to_be_bytes()[0]
    });
    packet[..4].copy_from_slice(&DATA);
    packet
}

/// Numbers a packet and writes when it leaves.
pub fn stamp(packet: &mut [u8], number: u64, nanos: u64) {
    packet[NUMBER].copy_from_slice(&number.to_be_bytes());
    packet[TIME].copy_from_slice(&nanos.to_be_bytes());
}

/// Number and time of a packet of ours.
fn read(packet: &[u8]) -> Option<(u64, u64)> {
    let word = |range: std::ops::Range<usize>| {
        Some(u64::from_be_bytes(packet.get(range)?.try_into().ok()?))
    };
    Some((word(NUMBER)?, word(TIME)?))
}

/// A clock both ends share.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    #[allow(clippy::cast_possible_truncation)] // 584 years
    pub fn nanos(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// One direction between two clients.
///
/// The sender keeps at most a window of packets under way, so that a relay is kept busy and still
/// loses none for lack of room; what it forwards counts, not what it is sent.
pub struct Flow {
    window: u64,
    sent: AtomicU64,
    /// One more than the highest number that came.
    passed: AtomicU64,
    delivered: AtomicU64,
    room: Notify,
    /// One-way times in nanoseconds, where they are wanted.
    times: Option<std::sync::Mutex<Vec<u64>>>,
    clock: Clock,
}

impl Flow {
    pub fn new(window: u64, clock: Clock, keep_times: bool) -> Self {
        Self {
            window,
            sent: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            room: Notify::new(),
            times: keep_times.then(Default::default),
            clock,
        }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Notes that so many packets leave now; the number of the first.
    pub fn leave(&self, count: u64) -> u64 {
        self.sent.fetch_add(count, Ordering::Relaxed)
    }

    /// Waits until at least `least` packets may leave; how many may.
    pub async fn room(&self, least: u64) -> u64 {
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            let under_way = sent.saturating_sub(self.passed.load(Ordering::Relaxed));
            let room = self.window.saturating_sub(under_way);
            if room >= least {
                return room;
            }
            self.room.notified().await;
        }
    }

    /// Notes a packet that came.
    pub fn arrived(&self, packet: &[u8]) {
        let Some((number, sent_at)) = read(packet) else {
            return;
        };
        self.passed.fetch_max(number + 1, Ordering::Relaxed);
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = &self.times {
            let time = self.clock.nanos().saturating_sub(sent_at);
            times
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(time);
        }
    }

    /// To be called after a batch of [`Flow::arrived`].
    pub fn wake(&self) {
        self.room.notify_one();
    }

    /// Forgets the times so far, or hands them out.
    pub fn take_times(&self) -> Vec<u64> {
        self.times.as_ref().map_or_else(Vec::new, |times| {
            std::mem::take(
                &mut times
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            )
        })
    }

    /// Gives up packets that are under way for longer than any relay holds one: their loss must
    /// not stop the flow.
    pub async fn give_up_lost(&self) {
        const PATIENCE: Duration = Duration::from_millis(100);
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            let passed = self.passed.load(Ordering::Relaxed);
            tokio::time::sleep(PATIENCE).await;
            if self.passed.load(Ordering::Relaxed) == passed && sent > passed {
                self.passed.fetch_max(sent, Ordering::Relaxed);
                self.room.notify_one();
            }
        }
    }
}
