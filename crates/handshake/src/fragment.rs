//! A FULL message in two datagrams, for pairs that have only a direct path.
//!
//! The two halves carry the first eight bytes of a hash of the whole as its name, which is checked
//! when it is complete. Memory is bounded; whoever floods it costs others a retransmission, and the
//! relayed path needs no fragments at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Source;
use crate::cookie::Origin;
use crate::schedule::label;
use crate::wire::{
    FRAGMENT_HEAD, FRAGMENT_ID_LEN, INIT_FULL_LEN, MAX_DATAGRAM, Piece, Reject, fragment_head,
};

/// Half messages that are kept at once: 128 × 1,296 bytes.
const MAX_PARTIAL: usize = 128;
/// Half messages that are kept of one origin (address without port, or relayed key).
const MAX_PARTIAL_OF_ORIGIN: usize = 4;
/// Most data in a fragment.
const MAX_PIECE: usize = MAX_DATAGRAM - FRAGMENT_HEAD;

const _: () = assert!(INIT_FULL_LEN <= 2 * MAX_PIECE);

type Id = [u8; FRAGMENT_ID_LEN];

/// Cuts a message for a direct path: itself if it fits a datagram of [`MAX_DATAGRAM`], else in two.
#[must_use]
pub fn fragments(message: &[u8]) -> Vec<Vec<u8>> {
    if message.len() <= MAX_DATAGRAM {
        return vec![message.to_vec()];
    }
    let id = id(message);
    let (first, second) = message.split_at(message.len().div_ceil(2));
    [(0, first), (1, second)]
        .into_iter()
        .map(|(index, data)| {
            let mut out = fragment_head(&id, index, FRAGMENT_HEAD + data.len());
            out.extend_from_slice(data);
            out
        })
        .collect()
}

fn id(message: &[u8]) -> Id {
    let mut hash = Sha256::new();
    hash.update(label::FRAGMENT);
    hash.update(message);
    let hash = hash.finalize();
    let mut id = Id::default();
    id.copy_from_slice(&hash[..FRAGMENT_ID_LEN]);
    id
}

/// Halves that wait for the other half.
pub(crate) struct Reassembly {
    lifetime: Duration,
    partial: BTreeMap<(Source, Id), Half>,
}

struct Half {
    index: u8,
    data: Vec<u8>,
    came: Instant,
}

impl Reassembly {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            partial: BTreeMap::new(),
        }
    }

    /// Takes a half; gives the message if it is the second one.
    pub(crate) fn insert(
        &mut self,
        source: Source,
        piece: &Piece<'_>,
        now: Instant,
    ) -> Result<Vec<u8>, Reject> {
        if piece.data.is_empty() || piece.data.len() > MAX_PIECE {
            return Err(Reject::Form);
        }
        self.expire(now);
        let key = (source, *piece.id);
        match self.partial.get(&key) {
            Some(other) if other.index != piece.index => {
                let whole = if piece.index == 0 {
                    [piece.data, &other.data].concat()
                } else {
                    [&other.data, piece.data].concat()
                };
                self.partial.remove(&key);
                let intact: bool = id(&whole).ct_eq(piece.id).into();
                intact.then_some(whole).ok_or(Reject::Form)
            }
            Some(_) => Err(Reject::Incomplete),
            None => {
                self.make_room(source);
                let half = Half {
                    index: piece.index,
                    data: piece.data.to_vec(),
                    came: now,
                };
                self.partial.insert(key, half);
                Err(Reject::Incomplete)
            }
        }
    }

    /// Evicts the oldest half: of the origin, if it has its share already, else of all.
    fn make_room(&mut self, source: Source) {
        let origin = Origin::of(source);
        let of_origin = |key: &(Source, Id)| Origin::of(key.0) == origin;
        let share = self.partial.keys().filter(|key| of_origin(key)).count();
        let crowded = share >= MAX_PARTIAL_OF_ORIGIN;
        if !crowded && self.partial.len() < MAX_PARTIAL {
            return;
        }
        let oldest = self
            .partial
            .iter()
            .filter(|(key, _)| !crowded || of_origin(key))
            .min_by_key(|(_, half)| half.came)
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.partial.remove(&key);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.partial.values().map(|half| half.came).min()?;
        Some(oldest + self.lifetime)
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        let lifetime = self.lifetime;
        self.partial.retain(|_, half| now < half.came + lifetime);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.partial.len()
    }
}
