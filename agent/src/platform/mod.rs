//! What the agent needs of the operating system, one type per need.
//!
//! * [`Tun`]: the device that IP packets come from and go to.
//! * [`Interface`]: its addresses and routes.
//! * [`NetworkMonitor`]: the machine's own addresses, and when they change.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::{Addresses, Interface, NetworkMonitor, Tun, TunReader, TunWriter};

/// MTU of the TUN device, in bytes: the least that IPv6 allows (RFC 8200 §5), so that a sealed
/// packet (60 to 80 bytes more) passes every path that carries IPv6 itself.
pub const TUN_MTU: u16 = 1280;
