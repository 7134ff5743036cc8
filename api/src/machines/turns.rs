//! Registrations of one org take turns.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Semaphore, SemaphorePermit};
use ztna_proto::ids::OrgId;

use crate::http::ApiError;

/// Orgs that register at a time; two that fall on one place wait for each other.
const PLACES: usize = 256;
/// One has the org's row, and the next has begun its transaction.
const AHEAD: usize = 2;

/// Has registrations of one org wait here, where that costs nothing, and not each with a connection to
/// the database for the org's row: then nobody else would get one.
pub(crate) struct Turns {
    places: Vec<Semaphore>,
    hasher: RandomState,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            places: (0..PLACES).map(|_| Semaphore::new(AHEAD)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for the org's turn, which lasts as long as the answer.
    pub(super) async fn wait(&self, org: OrgId) -> Result<SemaphorePermit<'_>, ApiError> {
        let place = self.hasher.hash_one(org) % PLACES as u64;
        let place = usize::try_from(place).ok().and_then(|n| self.places.get(n));
        let closed = || ApiError::Internal("nobody takes turns any more".to_owned());
        let permit = place.ok_or_else(closed)?.acquire().await;
        permit.map_err(|_| closed())
    }
}
