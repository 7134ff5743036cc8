//! One server per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Holds the data directory; the system lets go of it when the process ends, however it ends.
pub struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Takes the data directory.
    ///
    /// # Errors
    /// Another server has it; the message says which.
    pub fn take(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "another ztna-server (process {}) runs on {}; stop it, or choose another --data-dir",
                    pid.trim(),
                    data_dir.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }
}
