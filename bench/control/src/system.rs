//! What the kernel knows of processes.

// Resource limits have no safe wrapper in std.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};

/// File descriptors for ten thousand agents and then some.
const NOFILE: u64 = 65_536;

/// Lets this process, and those that it starts, open [`NOFILE`] files.
pub fn raise_file_limit() -> io::Result<()> {
    // SAFETY: plain data in and out.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        let all = libc::rlimit {
            rlim_cur: NOFILE.max(limit.rlim_cur),
            rlim_max: NOFILE.max(limit.rlim_max),
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const all) == 0 {
            return Ok(());
        }
        // Not root: as much as is allowed.
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// CPU time that a process has used, by the scheduler's own count, which is in nanoseconds.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may end while we look.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += on_cpu.parse::<u64>().context("no schedstat")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS in /proc/PID/status")?
        .parse()?;
    Ok(kib * 1024)
}

/// Has a command end with the process that starts it.
pub fn end_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)));
    }
}
