//! Bearer secrets: auth keys, API keys, machine tokens, tokens that are sent by mail.
//!
//! All are 256 random bits. The control plane stores only their SHA-256 (random secrets need no
//! slow hash) and shows an auth key once. They have no `Debug` and zeroize on drop.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keys::KeyError;

/// SHA-256 of a token: the only form in which the control plane keeps one.
pub type TokenHash = [u8; 32];

const SECRET_LEN: usize = 32;
/// 32 bytes as base64url without padding.
const SECRET_CHARS: usize = 43;

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal, $form:literal) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop, utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            /// What every such token starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a new token from the generator.
            pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized)) -> Self {
                let mut secret = [0; SECRET_LEN];
                rng.fill_bytes(&mut secret);
                let token = Self(format!("{}{}", $prefix, BASE64URL.encode(secret)));
                secret.zeroize();
                token
            }

            /// The token's text. Show an auth key once; log neither.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0
            }

            /// What the control plane stores and looks up.
            #[must_use]
            pub fn hash(&self) -> TokenHash {
                Sha256::digest(self.0.as_bytes()).into()
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(s: &str) -> Result<Self, KeyError> {
                let secret = s.strip_prefix($prefix);
                let well_formed = secret.is_some_and(|secret| {
                    secret.len() == SECRET_CHARS && BASE64URL.decode(secret).is_ok()
                });
                if !well_formed {
                    return Err(KeyError::Form { kind: $kind, expected: $form });
                }
                Ok(Self(s.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

token!(
    /// An auth key: enrols machines without a person at hand. `ztna-auth-` + 43 characters.
    AuthKey,
    "ztna-auth-",
    "auth key",
    "ztna-auth- and 43 characters; copy the whole key"
);
token!(
    /// A machine token (field `node_key` of the API): a machine's bearer towards the control
    /// plane, and towards nothing else. `ztna-node-` + 43 characters.
    MachineToken,
    "ztna-node-",
    "machine token",
    "ztna-node- and 43 characters"
);
token!(
    /// An API key: a program's bearer, acts for a person within one org. `ztna-api-` + 43 characters.
    ApiKey,
    "ztna-api-",
    "API key",
    "ztna-api- and 43 characters; copy the whole key"
);
token!(
    /// The token of an invitation into an org. `ztna-invite-` + 43 characters.
    InvitationToken,
    "ztna-invite-",
    "invitation",
    "ztna-invite- and 43 characters; copy the invitation's whole link"
);
token!(
    /// A token that is sent by mail, and proves that its reader has the address. `ztna-mail-` + 43
    /// characters.
    MailToken,
    "ztna-mail-",
    "token of a mail",
    "ztna-mail- and 43 characters; copy the mail's whole link"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_differ() {
        let mut rng = rand::rng();
        let key = AuthKey::generate(&mut rng);
        let back: AuthKey = key.expose().parse().unwrap();
        assert_eq!(back.hash(), key.hash());
        assert_ne!(AuthKey::generate(&mut rng).hash(), key.hash());
        assert!(key.expose().starts_with(AuthKey::PREFIX));
    }

    #[test]
    fn malformed_tokens_are_refused_with_the_form() {
        for bad in [
            "",
            "ztna-auth-",
            "ztna-auth-short",
            "ztna-node-",
            "tskey-auth-abc",
        ] {
            let Err(error) = bad.parse::<AuthKey>() else {
                panic!("{bad:?} was taken for an auth key");
            };
            assert!(error.to_string().contains("copy the whole key"), "{error}");
        }
    }
}
