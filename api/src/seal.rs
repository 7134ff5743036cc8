//! Secrets at rest: sealed under a key of their owner, which is derived from the deployment's master
//! key. The database alone gives none of them away.
//!
//! A sealed secret is `1 ‖ nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM. The owner's key is
//! HKDF-SHA256(master, info = label ‖ owner); owner and purpose are authenticated too, so that a
//! sealed secret opens nowhere but in its own row.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;
use ztna_proto::keys::{hex, parse_hex};

use crate::http::ApiError;
use crate::keys::KeysError;

/// File in the data directory: the master key in hex.
pub(crate) const FILE: &str = "master.key";
/// First byte of what is sealed in this way.
const VERSION: u8 = 1;
const SEAL_LABEL: &[u8] = b"ztna seal v1";
const MAC_LABEL: &[u8] = b"ztna keyed hash v1";
const FINGERPRINT_LABEL: &[u8] = b"ztna master key fingerprint v1";

type Key = Zeroizing<[u8; 32]>;

/// Seals and opens. Has no `Debug`.
pub(crate) struct Sealer(Key);

impl Sealer {
    /// Loads the master key of a data directory, or makes it.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(FILE);
        let io = |source| KeysError::Io {
            path: path.clone(),
            source,
        };
        if !path.exists() {
            let mut key: Key = Zeroizing::new([0; 32]);
            rand::Rng::fill_bytes(&mut rand::rng(), key.as_mut());
            let text = Zeroizing::new(hex(key.as_ref()));
            ztna_tls::identity::write_new_private(&path, text.as_bytes()).map_err(io)?;
        }
        // Read back even when just made: of two processes, one's file stays.
        let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(io)?);
        match parse_hex(text.trim()) {
            Some(key) => Ok(Self(Zeroizing::new(key))),
            None => Err(KeysError::Master { path }),
        }
    }

    fn derive(&self, label: &[u8], owner: Uuid) -> Result<Key, ApiError> {
        let mut key: Key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.0.as_ref())
            .expand_multi_info(&[label, owner.as_bytes()], key.as_mut())
            .map_err(|error| ApiError::Internal(format!("deriving a key: {error}")))?;
        Ok(key)
    }

    fn cipher(&self, owner: Uuid) -> Result<RandomizedNonceKey, ApiError> {
        let key = self.derive(SEAL_LABEL, owner)?;
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
            .map_err(|_| ApiError::Internal("a sealing key has the wrong length".to_owned()))
    }

    /// Seals a secret of an owner.
    pub(crate) fn seal(
        &self,
        owner: Uuid,
        purpose: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let mut text = Zeroizing::new(secret.to_vec());
        let nonce = self
            .cipher(owner)?
            .seal_in_place_append_tag(aad(owner, purpose), &mut *text)
            .map_err(|_| ApiError::Internal("a secret could not be sealed".to_owned()))?;
        Ok([&[VERSION], nonce.as_ref().as_slice(), &text].concat())
    }

    /// Opens a secret of an owner.
    ///
    /// # Errors
    /// It was sealed under another master key, for another owner or purpose, or is damaged.
    pub(crate) fn open(
        &self,
        owner: Uuid,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let fault = || {
            ApiError::Internal(format!(
                "a sealed secret ({purpose}) does not open; was {FILE} replaced?"
            ))
        };
        let Some((&VERSION, rest)) = sealed.split_first() else {
            return Err(fault());
        };
        let Some((nonce, text)) = rest.split_at_checked(NONCE_LEN) else {
            return Err(fault());
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fault())?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .cipher(owner)?
            .open_in_place(nonce, aad(owner, purpose), &mut text)
            .map_err(|_| fault())?
            .len();
        text.truncate(length);
        Ok(text)
    }

    /// By which the master key is recognised: what is derived from it for this alone, in hex.
    pub(crate) fn fingerprint(&self) -> String {
        let mut fingerprint = [0; 16];
        #[allow(clippy::expect_used)] // 16 bytes are fewer than HKDF's limit of 8,160.
        Hkdf::<Sha256>::new(None, self.0.as_ref())
            .expand(FINGERPRINT_LABEL, &mut fingerprint)
            .expect("a short output");
        hex(&fingerprint)
    }

    /// HMAC-SHA256 of something short that is kept to be recognised.
    pub(crate) fn keyed_hash(
        &self,
        owner: Uuid,
        purpose: &str,
        text: &[u8],
    ) -> Result<[u8; 32], ApiError> {
        let key = self.derive(MAC_LABEL, owner)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref())
            .map_err(|error| ApiError::Internal(format!("a keyed hash: {error}")))?;
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text);
        Ok(mac.finalize().into_bytes().into())
    }
}

fn aad(owner: Uuid, purpose: &str) -> Aad<Vec<u8>> {
    Aad::from([owner.as_bytes().as_slice(), purpose.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_open_for_their_owner_and_purpose_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::load_or_create(dir.path()).unwrap();
        let (alice, bob) = (Uuid::now_v7(), Uuid::now_v7());
        let sealed = sealer.seal(alice, "totp", b"secret").unwrap();
        assert_ne!(sealed, sealer.seal(alice, "totp", b"secret").unwrap());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        // Also after a restart.
        let sealer = Sealer::load_or_create(dir.path()).unwrap();
        assert_eq!(*sealer.open(alice, "totp", &sealed).unwrap(), b"secret");
        assert!(sealer.open(bob, "totp", &sealed).is_err());
        assert!(sealer.open(alice, "oidc", &sealed).is_err());
        for position in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[position] ^= 1;
            assert!(sealer.open(alice, "totp", &damaged).is_err(), "{position}");
            assert!(sealer.open(alice, "totp", &sealed[..position]).is_err());
        }
        let other = tempfile::tempdir().unwrap();
        let other = Sealer::load_or_create(other.path()).unwrap();
        assert!(other.open(alice, "totp", &sealed).is_err());
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn keyed_hashes_differ_by_owner_and_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::load_or_create(dir.path()).unwrap();
        let (alice, bob) = (Uuid::now_v7(), Uuid::now_v7());
        let hash = sealer.keyed_hash(alice, "a", b"bc").unwrap();
        assert_eq!(hash, sealer.keyed_hash(alice, "a", b"bc").unwrap());
        assert_ne!(hash, sealer.keyed_hash(bob, "a", b"bc").unwrap());
        assert_ne!(hash, sealer.keyed_hash(alice, "ab", b"c").unwrap());
    }

    #[test]
    fn a_damaged_master_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "short").unwrap();
        let Err(error) = Sealer::load_or_create(dir.path()) else {
            panic!("taken");
        };
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
