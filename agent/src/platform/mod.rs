//! What the agent needs of the operating system, one type per need.
//!
//! * [`Tun`]: the device that IP packets come from and go to.
//! * [`Interface`]: its addresses and routes.
//! * [`Steer`]: routes for what lies behind peers.
//! * [`masquerade`] and [`switch_forwarding_on`]: this machine as a router.
//! * [`NetworkMonitor`]: the machine's own addresses, and when they change.
//! * [`keep_outside`], [`grow_buffers`], [`allow_fragments`]: options of sockets.
//! * [`health::Health`]: what it can tell of its own posture.
//! * [`service`]: the agent as a service of the system, and [`process`]: its daemon as a process.
//! * [`private_folder`], [`Person`], [`EndSignals`] and their like: files, users and the process itself.
//!
//! A folder per system, with the same names in each. What macOS and Windows have in common is in `portable`,
//! what Linux and macOS have in common in `unix`. What a system cannot do yet it refuses, by name: see
//! [`Unsupported`].

pub mod health;
#[cfg(target_os = "linux")]
mod linux;
// What needs no macOS is tested where the tests run.
#[cfg(any(target_os = "macos", all(test, target_os = "linux")))]
mod macos;
mod monitor;
#[cfg(not(target_os = "linux"))]
mod portable;
mod routing;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux::{
    Addresses, Interface, LinuxHealth as ThisHealth, STATE_DIR, Steer, TUN_NAME, Tun, TunReader,
    TunWriter, add_service_address, allow_fragments, check_forwarding, device_hint, grow_buffers,
    keep_outside, loosen_source_check, masquerade, may_make_devices, on_link, process,
    protect_memory, remove_masquerade, resident_memory, restore_source_check, service,
    strict_source_check, switch_forwarding_on,
};
#[cfg(target_os = "macos")]
pub use macos::{
    MacHealth as ThisHealth, NAME_RULES, NameRules, STATE_DIR, TUN_NAME, add_service_address,
    allow_fragments, device_hint, may_make_devices, protect_memory, remove_service_address,
    service,
};
pub use monitor::NetworkMonitor;
#[cfg(not(target_os = "linux"))]
pub use portable::{
    Addresses, Interface, Steer, Tun, TunReader, TunWriter, check_forwarding, grow_buffers,
    keep_outside, loosen_source_check, masquerade, on_link, remove_masquerade, resident_memory,
    restore_source_check, strict_source_check, switch_forwarding_on,
};
pub use routing::{Behind, Families, Steering};
#[cfg(unix)]
pub use unix::{
    EndSignals, Person, detach, file_mode, host_name, is_administrator, is_too_big, leave_terminal,
    may_go_singly, open_browser, person_folder, private_folder, readable_by_others, sync_folder,
    user_id,
};
#[cfg(windows)]
pub use windows::{
    EndSignals, NAME_RULES, NameRules, Person, STATE_DIR, TUN_NAME, WindowsHealth as ThisHealth,
    add_service_address, allow_fragments, detach, device_hint, file_mode, host_name,
    is_administrator, is_too_big, leave_terminal, may_go_singly, may_make_devices, open_browser,
    person_folder, private_folder, protect_memory, readable_by_others, remove_service_address,
    service, sync_folder, user_id,
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

/// The system, for people.
pub const SYSTEM: &str = match () {
    () if cfg!(target_os = "macos") => "macOS",
    () if cfg!(windows) => "Windows",
    () => "Linux",
};

/// What the agent does on Linux alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not on {system} yet; use a machine with Linux for it, or leave it out", system = SYSTEM)]
pub struct Unsupported {
    /// What was asked for.
    pub what: &'static str,
}

impl From<Unsupported> for std::io::Error {
    fn from(unsupported: Unsupported) -> Self {
        Self::new(std::io::ErrorKind::Unsupported, unsupported)
    }
}

/// Whether networks behind peers, exit nodes among them, can be routed into the tunnel: that takes datagrams
/// to peers that stay outside of it.
///
/// # Errors
/// Not on this system.
pub const fn can_steer() -> Result<(), Unsupported> {
    match cfg!(target_os = "linux") {
        true => Ok(()),
        false => Err(Unsupported {
            what: "reaching networks behind peers (--accept-routes, --exit-node)",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let unsupported = Unsupported {
            what: "flying (--fly)",
        };
        let error = std::io::Error::from(unsupported);
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            format!(
                "flying (--fly) is not on {SYSTEM} yet; use a machine with Linux for it, or leave it \
                 out"
            )
        );
        assert_eq!(can_steer().is_ok(), SYSTEM == "Linux");
    }
}
