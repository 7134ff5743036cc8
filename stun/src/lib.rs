//! STUN (RFC 8489): how a machine learns the address that the outside sees it at.
//!
//! [`client`] makes a binding request and reads the answer; [`respond`] is the server's whole
//! wisdom, one message in and at most one out, with [`discovery`] for servers of two addresses
//! (RFC 5780); all without IO. With the feature `server`, `server` puts the latter on sockets,
//! behind a rate limit per source. The feature `program` is the binary around it.

pub mod client;
pub mod discovery;
pub mod respond;
mod wire;

#[cfg(feature = "server")]
mod limit;
#[cfg(feature = "server")]
pub mod server;
