//! Files, users and the process itself, on Linux and macOS.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, getegid, geteuid, setegid, seteuid};
use tokio::signal::unix::{Signal, SignalKind, signal};

const PRIVATE_FOLDER: u32 = 0o700;

/// Whether this process may do everything.
pub fn is_administrator() -> bool {
    geteuid().is_root()
}

/// The system's own name.
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// The number of a user.
pub fn user_id(name: &str) -> Option<u32> {
    let user = User::from_name(name).ok().flatten()?;
    Some(user.uid.as_raw())
}

/// Makes a folder that nobody else can look into, or closes one.
///
/// # Errors
/// The system refused.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER))
}

/// Makes a person's folder, if it is not there, for that person alone.
///
/// # Errors
/// The system refused.
pub fn person_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(path)
}

/// The permissions of a file that is made.
pub fn file_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    options.mode(mode)
}

/// Waits until changes of a folder's entries are on the disk.
///
/// # Errors
/// The system refused.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether others than this user can read a file.
pub fn readable_by_others(file: &Metadata) -> bool {
    file.permissions().mode() & 0o077 != 0 || file.uid() != geteuid().as_raw()
}

/// The person who runs this command.
pub struct Person {
    /// The person's folder for configuration.
    pub config: PathBuf,
    /// The person, if this process runs as another user (root, by sudo).
    owner: Option<(Uid, Gid)>,
}

impl Person {
    /// The person who runs this command; under sudo, who typed it. `None`: without a home folder.
    pub fn calling() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(user) = sudo_user() {
            return Some(Self {
                config: user.dir.join(".config"),
                owner: Some((user.uid, user.gid)),
            });
        }
        let config = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(Self::with_config(config))
    }

    /// With another folder for configuration.
    pub fn with_config(config: PathBuf) -> Self {
        Self {
            config,
            owner: None,
        }
    }

    /// Does it with the rights of the person: what they may not touch, root does not touch for
    /// them by way of a link.
    ///
    /// # Errors
    /// That of the work, or the system refused.
    pub fn act<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let Some((uid, gid)) = self.owner else {
            return work();
        };
        let (own_uid, own_gid) = (geteuid(), getegid());
        setegid(gid)?;
        let result = match seteuid(uid) {
            Ok(()) => {
                let result = work();
                seteuid(own_uid).map(|()| result)
            }
            Err(error) => Err(error),
        };
        setegid(own_gid)?;
        result?
    }
}

/// Who typed sudo, if root was reached that way.
fn sudo_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let uid: u32 = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    (!user.uid.is_root()).then_some(user)
}

/// What tells the daemon to end.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// From now on.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Has a command that is to outlive this one start where nothing keeps a file system busy.
pub fn detach(command: &mut Command) {
    command.current_dir("/");
}

/// Takes this process out of the terminal that it was started in.
///
/// # Errors
/// It leads a group of processes.
pub fn leave_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Opens an address in the person's browser, if there is one that could show it.
pub fn open_browser(url: &str) {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_display = cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| is_set(name));
    // Browsers refuse to run as root.
    if !has_display || is_administrator() {
        return;
    }
    let opener = match cfg!(target_os = "macos") {
        true => OsStr::new("/usr/bin/open"),
        false => OsStr::new("xdg-open"),
    };
    // Without it the printed address has to do.
    let _ = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

/// Whether a datagram was larger than its path or its protocol lets it be.
pub fn is_too_big(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether datagrams that were refused together may pass one by one: some kernels and devices refuse
/// segmentation offload (EIO, EINVAL), and where datagrams are too large for the path (EMSGSIZE), the last one
/// may be shorter.
pub fn may_go_singly(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
    )
}
