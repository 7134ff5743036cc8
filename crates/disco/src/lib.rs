//! Discovery messages, by which two agents find the path between them: codec only.
//!
//! A datagram is `magic (6) ‖ sender's discovery key (32) ‖ nonce (12) ‖ AEAD(message) ‖ tag (16)`.
//! The key is made of X25519 between the two discovery keys, which live as long as the agents'
//! processes; the control plane tells each of the other's. See [`envelope`] for the cryptography and
//! [`message`] for what is inside.
//!
//! A discovery message proves that its sender holds the discovery key of a peer and that packets pass
//! from the address it came from. It carries no traffic and authorises none: that is WireGuard's.

pub mod envelope;
pub mod message;

pub use envelope::{Keyring, OpenError, is_disco, sender};
pub use message::{MAX_CALL_ENDPOINTS, Message, PING_LEN, TxId};
