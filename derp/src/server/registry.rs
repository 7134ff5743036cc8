//! The clients that are connected, by key.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use ztna_proto::{OrgId, WgPublicKey};

use super::mesh::Link;
use crate::frame::{Frame, GoneReason};
use crate::outbox::{Outbox, Pushed};

/// Locks that the map is spread over, so that senders seldom meet at one.
const SHARDS: usize = 64;

/// Connections of one key at a time; the oldest goes for the next one. Two are normal while a
/// machine moves to another network.
const MAX_DUPLICATES: usize = 4;

/// Peers remembered of a client, who are told when it leaves.
pub(super) const MAX_REMEMBERED_PEERS: usize = 4096;

/// A client that is neither a relay nor a prober (`derp.PeerPresentIsRegular`).
const FLAG_REGULAR: u8 = 1;

/// One connection of a client, as others see it.
pub(super) struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The client's key.
    pub key: WgPublicKey,
    /// The client's org.
    pub org: Option<OrgId>,
    /// Where it connects from.
    pub address: SocketAddr,
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
type Connections = Vec<Arc<Connection>>;

/// A client of another relay of the region.
struct Remote {
    link: Arc<Link>,
    org: Option<OrgId>,
    /// Our clients that got packets of it: they are told when it leaves.
    heard_by: HashSet<WgPublicKey>,
}

/// All that is known of one key.
#[derive(Default)]
struct Slot {
    local: Connections,
    /// Oldest first; the first one is used.
    remote: Vec<Remote>,
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }
}

type Shard = HashMap<WgPublicKey, Slot>;

/// Where packets for a key go.
pub(super) enum Route {
    /// To a client of this relay.
    Local(Arc<Connection>),
    /// To another relay of the region, whose client belongs to this org.
    Remote(Arc<Link>, Option<OrgId>),
}

impl Route {
    pub fn org(&self) -> Option<OrgId> {
        match self {
            Self::Local(connection) => connection.org,
            Self::Remote(_, org) => *org,
        }
    }
}

pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    len: AtomicUsize,
    /// Relays of the region that want to know who comes and goes. Locked after a shard.
    watchers: Mutex<Connections>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            watchers: Mutex::default(),
        }
    }
}

impl Registry {
    fn shard(&self, key: &WgPublicKey) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key) as usize;
        lock(&self.shards[hash % SHARDS])
    }

    /// Connections in all.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds a connection, which becomes its key's active one. Returns one that had to go for it.
    pub fn insert(&self, connection: Arc<Connection>) -> Option<Arc<Connection>> {
        let mut shard = self.shard(&connection.key);
        let slot = shard.entry(connection.key).or_default();
        if slot.local.is_empty() {
            self.announce(&present(&connection));
        }
        slot.local.push(connection);
        if slot.local.len() > MAX_DUPLICATES {
            return Some(slot.local.remove(0));
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Removes a connection. `true` if its key is not connected any more, anywhere. Of several, the
    /// newest that is left becomes active.
    pub fn remove(&self, connection: &Connection) -> bool {
        let mut shard = self.shard(&connection.key);
        let Some(slot) = shard.get_mut(&connection.key) else {
            return false;
        };
        let before = slot.local.len();
        slot.local.retain(|other| other.id != connection.id);
        let removed = before - slot.local.len();
        self.len.fetch_sub(removed, Ordering::Relaxed);
        if removed > 0 && slot.local.is_empty() {
            self.announce(&gone(connection.key));
        }
        let last = slot.is_empty();
        if last {
            shard.remove(&connection.key);
        }
        last
    }

    /// The connection that packets for `key` go to.
    pub fn active(&self, key: &WgPublicKey) -> Option<Arc<Connection>> {
        self.shard(key).get(key)?.local.last().cloned()
    }

    /// Where packets for `key` go: to an own client rather than to another relay's.
    pub fn route(&self, key: &WgPublicKey) -> Option<Route> {
        let shard = self.shard(key);
        let slot = shard.get(key)?;
        if let Some(connection) = slot.local.last() {
            return Some(Route::Local(Arc::clone(connection)));
        }
        let remote = slot.remote.first()?;
        Some(Route::Remote(Arc::clone(&remote.link), remote.org))
    }

    /// Every connection of `key`.
    pub fn all(&self, key: &WgPublicKey) -> Connections {
        let shard = self.shard(key);
        shard
            .get(key)
            .map_or_else(Connections::new, |slot| slot.local.clone())
    }

    /// Every connection of the keys that are wanted.
    pub fn matching(&self, wanted: impl Fn(&WgPublicKey) -> bool) -> Connections {
        let mut found = Connections::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let slots = shard.iter().filter(|(key, _)| wanted(key));
            found.extend(slots.flat_map(|(_, slot)| slot.local.iter().cloned()));
        }
        found
    }

    /// Tells a relay of the region of every client, now and from now on.
    pub fn watch(&self, watcher: &Arc<Connection>) {
        let mut watchers = lock(&self.watchers);
        if watchers.iter().any(|other| other.id == watcher.id) {
            return;
        }
        watchers.push(Arc::clone(watcher));
        drop(watchers);
        for shard in &self.shards {
            // Under the shard's lock, as `announce`: what is told of one key stays in order.
            for slot in lock(shard).values() {
                if let Some(connection) = slot.local.last() {
                    tell(watcher, &present(connection));
                }
            }
        }
    }

    /// The relay is not told any more.
    pub fn unwatch(&self, watcher: &Connection) {
        lock(&self.watchers).retain(|other| other.id != watcher.id);
    }

    fn announce(&self, frame: &Frame) {
        for watcher in lock(&self.watchers).iter() {
            tell(watcher, frame);
        }
    }

    /// A client is connected to the relay behind `link`.
    pub fn add_remote(&self, key: WgPublicKey, link: &Arc<Link>, org: Option<OrgId>) {
        let mut shard = self.shard(&key);
        let slot = shard.entry(key).or_default();
        match slot
            .remote
            .iter_mut()
            .find(|other| other.link.id == link.id)
        {
            Some(known) => known.org = org,
            None => slot.remote.push(Remote {
                link: Arc::clone(link),
                org,
                heard_by: HashSet::new(),
            }),
        }
    }

    /// An own client got a packet of another relay's client.
    pub fn note_heard(&self, from: &WgPublicKey, by: WgPublicKey) {
        if let Some(slot) = self.shard(from).get_mut(from) {
            for remote in &mut slot.remote {
                if remote.heard_by.len() < MAX_REMEMBERED_PEERS {
                    remote.heard_by.insert(by);
                }
            }
        }
    }

    /// A client is no more connected to the relay behind `link`. Returns the own clients that are
    /// to be told, if it is not connected anywhere else.
    pub fn remove_remote(&self, key: &WgPublicKey, link: &Link) -> Vec<WgPublicKey> {
        let mut shard = self.shard(key);
        let Some(slot) = shard.get_mut(key) else {
            return Vec::new();
        };
        let heard_by = drop_link(slot, link);
        if !slot.is_empty() {
            return Vec::new();
        }
        shard.remove(key);
        heard_by
    }

    /// The relay behind `link` is gone, with all its clients. Returns them, each with the own
    /// clients that are to be told.
    pub fn remove_link(&self, link: &Link) -> Vec<(WgPublicKey, Vec<WgPublicKey>)> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            lock(shard).retain(|key, slot| {
                let heard_by = drop_link(slot, link);
                if slot.is_empty() {
                    gone.push((*key, heard_by));
                }
                !slot.is_empty()
            });
        }
        gone
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a link's client. Returns who heard of it.
fn drop_link(slot: &mut Slot, link: &Link) -> Vec<WgPublicKey> {
    let of_link = |remote: &Remote| remote.link.id == link.id;
    let Some(index) = slot.remote.iter().position(of_link) else {
        return Vec::new();
    };
    slot.remote.remove(index).heard_by.into_iter().collect()
}

fn present(connection: &Connection) -> Frame {
    Frame::PeerPresent {
        peer: connection.key,
        endpoint: Some(connection.address),
        flags: Some(FLAG_REGULAR),
        org: connection.org,
    }
}

/// A client has left.
pub(super) fn gone(peer: WgPublicKey) -> Frame {
    Frame::PeerGone {
        peer,
        reason: GoneReason::Disconnected,
    }
}

/// A relay that misses one frame knows the clients wrongly from then on: it has to ask anew.
fn tell(watcher: &Connection, frame: &Frame) {
    match watcher.outbox.signal(frame) {
        Pushed::Queued(lost) if lost.packets > 0 => watcher.cut.cancel(),
        _ => {}
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
            address: ([192, 0, 2, 1], 7).into(),
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

    fn key(byte: u8) -> WgPublicKey {
        WgPublicKey([byte; 32])
    }

    fn link_of(registry: &Registry, key: &WgPublicKey) -> Option<u64> {
        match registry.route(key)? {
            Route::Local(_) => None,
            Route::Remote(link, _) => Some(link.id),
        }
    }

    #[test]
    fn an_own_client_goes_before_a_remote_one_and_the_oldest_link_before_others() {
        let registry = Registry::default();
        let (first, second) = (Link::for_tests(100), Link::for_tests(101));
        registry.add_remote(key(7), &first, None);
        registry.add_remote(key(7), &second, None);
        assert_eq!(link_of(&registry, &key(7)), Some(100));
        let own = connection(1);
        registry.insert(Arc::clone(&own));
        assert!(matches!(registry.route(&key(7)), Some(Route::Local(_))));
        assert!(!registry.remove(&own), "it is connected elsewhere");
        assert!(registry.remove_remote(&key(7), &first).is_empty());
        assert_eq!(link_of(&registry, &key(7)), Some(101));
        registry.remove_link(&second);
        assert!(registry.route(&key(7)).is_none());
    }

    #[test]
    fn a_remote_client_that_leaves_is_reported_to_those_who_heard_it() {
        let registry = Registry::default();
        let link = Link::for_tests(100);
        for peer in [1, 2] {
            registry.add_remote(key(peer), &link, None);
        }
        registry.note_heard(&key(1), key(9));
        registry.note_heard(&key(2), key(8));
        assert_eq!(registry.remove_remote(&key(1), &link), [key(9)]);
        assert_eq!(registry.remove_link(&link), [(key(2), vec![key(8)])]);
    }

    #[tokio::test]
    async fn a_watcher_learns_who_is_here_and_who_comes_and_goes() {
        let registry = Registry::default();
        let (here, twice, watcher) = (connection(1), connection(2), connection(50));
        registry.insert(Arc::clone(&here));
        registry.watch(&watcher);
        registry.watch(&watcher);
        registry.insert(Arc::clone(&twice));
        registry.remove(&here);
        registry.remove(&twice);
        registry.unwatch(&watcher);
        registry.insert(connection(3));

        watcher.outbox.close();
        let mut told = Vec::new();
        let stall = std::time::Duration::from_secs(1);
        watcher
            .outbox
            .drain_into(&mut told, stall, &())
            .await
            .unwrap();
        let expected = [present(&here), gone(here.key)];
        let expected: Vec<u8> = expected.iter().flat_map(|frame| frame.to_bytes()).collect();
        assert_eq!(told, expected);
    }
}
