//! The clients that are connected, by key.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use ztna_proto::{OrgId, WgPublicKey};

use crate::frame::Frame;
use crate::outbox::Outbox;

/// Locks that the map is spread over, so that senders seldom meet at one.
const SHARDS: usize = 64;

/// Connections of one key at a time; the oldest goes for the next one. Two are normal while a
/// machine moves to another network.
const MAX_DUPLICATES: usize = 4;

/// One connection of a client, as others see it.
pub(super) struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The client's key.
    pub key: WgPublicKey,
    /// The client's org.
    pub org: Option<OrgId>,
    /// What waits for its writer.
    pub outbox: Outbox,
    /// Ends its reader.
    pub cut: CancellationToken,
}

impl Connection {
    /// Says a last word and ends the connection.
    pub fn close(&self, last: &Frame) {
        self.outbox.signal(last);
        self.outbox.close();
        self.cut.cancel();
    }
}

/// Connections of one key, oldest first. The last one is active.
type Slot = Vec<Arc<Connection>>;

type Shard = Mutex<HashMap<WgPublicKey, Slot>>;

pub(super) struct Registry {
    shards: Vec<Shard>,
    hasher: RandomState,
    len: AtomicUsize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }
}

impl Registry {
    fn shard(&self, key: &WgPublicKey) -> MutexGuard<'_, HashMap<WgPublicKey, Slot>> {
        let hash = self.hasher.hash_one(key) as usize;
        self.shards[hash % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections in all.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds a connection, which becomes its key's active one. Returns one that had to go for it.
    pub fn insert(&self, connection: Arc<Connection>) -> Option<Arc<Connection>> {
        let mut shard = self.shard(&connection.key);
        let slot = shard.entry(connection.key).or_default();
        slot.push(connection);
        if slot.len() > MAX_DUPLICATES {
            return Some(slot.remove(0));
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Removes a connection. `true` if it was its key's last one. Of several, the newest that is
    /// left becomes active.
    pub fn remove(&self, connection: &Connection) -> bool {
        let mut shard = self.shard(&connection.key);
        let Some(slot) = shard.get_mut(&connection.key) else {
            return false;
        };
        let before = slot.len();
        slot.retain(|other| other.id != connection.id);
        self.len.fetch_sub(before - slot.len(), Ordering::Relaxed);
        let last = slot.is_empty();
        if last {
            shard.remove(&connection.key);
        }
        last
    }

    /// The connection that packets for `key` go to.
    pub fn active(&self, key: &WgPublicKey) -> Option<Arc<Connection>> {
        self.shard(key).get(key)?.last().cloned()
    }

    /// Every connection of `key`.
    pub fn all(&self, key: &WgPublicKey) -> Slot {
        self.shard(key).get(key).cloned().unwrap_or_default()
    }

    /// Every connection of the keys that are wanted.
    pub fn matching(&self, wanted: impl Fn(&WgPublicKey) -> bool) -> Slot {
        let mut found = Slot::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = shard.iter().filter(|(key, _)| wanted(key));
            found.extend(slots.flat_map(|(_, slot)| slot.iter().cloned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(id: u64) -> Arc<Connection> {
        Arc::new(Connection {
            id,
            key: WgPublicKey([7; 32]),
            org: None,
            outbox: Outbox::default(),
            cut: CancellationToken::new(),
        })
    }

    #[test]
    fn the_newest_is_active_and_an_older_takes_over() {
        let registry = Registry::default();
        let (first, second) = (connection(1), connection(2));
        let key = first.key;
        let active = || registry.active(&key).map(|connection| connection.id);
        assert_eq!(active(), None);
        registry.insert(Arc::clone(&first));
        registry.insert(Arc::clone(&second));
        assert_eq!((active(), registry.len()), (Some(2), 2));
        assert!(!registry.remove(&second));
        assert_eq!((active(), registry.len()), (Some(1), 1));
        assert!(registry.remove(&first));
        assert!(!registry.remove(&first), "removed twice");
        assert_eq!((active(), registry.len()), (None, 0));
    }

    #[test]
    fn a_key_has_a_bounded_number_of_connections() {
        let registry = Registry::default();
        for id in 0..10 {
            let gone = registry.insert(connection(id));
            let expected = id.checked_sub(MAX_DUPLICATES as u64);
            assert_eq!(gone.map(|connection| connection.id), expected);
        }
        assert_eq!(registry.len(), MAX_DUPLICATES);
        assert_eq!(registry.all(&WgPublicKey([7; 32])).len(), MAX_DUPLICATES);
    }
}
