//! The data plane of one machine, without IO.
//!
//! A [`Mesh`] is fed IP packets from the TUN device, datagrams from the UDP socket and from relays,
//! what the control plane tells ([`Mesh::set_self`], [`Mesh::upsert_peer`], …) and the time; it
//! gives back [`Output`]s to carry out and the [`Instant`](std::time::Instant) at which it wants to
//! be called again. Nothing in it opens a socket or reads a clock; the one exception is named in
//! [`wireguard`].
//!
//! A packet on its way out: [`routing`] finds the peer, the filter checks it, the peer's
//! [`tunnel`] seals it, the peer's path says where it goes: to an address that has proved itself, or
//! through the relay, or both while that is open. On its way in: [`demux`] tells discovery,
//! handshake and WireGuard apart, the tunnel opens it, the filter checks it against the peer it came
//! from, and only then it reaches the TUN device.
//!
//! A tunnel never starts without a preshared key: until the hybrid handshake has installed one, the
//! slot holds a random key that nobody else knows, packets wait in a short queue, and the WireGuard
//! handshake is not begun. When a key expires without a successor, the slot gets a random key again
//! and the session ends with it.
//!
//! Beside it, [`stock`] speaks plain WireGuard with devices that a gateway carries.

mod addresses;
mod config;
pub mod demux;
mod mesh;
mod output;
mod peer;
mod psk;
mod routing;
mod size;
mod status;
pub mod stock;
pub mod tunnel;
pub mod wireguard;

pub use config::{MeshConfig, SourceFilter};
pub use mesh::Mesh;
pub use output::{Event, Output};
pub use routing::RouteUse;
pub use status::{DropCounts, PeerStatus, PskStatus, Totals, Traffic};
