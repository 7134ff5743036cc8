//! Layouts of the messages. Integers are big-endian, except where a cipher says otherwise.
//!
//! Every message starts with magic (4), type (1), suite (1), mode (1) and a zero byte. The first
//! byte is at least 0x40, which sets it apart from WireGuard's (1 to 4) and STUN's (0 to 3).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use ztna_proto::WgPublicKey;
use ztna_proto::keys::KEM_PUBLIC_KEY_LEN;

use crate::aead::TAG_LEN;
use crate::biscuit::BISCUIT_LEN;
use crate::schedule::label;

/// Largest UDP payload that we send in one piece: what a tunnel of MTU 1280 needs of the path
/// anyway (16 header + 1280 + 16 tag).
pub const MAX_DATAGRAM: usize = 1312;

/// First bytes of every message.
pub(crate) const MAGIC: [u8; 4] = *b"zHS1";
/// X25519, ML-KEM-768, ChaCha20-Poly1305, SHA-256, HKDF-SHA256. Other suites are not answered.
const SUITE: u8 = 1;
pub(crate) const HEADER_LEN: usize = 8;

/// Bytes of the initiator's name for an attempt.
pub(crate) const SESSION_LEN: usize = 8;
pub(crate) type Session = [u8; SESSION_LEN];
/// Bytes of an X25519 public key.
const DH_LEN: usize = 32;
/// Bytes of an ML-KEM-768 ciphertext (FIPS 203 §8, table 3).
pub(crate) const CIPHERTEXT_LEN: usize = 1088;
/// Bytes of the pseudonym in a LIGHT Init.
pub(crate) const HANDLE_LEN: usize = 16;
/// The initiator's WireGuard key, sealed.
const IDENTITY_LEN: usize = DH_LEN + TAG_LEN;
/// An epoch number, sealed.
pub(crate) const EPOCH_LEN: usize = 8 + TAG_LEN;
/// Bytes of mac1 and mac2: HMAC-SHA256 (RFC 2104) cut to 128 bits.
pub(crate) const MAC_LEN: usize = 16;
pub(crate) type MacTag = [u8; MAC_LEN];
/// Bytes of the salt in a cookie reply.
pub(crate) const SALT_LEN: usize = 16;

const INIT_COMMON: usize = HEADER_LEN + SESSION_LEN + DH_LEN + KEM_PUBLIC_KEY_LEN;
/// FULL Init: 2,424 bytes.
pub(crate) const INIT_FULL_LEN: usize =
    INIT_COMMON + CIPHERTEXT_LEN + IDENTITY_LEN + EPOCH_LEN + 2 * MAC_LEN;
/// LIGHT Init: 1,304 bytes.
pub(crate) const INIT_LIGHT_LEN: usize = INIT_COMMON + HANDLE_LEN + EPOCH_LEN + 2 * MAC_LEN;
/// LIGHT Resp: 1,280 bytes.
pub(crate) const RESP_LIGHT_LEN: usize =
    HEADER_LEN + SESSION_LEN + DH_LEN + CIPHERTEXT_LEN + BISCUIT_LEN + EPOCH_LEN + MAC_LEN;
/// FULL Resp: 2,368 bytes.
pub(crate) const RESP_FULL_LEN: usize = RESP_LIGHT_LEN + CIPHERTEXT_LEN;
/// Conf: 152 bytes.
pub(crate) const CONF_LEN: usize = HEADER_LEN + SESSION_LEN + BISCUIT_LEN + TAG_LEN + MAC_LEN;
/// Ack: 48 bytes.
pub(crate) const ACK_LEN: usize = HEADER_LEN + SESSION_LEN + TAG_LEN + MAC_LEN;
/// Cookie reply: 64 bytes.
pub(crate) const COOKIE_LEN: usize = HEADER_LEN + SESSION_LEN + SALT_LEN + MAC_LEN + TAG_LEN;

// An answer larger than its question would make the responder an amplifier.
const _: () = assert!(RESP_LIGHT_LEN <= INIT_LIGHT_LEN && RESP_FULL_LEN <= INIT_FULL_LEN);
const _: () = assert!(INIT_LIGHT_LEN <= MAX_DATAGRAM);

/// Whether a datagram is for this crate: by its magic.
#[must_use]
pub fn is_handshake(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC)
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Init = 1,
    Resp = 2,
    Conf = 3,
    Ack = 4,
    Cookie = 5,
    Fragment = 6,
}

/// How the pair authenticates in an Init and its Resp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Of messages that have none.
    None = 0,
    /// By both static keys of both kinds.
    Full = 1,
    /// By the static X25519 keys and the chain of the epoch before.
    Light = 2,
}

/// Why a message was dropped. It is never told to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reject {
    #[error("not a message of this protocol version")]
    Form,
    #[error("a piece of a message that is not complete")]
    Incomplete,
    #[error("mac1 is wrong: not meant for this machine")]
    Mac1,
    #[error("from a machine that is not a peer")]
    UnknownPeer,
    #[error("the relay vouches for another sender")]
    WrongSource,
    #[error("no chain of that handle: the other side or this one has lost it")]
    UnknownHandle,
    #[error("load: answered with a cookie, or dropped")]
    Load,
    #[error("an X25519 key of low order")]
    LowOrder,
    #[error("an ML-KEM key that does not decode")]
    KemKey,
    #[error("the seal does not open: other keys, another pq mode, or changed on the way")]
    Seal,
    #[error("this machine's own Init wins")]
    OwnInitWins,
    #[error("the peer's ML-KEM key is not there yet")]
    AwaitsKemKey,
    #[error("no attempt that this belongs to")]
    UnknownSession,
    #[error("too many wrong answers since the last retransmission")]
    TooManyAnswers,
    #[error("the biscuit is not this machine's, or its key is gone")]
    Biscuit,
    #[error("used before")]
    Replay,
    #[error("the epoch number is out of range, or passed by a newer epoch")]
    Epoch,
}

/// A message, cut into its fields.
pub(crate) enum Message<'a> {
    Init(Init<'a>),
    Resp(Resp<'a>),
    Conf(Conf<'a>),
    Ack(Ack<'a>),
    Cookie(CookieReply<'a>),
    Fragment(Piece<'a>),
}

/// How an Init says who sends it.
pub(crate) enum Who<'a> {
    Full {
        ciphertext: &'a [u8; CIPHERTEXT_LEN],
        identity: &'a [u8; IDENTITY_LEN],
    },
    Light {
        handle: &'a [u8; HANDLE_LEN],
    },
}

pub(crate) struct Init<'a> {
    pub whole: &'a [u8],
    /// Header and session.
    pub head: &'a [u8],
    pub session: &'a Session,
    pub ephemeral: &'a [u8; DH_LEN],
    pub kem_key: &'a [u8; KEM_PUBLIC_KEY_LEN],
    pub who: Who<'a>,
    pub epoch: &'a [u8; EPOCH_LEN],
    pub mac1: &'a MacTag,
    pub mac2: &'a MacTag,
}

impl Init<'_> {
    /// What mac1 covers.
    pub(crate) fn under_mac1(&self) -> &[u8] {
        &self.whole[..self.whole.len() - 2 * MAC_LEN]
    }

    /// What mac2 covers.
    pub(crate) fn under_mac2(&self) -> &[u8] {
        &self.whole[..self.whole.len() - MAC_LEN]
    }
}

pub(crate) struct Resp<'a> {
    pub whole: &'a [u8],
    pub head: &'a [u8],
    pub session: &'a Session,
    pub ephemeral: &'a [u8; DH_LEN],
    pub ciphertext: &'a [u8; CIPHERTEXT_LEN],
    /// To the initiator's static key: FULL only.
    pub static_ciphertext: Option<&'a [u8; CIPHERTEXT_LEN]>,
    pub biscuit: &'a [u8; BISCUIT_LEN],
    pub epoch: &'a [u8; EPOCH_LEN],
    pub mac1: &'a MacTag,
}

pub(crate) struct Conf<'a> {
    pub whole: &'a [u8],
    pub session: &'a Session,
    pub biscuit: &'a [u8; BISCUIT_LEN],
    pub proof: &'a [u8; TAG_LEN],
    pub mac1: &'a MacTag,
}

pub(crate) struct Ack<'a> {
    pub whole: &'a [u8],
    pub session: &'a Session,
    pub proof: &'a [u8; TAG_LEN],
    pub mac1: &'a MacTag,
}

pub(crate) struct CookieReply<'a> {
    pub session: &'a Session,
    pub salt: &'a [u8; SALT_LEN],
    pub sealed: &'a [u8; MAC_LEN + TAG_LEN],
}

/// Bytes that precede the data in a fragment.
pub(crate) const FRAGMENT_HEAD: usize = HEADER_LEN + FRAGMENT_ID_LEN;
/// Bytes of a fragmented message's name.
pub(crate) const FRAGMENT_ID_LEN: usize = 8;

pub(crate) struct Piece<'a> {
    pub id: &'a [u8; FRAGMENT_ID_LEN],
    /// 0 for the first half, 1 for the second.
    pub index: u8,
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Cuts a message into its fields. The length has to be exactly that of type and mode.
    pub(crate) fn parse(whole: &'a [u8]) -> Result<Self, Reject> {
        Self::cut(whole).ok_or(Reject::Form)
    }

    fn cut(whole: &'a [u8]) -> Option<Self> {
        let ([m0, m1, m2, m3, kind, suite, mode, last], mut rest) =
            whole.split_first_chunk::<HEADER_LEN>()?;
        if [*m0, *m1, *m2, *m3] != MAGIC || *suite != SUITE {
            return None;
        }
        let full = *mode == Mode::Full as u8;
        let light = *mode == Mode::Light as u8;
        let none = *mode == Mode::None as u8;
        if *kind == Kind::Fragment as u8 {
            let id = take(&mut rest)?;
            let index = *last;
            return (none && index <= 1).then_some(Message::Fragment(Piece {
                id,
                index,
                data: rest,
            }));
        }
        let session: &Session = take(&mut rest)?;
        if *last != 0 {
            return None;
        }
        let head = &whole[..HEADER_LEN + SESSION_LEN];

        let message = if *kind == Kind::Init as u8 && (full || light) {
            let ephemeral = take(&mut rest)?;
            let kem_key = take(&mut rest)?;
            let who = if full {
                let ciphertext = take(&mut rest)?;
                let identity = take(&mut rest)?;
                Who::Full {
                    ciphertext,
                    identity,
                }
            } else {
                let handle = take(&mut rest)?;
                Who::Light { handle }
            };
            Message::Init(Init {
                whole,
                head,
                session,
                ephemeral,
                kem_key,
                who,
                epoch: take(&mut rest)?,
                mac1: take(&mut rest)?,
                mac2: take(&mut rest)?,
            })
        } else if *kind == Kind::Resp as u8 && (full || light) {
            let ephemeral = take(&mut rest)?;
            let ciphertext = take(&mut rest)?;
            let static_ciphertext = if full { Some(take(&mut rest)?) } else { None };
            Message::Resp(Resp {
                whole,
                head,
                session,
                ephemeral,
                ciphertext,
                static_ciphertext,
                biscuit: take(&mut rest)?,
                epoch: take(&mut rest)?,
                mac1: take(&mut rest)?,
            })
        } else if *kind == Kind::Conf as u8 && none {
            Message::Conf(Conf {
                whole,
                session,
                biscuit: take(&mut rest)?,
                proof: take(&mut rest)?,
                mac1: take(&mut rest)?,
            })
        } else if *kind == Kind::Ack as u8 && none {
            Message::Ack(Ack {
                whole,
                session,
                proof: take(&mut rest)?,
                mac1: take(&mut rest)?,
            })
        } else if *kind == Kind::Cookie as u8 && none {
            Message::Cookie(CookieReply {
                session,
                salt: take(&mut rest)?,
                sealed: take(&mut rest)?,
            })
        } else {
            return None;
        };
        rest.is_empty().then_some(message)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(field)
}

/// Starts a message: header and session.
pub(crate) fn head(kind: Kind, mode: Mode, session: &Session, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[kind as u8, SUITE, mode as u8, 0]);
    out.extend_from_slice(session);
    out
}

/// Starts a fragment.
pub(crate) fn fragment_head(id: &[u8; FRAGMENT_ID_LEN], index: u8, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[Kind::Fragment as u8, SUITE, Mode::None as u8, index]);
    out.extend_from_slice(id);
    out
}

/// Keys mac1 of what is sent to `receiver`: SHA-256(label ‖ its WireGuard key). Not a secret: mac1
/// only keeps away those who do not know whom they talk to.
pub(crate) fn mac1_key(receiver: &WgPublicKey) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(label::MAC1);
    hash.update(receiver.as_bytes());
    hash.finalize().into()
}

/// HMAC-SHA256, cut to [`MAC_LEN`].
#[allow(clippy::expect_used)]
pub(crate) fn mac(key: &[u8], data: &[u8]) -> MacTag {
    #[cfg(test)]
    crate::cost::mac();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    let full = mac.finalize().into_bytes();
    let mut out = [0; MAC_LEN];
    out.copy_from_slice(&full[..MAC_LEN]);
    out
}

/// Compares in constant time.
pub(crate) fn mac_is(key: &[u8], data: &[u8], claimed: &MacTag) -> bool {
    mac(key, data).ct_eq(claimed).into()
}
