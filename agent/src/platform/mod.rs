//! What the agent needs of the operating system, one type per need.
//!
//! * [`Tun`]: the device that IP packets come from and go to.
//! * [`Interface`]: its addresses and routes.
//! * [`NetworkMonitor`]: the machine's own addresses, and when they change.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::{Addresses, Interface, NetworkMonitor, Tun, TunReader, TunWriter, allow_fragments};

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub ip: std::net::IpAddr,
    /// Whether its interface is a tunnel itself, another VPN's say.
    pub in_tunnel: bool,
}

/// MTU of the TUN device, in bytes: what jumbo frames of 9,000 bytes carry sealed. The mesh holds each
/// peer's packets to what that peer's path carries.
pub const TUN_MTU: u16 = 8928;
