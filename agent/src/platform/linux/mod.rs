//! Linux: `/dev/net/tun` with segmentation offload, route netlink, posture from files, and a service of systemd.

mod capabilities;
mod forward;
mod fragments;
mod health;
mod interface;
mod memory;
mod network;
mod on_link;
pub mod process;
pub mod service;
mod socket;
mod steer;
mod tun;

#[cfg(test)]
mod steer_tests;
#[cfg(test)]
mod tests;

pub use forward::{
    check as check_forwarding, loosen_source_check, masquerade, remove as remove_masquerade,
    restore_source_check, strict_source_check, switch_on as switch_forwarding_on,
};
pub use fragments::allow_fragments;
pub use health::LinuxHealth;
pub use interface::{Addresses, Interface, add_service_address};
pub use memory::{protect as protect_memory, resident as resident_memory};
pub use on_link::on_link;
pub use socket::{grow_buffers, keep_outside};
pub use steer::Steer;
pub use tun::{Tun, TunReader, TunWriter, hint as device_hint};

/// The daemon's folder if nothing else is said.
pub const STATE_DIR: &str = "/var/lib/ztna";
/// The tunnel device's name if nothing else is said.
pub const TUN_NAME: &str = "ztna0";

/// Whether this process may make devices and set addresses and routes; if not, why and what to do.
///
/// # Errors
/// The system does not tell.
pub fn may_make_devices() -> anyhow::Result<Result<(), &'static str>> {
    Ok(match capabilities::has(capabilities::CAP_NET_ADMIN)? {
        true => Ok(()),
        false => Err("the ztna daemon needs root to make the tunnel device; run it with sudo"),
    })
}
