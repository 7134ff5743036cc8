//! The cluster's folder, held open.
//!
//! `/proc/self/fd/N` leads to the folder itself, whatever is above it: the server's account need not
//! be able to enter the folders on the way (`/root`, say), and the socket's path stays far below the
//! 107 bytes that fit into a socket address (unix(7)).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PgError;
use crate::error::Context;

/// An open folder.
pub(crate) struct Folder(File);

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, PgError> {
        File::open(path).map(Self).context("cannot open", path)
    }

    /// What holds it open.
    pub(crate) fn into_file(self) -> File {
        self.0
    }

    /// The path of an entry: in this process, and in those that [`Folder::pass_to`] was told of.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    /// Has the command's process inherit the folder, under the same number. The folder must stay
    /// open until the process has started.
    #[allow(unsafe_code)]
    pub(crate) fn pass_to(&self, command: &mut Command) {
        let fd = self.0.as_raw_fd();
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe, and
        // nothing is allocated.
        unsafe {
            command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
    }
}
