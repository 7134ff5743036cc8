//! What is held of one peer: its keys, the chain, the epoch, and the attempt under way.

use std::time::{Duration, Instant};

use ztna_proto::WgPublicKey;
use ztna_proto::keys::KemPublicKey;

use crate::config::Config;
use crate::exchange::{Offer, Remote};
use crate::schedule::{ChainKey, Master};
use crate::wire::{HANDLE_LEN, MacTag, Session};
use crate::{EpochInfo, Role, Source};

/// What one epoch leaves to the next.
#[derive(Clone)]
pub(crate) struct Chain {
    pub key: ChainKey,
    /// The epoch that it comes from.
    pub epoch: u64,
    /// When the FULL handshake was that it goes back to.
    pub full_at: Instant,
    /// The name under which the peer would announce itself in a LIGHT Init.
    pub peer_handle: [u8; HANDLE_LEN],
}

impl Chain {
    pub(crate) fn new(master: &Master, peer: &WgPublicKey, epoch: u64, full_at: Instant) -> Self {
        let key = master.chain();
        Self {
            peer_handle: key.handle(peer),
            key,
            epoch,
            full_at,
        }
    }

    pub(crate) fn ends(&self, config: &Config) -> Instant {
        self.full_at + config.chain_lifetime
    }
}

/// A wait that doubles.
pub(crate) struct Backoff {
    pub delay: Duration,
    pub next_at: Instant,
}

/// An attempt of this machine to make an epoch.
pub(crate) struct Attempt {
    pub ends: Instant,
    pub full: bool,
    /// Inits sent of this kind.
    pub tries: u32,
    pub retry: Backoff,
    pub phase: Phase,
}

pub(crate) enum Phase {
    /// FULL, and the peer's ML-KEM key is not there yet.
    AwaitKemKey,
    /// The peer's WireGuard key is of low order: no handshake can be made with it.
    Impossible,
    /// Init is out.
    Offered(Box<Offered>),
    /// Conf is out.
    Confirming(Box<Confirming>),
}

pub(crate) struct Offered {
    pub offer: Offer,
    pub init: Vec<u8>,
    pub epoch: u64,
    /// When the FULL handshake was that the LIGHT Init's chain goes back to.
    pub full_at: Option<Instant>,
    /// Answers since the last retransmission that did not open.
    pub wrong_answers: u32,
    /// Whether a cookie has brought an extra retransmission since the last regular one.
    pub hurried: bool,
}

pub(crate) struct Confirming {
    pub session: Session,
    pub master: Master,
    pub conf: Vec<u8>,
    pub epoch: u64,
    pub full_at: Option<Instant>,
    pub until: Instant,
}

impl Attempt {
    /// The name that answers carry.
    pub(crate) fn session(&self) -> Option<Session> {
        match &self.phase {
            Phase::AwaitKemKey | Phase::Impossible => None,
            Phase::Offered(offered) => Some(offered.offer.session),
            Phase::Confirming(confirming) => Some(confirming.session),
        }
    }
}

/// An installed epoch.
pub(crate) struct Epoch {
    pub info: EpochInfo,
    pub role: Role,
}

impl Epoch {
    /// When this end starts the next one, if there is traffic.
    pub(crate) fn rotates(&self, config: &Config) -> Instant {
        let lag = match self.role {
            Role::Initiator => Duration::ZERO,
            Role::Responder => config.responder_lag,
        };
        self.info.installed_at + config.rotation + lag
    }

    pub(crate) fn expires(&self, config: &Config) -> Instant {
        self.info.installed_at + config.expiry
    }
}

pub(crate) struct Peer {
    pub remote: Remote,
    pub kem_key: Option<KemPublicKey>,
    /// When the missing ML-KEM key may be asked for again.
    pub ask: Option<Backoff>,
    /// Of the newest epoch.
    pub current: Option<Chain>,
    /// The one before, which the peer still holds if it never saw the Ack.
    pub previous: Option<Chain>,
    pub epoch: Option<Epoch>,
    /// The highest epoch number ever installed with this peer.
    pub counter: u64,
    /// When traffic came last since the last install.
    pub used_at: Option<Instant>,
    pub attempt: Option<Attempt>,
    /// The smallest number that a biscuit must have to be accepted.
    pub floor: u64,
    /// The biscuit accepted last and the Ack it was answered with, should that be lost.
    pub accepted: Option<(u64, Vec<u8>)>,
    pub cookie: Option<(MacTag, Instant)>,
    /// An authenticated Init that waits for the peer's ML-KEM key.
    pub deferred: Option<(Source, Vec<u8>)>,
    /// When this peer is to be looked at; mirrored in the engine's queue.
    pub timer: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(remote: Remote, floor: u64) -> Self {
        Self {
            remote,
            kem_key: None,
            ask: None,
            current: None,
            previous: None,
            epoch: None,
            counter: 0,
            used_at: None,
            attempt: None,
            floor,
            accepted: None,
            cookie: None,
            deferred: None,
            timer: None,
        }
    }

    /// The chain that a LIGHT handshake names, if it still holds.
    pub(crate) fn chain_of(&self, epoch: u64, config: &Config, now: Instant) -> Option<&Chain> {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find(|chain| chain.epoch == epoch && now < chain.ends(config))
    }

    /// The chain that the peer names by its handle, if it still holds.
    pub(crate) fn chain_named(
        &self,
        handle: &[u8; HANDLE_LEN],
        config: &Config,
        now: Instant,
    ) -> Option<&Chain> {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find(|chain| chain.peer_handle == *handle && now < chain.ends(config))
    }

    /// Whether there was traffic shortly before the epoch is to be replaced, or since.
    pub(crate) fn wants_rotation(&self, config: &Config) -> bool {
        match (&self.epoch, self.used_at) {
            (Some(epoch), Some(used_at)) => used_at + config.lately >= epoch.rotates(config),
            _ => false,
        }
    }

    /// When something is to be done about this peer.
    pub(crate) fn due(&self, config: &Config) -> Option<Instant> {
        let attempt = self
            .attempt
            .as_ref()
            .map(|attempt| attempt.retry.next_at.min(attempt.ends));
        let epoch = self.epoch.as_ref();
        let expiry = epoch.map(|epoch| epoch.expires(config));
        let rotation = epoch
            .filter(|_| self.wants_rotation(config) && self.attempt.is_none())
            .map(|epoch| epoch.rotates(config));
        let current = self.current.as_ref().map(|chain| chain.ends(config));
        let previous = self.previous.as_ref().map(|chain| chain.ends(config));
        [attempt, expiry, rotation, current, previous]
            .into_iter()
            .flatten()
            .min()
    }
}
