//! Transcript and key schedule: SHA-256 over everything said, HKDF-SHA256 (RFC 5869) over every
//! secret, each extraction salted with the transcript so far.

use hkdf::{Hkdf, HkdfExtract};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
use ztna_proto::WgPublicKey;

use crate::aead;
use crate::keys::{PSK_LEN, Psk};
use crate::wire::HANDLE_LEN;

/// Bytes of a SHA-256 hash, of every chaining key and of every secret.
pub(crate) const HASH_LEN: usize = 32;

/// Domain separation strings. A new version of the protocol changes all of them.
pub(crate) mod label {
    /// Start of the transcript: names the whole suite.
    pub const PROTOCOL: &[u8] =
        b"ztna-handshake v1 X25519 ML-KEM-768 ChaCha20-Poly1305 SHA-256 HKDF-SHA256";
    pub const IDENTITY: &[u8] = b"ztna-handshake v1 init identity";
    pub const INIT_EPOCH: &[u8] = b"ztna-handshake v1 init epoch";
    pub const RESP_EPOCH: &[u8] = b"ztna-handshake v1 resp epoch";
    pub const CONF: &[u8] = b"ztna-handshake v1 conf";
    pub const ACK: &[u8] = b"ztna-handshake v1 ack";
    pub const PSK: &[u8] = b"ztna-handshake v1 wireguard psk";
    pub const CHAIN: &[u8] = b"ztna-handshake v1 chain";
    pub const HANDLE: &[u8] = b"ztna-handshake v1 handle";
    pub const FINGERPRINT: &[u8] = b"ztna-handshake v1 psk fingerprint";
    pub const BISCUIT: &[u8] = b"ztna-handshake v1 biscuit";
    pub const MAC1: &[u8] = b"ztna-handshake v1 mac1";
    pub const COOKIE: &[u8] = b"ztna-handshake v1 cookie";
    pub const FRAGMENT: &[u8] = b"ztna-handshake v1 fragment";
}

/// Type tags of what enters the transcript: two items of one length are never mistaken for each
/// other (the confusion found in PQXDH).
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Item {
    ResponderX25519 = 1,
    ResponderMlKemHash = 2,
    InitHead = 3,
    InitiatorEphemeralX25519 = 4,
    InitiatorEphemeralMlKem = 5,
    CiphertextToResponder = 6,
    SealedIdentity = 7,
    Handle = 8,
    InitiatorX25519 = 9,
    InitiatorMlKemHash = 10,
    PqMode = 11,
    SealedInitEpoch = 12,
    RespHead = 13,
    ResponderEphemeralX25519 = 14,
    CiphertextToEphemeral = 15,
    CiphertextToInitiator = 16,
}

/// Type tags of the secrets, in the order in which they enter.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Secret {
    EphemeralStaticDh = 1,
    ResponderKem = 2,
    StaticStaticDh = 3,
    Chain = 4,
    EphemeralEphemeralDh = 5,
    StaticEphemeralDh = 6,
    EphemeralKem = 7,
    InitiatorKem = 8,
    Final = 9,
}

/// What both sides have said (`h`) and know (`ck`) so far.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Transcript {
    h: [u8; HASH_LEN],
    ck: [u8; HASH_LEN],
}

impl Transcript {
    pub(crate) fn new() -> Self {
        Self {
            h: Sha256::digest(label::PROTOCOL).into(),
            ck: [0; HASH_LEN],
        }
    }

    /// `h = SHA-256(h ‖ tag ‖ length (2, big-endian) ‖ data)`
    #[allow(clippy::expect_used)]
    pub(crate) fn mix(&mut self, item: Item, data: &[u8]) {
        let length = u16::try_from(data.len()).expect("items are at most 1,184 bytes");
        let mut hash = Sha256::new();
        hash.update(self.h);
        hash.update([item as u8]);
        hash.update(length.to_be_bytes());
        hash.update(data);
        self.h = hash.finalize().into();
    }

    /// `ck = HKDF-Extract(salt = h, ikm = ck ‖ tag ‖ secret)`
    pub(crate) fn mix_secret(&mut self, kind: Secret, secret: &[u8]) {
        let mut extract = HkdfExtract::<Sha256>::new(Some(&self.h));
        extract.input_ikm(&self.ck);
        extract.input_ikm(&[kind as u8]);
        extract.input_ikm(secret);
        let (mut prk, _) = extract.finalize();
        self.ck.copy_from_slice(&prk);
        prk.as_mut_slice().zeroize();
    }

    /// A key for one sealing, from all secrets so far.
    pub(crate) fn key(&self, label: &[u8]) -> aead::Key {
        expand(&self.ck, label)
    }

    /// The hash so far: associated data of what is sealed inside Init.
    pub(crate) fn hash(&self) -> &[u8; HASH_LEN] {
        &self.h
    }

    /// Ends the key agreement: salted with the hash of the whole transcript.
    pub(crate) fn finish(mut self) -> Master {
        self.mix_secret(Secret::Final, &[]);
        Master(self.ck)
    }
}

/// The secret that a completed key agreement gives both sides.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Master(pub(crate) [u8; HASH_LEN]);

impl Master {
    pub(crate) fn key(&self, label: &[u8]) -> aead::Key {
        expand(&self.0, label)
    }

    pub(crate) fn psk(&self) -> Psk {
        let key = expand::<PSK_LEN>(&self.0, label::PSK);
        Psk::from_bytes(*key)
    }

    pub(crate) fn chain(&self) -> ChainKey {
        ChainKey(*expand(&self.0, label::CHAIN))
    }
}

/// What one epoch leaves to the next: proof of the post-quantum authentication before it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct ChainKey(pub(crate) [u8; HASH_LEN]);

impl ChainKey {
    /// The name under which `initiator` announces itself in a LIGHT Init of this chain: known to
    /// both ends only, and another one in each epoch.
    pub(crate) fn handle(&self, initiator: &WgPublicKey) -> [u8; HANDLE_LEN] {
        let info = [label::HANDLE, initiator.as_bytes()].concat();
        *expand(&self.0, &info)
    }
}

/// HKDF-Expand(`prk`, `info`).
#[allow(clippy::expect_used)]
fn expand<const N: usize>(prk: &[u8; HASH_LEN], info: &[u8]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::from_prk(prk)
        .expect("32 bytes are a SHA-256 PRK")
        .expand(info, out.as_mut_slice())
        .expect("at most 32 bytes are within HKDF's bound");
    out
}
