//! What may be lost: counters and one-time codes. Behind a trait with two implementations: Valkey (or
//! Redis), which the nodes of a deployment share, and the process's own memory.
//!
//! With Valkey configured, [`FallbackKv`] stands before both: while Valkey does not answer, this
//! process counts for itself. Codes that were stored before are then not valid, and a limit may be
//! had once per node; nothing is refused that should pass, and nothing passes without a limit.

mod fallback;
mod memory;
mod valkey;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

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

/// A store of small values and counters that expire. What is a counter is never used as a value.
pub trait Kv: Send + Sync {
    /// A value, if it is there.
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>>;

    /// Stores a value for `lifetime`, over any that is there.
    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()>;

    /// Takes a value out: of two callers at once, one gets it.
    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>>;

    /// Adds one to a counter, and says where it stands. A new counter starts at 0 and ends after
    /// `lifetime`, whatever is added.
    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64>;

    /// Where a counter stands; 0 if there is none.
    fn count<'a>(&'a self, key: &'a str) -> KvFuture<'a, u64>;

    /// Ends a value or a counter, if it is there.
    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()>;

    /// Why the store is not what the deployment was told to use, if so.
    fn degraded(&self) -> Option<&'static str> {
        None
    }
}
