//! What all agents of a run report to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ztna_proto::netmap::Resume;

/// With what a stream began.
#[derive(Clone, Copy, Debug)]
pub enum Begun {
    Full,
    Delta,
    InSync,
}

/// A change that an agent was told of, and has applied.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub agent: usize,
    pub at: Instant,
}

#[derive(Default)]
pub struct Board {
    connected: AtomicUsize,
    begun: [AtomicUsize; 3],
    /// Messages that did not lead to the hash that they name.
    wrong: AtomicUsize,
    bytes: AtomicU64,
    /// When the endpoint with this port was reported.
    sent: Mutex<HashMap<u16, Instant>>,
    /// How long each agent's news of it took.
    latencies: Mutex<Vec<Duration>>,
    told: Mutex<Vec<Told>>,
    /// Where each agent's map stands.
    positions: Mutex<HashMap<usize, Resume>>,
    why: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    pub fn begins(&self, agent: usize, begun: Begun, position: Resume) {
        self.begun[begun as usize].fetch_add(1, Ordering::Relaxed);
        self.stands(agent, position);
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ends(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many streams began with a full map, with a delta, and with nothing.
    pub fn begun(&self) -> [usize; 3] {
        [0, 1, 2].map(|kind| self.begun[kind].load(Ordering::Relaxed))
    }

    pub fn stands(&self, agent: usize, position: Resume) {
        lock(&self.positions).insert(agent, position);
    }

    pub fn position(&self, agent: usize) -> Option<Resume> {
        lock(&self.positions).get(&agent).copied()
    }

    pub fn is_wrong(&self, why: &str) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        lock(&self.why).get_or_insert_with(|| why.to_owned());
    }

    /// How many messages were wrong, and what was wrong with the first.
    pub fn wrong(&self) -> (usize, Option<String>) {
        (self.wrong.load(Ordering::Relaxed), lock(&self.why).clone())
    }

    pub fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn sends(&self, port: u16) {
        lock(&self.sent).insert(port, Instant::now());
    }

    /// An agent has heard of an endpoint.
    pub fn hears(&self, port: u16) {
        let now = Instant::now();
        if let Some(sent) = lock(&self.sent).get(&port) {
            lock(&self.latencies).push(now.duration_since(*sent));
        }
    }

    pub fn heard(&self) -> usize {
        lock(&self.latencies).len()
    }

    pub fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut lock(&self.latencies))
    }

    pub fn tells(&self, agent: usize) {
        let at = Instant::now();
        lock(&self.told).push(Told { agent, at });
    }

    pub fn told(&self) -> usize {
        lock(&self.told).len()
    }

    pub fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut lock(&self.told))
    }
}

/// The value that this share of all does not exceed, by nearest rank.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a length
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
