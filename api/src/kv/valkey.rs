//! The store in Valkey, or Redis 7 and newer.

use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface, TransactionInterface};
use fred::prelude::{Builder, Client, Config, Error, Expiration, ReconnectPolicy};
use fred::types::ExpireOptions;
use fred::types::config::UnresponsiveConfig;

use super::{Kv, KvError, KvFuture};

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
pub struct ValkeyKv(Client);

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
            })
            // 0: without end.
            .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_PAUSE_MS))
            .build()
            .map_err(malformed)?;
        // The task ends when the client is dropped or quits.
        drop(client.connect());
        Ok(Self(client))
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), KvError> {
        bounded(self.0.ping::<String>(None)).await?;
        Ok(())
    }

    /// Closes the connection.
    pub async fn quit(&self) {
        if let Err(error) = bounded(self.0.quit()).await {
            tracing::debug!(%error, "the key-value store was left without goodbye");
        }
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
        Box::pin(bounded(self.0.get(full(key))))
    }

    fn set<'a>(&'a self, key: &'a str, value: Vec<u8>, lifetime: Duration) -> KvFuture<'a, ()> {
        let expiry = Some(Expiration::PX(milliseconds(lifetime)));
        let value = bytes::Bytes::from(value);
        Box::pin(bounded(self.0.set(full(key), value, expiry, None, false)))
    }

    fn take<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<Vec<u8>>> {
        Box::pin(bounded(self.0.getdel(full(key))))
    }

    fn increment<'a>(&'a self, key: &'a str, lifetime: Duration) -> KvFuture<'a, u64> {
        let both = async move {
            let key = full(key);
            // Both or neither: a counter without an end would refuse somebody for ever.
            let block = self.0.multi();
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
            let n: Option<u64> = self.0.get(full(key)).await?;
            Ok(n.unwrap_or(0))
        };
        Box::pin(bounded(count))
    }

    fn remove<'a>(&'a self, key: &'a str) -> KvFuture<'a, ()> {
        Box::pin(bounded(self.0.del(full(key))))
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
