//! The daemon's log: standard error, or a file with a bound on its size.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::platform::file_mode;

/// Name of the file, and of the one before it with `.1` behind.
pub const LOG_FILE: &str = "ztna.log";
/// A file larger than this, in bytes, is moved to `.1`, in place of the one before.
const MAX_SIZE: u64 = 10 * 1024 * 1024;

/// What is always in force beside `RUST_LOG`, unless that names the same target: netlink warns of
/// each message that comes when nobody listens any more, as the daemon's own routes go at its end.
const QUIET: &str = "netlink_proto=error";

/// Starts logging: to `file`, or to standard error. `RUST_LOG` chooses what; INFO by default.
///
/// # Errors
/// The file cannot be written.
pub fn init(file: Option<&Path>) -> anyhow::Result<()> {
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let filter = chosen.and_then(|chosen| EnvFilter::try_new(format!("{QUIET},{chosen}")).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("{QUIET},info")));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match file {
        Some(path) => {
            let writer = BoundedFile::open(path, MAX_SIZE)
                .with_context(|| format!("cannot write the log {}", path.display()))?;
            log.with_ansi(false).with_writer(Mutex::new(writer)).init();
        }
        None => log
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .init(),
    }
    Ok(())
}

/// Appends to a file, and begins a new one when it is full.
struct BoundedFile {
    path: PathBuf,
    file: File,
    size: u64,
    max: u64,
}

impl BoundedFile {
    fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = file_mode(OpenOptions::new().create(true).append(true), 0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        *self = Self::open(&self.path, self.max)?;
        Ok(())
    }
}

impl Write for BoundedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.max {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_hold_the_newest_lines_within_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG_FILE);
        let mut log = BoundedFile::open(&path, 100).unwrap();
        for number in 0..50 {
            log.write_all(format!("line {number:02}\n").as_bytes())
                .unwrap();
        }
        let new = std::fs::read_to_string(&path).unwrap();
        let old = std::fs::read_to_string(folder.path().join("ztna.log.1")).unwrap();
        assert!(new.len() <= 100 && old.len() <= 100);
        assert!(new.ends_with("line 49\n"));
        let both = old + &new;
        let count = both.lines().count();
        assert!(
            both.starts_with(&format!("line {:02}\n", 50 - count)),
            "{both}"
        );
        // A restart goes on where it was.
        let log = BoundedFile::open(&path, 100).unwrap();
        assert_eq!(log.size, new.len() as u64);
    }
}
