//! What a shared store is trusted with: nothing.
//!
//! Values are sealed under a key of the deployment, with the name of their key as associated data: who
//! may write to the store can remove them, and put one back under its own name, but neither read, make,
//! change nor swap them. Messages carry who sends them, when, and a MAC over that and their channel, and each is
//! heard once. Counters cannot be sealed where the store counts; who may write there can lift a limit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::KvError;
use crate::seal::Sealer;

/// What values are sealed for; the key's name follows.
const VALUE: &str = "kv value ";
/// What messages are authenticated for; the channel follows.
const MESSAGE: &str = "kv message ";
/// Nodes' clocks may differ, and a message be under way, for this long together. One of before is a
/// recording.
const TOLERANCE: Duration = Duration::from_secs(30 * 60);
/// Senders that are remembered. Each start of a node is one; those that have been silent longest go.
const MAX_SENDERS: usize = 4096;
const SENDER: usize = 16;
const TIME: usize = 8;
const MAC: usize = 32;

/// Seals, opens, signs and checks for one process.
pub(super) struct Guard {
    sealer: Arc<Sealer>,
    me: Uuid,
    /// Microseconds since 1970 of the last message that was sent; each is later than the one before.
    sent: AtomicU64,
    /// The same of the last that was heard, by sender.
    heard: Mutex<HashMap<Uuid, u64>>,
    warned: AtomicBool,
}

impl Guard {
    pub(super) fn new(sealer: Arc<Sealer>) -> Self {
        Self {
            sealer,
            me: Uuid::now_v7(),
            sent: AtomicU64::new(0),
            heard: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }

    /// Seals a value for the key that it is stored under.
    pub(super) fn seal(&self, key: &str, value: Vec<u8>) -> Result<Vec<u8>, KvError> {
        let value = Zeroizing::new(value);
        let sealed = self
            .sealer
            .seal(Uuid::nil(), &format!("{VALUE}{key}"), &value);
        sealed.map_err(|error| KvError(error.to_string()))
    }

    /// Opens a value that was found under a key. `None`: it was not stored there by this deployment.
    pub(super) fn open(&self, key: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let opened = self
            .sealer
            .open(Uuid::nil(), &format!("{VALUE}{key}"), sealed);
        match opened {
            Ok(value) => Some(value.to_vec()),
            Err(_) => {
                self.suspect("a value");
                None
            }
        }
    }

    /// A message as it is sent.
    pub(super) fn sign(&self, channel: &str, message: &[u8]) -> Result<Vec<u8>, KvError> {
        let now = microseconds();
        // Also where the clock stands or goes back.
        let next = |last: u64| now.max(last.saturating_add(1));
        let last = self
            .sent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            });
        let at = next(last.unwrap_or_else(|last| last));
        let mut text = [self.me.as_bytes().as_slice(), &at.to_be_bytes()].concat();
        text.extend_from_slice(message);
        let purpose = format!("{MESSAGE}{channel}");
        let mac = self.sealer.keyed_hash(Uuid::nil(), &purpose, &text);
        let mac = mac.map_err(|error| KvError(error.to_string()))?;
        Ok([mac.as_slice(), &text].concat())
    }

    /// A message as it was sent. `None`: not by this deployment, not on this channel, or heard before.
    pub(super) fn check(&self, channel: &str, signed: &[u8]) -> Option<Vec<u8>> {
        self.check_at(channel, signed, microseconds())
    }

    fn check_at(&self, channel: &str, signed: &[u8], now: u64) -> Option<Vec<u8>> {
        let authentic = || {
            let (mac, text) = signed.split_at_checked(MAC)?;
            let mac: &[u8; MAC] = mac.try_into().ok()?;
            let purpose = format!("{MESSAGE}{channel}");
            let known = self.sealer.knows(Uuid::nil(), &purpose, text, mac);
            if !known.ok()? {
                return None;
            }
            let (sender, rest) = text.split_at_checked(SENDER)?;
            let (at, message) = rest.split_at_checked(TIME)?;
            let sender = Uuid::from_slice(sender).ok()?;
            Some((sender, u64::from_be_bytes(at.try_into().ok()?), message))
        };
        let Some((sender, at, message)) = authentic() else {
            self.suspect("a message");
            return None;
        };
        if u128::from(now.abs_diff(at)) > TOLERANCE.as_micros() {
            self.suspect("a message of another time (or a node's clock is wrong)");
            return None;
        }
        // Every change leaves the map consistent, so a panic elsewhere does not spoil it.
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match heard.get_mut(&sender) {
            Some(last) if at <= *last => {
                drop(heard);
                self.suspect("a message that was heard before");
                return None;
            }
            Some(last) => *last = at,
            None => {
                if heard.len() >= MAX_SENDERS
                    && let Some(oldest) = heard.iter().min_by_key(|(_, at)| **at)
                {
                    let oldest = *oldest.0;
                    heard.remove(&oldest);
                }
                heard.insert(sender, at);
            }
        }
        Some(message.to_vec())
    }

    /// Something stands in the store that is not ours, or is not where it belongs. Said once: who writes
    /// there could fill the log.
    fn suspect(&self, what: &str) {
        metrics::counter!("ztna_api_kv_refused_total").increment(1);
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                what,
                "what stands in the key-value store is not of this deployment and does not count: look who \
                 may write there, and that all nodes have the same master.key"
            );
        }
    }
}

fn microseconds() -> u64 {
    Timestamp::now().as_microsecond().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards() -> (Guard, Guard, Guard) {
        let sealer =
            |dir: &tempfile::TempDir| Arc::new(Sealer::load_or_create(dir.path()).unwrap());
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = Guard::new(sealer(&ours));
        (one, Guard::new(sealer(&ours)), Guard::new(sealer(&theirs)))
    }

    #[test]
    fn values_open_under_their_own_key_alone() {
        let (one, two, stranger) = guards();
        let sealed = one.seal("code:a", b"alice".to_vec()).unwrap();
        assert!(!sealed.windows(5).any(|piece| piece == b"alice"));
        assert_eq!(two.open("code:a", &sealed).as_deref(), Some(&b"alice"[..]));
        assert_eq!(two.open("code:b", &sealed), None);
        assert_eq!(stranger.open("code:a", &sealed), None);
        assert_eq!(two.open("code:a", b"alice"), None);
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert_eq!(two.open("code:a", &altered), None, "{position}");
        }
    }

    #[test]
    fn messages_count_once_where_they_were_sent() {
        let (one, two, stranger) = guards();
        let first = one.sign("org:a", b"first").unwrap();
        let second = one.sign("org:a", b"second").unwrap();
        assert_eq!(two.check("org:b", &first), None);
        assert_eq!(stranger.check("org:a", &first), None);
        assert_eq!(two.check("org:a", b"first"), None);
        for position in 0..first.len() {
            let mut altered = first.clone();
            altered[position] ^= 1;
            assert_eq!(two.check("org:a", &altered), None, "{position}");
        }
        assert_eq!(two.check("org:a", &first).as_deref(), Some(&b"first"[..]));
        assert_eq!(two.check("org:a", &first), None);
        assert_eq!(two.check("org:a", &second).as_deref(), Some(&b"second"[..]));
        assert_eq!(two.check("org:a", &first), None);
        // What was recorded long ago is no news to who has just started either.
        let (_, later, _) = guards();
        let fresh = Guard::new(Arc::clone(&one.sealer));
        let much_later = microseconds() + 2 * u64::try_from(TOLERANCE.as_micros()).unwrap();
        assert_eq!(fresh.check_at("org:a", &second, much_later), None);
        assert_eq!(later.check("org:a", &second), None);
        assert_eq!(
            fresh.check("org:a", &second).as_deref(),
            Some(&b"second"[..])
        );
    }

    #[test]
    fn a_sender_never_repeats_a_time() {
        let (one, _, _) = guards();
        let mut last = 0;
        for _ in 0..10_000 {
            let signed = one.sign("a", b"").unwrap();
            let at = u64::from_be_bytes(signed[MAC + SENDER..].try_into().unwrap());
            assert!(last < at);
            last = at;
        }
    }

    #[test]
    fn senders_that_are_remembered_are_bounded() {
        let (one, two, _) = guards();
        for _ in 0..MAX_SENDERS + 10 {
            let sender = Guard::new(Arc::clone(&one.sealer));
            assert!(two.check("a", &sender.sign("a", b"x").unwrap()).is_some());
        }
        assert_eq!(two.heard.lock().unwrap().len(), MAX_SENDERS);
    }
}
