//! Relay tickets: the control plane's signed word that a machine may use relays.
//!
//! A ticket is checked offline by the relay (Ed25519, RFC 8032) and **fails closed**. Text form:
//! base64url of the JSON claims, a dot, base64url of the signature over
//! `ztna relay ticket v1\0` + the JSON bytes. It is bound to the machine's WireGuard key, whose
//! possession the relay has the client prove, so a ticket that leaks is of no use alone.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{MachineId, OrgId, RegionId};
use crate::keys::{KEY_LEN, WgPublicKey, parse_hex};

/// Domain separation of the signature.
const CONTEXT: &[u8] = b"ztna relay ticket v1\0";

/// Longest ticket that a relay parses, in characters.
pub const MAX_TICKET_LEN: usize = 4096;

/// How long a ticket holds; the agent asks for a new one every hour.
pub const TICKET_LIFETIME: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketClaims {
    /// The machine's org.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
    /// The key that the client must prove to hold.
    pub wg_key: WgPublicKey,
    /// Regions that the ticket opens. Empty: all.
    #[serde(default)]
    pub regions: Vec<RegionId>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Bytes per second that the machine may send through a relay. `None`: the relay's own bound.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// Why a ticket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket at all.
    #[error("the relay ticket is malformed")]
    Malformed,
    /// Not signed by the control plane that this relay trusts.
    #[error("the relay ticket is not signed by this relay's control plane")]
    Signature,
    /// Its time is over, or has not begun.
    #[error("the relay ticket has expired; the agent fetches a new one from the control plane")]
    Expired,
    /// It opens other regions.
    #[error("the relay ticket is not for this region")]
    Region,
    /// It belongs to another key than the client's.
    #[error("the relay ticket belongs to another machine")]
    Key,
}

/// The control plane's signing key for tickets.
pub struct TicketSigner(Ed25519KeyPair);

impl TicketSigner {
    /// Takes an Ed25519 seed (RFC 8032 §5.1.5). The caller keeps and wipes it.
    ///
    /// # Panics
    /// Never: every 32-byte string is a seed.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn from_seed(seed: &[u8; KEY_LEN]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are an Ed25519 seed"))
    }

    /// The key that relays check tickets with.
    #[must_use]
    pub fn verifier(&self) -> TicketVerifier {
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(self.0.public_key().as_ref());
        TicketVerifier(key)
    }

    /// Signs claims into a ticket's text.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn sign(&self, claims: &TicketClaims) -> String {
        self.seal(
            CONTEXT,
            &serde_json::to_vec(claims).expect("claims are plain data"),
        )
    }

    /// The text form of a signed body. Each kind of body has a `context` of its own, so that none
    /// is taken for another.
    pub(crate) fn seal(&self, context: &[u8], body: &[u8]) -> String {
        let signature = self.0.sign(&[context, body].concat());
        format!(
            "{}.{}",
            BASE64URL.encode(body),
            BASE64URL.encode(signature.as_ref())
        )
    }
}

/// The public key that tickets are checked with. Prints and parses as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketVerifier([u8; KEY_LEN]);

impl std::fmt::Display for TicketVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::keys::hex(&self.0))
    }
}

impl std::str::FromStr for TicketVerifier {
    type Err = crate::keys::KeyError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        parse_hex(s).map(Self).ok_or(crate::keys::KeyError::Form {
            kind: "ticket key",
            expected: "64 hex digits (`ztna-api` prints it at start)",
        })
    }
}

impl TicketVerifier {
    /// Checks a ticket for a client that has proved `wg_key`, at a relay of `region`.
    ///
    /// # Errors
    /// Why the ticket does not admit this client here and now.
    pub fn verify(
        &self,
        ticket: &str,
        wg_key: &WgPublicKey,
        region: RegionId,
        now: Timestamp,
    ) -> Result<TicketClaims, TicketError> {
        let body = self
            .unseal(CONTEXT, ticket, MAX_TICKET_LEN)
            .map_err(|error| match error {
                SealError::Malformed => TicketError::Malformed,
                SealError::Signature => TicketError::Signature,
            })?;
        let claims: TicketClaims =
            serde_json::from_slice(&body).map_err(|_| TicketError::Malformed)?;
        if now >= claims.expires_at {
            return Err(TicketError::Expired);
        }
        if !claims.regions.is_empty() && !claims.regions.contains(&region) {
            return Err(TicketError::Region);
        }
        if claims.wg_key != *wg_key {
            return Err(TicketError::Key);
        }
        Ok(claims)
    }

    /// The body of a text that [`TicketSigner::seal`] made, of at most `max_len` characters.
    pub(crate) fn unseal(
        &self,
        context: &[u8],
        text: &str,
        max_len: usize,
    ) -> Result<Vec<u8>, SealError> {
        if text.len() > max_len {
            return Err(SealError::Malformed);
        }
        let (body, signature) = text.split_once('.').ok_or(SealError::Malformed)?;
        let decode = |text| BASE64URL.decode(text).map_err(|_| SealError::Malformed);
        let (body, signature) = (decode(body)?, decode(signature)?);
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&[context, &body].concat(), &signature)
            .map_err(|_| SealError::Signature)?;
        Ok(body)
    }
}

/// What is wrong with a signed text.
pub(crate) enum SealError {
    /// Too long, or not of the form.
    Malformed,
    /// Signed by nobody we trust, or as something else.
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(wg_key: WgPublicKey) -> TicketClaims {
        let issued_at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        TicketClaims {
            org: OrgId::generate(),
            machine: MachineId::generate(),
            wg_key,
            regions: vec![RegionId(1)],
            issued_at,
            expires_at: issued_at.checked_add(TICKET_LIFETIME).unwrap(),
            bytes_per_second: None,
        }
    }

    #[test]
    fn a_ticket_admits_its_machine_at_its_region_in_its_time() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let key = WgPublicKey([2; 32]);
        let claims = claims(key);
        let ticket = signer.sign(&claims);
        let verifier: TicketVerifier = signer.verifier().to_string().parse().unwrap();
        let now = claims.issued_at;

        assert_eq!(
            verifier.verify(&ticket, &key, RegionId(1), now),
            Ok(claims.clone())
        );
        assert_eq!(
            verifier.verify(&ticket, &WgPublicKey([3; 32]), RegionId(1), now),
            Err(TicketError::Key)
        );
        assert_eq!(
            verifier.verify(&ticket, &key, RegionId(2), now),
            Err(TicketError::Region)
        );
        assert_eq!(
            verifier.verify(&ticket, &key, RegionId(1), claims.expires_at),
            Err(TicketError::Expired)
        );
        let stranger = TicketSigner::from_seed(&[9; 32]).verifier();
        assert_eq!(
            stranger.verify(&ticket, &key, RegionId(1), now),
            Err(TicketError::Signature)
        );
    }

    #[test]
    fn every_changed_character_is_refused() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let key = WgPublicKey([2; 32]);
        let claims = claims(key);
        let ticket = signer.sign(&claims);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let verdict = signer
                .verifier()
                .verify(&changed, &key, RegionId(1), claims.issued_at);
            assert!(verdict.is_err(), "character {at} may be changed");
        }
    }
}
