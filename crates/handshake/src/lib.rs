//! The hybrid handshake that makes WireGuard preshared keys.
//!
//! Two machines that know each other's static keys (X25519, which is the WireGuard key, and
//! ML-KEM-768) exchange four messages and end with the same fresh preshared key: an *epoch*. Every
//! epoch has a new X25519 and a new ML-KEM-768 key pair, so whoever records the traffic has to
//! break both. At first contact (FULL) both static keys of both kinds authenticate the pair; later
//! epochs (LIGHT) fit one datagram and are chained to the epoch before, so the post-quantum
//! authentication of the first carries over. `SPEC.md` beside this crate's manifest is the
//! specification: layouts, key schedule, timers, claims and known costs.
//!
//! ```text
//! initiator                                             responder
//!     │ Init  e, ek, [ct to static], who, epoch              │  answers without keeping anything:
//!     ├─────────────────────────────────────────────────────►│  its state travels in the biscuit
//!     │ Resp  e, ct to ek, [ct to static], biscuit, epoch    │
//!     │◄─────────────────────────────────────────────────────┤
//!     │ Conf  biscuit, proof                                 │
//!     ├─────────────────────────────────────────────────────►│  installs
//!     │ Ack   proof                                          │
//!     │◄─────────────────────────────────────────────────────┤
//!     │ installs                                             │
//! ```
//!
//! [`Handshakes`] holds the state of one machine towards all its peers. It does no IO: datagrams,
//! wishes and `now` go in; [`Handshakes::poll_output`] gives back what is to be done and
//! [`Handshakes::poll_timeout`] when it wants to be called again. Randomness is injected.
//!
//! The modules, from the wire inwards: `wire` (layouts), `fragment` (two datagrams for a FULL
//! message), `cookie` (load), `biscuit` (the responder's state in transit), `schedule` (transcript
//! and keys), `exchange` (the four messages as functions without state), `peer` (one peer's chain,
//! epoch and attempt), `engine` (all of them, and the timers).

mod aead;
mod biscuit;
mod config;
mod cookie;
#[cfg(test)]
mod cost;
mod engine;
mod exchange;
mod fragment;
mod keys;
mod peer;
mod schedule;
mod wire;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Instant;

use ztna_proto::netmap::PqMode;
use ztna_proto::{KemKeyHash, RegionId, WgPublicKey};

pub use config::Config;
pub use engine::Handshakes;
pub use fragment::fragments;
pub use keys::{Identity, KemPrivateKey, Psk};
pub use wire::{MAX_DATAGRAM, is_handshake};

/// What the netmap says of a peer, as far as this crate needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// SHA-256 of its ML-KEM-768 encapsulation key.
    pub kem_key: KemKeyHash,
    /// The pair's mode. Both ends bind theirs into the keys: if they differ, no epoch is made.
    pub pq: PqMode,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From this UDP address.
    Direct(SocketAddr),
    /// Through a relay, which vouches for the sender's key.
    Relay {
        /// The relay's region.
        region: RegionId,
        /// The sender, in the relay's word.
        peer: WgPublicKey,
    },
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Back the way that the message it answers came.
    Reply(Source),
    /// To this peer, by whatever path the caller has to it.
    Peer(WgPublicKey),
}

/// The part that this machine played in making an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sent the Init. It starts the WireGuard handshake that puts the new key to use.
    Initiator,
    /// It answered.
    Responder,
}

/// Something for the caller to do, in order.
pub enum Output {
    /// Send this message. On a direct path cut it with [`fragments`] first.
    Send {
        /// Where to.
        to: Destination,
        /// The whole message.
        bytes: Vec<u8>,
    },
    /// Fetch the ML-KEM key that has this hash and give it to [`Handshakes::provide_kem_key`].
    /// Comes again, ever more rarely, while the key is missing and a handshake needs it.
    NeedKemKey {
        /// Whose key.
        peer: WgPublicKey,
        /// SHA-256 of the key.
        hash: KemKeyHash,
    },
    /// A new epoch is confirmed: give this preshared key to WireGuard.
    Install {
        /// With whom.
        peer: WgPublicKey,
        /// The epoch's number: grows with each epoch of the pair, equal at both ends.
        epoch: u64,
        /// The key.
        psk: Psk,
        /// The part that this machine played.
        role: Role,
        /// Whether both static ML-KEM keys took part in this very handshake.
        full: bool,
    },
    /// The epoch is older than [`Config::expiry`], or its peer's keys or mode changed: replace the
    /// preshared key by a random one ([`Psk::random`]) and drop the WireGuard session.
    Expired {
        /// With whom.
        peer: WgPublicKey,
    },
}

/// The epoch that is held with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochInfo {
    /// Its number.
    pub epoch: u64,
    /// When it was installed.
    pub installed_at: Instant,
    /// Whether both static ML-KEM keys took part in the handshake that made it.
    pub full: bool,
}
