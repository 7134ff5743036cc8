//! The CLI's one-time code (RFC 7636, S256): a browser that has signed in gets a code for the
//! challenge that the CLI made, and only who knows the verifier behind it can use the code.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use ztna_proto::api::{CliCode, Session};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{SessionId, UserId};
use ztna_proto::keys::hex;

use super::sessions::{self, Proof, Vouch, Way};
use crate::app::State;
use crate::http::{ApiError, Device, refuse};

/// How long a code holds.
const LIFETIME: Duration = Duration::from_secs(120);
/// Longest verifier (RFC 7636 §4.1).
const MAX_VERIFIER: usize = 128;

#[derive(Deserialize, Serialize)]
struct Pending {
    user: UserId,
    challenge: String,
    /// What the browser's session carries, the CLI's carries too.
    vouch: Option<Vouch>,
}

/// Whether a challenge is of its form: base64url of 32 bytes.
pub(super) fn is_challenge(text: &str) -> bool {
    BASE64URL.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// A code for the person whose session it is, and the challenge.
pub(super) async fn complete(
    state: &State,
    user: UserId,
    session: SessionId,
    challenge: String,
) -> Result<CliCode, ApiError> {
    if !is_challenge(&challenge) {
        return Err(refuse(
            ErrorCode::ValidationError,
            "`challenge` is not the base64url of a SHA-256; run `ztna login` again",
        ));
    }
    let vouch = sessions::vouch_of(state, user, session).await?;
    let mut secret = [0; 32];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut secret);
    let code = BASE64URL.encode(secret);
    let pending = serde_json::to_vec(&Pending {
        user,
        challenge,
        vouch,
    })
    .map_err(|error| ApiError::Internal(error.to_string()))?;
    state.kv.set(&key(&code), pending, LIFETIME).await?;
    Ok(CliCode { code })
}

/// Turns a code into a session. The first try uses it up, right or wrong.
pub(super) async fn exchange(
    state: &State,
    code: &str,
    verifier: &str,
    device: &Device,
) -> Result<Session, ApiError> {
    let pending = state.kv.take(&key(code)).await?;
    let pending: Option<Pending> = pending.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let challenge = BASE64URL.encode(Sha256::digest(verifier.as_bytes()));
    let matching = pending.filter(|pending| {
        verifier.len() <= MAX_VERIFIER
            && bool::from(pending.challenge.as_bytes().ct_eq(challenge.as_bytes()))
    });
    let Some(Pending { user, vouch, .. }) = matching else {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the sign-in code is not valid, was used, or its 2 minutes are over; run `ztna login` again",
        ));
    };
    let way = Way::Cli;
    sessions::begin(state, &Proof { user, way }, device, vouch).await
}

/// Where a code is kept: by its hash, so that the store holds nothing that can be used.
fn key(code: &str) -> String {
    format!("cli-code:{}", hex(&Sha256::digest(code.as_bytes())))
}
