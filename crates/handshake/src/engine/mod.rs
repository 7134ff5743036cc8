//! All handshakes of a machine: the public face, peers and timers. `initiate` holds what this
//! machine starts, `receive` what it answers.

mod initiate;
mod receive;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use ml_kem::{TryKeyInit, ml_kem_768};
use ztna_proto::keys::{KEY_LEN, KemPublicKey};
use ztna_proto::{KemKeyHash, WgPublicKey};

use crate::biscuit::Biscuits;
use crate::config::Config;
use crate::cookie::Guard;
use crate::exchange::{Local, Remote};
use crate::fragment::Reassembly;
use crate::keys::{Identity, Psk};
use crate::peer::{Chain, Epoch, Peer, Phase};
use crate::wire::{HANDLE_LEN, Session};
use crate::{EpochInfo, Output, PeerConfig, Role, Source};

/// Highest epoch number that is accepted. An honest pair needs a billion years to get there; the
/// bound keeps the arithmetic of a dishonest one from overflowing.
pub(crate) const MAX_EPOCH: u64 = 1 << 48;

/// The handshakes of one machine with all its peers.
pub struct Handshakes {
    local: Local,
    config: Config,
    rng: Box<dyn rand::CryptoRng + Send>,
    peers: BTreeMap<WgPublicKey, Peer>,
    /// Attempts under way, by the name that answers carry.
    sessions: BTreeMap<Session, WgPublicKey>,
    /// Peers by the pseudonyms under which they would announce themselves.
    handles: BTreeMap<[u8; HANDLE_LEN], WgPublicKey>,
    /// Peers by the hash of their ML-KEM key.
    by_kem_key: BTreeSet<(KemKeyHash, WgPublicKey)>,
    timers: BTreeSet<(Instant, WgPublicKey)>,
    outputs: VecDeque<Output>,
    biscuits: Biscuits,
    guard: Guard,
    reassembly: Reassembly,
}

impl Handshakes {
    /// Starts without peers.
    #[must_use]
    pub fn new(
        identity: Identity,
        config: Config,
        rng: Box<dyn rand::CryptoRng + Send>,
        now: Instant,
    ) -> Self {
        Self {
            local: Local::new(&identity),
            biscuits: Biscuits::new(config.biscuit_key),
            guard: Guard::new(&config, now),
            reassembly: Reassembly::new(config.reassembly),
            config,
            rng,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            handles: BTreeMap::new(),
            by_kem_key: BTreeSet::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Adds a peer, or changes one. If its key or mode changed, all that was agreed under the old
    /// ones is erased ([`Output::Expired`] if an epoch was held).
    pub fn upsert_peer(&mut self, peer: WgPublicKey, config: PeerConfig) {
        let remote = Remote {
            wg: peer,
            kem_hash: config.kem_key,
            pq: config.pq,
        };
        // Biscuits that were made for this peer before are void: they name the old configuration,
        // or were accepted by an entry that has been removed since.
        let floor = self.biscuits.next();
        let Some(known) = self.peers.get_mut(&peer) else {
            self.insert(Peer::new(remote, floor));
            return;
        };
        if known.remote.kem_hash == remote.kem_hash && known.remote.pq == remote.pq {
            return;
        }
        let mut fresh = Peer::new(remote, floor);
        fresh.counter = known.counter;
        if known.remote.kem_hash == remote.kem_hash {
            fresh.kem_key = known.kem_key.take();
        }
        let held = known.epoch.is_some();
        self.remove_peer(&peer);
        self.insert(fresh);
        if held {
            self.outputs.push_back(Output::Expired { peer });
        }
    }

    fn insert(&mut self, peer: Peer) {
        let name = peer.remote.wg;
        self.by_kem_key.insert((peer.remote.kem_hash, name));
        self.peers.insert(name, peer);
    }

    /// Forgets a peer and erases its keys.
    pub fn remove_peer(&mut self, peer: &WgPublicKey) {
        self.end_attempt(peer);
        self.set_chains(peer, None, None);
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        self.by_kem_key.remove(&(gone.remote.kem_hash, *peer));
        if let Some(timer) = gone.timer {
            self.timers.remove(&(timer, *peer));
        }
    }

    /// Hands in an ML-KEM key that was asked for. It is matched by its hash, so it may come from
    /// anywhere; a key that no peer has, or that does not decode, is ignored.
    pub fn provide_kem_key(&mut self, key: &KemPublicKey, now: Instant) {
        let hash = KemKeyHash::of(key);
        if ml_kem_768::EncapsulationKey::new_from_slice(key.as_bytes()).is_err() {
            tracing::debug!(%hash, "the ML-KEM key does not decode; ignored");
            return;
        }
        let first = (hash, WgPublicKey([0; KEY_LEN]));
        let with_hash = self.by_kem_key.range(first..);
        let owners: Vec<WgPublicKey> = with_hash
            .take_while(|(other, _)| *other == hash)
            .map(|(_, name)| *name)
            .collect();
        for name in owners {
            let Some(peer) = self.peers.get_mut(&name) else {
                continue;
            };
            if peer.kem_key.is_some() {
                continue;
            }
            peer.kem_key = Some(key.clone());
            peer.ask = None;
            let deferred = peer.deferred.take();
            let awaits = peer
                .attempt
                .as_ref()
                .is_some_and(|attempt| matches!(attempt.phase, Phase::AwaitKemKey));
            if awaits {
                self.offer(&name, now);
            }
            if let Some((source, init)) = deferred {
                self.handle(source, &init, now);
            }
            self.set_timer(&name);
        }
    }

    /// Says that the pair carries traffic: starts a handshake if there is no fresh epoch, and keeps
    /// the epochs rotating. Cheap; to be called for every packet of data sent or received, and for
    /// WireGuard packets from a peer that no session opens (it may have restarted). Unknown peers
    /// are ignored.
    pub fn want_epoch(&mut self, peer: &WgPublicKey, now: Instant) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let fresh = known
            .epoch
            .as_ref()
            .is_some_and(|epoch| now < epoch.rotates(&self.config));
        let was_wanted = known.wants_rotation(&self.config);
        known.used_at = Some(now);
        if known.attempt.is_some() || fresh {
            if !was_wanted && known.wants_rotation(&self.config) {
                self.set_timer(peer);
            }
            return;
        }
        self.start(peer, now);
        self.set_timer(peer);
    }

    /// Takes a whole message or a fragment. What is not for this machine, or wrong in any way, is
    /// dropped without an answer.
    pub fn handle(&mut self, source: Source, bytes: &[u8], now: Instant) {
        if let Err(reason) = self.receive(source, bytes, now) {
            tracing::trace!(?source, length = bytes.len(), %reason, "handshake message dropped");
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.biscuits.expire(now);
        self.reassembly.expire(now);
        let due: Vec<WgPublicKey> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, peer)| *peer)
            .collect();
        for peer in due {
            self.forget_old(&peer, now);
            self.drive(&peer, now);
            self.set_timer(&peer);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called. `None`: nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.timers.first().map(|(at, _)| *at);
        [
            peers,
            self.biscuits.poll_timeout(),
            self.reassembly.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The epoch that is held with a peer.
    #[must_use]
    pub fn epoch(&self, peer: &WgPublicKey) -> Option<EpochInfo> {
        self.peers
            .get(peer)
            .and_then(|peer| peer.epoch.as_ref())
            .map(|epoch| epoch.info)
    }

    /// The key that this machine will install when the peer's Ack arrives. The peer may use it
    /// already: a WireGuard response that the installed key does not open may open with this one.
    #[must_use]
    pub fn pending_psk(&self, peer: &WgPublicKey) -> Option<Psk> {
        match &self.peers.get(peer)?.attempt.as_ref()?.phase {
            Phase::Confirming(confirming) => Some(confirming.master.psk()),
            _ => None,
        }
    }

    /// Erases what has outlived its time: the epoch, the chains.
    fn forget_old(&mut self, name: &WgPublicKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let config = &self.config;
        if peer
            .epoch
            .take_if(|epoch| now >= epoch.expires(config))
            .is_some()
        {
            self.outputs.push_back(Output::Expired { peer: *name });
        }
        let holds = |chain: &Chain| now < chain.ends(config);
        let current = peer.current.clone().filter(holds);
        let previous = peer.previous.clone().filter(holds);
        let unchanged = current.is_some() == peer.current.is_some()
            && previous.is_some() == peer.previous.is_some();
        if !unchanged {
            self.set_chains(name, current, previous);
        }
    }

    /// Takes up a confirmed epoch.
    fn install(
        &mut self,
        name: &WgPublicKey,
        epoch: u64,
        role: Role,
        full: bool,
        psk: Psk,
        now: Instant,
    ) {
        self.end_attempt(name);
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.counter = epoch;
        peer.used_at = None;
        peer.deferred = None;
        peer.epoch = Some(Epoch {
            info: EpochInfo {
                epoch,
                installed_at: now,
                full,
            },
            role,
        });
        self.outputs.push_back(Output::Install {
            peer: *name,
            epoch,
            psk,
            role,
            full,
        });
    }

    /// Replaces a peer's chains and their index.
    fn set_chains(&mut self, name: &WgPublicKey, current: Option<Chain>, previous: Option<Chain>) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        for old in [&peer.current, &peer.previous].into_iter().flatten() {
            self.handles.remove(&old.peer_handle);
        }
        for new in [&current, &previous].into_iter().flatten() {
            self.handles.insert(new.peer_handle, *name);
        }
        peer.current = current;
        peer.previous = previous;
    }

    fn end_attempt(&mut self, name: &WgPublicKey) {
        let attempt = self
            .peers
            .get_mut(name)
            .and_then(|peer| peer.attempt.take());
        if let Some(session) = attempt.and_then(|attempt| attempt.session()) {
            self.sessions.remove(&session);
        }
    }

    /// Queues the peer for when it is due next. To be called after every change of it.
    fn set_timer(&mut self, name: &WgPublicKey) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let due = peer.due(&self.config);
        if due == peer.timer {
            return;
        }
        if let Some(old) = peer.timer {
            self.timers.remove(&(old, *name));
        }
        if let Some(new) = due {
            self.timers.insert((new, *name));
        }
        peer.timer = due;
    }
}
