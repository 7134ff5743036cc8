//! The control plane's own keys, made at the first start and kept in files (0600): what signs in one,
//! the master key of [`crate::seal`] in the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};
use ztna_proto::ids::{OrgId, SessionId, UserId};
use ztna_proto::keys::{hex, parse_hex};
use ztna_proto::ticket::{TicketSigner, TicketVerifier};

use crate::http::ApiError;
use crate::seal::{self, Sealer};

/// File in the data directory.
const FILE: &str = "api-keys.json";
/// How long an access token holds.
pub(crate) const ACCESS_TOKEN_SECONDS: i64 = 15 * 60;
const ISSUER: &str = "ztna";
const AUDIENCE: &str = "ztna-api";

/// No usable keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is damaged.
    #[error(
        "{path} is damaged ({reason}); restore it from a backup, or delete it to have everybody sign in again and relays take the new ticket key"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The master key's file is damaged. Without it no sealed secret opens.
    #[error(
        "{path} is damaged: each of its lines has to hold 64 hex digits; restore it from a backup"
    )]
    Master {
        /// The file.
        path: PathBuf,
    },
    /// There are too many master keys to add one.
    #[error(
        "{path} holds as many master keys as it may; run `ztna-api keys reseal` and `ztna-api keys forget-old` first"
    )]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// The master keys are being changed.
    #[error(
        "another `ztna-api keys` command is changing {path}; run this one again once that is done"
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// There are no keys, and none may be made.
    #[error("{path} is missing; name the deployment's data folder")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("cannot make a signing key: {0}")]
    Make(#[from] rcgen::Error),
}

/// What the file holds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// PKCS #8 PEM, P-256.
    access_token_key: String,
    /// Ed25519 seed, hex.
    ticket_seed: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.access_token_key.zeroize();
        self.ticket_seed.zeroize();
    }
}

/// Keys that sign access tokens (ES256) and relay tickets (Ed25519), and the master key. Has no `Debug`.
pub struct ServerKeys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    tickets: Arc<TicketSigner>,
    sealer: Arc<Sealer>,
}

/// What an access token says (RFC 7519 §4.1).
#[derive(Deserialize, Serialize)]
struct Claims {
    sub: Uuid,
    /// The session that the token belongs to (OpenID Connect Front-Channel Logout §3).
    sid: Uuid,
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    /// The org whose provider vouched for the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vouched_by: Option<Uuid>,
}

/// Whose access token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    /// The org whose provider vouched for the session, if one did.
    pub(crate) vouched_by: Option<OrgId>,
}

impl ServerKeys {
    /// Loads the keys of a data directory, or makes them. The directory must exist.
    ///
    /// # Errors
    /// The directory cannot be used, or the file in it is damaged.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(FILE);
        let io = |source| KeysError::Io {
            path: path.clone(),
            source,
        };
        let damaged = |reason: String| KeysError::Damaged {
            path: path.clone(),
            reason,
        };
        if !path.exists() {
            let made = Zeroizing::new(
                serde_json::to_vec(&Stored::make()?).map_err(|e| damaged(e.to_string()))?,
            );
            ztna_tls::identity::write_new_private(&path, &made).map_err(io)?;
        }
        // Read back even when just made: of two processes, one's file stays.
        let text = Zeroizing::new(std::fs::read(&path).map_err(io)?);
        let stored: Stored = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        Self::from_stored(&stored, Sealer::load_or_create(dir)?).map_err(damaged)
    }

    /// Loads the keys of a data directory that has them.
    ///
    /// # Errors
    /// They are not there, or damaged.
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        for path in [dir.join(FILE), dir.join(seal::FILE)] {
            if !path.exists() {
                return Err(KeysError::Missing { path });
            }
        }
        Self::load_or_create(dir)
    }

    fn from_stored(stored: &Stored, sealer: Sealer) -> Result<Self, String> {
        let pair = rcgen::KeyPair::from_pem(&stored.access_token_key).map_err(|e| e.to_string())?;
        let seed = parse_hex(&stored.ticket_seed).ok_or("the ticket seed is not 64 hex digits")?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(seed);
        Ok(Self {
            encoding: EncodingKey::from_ec_pem(stored.access_token_key.as_bytes())
                .map_err(|e| e.to_string())?,
            decoding: DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes())
                .map_err(|e| e.to_string())?,
            tickets: Arc::new(TicketSigner::from_seed(&seed)),
            sealer: Arc::new(sealer),
        })
    }

    /// The key that relays check tickets with.
    #[must_use]
    pub fn ticket_verifier(&self) -> TicketVerifier {
        self.tickets.verifier()
    }

    pub(crate) fn tickets(&self) -> &Arc<TicketSigner> {
        &self.tickets
    }

    /// By which the master keys are recognised, the current one first; they give nothing of them away.
    pub(crate) fn master_fingerprints(&self) -> Vec<String> {
        self.sealer.fingerprints()
    }

    /// What says that this deployment wrote something that is kept elsewhere: a line of hex for each master
    /// key, so that each of them alone can tell.
    pub(crate) fn vouch(&self, purpose: &str, text: &str) -> Result<String, ApiError> {
        let macs = self
            .sealer
            .keyed_hashes(Uuid::nil(), purpose, text.as_bytes())?;
        Ok(macs.iter().map(|mac| hex(mac) + "\n").collect())
    }

    /// Whether it was this deployment.
    pub(crate) fn vouched(&self, purpose: &str, text: &str, macs: &str) -> Result<bool, ApiError> {
        for mac in macs.lines().take(seal::MAX_KEYS).filter_map(parse_hex) {
            let known = self
                .sealer
                .knows(Uuid::nil(), purpose, text.as_bytes(), &mac)?;
            if known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same, for what lives as long.
    pub(crate) fn shared_sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.sealer)
    }

    /// What seals secrets at rest.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// An access token that is good for `seconds` from `now` (seconds since 1970) on.
    pub(crate) fn sign_access(
        &self,
        access: Access,
        now: i64,
        seconds: i64,
    ) -> jsonwebtoken::errors::Result<String> {
        let claims = Claims {
            sub: access.user.0,
            sid: access.session.0,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            exp: now + seconds,
            vouched_by: access.vouched_by.map(|org| org.0),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.encoding)
    }

    /// Whose access token this is, if it is one and good.
    pub(crate) fn verify_access(&self, token: &str) -> Option<Access> {
        self.verify_access_until(token).map(|(access, _)| access)
    }

    /// The same, and when the token ends.
    pub(crate) fn verify_access_until(&self, token: &str) -> Option<(Access, Timestamp)> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // One clock signs and checks.
        validation.leeway = 0;
        let token = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).ok()?;
        let claims = token.claims;
        let access = Access {
            user: UserId(claims.sub),
            session: SessionId(claims.sid),
            vouched_by: claims.vouched_by.map(OrgId),
        };
        Some((access, Timestamp::from_second(claims.exp).ok()?))
    }
}

impl Stored {
    fn make() -> Result<Self, KeysError> {
        let pair = rcgen::KeyPair::generate()?;
        let mut seed = Zeroizing::new([0; 32]);
        rand::Rng::fill_bytes(&mut rand::rng(), seed.as_mut());
        Ok(Self {
            access_token_key: pair.serialize_pem(),
            ticket_seed: hex(seed.as_ref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn somebody(vouched_by: Option<OrgId>) -> Access {
        Access {
            user: UserId::generate(),
            session: SessionId::generate(),
            vouched_by,
        }
    }

    #[test]
    fn keys_stay_over_a_restart_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = ServerKeys::load_or_create(dir.path()).unwrap();
        let second = ServerKeys::load_or_create(dir.path()).unwrap();
        assert_eq!(first.ticket_verifier(), second.ticket_verifier());
        let now = jiff::Timestamp::now().as_second();
        let access = somebody(Some(OrgId::generate()));
        let token = first.sign_access(access, now, 60).unwrap();
        assert_eq!(second.verify_access(&token), Some(access));
        let mode = std::fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn old_foreign_and_changed_tokens_are_refused() {
        let keys = |dir: &tempfile::TempDir| ServerKeys::load_or_create(dir.path()).unwrap();
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = jiff::Timestamp::now().as_second();
        let access = somebody(None);
        let ours = keys(&here);
        let old = ours
            .sign_access(access, now - ACCESS_TOKEN_SECONDS - 1, ACCESS_TOKEN_SECONDS)
            .unwrap();
        assert_eq!(ours.verify_access(&old), None);
        let foreign = keys(&there).sign_access(access, now, 60).unwrap();
        assert_eq!(ours.verify_access(&foreign), None);
        // {"alg":"none"}
        let good = ours.sign_access(access, now, 60).unwrap();
        let body = good.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{body}.");
        assert_eq!(ours.verify_access(&unsigned), None);
        assert_eq!(ours.verify_access(""), None);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{}").unwrap();
        let Err(error) = ServerKeys::load_or_create(dir.path()) else {
            panic!("taken");
        };
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}
