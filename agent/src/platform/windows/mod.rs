//! Windows: Wintun, name resolution policy rules, and posture from the registry.

#![allow(unsafe_code)] // System calls, each with its reason.

mod address;
mod health;
mod names;
pub mod service;
mod socket;
mod system;

pub use address::{add_service_address, remove_service_address};
pub use health::WindowsHealth;
pub use names::{NAME_RULES, NameRules};
pub use socket::{allow_fragments, ignore_unreachable, is_too_big, may_go_singly};
pub use system::{
    EndSignals, Person, detach, device_hint, file_mode, host_name, is_administrator,
    leave_terminal, may_make_devices, open_browser, person_folder, private_folder, protect_memory,
    readable_by_others, sync_folder, user_id, wintun_file,
};

/// The daemon's folder if nothing else is said.
pub const STATE_DIR: &str = r"C:\ProgramData\ztna";
/// The tunnel device's name if nothing else is said.
pub const TUN_NAME: &str = "ztna0";
