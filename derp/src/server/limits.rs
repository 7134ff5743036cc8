//! What clients and orgs may use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use ztna_proto::OrgId;

use super::admission::Admitted;
use crate::bucket::{MIN_BURST, TokenBucket};

/// What clients may use. May change while they are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients at a time; more are refused.
    pub clients: usize,
    /// Bytes per second that a client may send in the long run, unless its ticket says less.
    /// `None`: no bound but the ticket's.
    pub bytes_per_second: Option<u64>,
    /// Bytes that a bounded client may send at once.
    pub burst: u64,
    /// Bytes per second that all clients of an org may send together. `None`: no bound.
    pub org_bytes_per_second: Option<u64>,
    /// Bytes that a bounded org may send at once.
    pub org_burst: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 100_000,
            bytes_per_second: None,
            burst: 1024 * 1024,
            org_bytes_per_second: None,
            org_burst: 16 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Bytes per second and burst of one client: the smaller of the relay's and the ticket's rate.
    pub(super) fn of_client(&self, admitted: &Admitted) -> Option<(u64, u64)> {
        let rates = [self.bytes_per_second, admitted.bytes_per_second];
        let rate = rates.into_iter().flatten().min()?;
        Some((rate, self.burst.max(MIN_BURST)))
    }

    fn of_org(&self) -> Option<(u64, u64)> {
        let rate = self.org_bytes_per_second?;
        Some((rate, self.org_burst.max(MIN_BURST)))
    }
}

/// A bucket that all clients of an org take from.
pub(super) type OrgBucket = Arc<Mutex<TokenBucket>>;

/// The buckets of the orgs that have clients.
#[derive(Default)]
pub(super) struct OrgBuckets(Mutex<HashMap<OrgId, Weak<Mutex<TokenBucket>>>>);

/// Entries beyond which those of absent orgs are cleared away.
const SWEEP_AT: usize = 64;

impl OrgBuckets {
    /// The org's bucket under these limits; `None` if they set no bound.
    pub fn get(&self, org: Option<OrgId>, limits: &Limits, now: Instant) -> Option<OrgBucket> {
        let (org, (rate, burst)) = (org?, limits.of_org()?);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(&org).and_then(Weak::upgrade) {
            let mut inner = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            inner.set(rate, burst, now);
            drop(inner);
            return Some(bucket);
        }
        if buckets.len() >= SWEEP_AT && buckets.len() == buckets.capacity() {
            buckets.retain(|_, bucket| bucket.strong_count() > 0);
        }
        let bucket = Arc::new(Mutex::new(TokenBucket::new(rate, burst, now)));
        buckets.insert(org, Arc::downgrade(&bucket));
        Some(bucket)
    }
}

/// What bounds one client: its own bucket and its org's.
#[derive(Default)]
pub(super) struct Bounds {
    client: Option<TokenBucket>,
    org: Option<OrgBucket>,
}

impl Bounds {
    /// Takes over new limits. What was used up stays used up.
    pub fn apply(&mut self, limits: &Limits, admitted: &Admitted, orgs: &OrgBuckets, now: Instant) {
        self.client = match (self.client.take(), limits.of_client(admitted)) {
            (Some(mut bucket), Some((rate, burst))) => {
                bucket.set(rate, burst, now);
                Some(bucket)
            }
            (None, Some((rate, burst))) => Some(TokenBucket::new(rate, burst, now)),
            (_, None) => None,
        };
        self.org = orgs.get(admitted.org, limits, now);
    }

    /// Charges what was read, and says how long not to read on.
    pub fn charge(&mut self, bytes: usize, now: Instant) -> Duration {
        let own = self.client.as_mut().map(|bucket| bucket.charge(bytes, now));
        let org = self.org.as_ref().map(|bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.charge(bytes, now)
        });
        own.max(org).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(client: Option<u64>, org: Option<u64>) -> Limits {
        Limits {
            bytes_per_second: client,
            burst: MIN_BURST,
            org_bytes_per_second: org,
            org_burst: MIN_BURST,
            ..Limits::default()
        }
    }

    const BURST: usize = MIN_BURST as usize;

    #[test]
    fn clients_of_an_org_share_its_bound_and_others_do_not() {
        let (orgs, now) = (OrgBuckets::default(), Instant::now());
        let limits = limits(None, Some(1000));
        let of = |org| {
            let mut bounds = Bounds::default();
            let admitted = Admitted {
                org,
                ..Admitted::default()
            };
            bounds.apply(&limits, &admitted, &orgs, now);
            bounds
        };
        let (ours, theirs) = (Some(OrgId::generate()), Some(OrgId::generate()));
        let (mut a, mut b, mut other) = (of(ours), of(ours), of(theirs));
        assert_eq!(a.charge(BURST, now), Duration::ZERO);
        assert_eq!(b.charge(1000, now), Duration::from_secs(1));
        assert_eq!(other.charge(BURST, now), Duration::ZERO);
        assert_eq!(of(None).charge(10 * BURST, now), Duration::ZERO);
    }

    #[test]
    fn limits_change_while_in_use() {
        let (orgs, now) = (OrgBuckets::default(), Instant::now());
        let admitted = Admitted::default();
        let mut bounds = Bounds::default();
        bounds.apply(&limits(Some(1000), None), &admitted, &orgs, now);
        assert_eq!(bounds.charge(BURST + 1000, now), Duration::from_secs(1));
        bounds.apply(&limits(Some(10_000), None), &admitted, &orgs, now);
        assert_eq!(bounds.charge(0, now), Duration::from_millis(100));
        bounds.apply(&limits(None, None), &admitted, &orgs, now);
        assert_eq!(bounds.charge(10 * BURST, now), Duration::ZERO);
    }
}
