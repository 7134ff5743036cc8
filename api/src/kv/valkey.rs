//! The store in Valkey, or Redis 7 and newer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::interfaces::{
    ClientLike, EventInterface, KeysInterface, PubsubInterface, TransactionInterface,
};
use fred::prelude::{Builder, Client, Config, Error, Expiration, ReconnectPolicy};
use fred::types::ExpireOptions;
use fred::types::config::UnresponsiveConfig;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Heard, Kv, KvError, KvFuture, UNREAD};

/// What all our keys start with: others may use the same database.
const PREFIX: &str = "ztna:";
/// A command is answered within this time, or the store counts as gone.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection comes about within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two tries to connect.
const RECONNECT_PAUSE_MS: u32 = 500;
/// A connection that owes an answer for so long is made anew.
const UNRESPONSIVE: Duration = Duration::from_secs(2);
/// How often that is looked at.
const UNRESPONSIVE_PERIOD: Duration = Duration::from_millis(500);
/// Commands that wait for the connection, at most.
const MAX_WAITING: usize = 10_000;

/// A store that all nodes of a deployment share.
pub struct ValkeyKv {
    client: Client,
    /// A connection that has subscribed to something takes no other commands.
    listener: Client,
    /// What the listener is to hear, whether it is connected or not.
    channels: Arc<Channels>,
    messages: broadcast::Sender<Heard>,
}

#[derive(Default)]
struct Channels(Mutex<BTreeSet<String>>);

impl Channels {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ValkeyKv {
    /// Begins to connect, and goes on with it whenever the connection is lost.
    ///
    /// # Errors
    /// `url` is not `redis://[user:password@]host[:port][/database]` (or `valkey://…`).
    pub fn connect(url: &str) -> Result<Self, KvError> {
        let malformed = |error: Error| KvError(format!("the address is not usable: {error}"));
        let url = url
            .strip_prefix("valkey://")
            .map_or_else(|| url.to_owned(), |rest| format!("redis://{rest}"));
        if !url.starts_with("redis://") {
            return Err(KvError(
                "the address is not of the form redis://[user:password@]host[:port][/database]"
                    .to_owned(),
            ));
        }
        let mut config = Config::from_url(&url).map_err(malformed)?;
        config.fail_fast = false;
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT_TIMEOUT;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = MAX_WAITING;
                connection.unresponsive = UnresponsiveConfig {
                    max_timeout: Some(UNRESPONSIVE),
                    interval: UNRESPONSIVE_PERIOD,
                };
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = COMMAND_TIMEOUT;
                performance.broadcast_channel_capacity = UNREAD;
            })
            // 0: without end.
            .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_PAUSE_MS))
            .build()
            .map_err(malformed)?;
        let listener = client.clone_new();
        let (channels, messages) = (Arc::default(), broadcast::Sender::new(UNREAD));
        tokio::spawn(listen(
            listener.clone(),
            Arc::clone(&channels),
            messages.clone(),
        ));
        // Their tasks end when the clients are dropped or quit.
        drop(client.connect());
        drop(listener.connect());
        Ok(Self {
            client,
            listener,
            channels,
            messages,
        })
    }

    /// Notes a channel that is to be heard as soon as there is a connection.
    pub(super) fn want(&self, channel: &str) {
        self.channels.lock().insert(full(channel));
    }

    /// Undoes [`ValkeyKv::want`].
    pub(super) fn forget(&self, channel: &str) {
        self.channels.lock().remove(&full(channel));
    }

    /// Tells those who listen in this process alone.
    pub(super) fn tell_here(&self, channel: &str, message: Vec<u8>) {
        if self.channels.lock().contains(&full(channel)) {
            let channel = channel.to_owned();
            // Nobody may be listening.
            let _ = self.messages.send(Heard::Message { channel, message });
        }
    }

    /// Whoever listens has missed messages.
    pub(super) fn tell_gap(&self) {
        // Nobody may be listening.
        let _ = self.messages.send(Heard::Gap);
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), KvError> {
        bounded(self.client.ping::<String>(None)).await?;
        Ok(())
    }

    /// Closes the connection.
    pub async fn quit(&self) {
        for client in [&self.listener, &self.client] {
            if let Err(error) = bounded(client.quit()).await {
                tracing::debug!(%error, "the key-value store was left without goodbye");
            }
        }
    }
}

/// Passes on what the listener hears, and subscribes again whenever it is connected.
async fn listen(listener: Client, channels: Arc<Channels>, messages: broadcast::Sender<Heard>) {
    let mut heard = listener.message_rx();
    let mut connections = listener.reconnect_rx();
    loop {
        let news = tokio::select! {
            connection = connections.recv() => {
                if matches!(connection, Err(RecvError::Closed)) {
                    return;
                }
                let wanted: Vec<String> = channels.lock().iter().cloned().collect();
                if !wanted.is_empty()
                    && let Err(error) = bounded(listener.subscribe(wanted)).await
                {
                    // The connection is lost again, or will be found unresponsive.
                    tracing::debug!(%error, "channels could not be subscribed to");
                }
                Heard::Gap
            }
            message = heard.recv() => match message {
                Ok(message) => {
                    let Some(channel) = message.channel.strip_prefix(PREFIX) else {
                        continue;
                    };
                    let Some(bytes) = message.value.as_bytes() else {
                        continue;
                    };
                    Heard::Message {
                        channel: channel.to_owned(),
                        message: bytes.to_vec(),
                    }
                }
                Err(RecvError::Lagged(_)) => Heard::Gap,
                Err(RecvError::Closed) => return,
            }
        };
        // Nobody may be listening.
        let _ = messages.send(news);
    }
}

/// A command also ends if the client's own clock does not end it, as while it connects.
async fn bounded<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, KvError> {
    match tokio::time::timeout(COMMAND_TIMEOUT, command).await {
        Ok(result) => result.map_err(|error| KvError(error.to_string())),
        Err(_) => Err(KvError(format!("no answer in {COMMAND_TIMEOUT:?}"))),
    }
}

fn full(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// Valkey knows no lifetime of 0.
fn milliseconds(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_millis())
        .unwrap_or(i64::MAX)
        .max(1)
}

impl Kv for ValkeyKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(bounded(self.client.get(full(key))))
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()> {
        let expiry = Some(Expiration::PX(milliseconds(lifetime)));
        let value = bytes::Bytes::from(value);
        Box::pin(bounded(self.client.set(
            full(key),
            value,
            expiry,
            None,
            false,
        )))
    }

    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(bounded(self.client.getdel(full(key))))
    }

    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64> {
        let both = async move {
            let key = full(key);
            // Both or neither: a counter without an end would refuse somebody for ever.
            let block = self.client.multi();
            let () = block.incr(&key).await?;
            let () = block
                .pexpire(&key, milliseconds(lifetime), Some(ExpireOptions::NX))
                .await?;
            let (n, _): (u64, i64) = block.exec(true).await?;
            Ok(n)
        };
        Box::pin(bounded(both))
    }

    fn count<'a>(&'a self, key: &'a str) -> KvFuture<'a, u64> {
        let count = async move {
            let n: Option<u64> = self.client.get(full(key)).await?;
            Ok(n.unwrap_or(0))
        };
        Box::pin(bounded(count))
    }

    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()> {
        Box::pin(bounded(self.client.del(full(key))))
    }

    fn publish<'a>(&'a self, channel: &'a str, message: Vec<u8>) -> KvFuture<'a, ()> {
        let message = bytes::Bytes::from(message);
        Box::pin(bounded(self.client.publish(full(channel), message)))
    }

    fn subscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        // First: a connection that comes about in this moment subscribes to it too.
        self.want(channel);
        Box::pin(bounded(self.listener.subscribe(full(channel))))
    }

    fn unsubscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        self.forget(channel);
        Box::pin(bounded(self.listener.unsubscribe(full(channel))))
    }

    fn listen(&self) -> broadcast::Receiver<Heard> {
        self.messages.subscribe()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_are_none_are_refused() {
        for bad in [
            "",
            "localhost:6379",
            "http://localhost",
            "rediss://localhost",
            "redis://",
        ] {
            assert!(ValkeyKv::connect(bad).is_err(), "{bad}");
        }
    }
}
