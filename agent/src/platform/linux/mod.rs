//! Linux: `/dev/net/tun` with segmentation offload, route netlink, and posture from files.

mod forward;
mod fragments;
mod health;
mod interface;
mod network;
mod on_link;
mod steer;
mod tun;

#[cfg(test)]
mod steer_tests;
#[cfg(test)]
mod tests;

pub use forward::{
    Behind, Families, check as check_forwarding, loosen_source_check, masquerade,
    remove as remove_masquerade, restore_source_check, strict_source_check,
    switch_on as switch_forwarding_on,
};
pub use fragments::allow_fragments;
pub use health::LinuxHealth;
pub use interface::{Addresses, Interface, add_service_address};
pub use network::NetworkMonitor;
pub use on_link::on_link;
pub use steer::{BYPASS_MARK, Steer, Steering};
pub use tun::{Tun, TunReader, TunWriter};
