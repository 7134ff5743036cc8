//! Other processes of this machine, by what Linux tells of them (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// This process's own program, even if another file has its name by now.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Whether two names are of one file.
#[must_use]
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// The file that a process runs, which may have no name any more.
#[must_use]
pub fn program(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// Its command line, without the program's name.
///
/// # Errors
/// There is no such process.
pub fn arguments(pid: u32) -> io::Result<Vec<OsString>> {
    let text = fs::read(format!("/proc/{pid}/cmdline"))?;
    let text = text.strip_suffix(&[0]).unwrap_or(&text);
    let words = text.split(|byte| *byte == 0).skip(1);
    Ok(words
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect())
}

/// Whether it has ended. One that nobody has waited for yet runs no program.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    fs::read_link(program(pid)).is_err()
}

/// Sends it a signal. That it has ended meanwhile is no error.
///
/// # Errors
/// The system refused.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    match kill(Pid::from_raw(pid), signal) {
        Err(Errno::ESRCH) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id();
        let sleep = fs::canonicalize(fs::read_link(program(pid)).unwrap()).unwrap();
        assert!(is_same_file(&program(pid), &sleep));
        assert!(!is_same_file(&program(pid), Path::new(OWN_PROGRAM)));
        assert!(!is_same_file(&program(pid), Path::new("/nowhere")));
        // It goes on before the system has all of the new program's words.
        while arguments(pid).unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(arguments(pid).unwrap(), ["600"]);
        assert!(!has_ended(pid));
        send(pid, Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(has_ended(pid));
        send(pid, Signal::SIGTERM).unwrap();
    }
}
