//! The daemon's folder: for root alone (0700), with a lock that one daemon holds, and files that are replaced whole
//! or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::platform::{file_mode, private_folder, sync_folder};

const FILE_MODE: u32 = 0o600;
const LOCK_FILE: &str = "lock";

/// Largest file that is read: a netmap of a very large org.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// The daemon's folder, while this process holds its lock.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder if it is missing and locks it.
    ///
    /// # Errors
    /// Another daemon holds the lock, or the system refused.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        private_folder(path).with_context(|| {
            format!(
                "cannot use the state folder {}; run as root or choose another with --state-dir",
                path.display()
            )
        })?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = file_mode(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false),
            FILE_MODE,
        )
        .open(&lock_path)
        .with_context(|| format!("cannot open {}", lock_path.display()))?;
        let mut holder = String::new();
        // Only for the message.
        let _ = (&mut lock).take(32).read_to_string(&mut holder);
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another ztna daemon (process {}) uses {}; use it (`ztna status`), or choose \
                 another folder with --state-dir",
                holder.trim(),
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)
            .and_then(|()| io::Seek::rewind(&mut lock))
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", lock_path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Path of a file in the folder.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a file. `None`: there is none.
    ///
    /// # Errors
    /// The system refused, or the file is larger than any that was written here.
    pub fn read(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let file = match File::open(self.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        if size > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has {size} bytes, and at most {MAX_FILE} are read"),
            ));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0)));
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Replaces a file: after a crash at any moment, either the old or the new one is there, whole.
    ///
    /// # Errors
    /// The system refused; the old file is as it was.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace_file(&self.join(name), bytes, FILE_MODE)
    }

    /// Removes a file. That there is none is no error.
    ///
    /// # Errors
    /// The system refused.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync_folder(&self.path)
    }

    /// Moves a file that cannot be used out of the way, where nothing overwrites it, and tells
    /// where to.
    ///
    /// # Errors
    /// The system refused; the file is where it was.
    pub fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        for attempt in 0..u32::MAX {
            let suffix = if attempt == 0 {
                String::new()
            } else {
                format!("-{attempt}")
            };
            let aside = self.join(&format!("{name}.corrupt-{stamp}{suffix}"));
            // A link, unlike a rename, never replaces a file.
            match fs::hard_link(self.join(name), &aside) {
                Ok(()) => {
                    self.remove(name)?;
                    return Ok(aside);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Replaces a file in its folder: written beside it, flushed, renamed, folder flushed.
///
/// # Errors
/// The system refused; the old file is as it was.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    // Left by a process with our id that died between two steps.
    let _ = fs::remove_file(&beside);
    let written = (|| {
        let mut file =
            file_mode(OpenOptions::new().write(true).create_new(true), mode).open(&beside)?;
        // Whatever the caller's umask is.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&beside, path)?;
        sync_folder(folder)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::fs::Permissions;
    #[cfg(unix)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_daemon_holds_a_folder_and_the_next_is_told_which() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ztna");
        let first = StateDir::open(&path).unwrap();
        let Err(error) = StateDir::open(&path) else {
            panic!("two daemons hold one folder");
        };
        assert_eq!(
            error.to_string(),
            format!(
                "another ztna daemon (process {}) uses {}; use it (`ztna status`), or choose \
                 another folder with --state-dir",
                std::process::id(),
                path.display()
            )
        );
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_files_are_private_even_if_they_were_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ztna");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let dir = StateDir::open(&path).unwrap();
        dir.write("state.json", b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&dir.join("state.json")), 0o600);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        dir.write("state.json", b"old").unwrap();
        // A folder in the way makes the rename fail after everything was written.
        fs::create_dir(dir.join("taken")).unwrap();
        fs::write(dir.join("taken/file"), b"").unwrap();
        assert!(dir.write("taken", b"new").is_err());
        assert_eq!(dir.read("state.json").unwrap().unwrap().as_slice(), b"old");
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".new-"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn readers_see_the_old_or_the_new_file_and_never_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
        dir.write("state.json", &contents[0]).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..50 {
                    dir.write("state.json", &contents[round % 2]).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let read = dir.read("state.json").unwrap().unwrap();
                assert!(contents.contains(&read));
            }
        });
    }

    #[test]
    fn what_is_set_aside_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let mut kept = Vec::new();
        for content in ["one", "two", "three"] {
            dir.write("state.json", content.as_bytes()).unwrap();
            kept.push((dir.set_aside("state.json").unwrap(), content));
            assert!(dir.read("state.json").unwrap().is_none());
        }
        for (path, content) in kept {
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }
}
