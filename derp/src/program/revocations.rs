//! Follows the control plane's revocation lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use metrics::{counter, gauge};
use reqwest::Url;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ztna_derp::server::Server;
use ztna_proto::relay::CertificatePin;
use ztna_proto::revocation::{MAX_REVOCATIONS_LEN, MAX_REVOCATIONS_WAIT_SECONDS, RevocationList};
use ztna_proto::ticket::TicketVerifier;

use super::http;

/// A call takes the control plane's wait, and this long on top.
const GRACE: Duration = Duration::from_secs(15);
/// A list that was signed so long before it was asked for is replayed, or the clocks differ.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(5);
/// After a failure the next call comes after this time, doubling up to …
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// … this.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Empty lists do not come faster than this, whatever the control plane does.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Where the lists come from.
pub struct Revocations {
    url: Url,
    http: reqwest::Client,
    verifier: TicketVerifier,
    /// The last number that is known.
    seq: u64,
    age: Age,
}

/// How old the last list is. Clones share it.
#[derive(Clone, Default)]
pub struct Age(Arc<AtomicI64>);

impl Age {
    /// Brings the gauge up to date. There is none before the first list.
    pub fn publish(&self) {
        let issued_at = self.0.load(Ordering::Relaxed);
        if issued_at != 0 {
            let seconds = Timestamp::now().as_second() - issued_at;
            // Exact for longer than anybody waits.
            #[allow(clippy::cast_precision_loss)]
            gauge!("ztna_derp_revocation_list_age_seconds").set(seconds as f64);
        }
    }
}

impl Revocations {
    /// Prepares to follow the control plane at `api`, which proves itself by `pin`.
    pub fn new(api: &Url, pin: &CertificatePin, verifier: TicketVerifier) -> Result<Self> {
        let mut url = api.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--api {api} is no base of an address"))?
            .pop_if_empty()
            .extend(["api", "relays", "revocations"]);
        let wait = Duration::from_secs(MAX_REVOCATIONS_WAIT_SECONDS);
        Ok(Self {
            url,
            http: http::client(pin, wait + GRACE)?,
            verifier,
            seq: 0,
            age: Age::default(),
        })
    }

    /// The age of the last list, for the metrics.
    pub fn age(&self) -> Age {
        self.age.clone()
    }

    /// Applies every list to the relay until `shutdown` is cancelled.
    pub async fn follow(mut self, server: Arc<Server>, shutdown: CancellationToken) {
        let mut pause = MIN_PAUSE;
        loop {
            let asked = Instant::now();
            let list = tokio::select! {
                list = self.next() => list,
                () = shutdown.cancelled() => return,
            };
            let wait = match list {
                Ok(list) => {
                    pause = MIN_PAUSE;
                    let cut = server.revoke_all(&list.entries);
                    let count = list.entries.len();
                    counter!("ztna_derp_revocations_total").increment(count as u64);
                    if count > 0 {
                        tracing::info!(count, cut, seq = list.seq, "revocations applied");
                        Duration::ZERO
                    } else {
                        MIN_INTERVAL.saturating_sub(asked.elapsed())
                    }
                }
                Err(error) => {
                    counter!("ztna_derp_revocation_list_failures_total").increment(1);
                    let seconds = pause.as_secs();
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "no revocation list; trying again in {seconds}s"
                    );
                    let next = (pause * 2).min(MAX_PAUSE);
                    std::mem::replace(&mut pause, next)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn next(&mut self) -> Result<RevocationList> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("after", &self.seq.to_string())
            .append_pair("wait", &MAX_REVOCATIONS_WAIT_SECONDS.to_string());
        let asked_at = Timestamp::now();
        let answer = self.http.get(url).send().await?;
        let text = http::body(answer, MAX_REVOCATIONS_LEN).await?;
        let text = std::str::from_utf8(&text).context("the list is no text")?;
        let list = self.verifier.verify_revocations(text.trim())?;
        self.take(list, asked_at)
    }

    /// Takes a list that is the control plane's own, if it is the answer to what was asked.
    fn take(&mut self, list: RevocationList, asked_at: Timestamp) -> Result<RevocationList> {
        let age = asked_at.duration_since(list.issued_at);
        ensure!(
            age <= MAX_AGE,
            "the list was signed at {}, {}s before it was asked for: it is replayed, or a clock is wrong",
            list.issued_at,
            age.as_secs()
        );
        // From 0: the control plane's numbers have begun anew.
        ensure!(
            list.since == self.seq || list.since == 0,
            "the list begins after number {}, and {} was asked for",
            list.since,
            self.seq
        );
        self.seq = list.seq;
        let issued_at = list.issued_at.as_second();
        self.age.0.store(issued_at, Ordering::Relaxed);
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use ztna_proto::ticket::TicketSigner;

    use super::*;

    fn follower() -> Revocations {
        let api = "https://api.example/base/".parse().unwrap();
        let verifier = TicketSigner::from_seed(&[1; 32]).verifier();
        Revocations::new(&api, &CertificatePin::WebPki, verifier).unwrap()
    }

    #[test]
    fn the_address_is_below_the_base() {
        let url = follower().url;
        assert_eq!(
            url.as_str(),
            "https://api.example/base/api/relays/revocations"
        );
    }

    #[test]
    fn replayed_and_unconnected_lists_are_refused() {
        let mut follower = follower();
        let asked_at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let list = |since, seq, seconds| RevocationList {
            seq,
            issued_at: asked_at + SignedDuration::from_secs(seconds),
            since,
            entries: Vec::new(),
        };
        assert!(follower.take(list(0, 5, 20), asked_at).is_ok());
        assert!(follower.take(list(5, 9, -299), asked_at).is_ok());
        assert!(
            follower.take(list(9, 9, -301), asked_at).is_err(),
            "replayed"
        );
        assert!(follower.take(list(5, 9, 0), asked_at).is_err(), "another's");
        assert!(follower.take(list(0, 3, 0), asked_at).is_ok(), "begun anew");
        assert_eq!(follower.seq, 3);
    }
}
