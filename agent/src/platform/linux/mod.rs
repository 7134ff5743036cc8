//! Linux: `/dev/net/tun` with segmentation offload, and route netlink.

mod fragments;
mod interface;
mod network;
mod tun;

#[cfg(test)]
mod tests;

pub use fragments::allow_fragments;
pub use interface::{Addresses, Interface};
pub use network::NetworkMonitor;
pub use tun::{Tun, TunReader, TunWriter};
