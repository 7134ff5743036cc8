//! The store in Valkey, or Redis 7 and newer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::interfaces::{
    ClientLike, EventInterface, KeysInterface, PubsubInterface, SetsInterface, TransactionInterface,
};
use fred::prelude::{Builder, Client, Config, Error, Expiration, ReconnectPolicy};
use fred::types::config::{TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::{ExpireOptions, RespVersion};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;
use ztna_proto::relay::CertificatePin;
use ztna_tls::KeyExchange;

use super::guard::Guard;
use super::{Heard, Kv, KvError, KvFuture, UNREAD};
use crate::keys::ServerKeys;

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
/// Keys that one command asks for, at most: it holds up all others at the store.
const MANY: usize = 500;
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
    guard: Arc<Guard>,
    /// By which tallies tell this process from others.
    name: String,
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
    /// `url` is not `redis://[user:password@]host[:port][/database]` (or `rediss://…` for TLS, `valkey://…`,
    /// `valkeys://…`), or the file with the authorities cannot be used.
    pub fn connect(
        url: &str,
        authorities: Option<&Path>,
        keys: &ServerKeys,
    ) -> Result<Self, KvError> {
        let malformed = |error: Error| KvError(format!("the address is not usable: {error}"));
        let (tls, rest) = schemes(url)?;
        let mut config = Config::from_url(&format!("redis://{rest}")).map_err(malformed)?;
        config.fail_fast = false;
        // A connection that hears channels also answers: see `subscribe`.
        config.version = RespVersion::RESP3;
        config.tls = tls.then(|| tls_config(authorities)).transpose()?;
        let guard = Arc::new(Guard::new(keys.shared_sealer()));
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
            Arc::clone(&guard),
        ));
        // Their tasks end when the clients are dropped or quit.
        drop(client.connect());
        drop(listener.connect());
        Ok(Self {
            client,
            listener,
            channels,
            messages,
            guard,
            name: Uuid::now_v7().to_string(),
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

/// Whether the address asks for TLS, and what comes after the scheme.
fn schemes(url: &str) -> Result<(bool, &str), KvError> {
    let known = [
        ("redis://", false),
        ("valkey://", false),
        ("rediss://", true),
        ("valkeys://", true),
    ];
    let found = known
        .iter()
        .find_map(|(scheme, tls)| Some((*tls, url.strip_prefix(scheme)?)));
    found.ok_or_else(|| {
        KvError(
            "the address is not of the form redis://[user:password@]host[:port][/database], or rediss://… \
             for TLS"
                .to_owned(),
        )
    })
}

fn tls_config(authorities: Option<&Path>) -> Result<TlsConfig, KvError> {
    let key_exchange = KeyExchange::PreferPostQuantum;
    let config = match authorities {
        Some(file) => ztna_tls::client_config_trusting(file, key_exchange),
        None => ztna_tls::client_config(&CertificatePin::WebPki, key_exchange),
    };
    let config = config.map_err(|error| KvError(error.to_string()))?;
    Ok(TlsConnector::from(tokio_rustls::TlsConnector::from(config)).into())
}

/// Passes on what the listener hears, and subscribes again whenever it is connected.
async fn listen(
    listener: Client,
    channels: Arc<Channels>,
    messages: broadcast::Sender<Heard>,
    guard: Arc<Guard>,
) {
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
                    && let Err(error) = subscribe(&listener, wanted).await
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
                    let Some(message) = guard.check(channel, bytes) else {
                        continue;
                    };
                    Heard::Message {
                        channel: channel.to_owned(),
                        message,
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

/// Subscribes. From the return on, the server has done so: the client only writes the command, and the
/// server answers the ping behind it on the same connection after it has carried the first out. A change that was
/// read before that, and told of before it, would be heard of late.
async fn subscribe(listener: &Client, channels: Vec<String>) -> Result<(), KvError> {
    bounded(async {
        listener.subscribe(channels).await?;
        listener.ping::<()>(None).await
    })
    .await
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
        Box::pin(async move {
            let stored: Option<Vec<u8>> = bounded(self.client.get(full(key))).await?;
            Ok(stored.and_then(|sealed| self.guard.open(key, &sealed)))
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> KvFuture<'a, Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            let mut values = Vec::with_capacity(keys.len());
            for keys in keys.chunks(MANY) {
                let names: Vec<String> = keys.iter().map(|key| full(key)).collect();
                let stored: Vec<Option<Vec<u8>>> = bounded(self.client.mget(names)).await?;
                let opened = keys.iter().zip(stored);
                values.extend(opened.map(|(key, sealed)| self.guard.open(key, &sealed?)));
            }
            Ok(values)
        })
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()> {
        Box::pin(async move {
            let expiry = Some(Expiration::PX(milliseconds(lifetime)));
            let value = bytes::Bytes::from(self.guard.seal(key, value)?);
            bounded(self.client.set(full(key), value, expiry, None, false)).await
        })
    }

    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let stored: Option<Vec<u8>> = bounded(self.client.getdel(full(key))).await?;
            Ok(stored.and_then(|sealed| self.guard.open(key, &sealed)))
        })
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

    fn tally<'a>(&'a self, key: &'a str, own: u64, lifetime: Duration) -> KvFuture<'a, u64> {
        // Each process has a value of its own, which ends by the store's clock; a set says whose there are.
        let noted = async move {
            let all = full(key);
            let of = |name: &str| format!("{all}:{name}");
            let block = self.client.multi();
            let expiry = Some(Expiration::PX(milliseconds(lifetime)));
            let () = block.set(of(&self.name), own, expiry, None, false).await?;
            let () = block.sadd(&all, &self.name).await?;
            let () = block.pexpire(&all, milliseconds(lifetime), None).await?;
            let () = block.smembers(&all).await?;
            let (_, _, _, names): (String, i64, i64, Vec<String>) = block.exec(true).await?;
            let keys: Vec<String> = names.iter().map(|name| of(name)).collect();
            let counts: Vec<Option<u64>> = self.client.mget(keys).await?;
            let ended = names.iter().zip(&counts);
            let ended = ended.filter(|(_, count)| count.is_none());
            let ended: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
            if !ended.is_empty() {
                let () = self.client.srem(&all, ended).await?;
            }
            Ok(counts.into_iter().flatten().fold(0, u64::saturating_add))
        };
        Box::pin(bounded(noted))
    }

    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()> {
        Box::pin(bounded(self.client.del(full(key))))
    }

    fn publish<'a>(&'a self, channel: &'a str, message: Vec<u8>) -> KvFuture<'a, ()> {
        Box::pin(async move {
            let message = bytes::Bytes::from(self.guard.sign(channel, &message)?);
            bounded(self.client.publish(full(channel), message)).await
        })
    }

    fn subscribe<'a>(&'a self, channel: &'a str) -> KvFuture<'a, ()> {
        // First: a connection that comes about in this moment subscribes to it too.
        self.want(channel);
        Box::pin(subscribe(&self.listener, vec![full(channel)]))
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
        let dir = tempfile::tempdir().unwrap();
        let keys = ServerKeys::load_or_create(dir.path()).unwrap();
        for bad in [
            "",
            "localhost:6379",
            "http://localhost",
            "https://localhost",
            "redis://",
            "rediss://",
        ] {
            assert!(ValkeyKv::connect(bad, None, &keys).is_err(), "{bad}");
        }
        let url = "rediss://localhost:6380";
        ValkeyKv::connect(url, None, &keys).unwrap();
        let missing = dir.path().join("none.pem");
        let refused = ValkeyKv::connect(url, Some(&missing), &keys).map(|_| ());
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("none.pem"), "{text}");
    }
}
