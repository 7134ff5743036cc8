//! What may be lost: counters and one-time codes. Behind a trait, since deployments of several
//! nodes share them.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use memory::MemoryKv;

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

/// A store of small values that expire.
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
}
