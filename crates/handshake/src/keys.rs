//! Secrets of this crate's API.

use hkdf::Hkdf;
use ml_kem::{KeyExport, ml_kem_768};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};
use ztna_proto::WgPrivateKey;
use ztna_proto::keys::KemPublicKey;

use crate::schedule::label;

/// Bytes of an ML-KEM seed `d ‖ z` (FIPS 203 §7.1), the form in which private keys are kept.
pub const KEM_SEED_LEN: usize = 64;

/// Bytes of a WireGuard preshared key.
pub const PSK_LEN: usize = 32;

/// Bytes of a PSK's fingerprint: enough to tell epochs apart, too few to be a commitment.
pub const FINGERPRINT_LEN: usize = 8;

/// A machine's static ML-KEM-768 private key, as its 64-byte seed. Never sent.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KemPrivateKey([u8; KEM_SEED_LEN]);

impl KemPrivateKey {
    /// Makes a new key from the generator.
    pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized)) -> Self {
        let mut seed = [0; KEM_SEED_LEN];
        rng.fill_bytes(&mut seed);
        Self(seed)
    }

    /// Takes over a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; KEM_SEED_LEN]) -> Self {
        Self(seed)
    }

    /// The seed, for the state file. Wipe every copy.
    #[must_use]
    pub fn expose_seed(&self) -> &[u8; KEM_SEED_LEN] {
        &self.0
    }

    /// The public half: the encapsulation key.
    #[must_use]
    pub fn public(&self) -> KemPublicKey {
        encapsulation_key(self.expand().encapsulation_key())
    }

    /// The key in the form that decapsulates.
    pub(crate) fn expand(&self) -> ml_kem_768::DecapsulationKey {
        let mut seed = ml_kem::Seed::from(self.0);
        let key = ml_kem_768::DecapsulationKey::from_seed(seed);
        seed.as_mut_slice().zeroize();
        key
    }
}

/// An encapsulation key as it travels.
#[allow(clippy::expect_used)]
pub(crate) fn encapsulation_key(key: &ml_kem_768::EncapsulationKey) -> KemPublicKey {
    KemPublicKey::try_from(key.to_bytes().as_slice())
        .expect("an ML-KEM-768 encapsulation key has 1,184 bytes")
}

/// A WireGuard preshared key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; PSK_LEN]);

impl Psk {
    /// A key that nobody else has: what a tunnel starts with, and falls back to on expiry.
    pub fn random(rng: &mut (impl rand::CryptoRng + ?Sized)) -> Self {
        let mut bytes = [0; PSK_LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; PSK_LEN]) -> Self {
        Self(bytes)
    }

    /// The key's bytes. Wipe every copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; PSK_LEN] {
        &self.0
    }

    /// A name for the key that tells nothing of it and is the same at both ends: HKDF-Expand
    /// (RFC 5869 §2.3) of the key under a label of its own.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn fingerprint(&self) -> [u8; FINGERPRINT_LEN] {
        let mut out = [0; FINGERPRINT_LEN];
        Hkdf::<Sha256>::from_prk(&self.0)
            .expect("32 bytes are a SHA-256 PRK")
            .expand(label::FINGERPRINT, &mut out)
            .expect("8 bytes are within HKDF's bound");
        out
    }
}

/// This machine's static private keys.
pub struct Identity {
    /// WireGuard static key (X25519).
    pub wg: WgPrivateKey,
    /// ML-KEM-768 static key.
    pub kem: KemPrivateKey,
}
