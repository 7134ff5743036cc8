//! What the system tells of a running daemon's memory: locked, no core dump, closed to others.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A group that a process has only because a test gave it: how Linux tells a process that is closed to
/// others from one that is not. The files of the one in `/proc` are root's, whatever group it runs as
/// (proc(5), on `/proc/PID`).
const GROUP: u32 = 65_534;
/// Longest wait for the daemon's socket.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command
            .gid(GROUP)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(child.spawn().unwrap())
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap()
    }

    /// Group of its files in `/proc`.
    fn group(&self) -> u32 {
        let files = format!("/proc/{}/environ", self.0.id());
        std::fs::metadata(files).unwrap().gid()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The words of the line that begins so.
fn words(text: &str, begin: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    let line = line.unwrap_or_else(|| panic!("no line {begin:?} in {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_running_daemon_keeps_its_memory_to_itself() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can run the daemon");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ztna.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztna"));
    command.arg("--socket").arg(&socket).arg("daemon");
    command.arg("--state-dir").arg(folder.path().join("state"));
    let daemon = Running::start(&mut command);
    let ordinary = Running::start(Command::new("sleep").arg("60"));
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < PATIENCE, "the daemon does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }

    assert_eq!(ordinary.group(), GROUP, "an ordinary process is open");
    assert_eq!(daemon.group(), 0, "the daemon is open to others");
    let limits = words(&daemon.read("limits"), "Max core file size");
    assert_eq!(limits, ["0", "0", "bytes"]);

    let status = daemon.read("status");
    let kilobytes = |name: &str| words(&status, name)[0].parse::<u64>().unwrap();
    // Capability 14, CAP_IPC_LOCK, is missing in some containers.
    let capabilities = u64::from_str_radix(&words(&status, "CapEff:")[0], 16).unwrap();
    if capabilities >> 14 & 1 == 1 {
        let (locked, size) = (kilobytes("VmLck:"), kilobytes("VmSize:"));
        // What the kernel maps for itself (vvar, vdso, vsyscall) cannot be locked.
        assert!(locked + 64 >= size, "{locked} of {size} kB are locked");
        let resident = kilobytes("VmRSS:");
        assert!(resident < locked, "locked memory is taken as it is used");
    } else {
        eprintln!("skipped: no memory can be locked here");
    }
}
