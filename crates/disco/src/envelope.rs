//! Sealing and opening.
//!
//! The pair's key is HKDF-SHA256 of X25519 between the two discovery keys, with a versioned label
//! and both public keys, smaller first, so both ends derive the same. The AEAD is ChaCha20-Poly1305
//! (RFC 8439) with a random 96-bit nonce; the header is authenticated with it. A pair's key lives as
//! long as the shorter-lived process, and a pair exchanges far fewer than 2^32 messages in that time
//! (a hundred a second would take 500 days), so random nonces do not collide (2^-33 at that number).

use std::collections::BTreeMap;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;
use ztna_proto::keys::KEY_LEN;
use ztna_proto::{DiscoPrivateKey, DiscoPublicKey};

use crate::message::{DecodeError, Message};

/// `zDisc` and the version of the envelope. The first byte keeps clear of STUN (below 0x40) and
/// WireGuard (1 to 4).
const MAGIC: [u8; 6] = *b"zDisc\x01";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = MAGIC.len() + KEY_LEN + NONCE_LEN;
const LABEL: &[u8] = b"ztna disco v1 key";

/// Largest datagram that is opened: the jumbo frames that padding probes for.
const MAX_DATAGRAM: usize = 9_216;

/// Pair keys that are kept. Beyond it the cache starts anew; a key costs one X25519 to make again.
const MAX_CACHED: usize = 16_384;

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a discovery datagram, or too long to be one.
    #[error("not a discovery message")]
    Form,
    /// Our own key as sender: a reflection.
    #[error("a discovery message of our own came back")]
    Reflected,
    /// Not sealed by the key that it names, for us.
    #[error("a discovery message that is not authentic")]
    Seal,
    /// Authentic, of a type that this build does not know. To be skipped.
    #[error("a discovery message of unknown type {0}")]
    Unknown(u8),
}

/// Whether a datagram looks like a discovery message.
#[must_use]
pub fn is_disco(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC) && datagram.len() >= HEADER_LEN + TAG_LEN
}

/// The key that a datagram claims to be from, before any cryptography.
#[must_use]
pub fn sender(datagram: &[u8]) -> Option<DiscoPublicKey> {
    if !is_disco(datagram) {
        return None;
    }
    datagram[MAGIC.len()..]
        .first_chunk()
        .map(|key| DiscoPublicKey(*key))
}

/// Our discovery key, and the keys shared with peers.
pub struct Keyring {
    private: DiscoPrivateKey,
    public: DiscoPublicKey,
    /// `None`: the peer's key is of low order, and nothing is sealed for it.
    shared: BTreeMap<DiscoPublicKey, Option<LessSafeKey>>,
}

impl Keyring {
    /// A keyring around our key.
    #[must_use]
    pub fn new(private: DiscoPrivateKey) -> Self {
        let public = private.public();
        Self {
            private,
            public,
            shared: BTreeMap::new(),
        }
    }

    /// Our public key.
    #[must_use]
    pub fn public(&self) -> DiscoPublicKey {
        self.public
    }

    /// Seals a message for a peer. `None`: the peer's key is not one.
    pub fn seal(
        &mut self,
        to: &DiscoPublicKey,
        message: &Message,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let header = [&MAGIC[..], self.public.as_bytes(), &nonce].concat();
        let mut body = message.encode();
        let key = self.shared_with(to)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(&header), &mut body)
            .ok()?;
        Some([header, body].concat())
    }

    /// Opens a datagram: who sent it, and what it says.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn open(&mut self, datagram: &[u8]) -> Result<(DiscoPublicKey, Message), OpenError> {
        let from = sender(datagram).ok_or(OpenError::Form)?;
        if datagram.len() > MAX_DATAGRAM {
            return Err(OpenError::Form);
        }
        if from == self.public {
            return Err(OpenError::Reflected);
        }
        let (header, body) = datagram.split_at(HEADER_LEN);
        let nonce = header.last_chunk::<NONCE_LEN>().ok_or(OpenError::Form)?;
        let mut body = body.to_vec();
        let key = self.shared_with(&from).ok_or(OpenError::Seal)?;
        let plain = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(header),
                &mut body,
            )
            .map_err(|_| OpenError::Seal)?;
        match Message::decode(plain) {
            Ok(message) => Ok((from, message)),
            Err(DecodeError::UnknownType(kind)) => Err(OpenError::Unknown(kind)),
            Err(DecodeError::Truncated) => Err(OpenError::Form),
        }
    }

    fn shared_with(&mut self, peer: &DiscoPublicKey) -> Option<&LessSafeKey> {
        if !self.shared.contains_key(peer) {
            if self.shared.len() >= MAX_CACHED {
                self.shared.clear();
            }
            let key = derive(&self.private, &self.public, peer);
            self.shared.insert(*peer, key);
        }
        self.shared.get(peer)?.as_ref()
    }
}

fn derive(
    private: &DiscoPrivateKey,
    public: &DiscoPublicKey,
    peer: &DiscoPublicKey,
) -> Option<LessSafeKey> {
    let shared = private
        .secret()
        .diffie_hellman(&PublicKey::from(*peer.as_bytes()));
    // RFC 7748 §6.1: the all-zero output of a low-order point is no secret.
    if !shared.was_contributory() {
        return None;
    }
    let (low, high) = if public < peer {
        (public, peer)
    } else {
        (peer, public)
    };
    let info = [LABEL, low.as_bytes(), high.as_bytes()].concat();
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::new(None, shared.as_bytes())
        .expand(&info, &mut *key)
        .ok()?;
    UnboundKey::new(&CHACHA20_POLY1305, &*key)
        .ok()
        .map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use ztna_proto::WgPublicKey;

    use super::*;
    use crate::message::TxId;

    fn ring(byte: u8) -> Keyring {
        Keyring::new(DiscoPrivateKey::from_bytes([byte; 32]))
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn message() -> impl Strategy<Value = Message> {
        let addr = (any::<std::net::IpAddr>(), any::<u16>())
            .prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
        prop_oneof![
            (any::<[u8; 12]>(), any::<[u8; 32]>(), 0..1400_usize).prop_map(|(tx, key, padding)| {
                Message::Ping {
                    tx: TxId(tx),
                    wg_key: WgPublicKey(key),
                    padding,
                }
            }),
            (any::<[u8; 12]>(), addr.clone()).prop_map(|(tx, observed)| Message::Pong {
                tx: TxId(tx),
                observed
            }),
            proptest::collection::vec(addr, 0..=32)
                .prop_map(|endpoints| Message::CallMeMaybe { endpoints }),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in message()) {
            let (mut a, mut b) = (ring(1), ring(2));
            let sealed = a.seal(&b.public(), &message, &mut rng()).unwrap();
            prop_assert!(is_disco(&sealed));
            prop_assert_eq!(b.open(&sealed), Ok((a.public(), message)));
        }

        #[test]
        fn random_bytes_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(ring(1).open(&bytes).is_err());
            if bytes.len() >= MAGIC.len() {
                bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
                prop_assert!(ring(1).open(&bytes).is_err());
            }
        }
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let (mut a, mut b) = (ring(1), ring(2));
        let call = Message::CallMeMaybe {
            endpoints: vec!["192.0.2.1:1".parse().unwrap()],
        };
        let sealed = a.seal(&b.public(), &call, &mut rng()).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(b.open(&changed).is_err(), "byte {at} may be changed");
        }
        assert!(b.open(&sealed).is_ok());
    }

    #[test]
    fn reflections_strangers_and_false_keys_are_refused() {
        let (mut a, b, mut c) = (ring(1), ring(2), ring(3));
        let ping = Message::Ping {
            tx: TxId([1; 12]),
            wg_key: WgPublicKey([2; 32]),
            padding: 0,
        };
        let sealed = a.seal(&b.public(), &ping, &mut rng()).unwrap();
        assert_eq!(sealed.len(), crate::PING_LEN);
        assert_eq!(a.open(&sealed), Err(OpenError::Reflected));
        assert_eq!(c.open(&sealed), Err(OpenError::Seal));
        assert!(
            a.seal(&DiscoPublicKey([0; 32]), &ping, &mut rng())
                .is_none()
        );
    }

    /// Sealed by another implementation (Python's `cryptography`), from the description at the top of
    /// this file: private keys 32 × 1 (sender) and 32 × 2, nonce 0 to 11, transaction 1 to 12.
    /// The envelope is a wire format: these bytes do not change within version 1.
    #[test]
    fn known_answers() {
        let header = "7a4469736301a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209000102030405060708090a0b";
        let tx = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let v4 = "192.0.2.1:4660".parse().unwrap();
        let v6 = "[2001:db8::1]:41657".parse().unwrap();
        let table = [
            (
                "8ef0465863240833966de7f44020150e19db14b3d77d0084876f2b16968342f93bef6f7689a1ea235d\
                 da773800a32c6d9043388a64daf864f15771d788e138f35a",
                Message::Ping {
                    tx,
                    wg_key: WgPublicKey([7; 32]),
                    padding: 3,
                },
            ),
            (
                "8df0465863240833966de7f4402012091edc13b4d07a07837f97ec11938557ca64987cacfd4f64c984\
                 dee67649b73f3b",
                Message::Pong { tx, observed: v4 },
            ),
            (
                "8cf0475a60200d359165eefeb4d3d2091cdd0180f07b0a3b80682c11918445fe3ce868702c1fb89953\
                 06e08abb7aca1601d9ad3fcffd",
                Message::CallMeMaybe {
                    endpoints: vec![v4, v6],
                },
            ),
        ];
        for (sealed, message) in table {
            let text = [header, sealed].concat();
            let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
            let bytes: Vec<u8> = digits
                .chunks(2)
                .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
                .collect();
            assert_eq!(sender(&bytes), Some(ring(1).public()));
            assert_eq!(ring(2).open(&bytes), Ok((ring(1).public(), message)));
        }
    }
}
