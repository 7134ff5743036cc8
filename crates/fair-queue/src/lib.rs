//! A queue that is fair to those who fill it: flows, served in turn by bytes, each with
//! its own control of delay (RFC 8290, FQ-CoDel).
//!
//! A flow with little to send is served at once, whatever the others do: a flow that wakes up goes
//! before those that have been queueing. When the bound is reached, the longest flow loses its
//! oldest packet, so a flood costs its sender alone.

mod codel;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use codel::CoDel;

/// Bytes that a flow may send in its turn: one packet of full size (RFC 8290 §5.2).
const QUANTUM: i64 = 1514;

/// A packet that has waited for so long is worth nothing to anybody.
const STALE: Duration = Duration::from_secs(1);

/// Flow states beyond which an empty queue gives its memory back.
const SPARE_FLOWS: usize = 16;

/// Packets and bytes that a queue holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Packets.
    pub items: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// Packets that went, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Lost {
    /// Counts a packet of so many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

struct Entry<T> {
    since: Instant,
    len: usize,
    item: T,
}

struct Flow<T> {
    queue: VecDeque<Entry<T>>,
    bytes: usize,
    deficit: i64,
    codel: CoDel,
}

impl<T> Flow<T> {
    fn take(&mut self) -> Option<Entry<T>> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.len;
        Some(entry)
    }
}

impl<T> Default for Flow<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            deficit: QUANTUM,
            codel: CoDel::default(),
        }
    }
}

/// The queue. Flows exist while they have packets, and until their turn after the last one.
pub struct FairQueue<K, T> {
    flows: HashMap<K, Flow<T>>,
    /// Flows that woke up: first.
    fresh: VecDeque<K>,
    /// Flows that have used up a turn.
    standing: VecDeque<K>,
    items: usize,
    bytes: usize,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            fresh: VecDeque::new(),
            standing: VecDeque::new(),
            items: 0,
            bytes: 0,
        }
    }
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// Queues an item of `len` bytes in a flow. Returns what had to go for it.
    pub fn push(&mut self, key: K, item: T, len: usize, now: Instant, bounds: Bounds) -> Lost {
        let mut lost = Lost::default();
        while self.items >= bounds.items || (self.bytes + len > bounds.bytes && self.items > 0) {
            lost.add(self.drop_from_longest());
        }
        let fresh = &mut self.fresh;
        let flow = self.flows.entry(key).or_insert_with(|| {
            fresh.push_back(key);
            Flow::default()
        });
        flow.bytes += len;
        flow.queue.push_back(Entry {
            since: now,
            len,
            item,
        });
        self.items += 1;
        self.bytes += len;
        lost
    }

    /// The next item and how long it waited. What is dropped on the way is added to `lost`.
    pub fn pop(&mut self, now: Instant, lost: &mut Lost) -> Option<(T, Duration)> {
        loop {
            let (key, is_fresh) = match self.fresh.front() {
                Some(key) => (*key, true),
                None => match self.standing.front() {
                    Some(key) => (*key, false),
                    None => {
                        self.forget();
                        return None;
                    }
                },
            };
            // Whoever is in a list has a flow.
            let flow = self.flows.entry(key).or_default();
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                self.rotate(is_fresh);
                continue;
            }
            while let Some(entry) = flow.take() {
                self.items -= 1;
                self.bytes -= entry.len;
                let wait = now.saturating_duration_since(entry.since);
                if wait > STALE || flow.codel.drops(wait, flow.bytes, now) {
                    lost.add(entry.len);
                    continue;
                }
                flow.deficit -= i64::try_from(entry.len).unwrap_or(i64::MAX);
                return Some((entry.item, wait));
            }
            // A flow that woke up waits a round before it may do so again (RFC 8290 §4.2).
            if is_fresh && !self.standing.is_empty() {
                self.rotate(true);
            } else {
                self.list(is_fresh).pop_front();
                self.flows.remove(&key);
            }
        }
    }

    /// Whether nothing is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    fn list(&mut self, is_fresh: bool) -> &mut VecDeque<K> {
        if is_fresh {
            &mut self.fresh
        } else {
            &mut self.standing
        }
    }

    /// Sends the first flow of a list to the end of the standing ones.
    fn rotate(&mut self, is_fresh: bool) {
        if let Some(key) = self.list(is_fresh).pop_front() {
            self.standing.push_back(key);
        }
    }

    /// Drops the oldest packet of the flow with the most bytes, and returns its length.
    fn drop_from_longest(&mut self) -> usize {
        let longest = self.flows.values_mut().max_by_key(|flow| flow.bytes);
        let Some(entry) = longest.and_then(Flow::take) else {
            return 0;
        };
        self.items -= 1;
        self.bytes -= entry.len;
        entry.len
    }

    /// An idle queue holds no memory for the flows that it once had.
    fn forget(&mut self) {
        if self.flows.capacity() > SPARE_FLOWS {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests;
