use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;

const EXPECTED: Expected<'_> = Expected {
    issuer: "https://idp.example.com",
    client_id: "ztna",
    nonce: "n-1",
};

struct Signer {
    key: EncodingKey,
    jwk: Jwk,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        Self { key, jwk }
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid.clone_from(&self.jwk.common.key_id);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn claims(now: i64, change: &Value) -> Value {
    let mut claims = json!({
        "iss": EXPECTED.issuer, "aud": EXPECTED.client_id, "sub": "s-1", "nonce": EXPECTED.nonce,
        "iat": now, "exp": now + 300, "email": "a@b.example",
    });
    for (name, value) in change.as_object().unwrap() {
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value.clone(),
        }
    }
    claims
}

#[test]
fn every_claim_has_to_be_right() {
    let signer = Signer::new("k");
    let now = Timestamp::now();
    let at = now.as_second();
    let try_it = |change: Value| {
        let token = signer.sign(&claims(at, &change));
        let header = header(&token).unwrap();
        assert!(fits(&signer.jwk, &header));
        check(&token, &header, &signer.jwk, &EXPECTED, now).map(|claims| claims.sub)
    };
    for good in [
        json!({}),
        json!({"aud": ["ztna"]}),
        json!({"aud": ["ztna", "other"], "azp": "ztna"}),
        json!({"azp": "ztna"}),
        json!({"exp": at - 30}),
        json!({"iat": at + 30}),
        json!({"iat": at - 500}),
        json!({"nbf": at + 30}),
    ] {
        assert_eq!(try_it(good.clone()), Ok("s-1".to_owned()), "{good}");
    }
    for bad in [
        json!({"iss": "https://idp.example.com/"}),
        json!({"iss": null}),
        json!({"iss": ["https://idp.example.com"], "aud": null}),
        json!({"aud": "other"}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"aud": ["ztna", "other"]}),
        json!({"aud": ["ztna", "other"], "azp": "other"}),
        json!({"azp": "other"}),
        json!({"nonce": "n-2"}),
        json!({"nonce": ""}),
        json!({"nonce": null}),
        json!({"exp": at - 90}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"iat": at - 700}),
        json!({"iat": at + 90}),
        json!({"iat": null}),
        json!({"nbf": at + 90}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": "s".repeat(256)}),
        json!({"sub": 7}),
    ] {
        assert!(try_it(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn only_the_keys_own_signatures_are_taken() {
    let (ours, theirs) = (Signer::new("k"), Signer::new("k"));
    let now = Timestamp::now();
    let token = theirs.sign(&claims(now.as_second(), &json!({})));
    let known = header(&token).unwrap();
    let refused = check(&token, &known, &ours.jwk, &EXPECTED, now);
    assert_eq!(refused.err().unwrap(), "its ID token has a wrong signature");

    let token = |header: Value| {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        format!(
            "{}.{}.{}",
            part(&header),
            part(&claims(0, &json!({}))),
            BASE64URL.encode("x")
        )
    };
    assert!(header(&token(json!({"alg": "ES256"}))).is_ok());
    for bad in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS256"}),
        json!({"alg": "ES256", "crit": ["b64"]}),
        json!({"alg": "ES512"}),
        json!({}),
    ] {
        assert!(header(&token(bad.clone())).is_err(), "{bad}");
    }
    assert!(header("").is_err() && header("a.b").is_err());
}

#[test]
fn a_key_fits_by_its_name_its_kind_and_what_it_is_for() {
    let key = Signer::new("k").jwk;
    let with = |kid: Option<&str>, alg| {
        let mut header = Header::new(alg);
        header.kid = kid.map(str::to_owned);
        header
    };
    assert!(fits(&key, &with(Some("k"), Algorithm::ES256)));
    assert!(fits(&key, &with(None, Algorithm::ES256)));
    assert!(!fits(&key, &with(Some("other"), Algorithm::ES256)));
    for alg in [
        Algorithm::ES384,
        Algorithm::RS256,
        Algorithm::HS256,
        Algorithm::EdDSA,
    ] {
        assert!(!fits(&key, &with(Some("k"), alg)), "{alg:?}");
    }
    let mut meant = key;
    meant.common.key_algorithm = Some(KeyAlgorithm::ES384);
    assert!(!fits(&meant, &with(Some("k"), Algorithm::ES256)));
    let rsa: Jwk = serde_json::from_value(json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})).unwrap();
    assert!(fits(&rsa, &with(None, Algorithm::PS256)));
    assert!(!fits(&rsa, &with(None, Algorithm::ES256)));
    // The public key as a shared secret.
    assert!(!fits(&rsa, &with(None, Algorithm::HS256)));
}
