//! Keys that cross process boundaries.
//!
//! Public keys print and parse; private keys zeroize on drop, have no `Debug`, no `Display` and no
//! `PartialEq`, and leave the process only into the agent's state file.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of an X25519 key (RFC 7748 §5).
pub const KEY_LEN: usize = 32;

/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203 §8, table 3).
pub const KEM_PUBLIC_KEY_LEN: usize = 1184;

/// A key that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not of the key's form.
    #[error("not a valid {kind}: expected {expected}")]
    Form {
        /// What was to be parsed.
        kind: &'static str,
        /// The form that the text should have.
        expected: &'static str,
    },
    /// The bytes are not as many as the key has.
    #[error("a {kind} has {expected} bytes, got {got}")]
    Length {
        /// What was to be parsed.
        kind: &'static str,
        /// Bytes that such a key has.
        expected: usize,
        /// Bytes that were there.
        got: usize,
    },
}

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $form:literal, $print:path, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(pub [u8; KEY_LEN]);

        impl $name {
            /// The key's bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$print(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;
            fn from_str(s: &str) -> Result<Self, KeyError> {
                $parse(s)
                    .map(Self)
                    .ok_or(KeyError::Form { kind: $kind, expected: $form })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
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

fn print_base64(bytes: &[u8; KEY_LEN]) -> String {
    BASE64.encode(bytes)
}

fn parse_base64(s: &str) -> Option<[u8; KEY_LEN]> {
    BASE64.decode(s).ok()?.try_into().ok()
}

fn print_disco(bytes: &[u8; KEY_LEN]) -> String {
    format!("disco:{}", hex(bytes))
}

fn parse_disco(s: &str) -> Option<[u8; KEY_LEN]> {
    parse_hex(s.strip_prefix("disco:")?)
}

fn print_kem(bytes: &[u8; KEY_LEN]) -> String {
    format!("kem:{}", hex(bytes))
}

fn parse_kem(s: &str) -> Option<[u8; KEY_LEN]> {
    parse_hex(s.strip_prefix("kem:")?)
}

public_key!(
    /// WireGuard static public key. Printed as `wg` prints it: base64, 44 characters.
    WgPublicKey,
    "WireGuard public key",
    "44 characters of base64",
    print_base64,
    parse_base64
);
public_key!(
    /// Discovery public key: X25519, new at each start of the agent. Printed as `disco:` + 64 hex.
    DiscoPublicKey,
    "discovery key",
    "disco: and 64 hex digits",
    print_disco,
    parse_disco
);
public_key!(
    /// SHA-256 of a machine's ML-KEM-768 encapsulation key. Printed as `kem:` + 64 hex.
    ///
    /// The netmap carries this; the 1,184-byte key itself is fetched once and checked against it.
    KemKeyHash,
    "ML-KEM key hash",
    "kem: and 64 hex digits",
    print_kem,
    parse_kem
);

impl KemKeyHash {
    /// Hash of an encapsulation key.
    #[must_use]
    pub fn of(key: &KemPublicKey) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// An ML-KEM-768 encapsulation key as it travels: 1,184 bytes, base64 in JSON. Its inner form
/// (FIPS 203 §7.2 modulus check) is validated by whoever encapsulates to it.
#[derive(Clone, PartialEq, Eq, utoipa::ToSchema)]
#[schema(value_type = String)]
pub struct KemPublicKey(Box<[u8; KEM_PUBLIC_KEY_LEN]>);

impl KemPublicKey {
    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEM_PUBLIC_KEY_LEN] {
        &self.0
    }
}

impl TryFrom<&[u8]> for KemPublicKey {
    type Error = KeyError;
    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        let array: [u8; KEM_PUBLIC_KEY_LEN] = bytes.try_into().map_err(|_| KeyError::Length {
            kind: "ML-KEM-768 public key",
            expected: KEM_PUBLIC_KEY_LEN,
            got: bytes.len(),
        })?;
        Ok(Self(Box::new(array)))
    }
}

impl fmt::Debug for KemPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublicKey({})", KemKeyHash::of(self))
    }
}

impl Serialize for KemPublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(self.0.as_slice()))
    }
}

impl<'de> Deserialize<'de> for KemPublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(serde::de::Error::custom)?;
        Self::try_from(bytes.as_slice()).map_err(serde::de::Error::custom)
    }
}

macro_rules! private_key {
    ($(#[$doc:meta])* $name:ident, $public:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// Takes over raw key bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// Makes a new key from the generator.
            pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized)) -> Self {
                let mut bytes = [0; KEY_LEN];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }

            /// The key's bytes. Wipe every copy.
            #[must_use]
            pub fn expose(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// The public half.
            #[must_use]
            pub fn public(&self) -> $public {
                $public(PublicKey::from(&self.secret()).to_bytes())
            }

            /// The key in the form that X25519 wants.
            #[must_use]
            pub fn secret(&self) -> StaticSecret {
                StaticSecret::from(self.0)
            }
        }
    };
}

private_key!(
    /// WireGuard static private key (X25519). Made on the machine, never sent.
    WgPrivateKey,
    WgPublicKey
);
private_key!(
    /// Discovery private key (X25519). Lives as long as the agent's process.
    DiscoPrivateKey,
    DiscoPublicKey
);

impl FromStr for WgPrivateKey {
    type Err = KeyError;
    fn from_str(s: &str) -> Result<Self, KeyError> {
        parse_base64(s).map(Self).ok_or(KeyError::Form {
            kind: "WireGuard private key",
            expected: "44 characters of base64",
        })
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
            out
        })
}

/// Parses exactly `N` bytes of hex, upper or lower case.
#[must_use]
pub fn parse_hex<const N: usize>(s: &str) -> Option<[u8; N]> {
    let digits = s.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_round_trip() {
        let wg = WgPublicKey([7; 32]);
        assert_eq!(wg.to_string().len(), 44);
        assert_eq!(wg.to_string().parse::<WgPublicKey>().unwrap(), wg);
        let disco = DiscoPublicKey([0xab; 32]);
        assert_eq!(disco.to_string().parse::<DiscoPublicKey>().unwrap(), disco);
        let kem = KemKeyHash([1; 32]);
        assert_eq!(kem.to_string().parse::<KemKeyHash>().unwrap(), kem);
    }

    #[test]
    fn malformed_keys_say_what_was_expected() {
        let error = "disco:xyz".parse::<DiscoPublicKey>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a valid discovery key: expected disco: and 64 hex digits"
        );
        assert!("AAAA".parse::<WgPublicKey>().is_err());
        assert!(KemPublicKey::try_from([0u8; 3].as_slice()).is_err());
    }

    /// RFC 7748 §6.1: Alice's key pair.
    #[test]
    fn public_half_matches_rfc_7748() {
        let alice = WgPrivateKey::from_bytes(
            parse_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap(),
        );
        let public: [u8; 32] =
            parse_hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a").unwrap();
        assert_eq!(alice.public().0, public);
    }

    #[test]
    fn kem_key_travels_as_base64_and_hashes() {
        let key = KemPublicKey::try_from([9u8; KEM_PUBLIC_KEY_LEN].as_slice()).unwrap();
        let json = serde_json::to_string(&key).unwrap();
        let back: KemPublicKey = serde_json::from_str(&json).unwrap();
        assert_eq!(KemKeyHash::of(&back), KemKeyHash::of(&key));
    }

    #[test]
    fn hex_round_trips() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_eq!(parse_hex::<3>("00FF10"), Some([0, 255, 16]));
        assert_eq!(parse_hex::<3>("00ff1"), None);
        assert_eq!(parse_hex::<1>("zz"), None);
    }
}
