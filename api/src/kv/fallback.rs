//! The shared store while it answers, this process's memory while it does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Heard, Kv, KvError, KvFuture, MemoryKv, ValkeyKv};
use crate::keys::ServerKeys;

/// How often the shared store is looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// At start, the shared store gets this long before the process goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two looks at start.
const PAUSE: Duration = Duration::from_millis(50);

/// Falls back to memory and returns by itself.
pub(crate) struct FallbackKv {
    shared: Arc<Watched>,
    own: MemoryKv,
}

struct Watched {
    store: ValkeyKv,
    up: AtomicBool,
}

impl FallbackKv {
    /// Connects, and watches the store until `stopping`.
    ///
    /// # Errors
    /// The address is malformed. A store that does not answer is no error.
    pub(crate) async fn start(
        url: &str,
        authorities: Option<&Path>,
        keys: &ServerKeys,
        stopping: CancellationToken,
    ) -> Result<Self, KvError> {
        let shared = Arc::new(Watched {
            store: ValkeyKv::connect(url, authorities, keys)?,
            up: AtomicBool::new(true),
        });
        let first = async {
            while shared.store.ping().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if timeout(PATIENCE, first).await.is_err() {
            shared.went(&KvError("no connection".to_owned()));
        }
        tokio::spawn(watch(Arc::clone(&shared), stopping));
        Ok(Self {
            shared,
            own: MemoryKv::default(),
        })
    }

    /// The shared store's answer; `None` while there is none.
    async fn shared<'a, T>(
        &'a self,
        call: impl FnOnce(&'a ValkeyKv) -> KvFuture<'a, T>,
    ) -> Option<T> {
        if !self.shared.up.load(Ordering::Relaxed) {
            return None;
        }
        match call(&self.shared.store).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.shared.went(&error);
                None
            }
        }
    }
}

impl Watched {
    fn went(&self, error: &KvError) {
        if self.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "working without the shared key-value store: limits count in this process alone, and other nodes' changes come later");
            self.store.tell_gap();
        }
    }

    fn came(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            tracing::info!("the shared key-value store answers again");
            self.store.tell_gap();
        }
    }
}

async fn watch(shared: Arc<Watched>, stopping: CancellationToken) {
    let mut looks = interval(WATCH_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            _ = looks.tick() => match shared.store.ping().await {
                Ok(()) => shared.came(),
                Err(error) => shared.went(&error),
            },
        }
    }
    shared.store.quit().await;
}

impl Kv for FallbackKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match self.shared(|store| store.get(key)).await {
                Some(value) => Ok(value),
                None => self.own.get(key).await,
            }
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> KvFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            match self.shared(|store| store.get_many(keys)).await {
                Some(values) => Ok(values),
                None => self.own.get_many(keys).await,
            }
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()> {
        Box::pin(async move {
            let copy = value.clone();
            match self.shared(|store| store.set(key, copy, lifetime)).await {
                Some(()) => Ok(()),
                None => self.own.set(key, value, lifetime).await,
            }
        })
    }

    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match self.shared(|store| store.take(key)).await {
                Some(value) => Ok(value),
                None => self.own.take(key).await,
            }
        })
    }

    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64> {
        Box::pin(async move {
            match self.shared(|store| store.increment(key, lifetime)).await {
                Some(n) => Ok(n),
                None => self.own.increment(key, lifetime).await,
            }
        })
    }

    fn count<'a>(&'a self, key: &'a str) -> KvFuture<'a, u64> {
        Box::pin(async move {
            match self.shared(|store| store.count(key)).await {
                Some(n) => Ok(n),
                None => self.own.count(key).await,
            }
        })
    }

    fn tally<'a>(&'a self, key: &'a str, own: u64, lifetime: Duration) -> KvFuture<'a, u64> {
        Box::pin(async move {
            match self.shared(|store| store.tally(key, own, lifetime)).await {
                Some(all) => Ok(all),
                None => self.own.tally(key, own, lifetime).await,
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()> {
        Box::pin(async move {
            match self.shared(|store| store.remove(key)).await {
                Some(()) => Ok(()),
                None => self.own.remove(key).await,
            }
        })
    }

    fn publish<'a>(&'a self, channel: &'a str, message: Vec<u8>) -> KvFuture<'a, ()> {
        Box::pin(async move {
            let copy = message.clone();
            let told = self.shared(|store| store.publish(channel, copy)).await;
            if told.is_none() {
                // Other nodes look for themselves while the store is away.
                self.shared.store.tell_here(channel, message);
            }
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        Box::pin(async move {
            if self
                .shared(|store| store.subscribe(channel))
                .await
                .is_none()
            {
                self.shared.store.want(channel);
            }
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        Box::pin(async move {
            self.shared.store.forget(channel);
            self.shared(|store| store.unsubscribe(channel)).await;
            Ok(())
        })
    }

    fn listen(&self) -> broadcast::Receiver<Heard> {
        self.shared.store.listen()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn degraded(&self) -> Option<&'static str> {
        let up = self.shared.up.load(Ordering::Relaxed);
        (!up).then_some("the key-value store does not answer: limits count per process, and nodes hear of each other later")
    }
}
