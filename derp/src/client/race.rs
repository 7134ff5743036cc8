//! Which transport a connection goes by: QUIC where it works, TCP where it does not.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{ClientConfig, ConnectError, Receiver, Sender, by_tcp, quic};

/// Head start of QUIC over TCP: two round trips to most of the world.
const HEAD_START: Duration = Duration::from_millis(400);

/// A port that did not answer by QUIC is left alone for so long.
const FORGIVE_AFTER: Duration = Duration::from_secs(300);

/// Ports of which that is remembered.
const MAX_REMEMBERED: usize = 256;

static FAILURES: Failures = Failures::new();

/// This machine is in another network: what it knew of UDP in the last one counts no more.
pub fn network_changed() {
    FAILURES.forget();
}

/// Connects by QUIC or by TCP, whichever is through first. QUIC has a head start; where it has failed
/// lately it is not tried.
pub(super) async fn connect(config: &ClientConfig) -> Result<(Sender, Receiver), ConnectError> {
    let node = &config.node;
    match node.quic_port {
        Some(port) if node.derp_port.is_none() => quic::connect(config, port).await,
        Some(port) if !FAILURES.recent(&node.host, port) => {
            let (by, connected) = race(config, port).await?;
            if by == By::TcpAlone {
                tracing::debug!(host = node.host, port, "no QUIC");
                FAILURES.note(&node.host, port);
            }
            Ok(connected)
        }
        _ => by_tcp(config).await,
    }
}

/// What came of the race.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Quic,
    /// QUIC failed or was slower.
    TcpAlone,
}

/// Fails when both have failed, with TCP's error, or when the relay has refused this machine: it
/// would do so again.
async fn race(config: &ClientConfig, port: u16) -> Result<(By, (Sender, Receiver)), ConnectError> {
    let quic_is_over = Notify::new();
    let mut quic = pin!(quic::connect(config, port));
    let mut tcp = pin!(async {
        let _ = tokio::time::timeout(HEAD_START, quic_is_over.notified()).await;
        by_tcp(config).await
    });
    let (mut quic_runs, mut tcp_failed) = (true, None);
    loop {
        tokio::select! {
            biased;
            connected = &mut quic, if quic_runs => match connected {
                Ok(connected) => return Ok((By::Quic, connected)),
                Err(refused @ ConnectError::Refused(_)) => return Err(refused),
                Err(error) => {
                    tracing::debug!(host = config.node.host, port, %error, "QUIC failed");
                    quic_runs = false;
                    quic_is_over.notify_one();
                }
            },
            connected = &mut tcp, if tcp_failed.is_none() => match connected {
                Ok(connected) => return Ok((By::TcpAlone, connected)),
                Err(refused @ ConnectError::Refused(_)) => return Err(refused),
                Err(error) => tcp_failed = Some(error),
            },
        }
        if !quic_runs && let Some(error) = tcp_failed.take() {
            return Err(error);
        }
    }
}

/// Hosts and UDP ports that did not answer by QUIC, and when.
struct Failures(Mutex<Option<HashMap<(String, u16), Instant>>>);

impl Failures {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn recent(&self, host: &str, port: u16) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .as_ref()
            .and_then(|failures| failures.get(&(host.to_owned(), port)))
            .is_some_and(|at| at.elapsed() < FORGIVE_AFTER)
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn note(&self, host: &str, port: u16) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failures.get_or_insert_default();
        failures.retain(|_, at| at.elapsed() < FORGIVE_AFTER);
        if failures.len() < MAX_REMEMBERED {
            failures.insert((host.to_owned(), port), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgiven_and_bounded() {
        let failures = Failures::new();
        assert!(!failures.recent("first", 443));
        failures.note("first", 443);
        assert!(failures.recent("first", 443));
        assert!(!failures.recent("first", 444));
        for number in 0..2 * MAX_REMEMBERED {
            failures.note(&number.to_string(), 443);
        }
        let last = (2 * MAX_REMEMBERED - 1).to_string();
        assert!(!failures.recent(&last, 443), "there was no room");
        failures.forget();
        assert!(!failures.recent("first", 443), "in another network");
        for number in 0..MAX_REMEMBERED {
            failures.note(&number.to_string(), 443);
        }
        assert!(failures.recent("0", 443) && !failures.recent("first", 443));
        tokio::time::advance(FORGIVE_AFTER).await;
        assert!(!failures.recent("0", 443));
        failures.note(&last, 443);
        assert!(failures.recent(&last, 443), "the old ones made room");
    }
}
