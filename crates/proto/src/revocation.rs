//! Revocation lists: the control plane's signed word on whose relay tickets are void.
//!
//! Relays check tickets offline, and a ticket holds for a day; a machine that is deleted must lose
//! its relays at once. Each relay asks the control plane for what was revoked after the number that
//! it knows (`GET /api/relays/revocations?after=SEQ&wait=SECONDS`), and is answered when there is
//! something, or after the wait with an empty list, whose `issued_at` proves that nothing was held
//! back. The list names keys by their hash, so that it may be read by anybody.
//!
//! The text form is a ticket's: base64url of the JSON, a dot, base64url of the Ed25519 signature over
//! `ztna relay revocations v1\0` + the JSON bytes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::keys::{KEY_LEN, KeyError, WgPublicKey, hex, parse_hex};
use crate::ticket::{SealError, TicketSigner, TicketVerifier};

/// Domain separation of the signature.
const CONTEXT: &[u8] = b"ztna relay revocations v1\0";

/// Most entries of one list. If there are more, the next call gets them.
pub const MAX_REVOCATIONS: usize = 4096;

/// Longest list that a relay parses, in characters: [`MAX_REVOCATIONS`] entries of some 130 bytes,
/// in base64.
pub const MAX_REVOCATIONS_LEN: usize = 1024 * 1024;

/// Longest wait that a relay may ask for, in seconds.
pub const MAX_REVOCATIONS_WAIT_SECONDS: u64 = 25;

/// SHA-256 of a WireGuard public key's 32 bytes. Printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WgKeyHash(pub [u8; KEY_LEN]);

impl WgKeyHash {
    /// Hash of a key.
    #[must_use]
    pub fn of(key: &WgPublicKey) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The hash's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for WgKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for WgKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WgKeyHash {
    type Err = KeyError;
    fn from_str(s: &str) -> Result<Self, KeyError> {
        parse_hex(s).map(Self).ok_or(KeyError::Form {
            kind: "hash of a WireGuard public key",
            expected: "64 hex digits",
        })
    }
}

impl Serialize for WgKeyHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WgKeyHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One key that lost its right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose tickets are void.
    pub key_hash: WgKeyHash,
    /// Tickets issued until then, inclusive, are void; later ones are good. It may lie a moment
    /// ahead of the list.
    pub at: Timestamp,
}

/// What was revoked after `since` and up to `seq`, younger than a ticket lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// What the relay asks with next. Once a list is empty, the relay knows everything.
    ///
    /// Less than what the relay asked with if the control plane's numbers have begun anew (its
    /// database was restored); then `since` is 0 and the list starts from the beginning.
    pub seq: u64,
    /// When the list was signed, by the control plane's clock. A relay refuses a list that is much
    /// older than its request: somebody replays it.
    pub issued_at: Timestamp,
    /// The list holds what came after this number.
    pub since: u64,
    /// In the order of their numbers; at most [`MAX_REVOCATIONS`].
    pub entries: Vec<Revocation>,
}

/// Why a list was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// Not a list at all, or too long a one.
    #[error("the revocation list is malformed")]
    Malformed,
    /// Not signed by the control plane that this relay trusts.
    #[error(
        "the revocation list is not signed by this relay's control plane; check the relay's ticket key"
    )]
    Signature,
}

impl TicketSigner {
    /// Signs a list into its text.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn sign_revocations(&self, list: &RevocationList) -> String {
        let body = serde_json::to_vec(list).expect("a list is plain data");
        self.seal(CONTEXT, &body)
    }
}

impl TicketVerifier {
    /// Reads a list. Whether it is fresh, and follows the one before, is the caller's to see.
    ///
    /// # Errors
    /// It is not of the control plane, or too long.
    pub fn verify_revocations(&self, text: &str) -> Result<RevocationList, RevocationError> {
        let body =
            self.unseal(CONTEXT, text, MAX_REVOCATIONS_LEN)
                .map_err(|error| match error {
                    SealError::Malformed => RevocationError::Malformed,
                    SealError::Signature => RevocationError::Signature,
                })?;
        let list: RevocationList =
            serde_json::from_slice(&body).map_err(|_| RevocationError::Malformed)?;
        if list.entries.len() > MAX_REVOCATIONS {
            return Err(RevocationError::Malformed);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MachineId, OrgId, RegionId};
    use crate::ticket::{TicketClaims, TicketError};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00.123456789Z".parse().unwrap()
    }

    fn list(entries: usize) -> RevocationList {
        let entry = |n: usize| Revocation {
            key_hash: WgKeyHash::of(&WgPublicKey([u8::try_from(n % 256).unwrap(); 32])),
            at: now(),
        };
        RevocationList {
            seq: 9,
            issued_at: now(),
            since: 7,
            entries: (0..entries).map(entry).collect(),
        }
    }

    fn signer() -> TicketSigner {
        TicketSigner::from_seed(&[1; 32])
    }

    #[test]
    fn lists_round_trip_full_and_empty() {
        for entries in [0, 1, 2, MAX_REVOCATIONS] {
            let list = list(entries);
            let text = signer().sign_revocations(&list);
            assert_eq!(signer().verifier().verify_revocations(&text), Ok(list));
        }
    }

    #[test]
    fn the_text_is_as_documented() {
        let json = serde_json::to_value(list(1)).unwrap();
        let hash = "72cd6e8422c407fb6d098690f1130b7ded7ec2f7f5e1d30bd9d521f015363793";
        assert_eq!(
            json,
            serde_json::json!({
                "seq": 9, "since": 7, "issued_at": "2026-01-01T00:00:00.123456789Z",
                "entries": [{
                    "key_hash": WgKeyHash::of(&WgPublicKey([0; 32])).to_string(),
                    "at": "2026-01-01T00:00:00.123456789Z",
                }],
            })
        );
        // sha256sum of 32 bytes of value 1
        assert_eq!(WgKeyHash::of(&WgPublicKey([1; 32])).to_string(), hash);
    }

    #[test]
    fn every_changed_character_is_refused() {
        let text = signer().sign_revocations(&list(2));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let verdict = signer().verifier().verify_revocations(&changed);
            assert!(verdict.is_err(), "character {at} may be changed");
        }
    }

    #[test]
    fn a_stranger_signs_nothing() {
        let text = TicketSigner::from_seed(&[2; 32]).sign_revocations(&list(1));
        assert_eq!(
            signer().verifier().verify_revocations(&text),
            Err(RevocationError::Signature)
        );
    }

    #[test]
    fn too_much_is_refused() {
        let verifier = signer().verifier();
        let many = signer().sign_revocations(&list(MAX_REVOCATIONS + 1));
        let long = "A".repeat(MAX_REVOCATIONS_LEN + 1);
        for text in [many.as_str(), long.as_str(), "", "a.b", "no dot"] {
            let verdict = verifier.verify_revocations(text);
            assert_eq!(verdict, Err(RevocationError::Malformed));
        }
    }

    #[test]
    fn tickets_and_lists_are_not_taken_for_each_other() {
        let key = WgPublicKey([2; 32]);
        let ticket = signer().sign(&TicketClaims {
            org: OrgId::generate(),
            machine: MachineId::generate(),
            wg_key: key,
            regions: Vec::new(),
            issued_at: now(),
            expires_at: now()
                .checked_add(jiff::SignedDuration::from_secs(9))
                .unwrap(),
            bytes_per_second: None,
        });
        let verifier = signer().verifier();
        assert!(verifier.verify(&ticket, &key, RegionId(1), now()).is_ok());
        assert_eq!(
            verifier.verify_revocations(&ticket),
            Err(RevocationError::Signature)
        );
        let text = signer().sign_revocations(&list(1));
        assert_eq!(
            verifier.verify(&text, &key, RegionId(1), now()),
            Err(TicketError::Signature)
        );
    }
}
