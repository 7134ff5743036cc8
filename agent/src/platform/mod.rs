//! What the agent needs of the operating system, one type per need.
//!
//! * [`Tun`]: the device that IP packets come from and go to.
//! * [`Interface`]: its addresses and routes.
//! * [`Steer`]: routes for what lies behind peers.
//! * [`masquerade`] and [`switch_forwarding_on`]: this machine as a router.
//! * [`NetworkMonitor`]: the machine's own addresses, and when they change.
//! * [`health::Health`]: what it can tell of its own posture.

pub mod health;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::{
    Addresses, BYPASS_MARK, Behind, Families, Interface, LinuxHealth as ThisHealth, NetworkMonitor,
    Steer, Steering, Tun, TunReader, TunWriter, add_service_address, allow_fragments,
    check_forwarding, loosen_source_check, masquerade, on_link, remove_masquerade,
    restore_source_check, strict_source_check, switch_forwarding_on,
};

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
