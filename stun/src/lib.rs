//! STUN (RFC 8489): how a machine learns the address that the outside sees it at.
//!
//! [`client`] makes a binding request and reads the answer; [`respond`] is the server's whole
//! wisdom, one datagram in and at most one out; both without IO. With the feature `server`, `server`
//! puts the latter on UDP sockets, behind a rate limit per source.

pub mod client;
pub mod respond;

#[cfg(feature = "server")]
mod limit;
#[cfg(feature = "server")]
pub mod server;
