//! TLS as every program of the platform uses it.
//!
//! Servers that organisations host themselves show a self-signed certificate, and their clients
//! *pin* it: they accept the certificate whose DER has the SHA-256 that the relay map or the
//! operator named, and no other. Servers with a name on the public web are checked against its
//! authorities. Either way the key exchange is X25519MLKEM768 where both sides can, and clients
//! that must not be recorded today and read tomorrow refuse anything less
//! ([`KeyExchange::RequirePostQuantum`]).
//!
//! * [`client`]: configurations for clients.
//! * [`pin`]: the text form of a pin, `sha256:<64 hex digits>`.
//! * `identity` (feature `server`): a server's certificate and key, from files or self-made.
//! * `accept` (feature `server`): the accept loop in front of TLS, with its bounds.
//! * `live` (feature `server`): certificates that are exchanged while the server runs.
//! * `acme` (feature `acme`): such a certificate from a public authority.
//! * `http` (feature `server`): hands one decrypted stream to an axum router.
//!
//! The cryptography provider is aws-lc-rs, named explicitly everywhere: no process-wide default.

pub mod client;
pub mod pin;

#[cfg(feature = "server")]
pub mod accept;
#[cfg(feature = "acme")]
pub mod acme;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod live;
#[cfg(feature = "server")]
mod prefixed;
#[cfg(feature = "server")]
mod stream;
#[cfg(feature = "server")]
mod tls_stream;

pub use client::{KeyExchange, client_config, client_config_trusting};
pub use pin::{PinError, format_pin, parse_pin, pin_of};

#[cfg(feature = "server")]
pub use accept::{ACME_TLS_ALPN, AcceptLimits, AddressGate, AddressRate, Security, serve};
#[cfg(feature = "server")]
pub use http::{ClientAddr, TrustedProxies, serve_http};
#[cfg(feature = "server")]
pub use identity::{IdentityError, ServerIdentity, validity_of};
#[cfg(feature = "server")]
pub use live::{IdentityFiles, LiveCertificate, watch_files};
#[cfg(feature = "server")]
pub use prefixed::Prefixed;
#[cfg(feature = "server")]
pub use stream::ServerStream;
#[cfg(feature = "server")]
pub use tls_stream::TlsStream;
