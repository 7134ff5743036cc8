//! What an earlier server left behind: a process, backends without a parent, a lock file.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PgError;
use crate::error::Context;

/// A server that lost its parent shuts down by itself; it gets this long …
const WAIT_ALONE: Duration = Duration::from_secs(20);
/// … then it is interrupted, and gets this long (a fast shutdown writes a checkpoint) …
const WAIT_INTERRUPTED: Duration = Duration::from_secs(30);
/// … then it is told to drop everything (the next start recovers).
const WAIT_QUIT: Duration = Duration::from_secs(10);
/// Beside the server's socket.
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";
const POLL: Duration = Duration::from_millis(50);

/// Waits until no process works in `data` and removes the lock files that a crash left there and in
/// `run`, the socket's folder.
///
/// The lock file alone proves nothing: after a reboot its number may be a stranger's, and backends
/// outlive a killed postmaster. Every server process has the data folder as its working directory,
/// so that is what is looked at.
///
/// # Errors
/// A process stays.
pub(crate) fn clear(data: &Path, run: &Path) -> Result<(), PgError> {
    let stages = [
        (None, WAIT_ALONE),
        (Some(Signal::SIGINT), WAIT_INTERRUPTED),
        (Some(Signal::SIGQUIT), WAIT_QUIT),
    ];
    let mut told = false;
    for (signal, wait) in stages {
        let deadline = Instant::now() + wait;
        let Some(pid) = process_in(data) else { break };
        if !told {
            tracing::info!(
                pid,
                "waiting for the database server of an earlier run to end"
            );
            told = true;
        }
        if let Some(signal) = signal {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(postmaster(data).unwrap_or(pid)), signal);
        }
        while process_in(data).is_some() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
    if let Some(pid) = process_in(data) {
        return Err(PgError::Busy {
            data: data.to_owned(),
            pid,
        });
    }
    // The lock files name a process by number only: a zombie's, or a stranger's after a reboot, would
    // keep the next server from starting.
    let crashed = remove(&data.join("postmaster.pid"))?;
    remove(&run.join(SOCKET_LOCK))?;
    if crashed {
        tracing::info!("the database server did not end cleanly last time; it recovers now");
    }
    Ok(())
}

/// Whether the file was there.
fn remove(path: &Path) -> Result<bool, PgError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot remove", path),
    }
}

/// The postmaster that the lock file names, if that process does work in `data`.
fn postmaster(data: &Path) -> Option<i32> {
    let lock = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = lock.lines().next()?.trim().parse().ok()?;
    (pid > 1 && works_in(pid, data)).then_some(pid)
}

/// Any process whose working directory is `data`.
fn process_in(data: &Path) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| works_in(*pid, data))
}

fn works_in(pid: i32, data: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        && std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim().starts_with("postgres"))
}
