//! What may be lost: counters, one-time codes, and messages between nodes. Behind a trait with two implementations: Valkey (or
//! Redis), which the nodes of a deployment share, and the process's own memory.
//!
//! With Valkey configured, [`FallbackKv`] stands before both: while Valkey does not answer, this
//! process counts for itself. Codes that were stored before are then not valid, and a limit may be
//! had once per node; nothing is refused that should pass, and nothing passes without a limit.
//!
//! What stands in the shared store is sealed, and messages are signed ([`guard`]): it is trusted with nothing.
//!
//! Messages are heard at most once, by whoever listens at that moment. Where some may have been
//! missed, listeners hear of that too ([`Heard::Gap`]), and ask where the truth is.

mod fallback;
mod guard;
mod memory;
mod valkey;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::broadcast;

pub(crate) use fallback::FallbackKv;
pub use memory::MemoryKv;
pub use valkey::ValkeyKv;

/// The store does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the key-value store does not answer: {0}")]
pub struct KvError(pub String);

/// What the store's calls return.
pub type KvFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KvError>> + Send + 'a>>;

/// At most `count` in `window`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In how long, from the first on.
    pub window: Duration,
}

/// Messages that a listener may leave unread; then it hears of a gap instead.
pub(crate) const UNREAD: usize = 8192;

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody, ourselves included, has published this.
    Message {
        /// Where.
        channel: String,
        /// What.
        message: Vec<u8>,
    },
    /// Messages may have been missed.
    Gap,
}

/// A store of small values and counters that expire. What is a counter is never used as a value.
pub trait Kv: Send + Sync {
    /// A value, if it is there.
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>>;

    /// Several values, each if it is there, in the keys' order.
    fn get_many<'a>(&'a self, keys: &'a [String]) -> KvFuture<'a, Vec<Option<Vec<u8>>>>;

    /// Stores a value for `lifetime`, over any that is there.
    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()>;

    /// Takes a value out: of two callers at once, one gets it.
    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>>;

    /// Adds one to a counter, and says where it stands. A new counter starts at 0 and ends after
    /// `lifetime`, whatever is added.
    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64>;

    /// Where a counter stands; 0 if there is none.
    fn count<'a>(&'a self, key: &'a str) -> KvFuture<'a, u64>;

    /// Notes how many of something this process has, and says how many all processes have together that share the store.
    /// What a process has noted counts for `lifetime`.
    fn tally<'a>(&'a self, key: &'a str, own: u64, lifetime: Duration) -> KvFuture<'a, u64>;

    /// Ends a value, a counter or a tally, if it is there.
    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()>;

    /// Tells all who have subscribed to the channel, in every process that shares the store.
    fn publish<'a>(&'a self, channel: &'a str, message: Vec<u8>) -> KvFuture<'a, ()>;

    /// From now on, this process hears what is published on the channel. Holds over a loss of the
    /// connection, which is heard as a gap.
    fn subscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()>;

    /// Ends that, however often it was subscribed to.
    fn unsubscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()>;

    /// What this process hears from now on, of all channels that it has subscribed to.
    fn listen(&self) -> broadcast::Receiver<Heard>;

    /// Whether other processes may share the store.
    fn is_shared(&self) -> bool {
        false
    }

    /// Why the store is not what the deployment was told to use, if so.
    fn degraded(&self) -> Option<&'static str> {
        None
    }
}
