//! Biscuits: the responder's state, sealed to itself and carried by the initiator.
//!
//! Until Conf proves that a living peer stands behind an Init, the responder keeps nothing, so
//! replayed Inits can neither fill its memory nor disturb a handshake under way. A biscuit holds
//! all that Conf needs; its number is the nonce and is accepted once.

use std::time::{Duration, Instant};

use ztna_proto::WgPublicKey;

use crate::aead::{self, KEY_LEN, TAG_LEN};
use crate::schedule::{HASH_LEN, Master, label};
use crate::wire::Session;

const NUMBER_LEN: usize = 8;
const PLAIN_LEN: usize = HASH_LEN + 32 + 8 + 8;
/// Number (8), then sealed: master secret (32), initiator (32), epoch (8), base (8). 104 bytes.
pub(crate) const BISCUIT_LEN: usize = NUMBER_LEN + PLAIN_LEN + TAG_LEN;

/// What a biscuit says.
pub(crate) struct Contents {
    pub master: Master,
    pub initiator: WgPublicKey,
    /// The number of the epoch that is being made.
    pub epoch: u64,
    /// The number of the epoch whose chain authenticated a LIGHT handshake; 0 for FULL.
    pub base: u64,
}

/// Makes and opens this machine's biscuits.
pub(crate) struct Biscuits {
    lifetime: Duration,
    next: u64,
    current: Option<SealingKey>,
    previous: Option<SealingKey>,
}

struct SealingKey {
    key: aead::Key,
    made: Instant,
}

impl Biscuits {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            next: 1,
            current: None,
            previous: None,
        }
    }

    /// The number of the next biscuit: all that exist have smaller ones.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Seals `contents` for the attempt `session`.
    pub(crate) fn seal(
        &mut self,
        rng: &mut (dyn rand::CryptoRng + Send),
        contents: &Contents,
        session: &Session,
        now: Instant,
    ) -> [u8; BISCUIT_LEN] {
        self.expire(now);
        if self.current.is_none() {
            let mut key = aead::Key::default();
            rng.fill_bytes(key.as_mut_slice());
            self.current = Some(SealingKey { key, made: now });
        }
        let number = self.next;
        self.next += 1;
        let mut out = [0; BISCUIT_LEN];
        if let Some(current) = &self.current {
            out = seal_with(&current.key, number, contents, session);
        }
        out
    }

    /// Opens a biscuit. `None`: not of this process, not for this attempt, or too old.
    pub(crate) fn open(
        &mut self,
        biscuit: &[u8; BISCUIT_LEN],
        session: &Session,
        now: Instant,
    ) -> Option<(u64, Contents)> {
        self.expire(now);
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find_map(|sealing| open_with(&sealing.key, biscuit, session))
    }

    /// When a key is to be erased.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let current = self.current.as_ref().map(|key| key.made + self.lifetime);
        let previous = self
            .previous
            .as_ref()
            .map(|key| key.made + self.lifetime * 2);
        [current, previous].into_iter().flatten().min()
    }

    /// Moves keys on and erases old ones.
    pub(crate) fn expire(&mut self, now: Instant) {
        if let Some(current) = self.current.take_if(|key| now >= key.made + self.lifetime) {
            self.previous = Some(current);
        }
        self.previous
            .take_if(|key| now >= key.made + self.lifetime * 2);
    }
}

pub(crate) fn seal_with(
    key: &aead::Key,
    number: u64,
    contents: &Contents,
    session: &Session,
) -> [u8; BISCUIT_LEN] {
    let mut plain = zeroize::Zeroizing::new([0; PLAIN_LEN]);
    plain[..32].copy_from_slice(&contents.master.0);
    plain[32..64].copy_from_slice(contents.initiator.as_bytes());
    plain[64..72].copy_from_slice(&contents.epoch.to_be_bytes());
    plain[72..].copy_from_slice(&contents.base.to_be_bytes());
    let mut sealed = Vec::with_capacity(PLAIN_LEN + TAG_LEN);
    aead::seal_counted(
        key,
        number,
        &associated(session),
        plain.as_slice(),
        &mut sealed,
    );
    let mut out = [0; BISCUIT_LEN];
    out[..NUMBER_LEN].copy_from_slice(&number.to_be_bytes());
    out[NUMBER_LEN..].copy_from_slice(&sealed);
    out
}

fn open_with(
    key: &aead::Key,
    biscuit: &[u8; BISCUIT_LEN],
    session: &Session,
) -> Option<(u64, Contents)> {
    let (number, sealed) = biscuit.split_first_chunk::<NUMBER_LEN>()?;
    let number = u64::from_be_bytes(*number);
    let plain = aead::open_counted(key, number, &associated(session), sealed)?;
    let (master, rest) = plain.split_first_chunk::<KEY_LEN>()?;
    let (initiator, rest) = rest.split_first_chunk::<32>()?;
    let (epoch, base) = rest.split_first_chunk::<8>()?;
    let contents = Contents {
        master: Master(*master),
        initiator: WgPublicKey(*initiator),
        epoch: u64::from_be_bytes(*epoch),
        base: u64::from_be_bytes(base.try_into().ok()?),
    };
    Some((number, contents))
}

fn associated(session: &Session) -> Vec<u8> {
    [label::BISCUIT, session.as_slice()].concat()
}
