//! What this process may do beyond an ordinary one (capabilities(7)).

use anyhow::Context;

/// `CAP_NET_ADMIN`: TUN devices, addresses, routes (linux/capability.h).
pub const CAP_NET_ADMIN: u32 = 12;
/// `CAP_IPC_LOCK`: locking memory beyond `RLIMIT_MEMLOCK` (linux/capability.h).
pub const CAP_IPC_LOCK: u32 = 14;

const FILE: &str = "/proc/self/status";

/// Whether this process has a capability, by its bit.
///
/// # Errors
/// The system does not tell.
pub fn has(bit: u32) -> anyhow::Result<bool> {
    let status = std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .with_context(|| format!("{FILE} tells no capabilities"))?;
    Ok(effective >> bit & 1 == 1)
}
