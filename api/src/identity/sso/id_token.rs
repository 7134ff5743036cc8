//! ID tokens, checked as OpenID Connect Core 1.0 §3.1.3.7 asks.

use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// Seconds by which a provider's clock may differ from ours.
const LEEWAY: u64 = 60;
/// A token is at most so old when it comes, in seconds: it is made as we ask for it.
const MAX_AGE: i64 = 10 * 60;

/// Signatures that are taken: of public keys. `none` is not even an algorithm of the library, and the
/// HMAC ones would make our secret a key.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What a token must be for.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
}

/// What a good token says.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    aud: Value,
    #[serde(default)]
    azp: Option<String>,
    iat: i64,
    #[serde(default)]
    nonce: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// The header of a token whose signature we would take.
///
/// # Errors
/// In words that complete "the provider … cannot be used: ".
pub(super) fn header(token: &str) -> Result<Header, String> {
    let unsigned = || "its ID token is not signed in a way that is taken".to_owned();
    let header = jsonwebtoken::decode_header(token).map_err(|_| unsigned())?;
    match ALGORITHMS.contains(&header.alg) && header.crit.is_none() {
        true => Ok(header),
        false => Err(unsigned()),
    }
}

/// Whether a key may have made the signature that a header speaks of.
pub(super) fn fits(key: &Jwk, header: &Header) -> bool {
    let named = header.kid.is_none() || key.common.key_id == header.kid;
    let meant = match key.common.key_algorithm {
        None => true,
        Some(algorithm) => KeyAlgorithm::from(header.alg) == algorithm,
    };
    let kind = match (&key.algorithm, header.alg) {
        (AlgorithmParameters::RSA(_), algorithm) => {
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            [RS256, RS384, RS512, PS256, PS384, PS512].contains(&algorithm)
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            key.curve == EllipticCurve::P256
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => {
            key.curve == EllipticCurve::P384
        }
        (AlgorithmParameters::OctetKeyPair(_), Algorithm::EdDSA) => true,
        _ => false,
    };
    named && meant && kind
}

/// Checks a token with the key that [`fits`].
///
/// # Errors
/// As [`header`].
pub(super) fn check(
    token: &str,
    header: &Header,
    key: &Jwk,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Claims, String> {
    let wrong = |why: &str| format!("its ID token {why}");
    let key = DecodingKey::from_jwk(key).map_err(|_| wrong("is signed with a damaged key"))?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    let claims: Claims = jsonwebtoken::decode(token, &key, &validation)
        .map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            wrong(match error.kind() {
                ErrorKind::InvalidSignature => "has a wrong signature",
                ErrorKind::ExpiredSignature => "is too old",
                ErrorKind::ImmatureSignature => "is from the future; compare the clocks",
                ErrorKind::InvalidIssuer => "is of another issuer",
                ErrorKind::InvalidAudience => "is for another client",
                _ => "is malformed",
            })
        })?
        .claims;
    // Who asked for a token that is for several clients, `azp` tells; it has to be us.
    let several = claims.aud.as_array().is_some_and(|list| list.len() > 1);
    let for_us = match &claims.azp {
        Some(party) => party == expected.client_id,
        None => !several,
    };
    if !for_us {
        return Err(wrong("was asked for by another client"));
    }
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(wrong("is of another sign-in"));
    }
    let age = now.as_second().saturating_sub(claims.iat);
    let leeway = i64::try_from(LEEWAY).unwrap_or(i64::MAX);
    if age < -leeway {
        return Err(wrong("is from the future; compare the clocks"));
    }
    if age > MAX_AGE + leeway {
        return Err(wrong("is too old"));
    }
    if claims.sub.is_empty() || claims.sub.len() > super::MAX_SUBJECT {
        return Err(wrong("names nobody"));
    }
    Ok(claims)
}

#[cfg(test)]
#[path = "id_token_tests.rs"]
mod tests;
