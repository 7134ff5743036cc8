//! The store within the process.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use super::{Heard, Kv, KvFuture, UNREAD};

/// Entries kept. Strangers choose keys (the address they call from, the account they try), so
/// there has to be a bound; beyond it, the entry that ends soonest goes.
const MAX_ENTRIES: usize = 200_000;

/// A store that lives and dies with the process.
pub struct MemoryKv {
    entries: Mutex<Entries>,
    channels: Mutex<HashSet<String>>,
    messages: broadcast::Sender<Heard>,
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            channels: Mutex::default(),
            messages: broadcast::Sender::new(UNREAD),
        }
    }
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    by_end: BTreeSet<(Instant, String)>,
}

struct Entry {
    value: Value,
    ends: Instant,
}

#[derive(Clone)]
enum Value {
    Bytes(Vec<u8>),
    Counter(u64),
}

impl Value {
    fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Counter(_) => None,
        }
    }

    fn as_counter(&self) -> u64 {
        match self {
            Self::Bytes(_) => 0,
            Self::Counter(n) => *n,
        }
    }
}

impl Entries {
    fn expire(&mut self, now: Instant) {
        while let Some((ends, _)) = self.by_end.first() {
            if *ends > now && self.by_key.len() <= MAX_ENTRIES {
                return;
            }
            if let Some((_, key)) = self.by_end.pop_first() {
                self.by_key.remove(&key);
            }
        }
    }

    fn get(&mut self, key: &str, now: Instant) -> Option<Value> {
        self.expire(now);
        Some(self.by_key.get(key)?.value.clone())
    }

    fn put(&mut self, key: &str, value: Value, ends: Instant) {
        self.remove(key);
        self.by_end.insert((ends, key.to_owned()));
        self.by_key.insert(key.to_owned(), Entry { value, ends });
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        let entry = self.by_key.remove(key)?;
        self.by_end.remove(&(entry.ends, key.to_owned()));
        Some(entry.value)
    }

    fn increment(&mut self, key: &str, now: Instant, lifetime: Duration) -> u64 {
        self.expire(now);
        let (n, ends) = match self.by_key.get(key) {
            Some(entry) => (entry.value.as_counter() + 1, entry.ends),
            None => (1, now + lifetime),
        };
        self.put(key, Value::Counter(n), ends);
        n
    }
}

impl MemoryKv {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every change leaves the maps consistent, so a panic elsewhere does not spoil them.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channels(&self) -> MutexGuard<'_, HashSet<String>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kv for MemoryKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        let value = self.entries().get(key, Instant::now());
        Box::pin(async { Ok(value.and_then(Value::into_bytes)) })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> KvFuture<'a, Vec<Option<Vec<u8>>>> {
        let now = Instant::now();
        let mut entries = self.entries();
        let values = keys.iter().map(|key| entries.get(key, now));
        let values = values.map(|value| value.and_then(Value::into_bytes));
        let values = values.collect();
        drop(entries);
        Box::pin(async { Ok(values) })
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()> {
        let now = Instant::now();
        let mut entries = self.entries();
        entries.put(key, Value::Bytes(value), now + lifetime);
        entries.expire(now);
        drop(entries);
        Box::pin(async { Ok(()) })
    }

    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        let mut entries = self.entries();
        entries.expire(Instant::now());
        let value = entries.remove(key);
        drop(entries);
        Box::pin(async { Ok(value.and_then(Value::into_bytes)) })
    }

    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64> {
        let n = self.entries().increment(key, Instant::now(), lifetime);
        Box::pin(async move { Ok(n) })
    }

    fn count<'a>(&'a self, key: &'a str) -> KvFuture<'a, u64> {
        let value = self.entries().get(key, Instant::now());
        Box::pin(async move { Ok(value.map_or(0, |value| value.as_counter())) })
    }

    fn tally<'a>(&'a self, _: &'a str, own: u64, _: Duration) -> KvFuture<'a, u64> {
        Box::pin(async move { Ok(own) })
    }

    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()> {
        self.entries().remove(key);
        Box::pin(async { Ok(()) })
    }

    fn publish<'a>(&'a self, channel: &'a str, message: Vec<u8>) -> KvFuture<'a, ()> {
        if self.channels().contains(channel) {
            let channel = channel.to_owned();
            // With nobody there, it is heard by nobody.
            let _ = self.messages.send(Heard::Message { channel, message });
        }
        Box::pin(async { Ok(()) })
    }

    fn subscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        self.channels().insert(channel.to_owned());
        Box::pin(async { Ok(()) })
    }

    fn unsubscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        self.channels().remove(channel);
        Box::pin(async { Ok(()) })
    }

    fn listen(&self) -> broadcast::Receiver<Heard> {
        self.messages.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_counter_ends_when_its_first_window_does() {
        let mut entries = Entries::default();
        let start = Instant::now();
        assert_eq!(entries.increment("a", start, MINUTE), 1);
        assert_eq!(entries.increment("a", start + MINUTE / 2, MINUTE), 2);
        assert_eq!(entries.increment("b", start + MINUTE / 2, MINUTE), 1);
        assert_eq!(entries.increment("a", start + MINUTE, MINUTE), 1);
        assert_eq!(entries.increment("b", start + MINUTE, MINUTE), 2);
    }

    #[test]
    fn memory_is_bounded_and_the_soonest_to_end_goes() {
        let mut entries = Entries::default();
        let start = Instant::now();
        for n in 0..MAX_ENTRIES + 10 {
            let ends = start + MINUTE + Duration::from_millis(n as u64);
            entries.put(&n.to_string(), Value::Counter(1), ends);
            entries.expire(start);
        }
        assert_eq!(entries.by_key.len(), MAX_ENTRIES);
        assert_eq!(entries.by_end.len(), MAX_ENTRIES);
        assert!(!entries.by_key.contains_key("9"));
        assert!(entries.by_key.contains_key("10"));
    }
}
