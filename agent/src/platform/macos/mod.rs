//! macOS: utun, `/etc/resolver`, and posture from the system's own programs.
#![cfg_attr(not(target_os = "macos"), allow(dead_code))] // Tested where there is no macOS.

mod health;
mod resolver;
pub mod service;
#[cfg(target_os = "macos")]
mod system;

#[cfg(target_os = "macos")]
pub use health::MacHealth;
#[cfg(target_os = "macos")]
pub use resolver::{NAME_RULES, NameRules};
#[cfg(target_os = "macos")]
pub use system::{
    add_service_address, allow_fragments, device_hint, may_make_devices, protect_memory,
    remove_service_address,
};

/// The daemon's folder if nothing else is said.
pub const STATE_DIR: &str = "/var/db/ztna";
/// The tunnel device's name if nothing else is said: the next free one.
pub const TUN_NAME: &str = "utun";
