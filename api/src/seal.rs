//! Secrets at rest: the database alone gives none of them away.
//!
//! A sealed secret is `version ‖ nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM; owner and purpose are
//! authenticated too, so that it opens nowhere but in its own row. What it is sealed under:
//!
//! * version 1, a person's secrets, and orgs' keys: a key derived from the deployment's master key for the
//!   owner, HKDF-SHA256(master, info = label ‖ owner);
//! * version 2, an org's secrets: the org's own random key ([`OrgKey`]).
//!
//! `master.key` holds the master key in hex; after a rotation several, a line each, of which the first seals
//! and all open ([`Sealer::rotate`]).

use std::fs::{File, TryLockError};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{hex, parse_hex};

use crate::http::ApiError;
use crate::keys::KeysError;

/// File in the data directory: the master keys in hex, the current one first.
pub(crate) const FILE: &str = "master.key";
/// First byte of what is sealed under a key derived from a master key.
const DERIVED: u8 = 1;
/// First byte of what is sealed under an org's own key.
const OF_ORG: u8 = 2;
/// Master keys that a file may hold: each is tried.
pub(crate) const MAX_KEYS: usize = 8;
/// What an org's key is sealed for, its owner being the org.
pub(crate) const ORG_KEY: &str = "org key";
const SEAL_LABEL: &[u8] = b"ztna seal v1";
const MAC_LABEL: &[u8] = b"ztna keyed hash v1";
const FINGERPRINT_LABEL: &[u8] = b"ztna master key fingerprint v1";

type Key = Zeroizing<[u8; 32]>;
/// A secret, and the master key that it was sealed under.
type Opened<'a> = (&'a Key, Zeroizing<Vec<u8>>);

/// Seals and opens under the master keys, of which there is one at least. Has no `Debug`.
pub(crate) struct Sealer(Vec<Key>);

/// An org's own key. Has no `Debug`.
pub(crate) struct OrgKey(Key);

impl Sealer {
    /// Loads the master keys of a data directory, or makes the first.
    pub(crate) fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(FILE);
        if !path.exists() {
            let text = text_of(&[random_key()]);
            ztna_tls::identity::write_new_private(&path, text.as_bytes()).map_err(|source| {
                KeysError::Io {
                    path: path.clone(),
                    source,
                }
            })?;
        }
        // Read back even when just made: of two processes, one's file stays.
        Self::load(dir)
    }

    fn load(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| KeysError::Io {
            path: path.clone(),
            source,
        })?;
        let text = Zeroizing::new(text);
        let keys = text
            .split_whitespace()
            .map(|line| Some(Zeroizing::new(parse_hex(line)?)));
        match keys.collect::<Option<Vec<Key>>>() {
            Some(keys) if (1..=MAX_KEYS).contains(&keys.len()) => Ok(Self(keys)),
            _ => Err(KeysError::Master { path }),
        }
    }

    /// Keeps other processes from changing a data directory's master keys while the result lives. The kernel
    /// releases it with the process.
    ///
    /// # Errors
    /// Another one does, or the directory cannot be opened.
    pub(crate) fn lock(dir: &Path) -> Result<File, KeysError> {
        let path = dir.join(FILE);
        let io = |source| KeysError::Io {
            path: dir.to_owned(),
            source,
        };
        let handle = File::open(dir).map_err(io)?;
        match handle.try_lock() {
            Ok(()) => Ok(handle),
            Err(TryLockError::WouldBlock) => Err(KeysError::Busy { path }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Puts a new master key before those of a data directory, which the caller has locked. Says how many there
    /// are.
    ///
    /// # Errors
    /// There is none, or there are too many.
    pub(crate) fn rotate(dir: &Path) -> Result<usize, KeysError> {
        let Self(mut keys) = Self::load(dir)?;
        if keys.len() >= MAX_KEYS {
            return Err(KeysError::TooMany {
                path: dir.join(FILE),
            });
        }
        keys.insert(0, random_key());
        write(dir, &keys)
    }

    /// Removes all master keys of a data directory, which the caller has locked, but the current one. Says how
    /// many those were.
    ///
    /// # Errors
    /// The file's.
    pub(crate) fn forget_old(dir: &Path) -> Result<usize, KeysError> {
        let Self(mut keys) = Self::load(dir)?;
        let old = keys.len() - 1;
        keys.truncate(1);
        write(dir, &keys)?;
        Ok(old)
    }

    /// Whether there is none but the current one.
    pub(crate) fn is_single(&self) -> bool {
        self.0.len() == 1
    }

    /// Seals a secret of an owner.
    pub(crate) fn seal(
        &self,
        owner: Uuid,
        purpose: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let key = derive(&self.0[0], SEAL_LABEL, owner)?;
        seal_under(&key, DERIVED, owner, purpose, secret)
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
        let opened = self.open_with(owner, purpose, sealed)?;
        opened
            .map(|(_, secret)| secret)
            .ok_or_else(|| stays_closed(purpose))
    }

    /// The fingerprint of the master key that a secret is sealed under, if it opens.
    pub(crate) fn sealed_under(
        &self,
        owner: Uuid,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Option<String>, ApiError> {
        let opened = self.open_with(owner, purpose, sealed)?;
        Ok(opened.map(|(master, _)| fingerprint(master)))
    }

    fn open_with(
        &self,
        owner: Uuid,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Option<Opened<'_>>, ApiError> {
        for master in &self.0 {
            let key = derive(master, SEAL_LABEL, owner)?;
            if let Some(opened) = open_under(&key, DERIVED, owner, purpose, sealed)? {
                return Ok(Some((master, opened)));
            }
        }
        Ok(None)
    }

    /// Makes an org's key. Also as it is kept: sealed.
    pub(crate) fn make_org_key(&self, org: OrgId) -> Result<(OrgKey, Vec<u8>), ApiError> {
        let key = random_key();
        let sealed = self.seal(org.0, ORG_KEY, key.as_ref())?;
        Ok((OrgKey(key), sealed))
    }

    /// Opens an org's key.
    ///
    /// # Errors
    /// It is another org's, or was sealed under another master key.
    pub(crate) fn open_org_key(&self, org: OrgId, sealed: &[u8]) -> Result<OrgKey, ApiError> {
        let opened = self.open(org.0, ORG_KEY, sealed)?;
        match <[u8; 32]>::try_from(opened.as_slice()) {
            Ok(key) => Ok(OrgKey(Zeroizing::new(key))),
            Err(_) => Err(stays_closed(ORG_KEY)),
        }
    }

    /// An org's key under the current master key.
    pub(crate) fn reseal_org_key(&self, org: OrgId, sealed: &[u8]) -> Result<Vec<u8>, ApiError> {
        let key = self.open_org_key(org, sealed)?;
        self.seal(org.0, ORG_KEY, key.0.as_ref())
    }

    /// By which the master keys are recognised, the current one first: what is derived from each for this
    /// alone, in hex.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(fingerprint).collect()
    }

    /// HMAC-SHA256 of something that is kept to be recognised, under each master key, the current one first.
    pub(crate) fn keyed_hashes(
        &self,
        owner: Uuid,
        purpose: &str,
        text: &[u8],
    ) -> Result<Vec<[u8; 32]>, ApiError> {
        let hashes = self.0.iter();
        hashes
            .map(|master| keyed_hash(master, owner, purpose, text))
            .collect()
    }

    /// Whether a keyed hash is one of these, in constant time.
    pub(crate) fn knows(
        &self,
        owner: Uuid,
        purpose: &str,
        text: &[u8],
        hash: &[u8; 32],
    ) -> Result<bool, ApiError> {
        let mut known = subtle::Choice::from(0);
        for ours in self.keyed_hashes(owner, purpose, text)? {
            known |= ours.ct_eq(hash);
        }
        Ok(known.into())
    }

    /// The first of [`Sealer::keyed_hashes`].
    pub(crate) fn keyed_hash(
        &self,
        owner: Uuid,
        purpose: &str,
        text: &[u8],
    ) -> Result<[u8; 32], ApiError> {
        keyed_hash(&self.0[0], owner, purpose, text)
    }
}

impl OrgKey {
    /// Seals a secret of the org.
    pub(crate) fn seal(
        &self,
        org: OrgId,
        purpose: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        seal_under(&self.0, OF_ORG, org.0, purpose, secret)
    }

    /// Opens a secret of the org.
    ///
    /// # Errors
    /// It is another org's, for another purpose, or damaged.
    pub(crate) fn open(
        &self,
        org: OrgId,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        open_under(&self.0, OF_ORG, org.0, purpose, sealed)?.ok_or_else(|| stays_closed(purpose))
    }
}

/// Whether a secret of an org is sealed under a key derived from a master key, as it was before orgs had
/// keys of their own.
pub(crate) fn is_derived(sealed: &[u8]) -> bool {
    sealed.first() == Some(&DERIVED)
}

fn fingerprint(master: &Key) -> String {
    let mut fingerprint = [0; 16];
    #[allow(clippy::expect_used)] // 16 bytes are fewer than HKDF's limit of 8,160.
    Hkdf::<Sha256>::new(None, master.as_ref())
        .expand(FINGERPRINT_LABEL, &mut fingerprint)
        .expect("a short output");
    hex(&fingerprint)
}

fn random_key() -> Key {
    let mut key: Key = Zeroizing::new([0; 32]);
    rand::Rng::fill_bytes(&mut rand::rng(), key.as_mut());
    key
}

fn text_of(keys: &[Key]) -> Zeroizing<String> {
    let lines = keys.iter().map(|key| Zeroizing::new(hex(key.as_ref())));
    let mut text = Zeroizing::new(String::with_capacity(keys.len() * 65));
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn write(dir: &Path, keys: &[Key]) -> Result<usize, KeysError> {
    let path = dir.join(FILE);
    match ztna_tls::identity::replace_private(&path, text_of(keys).as_bytes()) {
        Ok(()) => Ok(keys.len()),
        Err(source) => Err(KeysError::Io { path, source }),
    }
}

fn derive(master: &Key, label: &[u8], owner: Uuid) -> Result<Key, ApiError> {
    let mut key: Key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, master.as_ref())
        .expand_multi_info(&[label, owner.as_bytes()], key.as_mut())
        .map_err(|error| ApiError::Internal(format!("deriving a key: {error}")))?;
    Ok(key)
}

fn cipher(key: &Key) -> Result<RandomizedNonceKey, ApiError> {
    RandomizedNonceKey::new(&AES_256_GCM, key.as_ref())
        .map_err(|_| ApiError::Internal("a sealing key has the wrong length".to_owned()))
}

fn seal_under(
    key: &Key,
    version: u8,
    owner: Uuid,
    purpose: &str,
    secret: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let mut text = Zeroizing::new(secret.to_vec());
    let nonce = cipher(key)?
        .seal_in_place_append_tag(aad(owner, purpose), &mut *text)
        .map_err(|_| ApiError::Internal("a secret could not be sealed".to_owned()))?;
    Ok([&[version], nonce.as_ref().as_slice(), &text].concat())
}

/// `None`: it does not open with this key.
fn open_under(
    key: &Key,
    version: u8,
    owner: Uuid,
    purpose: &str,
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, ApiError> {
    let parts = || {
        let (first, rest) = sealed.split_first()?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        (*first == version).then_some((nonce, text))
    };
    let Some((nonce, text)) = parts() else {
        return Ok(None);
    };
    let mut text = Zeroizing::new(text.to_vec());
    let opened = cipher(key)?.open_in_place(nonce, aad(owner, purpose), &mut text);
    let Ok(length) = opened.map(|opened| opened.len()) else {
        return Ok(None);
    };
    text.truncate(length);
    Ok(Some(text))
}

fn stays_closed(purpose: &str) -> ApiError {
    ApiError::Internal(format!(
        "a sealed secret ({purpose}) does not open; was {FILE} replaced?"
    ))
}

fn keyed_hash(master: &Key, owner: Uuid, purpose: &str, text: &[u8]) -> Result<[u8; 32], ApiError> {
    let key = derive(master, MAC_LABEL, owner)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref())
        .map_err(|error| ApiError::Internal(format!("a keyed hash: {error}")))?;
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(text);
    Ok(mac.finalize().into_bytes().into())
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
        let good = hex(&[1; 32]);
        let many = format!("{good}\n").repeat(MAX_KEYS + 1);
        for bad in ["", "short", &format!("{good}\nshort"), &many] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            let Err(error) = Sealer::load_or_create(dir.path()) else {
                panic!("taken");
            };
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }

    #[test]
    fn an_orgs_key_opens_its_own_secrets_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::load_or_create(dir.path()).unwrap();
        let (acme, other) = (OrgId::generate(), OrgId::generate());
        let (key, kept) = sealer.make_org_key(acme).unwrap();
        let (of_other, _) = sealer.make_org_key(other).unwrap();
        let sealed = key.seal(acme, "oidc", b"secret").unwrap();
        let key = sealer.open_org_key(acme, &kept).unwrap();
        assert_eq!(*key.open(acme, "oidc", &sealed).unwrap(), b"secret");
        assert!(of_other.open(acme, "oidc", &sealed).is_err());
        // Neither the secret nor the key is of use in another org's row.
        assert!(of_other.open(other, "oidc", &sealed).is_err());
        assert!(key.open(other, "oidc", &sealed).is_err());
        assert!(key.open(acme, "totp", &sealed).is_err());
        assert!(sealer.open_org_key(other, &kept).is_err());
        // Nor what the master key sealed.
        let derived = sealer.seal(acme.0, "oidc", b"secret").unwrap();
        assert!(key.open(acme, "oidc", &derived).is_err());
        assert!(sealer.open(acme.0, "oidc", &sealed).is_err());
        assert!(is_derived(&derived) && !is_derived(&sealed));
    }

    #[test]
    fn a_new_master_key_seals_and_old_ones_open_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Sealer::load_or_create(dir.path()).unwrap();
        let (org, person) = (OrgId::generate(), Uuid::now_v7());
        let (key, kept) = load().make_org_key(org).unwrap();
        let secret = key.seal(org, "oidc", b"secret").unwrap();
        let totp = load().seal(person, "totp", b"code").unwrap();
        let code = load().keyed_hash(person, "code", b"abc").unwrap();
        let first = load().fingerprints();

        assert_eq!(Sealer::rotate(dir.path()).unwrap(), 2);
        let both = load();
        assert_eq!(both.fingerprints()[1..], first);
        assert_eq!(*both.open(person, "totp", &totp).unwrap(), b"code");
        assert_eq!(both.keyed_hashes(person, "code", b"abc").unwrap()[1], code);
        assert_ne!(both.keyed_hash(person, "code", b"abc").unwrap(), code);
        let resealed = both.reseal_org_key(org, &kept).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);

        assert_eq!(Sealer::forget_old(dir.path()).unwrap(), 1);
        let alone = load();
        assert!(alone.is_single());
        assert!(alone.open(person, "totp", &totp).is_err());
        assert!(alone.open_org_key(org, &kept).is_err());
        // The org's secrets themselves were not touched.
        let key = alone.open_org_key(org, &resealed).unwrap();
        assert_eq!(*key.open(org, "oidc", &secret).unwrap(), b"secret");

        for n in 2..=MAX_KEYS {
            assert_eq!(Sealer::rotate(dir.path()).unwrap(), n);
        }
        assert!(Sealer::rotate(dir.path()).is_err());
        assert_eq!(load().0.len(), MAX_KEYS);
    }
}
