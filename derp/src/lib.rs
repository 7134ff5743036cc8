//! The relay: DERP version 2, wire-compatible with Tailscale's, closed by default.
//!
//! A relay carries packets between clients that cannot reach each other directly. Clients are
//! named by their WireGuard public keys; what they send is sealed already, and the relay reads no
//! more of it than the first bytes, to let handshakes overtake bulk data. It runs over TLS on one
//! TCP port: a client asks `GET /derp` with `Upgrade: DERP`, and both sides then speak
//! [`frame`]s.
//!
//! 1. The relay shows its key ([`frame::Frame::ServerKey`]) with a nonce of ours in the bytes that
//!    the protocol keeps spare.
//! 2. The client answers with its key and a NaCl box only that key could make, holding its ticket
//!    and the nonce ([`handshake`]).
//! 3. The relay checks the ticket offline and fails closed: without a valid one it says why in a
//!    Health frame and closes. Else it sends its limits, and packets flow.
//!
//! Clients may come by QUIC as well, on a UDP port: the same frames in a stream, and packets in
//! datagrams, of which a lost one holds up no other.
//!
//! [`client`] (feature `client`) is the half that agents hold, [`server`] (feature `server`) the
//! relay as a library; the program `ztna-derp` is a thin shell around the latter.
//!
//! Extensions stay where a stock peer ignores them: spare bytes of ServerKey, unknown members of
//! the JSON, and frame types from 0x40 on.

pub mod frame;
pub mod handshake;
pub mod key;

#[cfg(any(feature = "client", feature = "server"))]
mod bucket;
#[cfg(any(feature = "client", feature = "server"))]
mod outbox;
#[cfg(any(feature = "client", feature = "server"))]
mod quic;
#[cfg(any(feature = "client", feature = "server"))]
mod reader;
#[cfg(any(feature = "client", feature = "server"))]
mod tcp;
#[cfg(any(feature = "client", feature = "server"))]
mod transport;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;

/// Version of the protocol (`derp/derp.go`, `ProtocolVersion`).
pub const PROTOCOL_VERSION: u32 = 2;

/// What the common name of the certificate begins with that shows a relay's key (`derp/derp.go`).
#[cfg(any(feature = "client", feature = "server"))]
const META_NAME: &str = "derpkey";

/// Longest packet that a relay carries, in bytes (`derp/derp.go`, `MaxPacketSize`).
pub const MAX_PACKET: usize = 65_536;

/// Longest HTTP head, request or answer, that either side reads before the upgrade, in bytes.
pub const MAX_HTTP_HEAD: usize = 16 * 1024;

/// Most header lines in such a head.
pub const MAX_HTTP_HEADERS: usize = 64;
