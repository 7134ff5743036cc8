//! A relay's own key pair: X25519, for the NaCl boxes of the handshake.

use std::fmt;
use std::str::FromStr;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};
use ztna_proto::keys::{KEY_LEN, KeyError, hex, parse_hex};

/// A relay's public key. Printed as the header `Derp-Public-Key` has it: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayPublicKey(pub [u8; KEY_LEN]);

impl fmt::Display for RelayPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RelayPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RelayPublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_hex(text).map(Self).ok_or(KeyError::Form {
            kind: "relay key",
            expected: "64 hex digits",
        })
    }
}

/// A relay's private key. Zeroizes on drop, has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RelayPrivateKey([u8; KEY_LEN]);

impl RelayPrivateKey {
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
    pub fn public(&self) -> RelayPublicKey {
        RelayPublicKey(PublicKey::from(&StaticSecret::from(self.0)).to_bytes())
    }
}

#[cfg(feature = "server")]
mod file {
    use std::io;
    use std::path::Path;

    use zeroize::Zeroizing;
    use ztna_proto::keys::{hex, parse_hex};
    use ztna_tls::identity::write_new_private;

    use super::RelayPrivateKey;

    /// File in a data directory that holds the relay's private key: 64 hex digits.
    pub const RELAY_KEY_FILE: &str = "relay.key";

    impl RelayPrivateKey {
        /// Loads the relay key of a data directory, or makes one (0600) if there is none yet.
        ///
        /// # Errors
        /// The directory cannot be used, or the file in it is damaged.
        pub fn load_or_create(dir: &Path) -> io::Result<Self> {
            let path = dir.join(RELAY_KEY_FILE);
            if !path.exists() {
                let key = Self::generate(&mut rand::rng());
                let text = Zeroizing::new(hex(key.expose()));
                write_new_private(&path, text.as_bytes())?;
            }
            let text = Zeroizing::new(std::fs::read_to_string(&path)?);
            parse_hex(text.trim()).map(Self).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} is damaged: expected 64 hex digits; restore it, or delete it to get a new relay key",
                        path.display()
                    ),
                )
            })
        }
    }
}

#[cfg(feature = "server")]
pub use file::RELAY_KEY_FILE;

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_directory_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = RelayPrivateKey::load_or_create(dir.path()).unwrap();
        let again = RelayPrivateKey::load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), again.public());
        assert_eq!(first.public().to_string().parse(), Ok(first.public()));
        std::fs::write(dir.path().join(RELAY_KEY_FILE), "short").unwrap();
        assert!(RelayPrivateKey::load_or_create(dir.path()).is_err());
    }
}
