//! Keeps what is in this process's memory there: keys must not reach a core dump, another process, or
//! a swap device.
//!
//! All memory is locked, and not the pages of our own keys alone: WireGuard sessions, TLS and the
//! hybrid handshake hold secrets in memory that their libraries allocate, and copies pass over the
//! stack. A page is locked when it is first used (`MCL_ONFAULT`, mlockall(2)), so the daemon takes
//! no more memory than it would without.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::capabilities::{self, CAP_IPC_LOCK};

/// Where Linux lists its swap devices: a heading, then a line for each.
const SWAPS: &str = "/proc/swaps";

/// Closes the process's memory to others, for as long as it runs. Gives what a person should know if
/// the system does not let it.
pub fn protect() -> Option<String> {
    // Neither fails but where a sandbox forbids the call itself; then the sandbox is the protection.
    let _ = set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if lock() || !has_swap() {
        return None;
    }
    Some(
        "keys may be written to this machine's swap: the daemon may not lock its memory; give it \
         CAP_IPC_LOCK, or an unlimited RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
            .to_owned(),
    )
}

/// Locks all memory that the process has and will have. Under a limit that is less than all of it,
/// nothing is locked: a later allocation would be refused, and the daemon end with it.
fn lock() -> bool {
    let unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    if !unlimited && !capabilities::has(CAP_IPC_LOCK).unwrap_or(false) {
        return false;
    }
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT as libc::c_int);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).is_ok()
}

/// How much of this process is in memory, in bytes. `None`: the system does not tell.
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Whether there is anything to swap to. If nobody tells, there is.
fn has_swap() -> bool {
    std::fs::read_to_string(SWAPS).map_or(true, |list| list.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_knows_its_memory() {
        assert!(super::resident().is_some_and(|bytes| bytes > 100_000));
    }
}
