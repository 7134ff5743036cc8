//! What a discovery message says.
//!
//! `type (1) ‖ version (1, now 0) ‖ body`. Bytes after the body are ignored, so a message can grow.
//!
//! | type | message | body |
//! | --- | --- | --- |
//! | 1 | ping | transaction (12), sender's WireGuard key (32), zero bytes of padding |
//! | 2 | pong | transaction (12), address (18) that the ping was seen from |
//! | 3 | call-me-maybe | up to 32 addresses (18 each); by relay only |
//!
//! An address is 16 bytes of IP (IPv4 mapped, RFC 4291 §2.5.5.2) and the port, big-endian.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ztna_proto::WgPublicKey;
use ztna_proto::keys::KEY_LEN;

/// Most endpoints that a call-me-maybe carries.
pub const MAX_CALL_ENDPOINTS: usize = 32;

const VERSION: u8 = 0;
const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;
const TX_LEN: usize = 12;
const ADDR_LEN: usize = 18;

/// Bytes of a sealed ping without padding: header (50), type and version, transaction, key, tag (16).
pub const PING_LEN: usize = 50 + 2 + TX_LEN + KEY_LEN + 16;

/// Joins a pong to its ping. Random for each ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub [u8; TX_LEN]);

/// A discovery message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Is this path open?
    Ping {
        /// Names the ping.
        tx: TxId,
        /// The sender's WireGuard key.
        wg_key: WgPublicKey,
        /// Zero bytes after it, to make a datagram of a wanted size.
        padding: usize,
    },
    /// It is.
    Pong {
        /// The ping's.
        tx: TxId,
        /// Where the ping came from, as its receiver saw it.
        observed: SocketAddr,
    },
    /// Here is where I may be; ping me at all of it, as I do you.
    CallMeMaybe {
        /// At most [`MAX_CALL_ENDPOINTS`].
        endpoints: Vec<SocketAddr>,
    },
}

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before its type's body does.
    #[error("a discovery message that is cut off")]
    Truncated,
    /// Of a type that this build does not know. To be skipped.
    #[error("a discovery message of unknown type {0}")]
    UnknownType(u8),
}

impl Message {
    /// The message's bytes, to be sealed ([`crate::Keyring::seal`]).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Ping {
                tx,
                wg_key,
                padding,
            } => {
                out.extend([PING, VERSION]);
                out.extend(tx.0);
                out.extend(wg_key.as_bytes());
                out.resize(out.len() + padding, 0);
            }
            Self::Pong { tx, observed } => {
                out.extend([PONG, VERSION]);
                out.extend(tx.0);
                put_addr(&mut out, observed);
            }
            Self::CallMeMaybe { endpoints } => {
                out.extend([CALL_ME_MAYBE, VERSION]);
                for addr in endpoints.iter().take(MAX_CALL_ENDPOINTS) {
                    put_addr(&mut out, addr);
                }
            }
        }
        out
    }

    /// Reads a message that was sealed.
    ///
    /// # Errors
    /// It is cut off, or of a type that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let [kind, _version, body @ ..] = bytes else {
            return Err(DecodeError::Truncated);
        };
        match *kind {
            PING => {
                let (tx, rest) = take::<TX_LEN>(body)?;
                let (key, padding) = take::<KEY_LEN>(rest)?;
                Ok(Self::Ping {
                    tx: TxId(tx),
                    wg_key: WgPublicKey(key),
                    padding: padding.len(),
                })
            }
            PONG => {
                let (tx, rest) = take::<TX_LEN>(body)?;
                let (addr, _) = take::<ADDR_LEN>(rest)?;
                Ok(Self::Pong {
                    tx: TxId(tx),
                    observed: get_addr(&addr),
                })
            }
            CALL_ME_MAYBE => {
                let (addrs, _) = body.as_chunks::<ADDR_LEN>();
                let endpoints = addrs
                    .iter()
                    .take(MAX_CALL_ENDPOINTS)
                    .map(get_addr)
                    .collect();
                Ok(Self::CallMeMaybe { endpoints })
            }
            other => Err(DecodeError::UnknownType(other)),
        }
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), DecodeError> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(DecodeError::Truncated)?;
    Ok((*head, rest))
}

fn put_addr(out: &mut Vec<u8>, addr: &SocketAddr) {
    let ip = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out.extend(ip.octets());
    out.extend(addr.port().to_be_bytes());
}

fn get_addr(bytes: &[u8; ADDR_LEN]) -> SocketAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[..16]);
    let ip = Ipv6Addr::from(octets).to_canonical();
    SocketAddr::new(ip, u16::from_be_bytes([bytes[16], bytes[17]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_has_the_bytes_that_the_table_says() {
        let tx = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let pong = Message::Pong {
            tx,
            observed: "192.0.2.1:4660".parse().unwrap(),
        };
        let mut expected = vec![2, 0];
        expected.extend(1..=12);
        expected.extend([0; 10]);
        expected.extend([0xff, 0xff, 192, 0, 2, 1, 0x12, 0x34]);
        assert_eq!(pong.encode(), expected);
        assert_eq!(Message::decode(&expected), Ok(pong));
    }

    #[test]
    fn padding_is_counted_and_trailing_bytes_are_ignored() {
        let ping = Message::Ping {
            tx: TxId([7; 12]),
            wg_key: WgPublicKey([8; 32]),
            padding: 100,
        };
        assert_eq!(ping.encode().len(), 2 + 12 + 32 + 100);
        assert_eq!(Message::decode(&ping.encode()), Ok(ping));
        let pong = Message::Pong {
            tx: TxId([7; 12]),
            observed: "[2001:db8::1]:1".parse().unwrap(),
        };
        let mut longer = pong.encode();
        longer.extend([9; 5]);
        assert_eq!(Message::decode(&longer), Ok(pong));
    }

    #[test]
    fn short_and_unknown_messages_are_refused() {
        assert_eq!(Message::decode(&[1]), Err(DecodeError::Truncated));
        assert_eq!(Message::decode(&[1, 0, 1, 2]), Err(DecodeError::Truncated));
        assert_eq!(Message::decode(&[99, 0]), Err(DecodeError::UnknownType(99)));
    }

    #[test]
    fn a_call_carries_a_bounded_number_of_endpoints() {
        let endpoints = vec!["192.0.2.1:1".parse().unwrap(); 40];
        let bytes = Message::CallMeMaybe { endpoints }.encode();
        let Ok(Message::CallMeMaybe { endpoints }) = Message::decode(&bytes) else {
            panic!("not a call");
        };
        assert_eq!(endpoints.len(), MAX_CALL_ENDPOINTS);
    }
}
