//! One run of a scenario: its network, its programs, its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::net::{self, Net};

/// What a scenario has at hand.
pub struct Lab {
    /// The network, with nothing on it yet.
    pub net: Net,
    /// Where programs keep state and sockets; short, since socket paths are (`sockaddr_un`), and
    /// open to every user, since PostgreSQL does not run as root. Ends with the lab.
    pub state: tempfile::TempDir,
    /// One log per program.
    pub logs: PathBuf,
    programs: PathBuf,
}

impl Lab {
    /// Makes network and directories.
    ///
    /// # Errors
    /// Not root, or the directories cannot be made.
    pub fn new(scenario: &str) -> Result<Self> {
        let programs = program_dir()?;
        let logs = log_dir(&programs).join(scenario);
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", logs.display()));
            }
            _ => {}
        }
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self {
            net: Net::new()?,
            state: open_dir()?,
            logs,
            programs,
        })
    }

    /// Path of a program of ours, to be run inside a namespace.
    ///
    /// # Errors
    /// It is not built.
    pub fn program(&self, name: &str) -> Result<String> {
        program(&self.programs, name)
    }

    /// Log of a program.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// A directory for a program's state.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn state_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.state.path().join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

/// Path of a program of ours in a directory.
///
/// # Errors
/// It is not there.
pub fn program(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    if !path.is_file() {
        bail!(
            "{} is missing; build it with `cargo build --workspace --bins`",
            path.display()
        );
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Where our programs are: beside this one.
///
/// # Errors
/// This program does not know where it is.
pub fn program_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    Ok(own
        .parent()
        .context("this program has no directory")?
        .to_owned())
}

/// Logs go to `lab/` in Cargo's target directory, two levels above the programs.
fn log_dir(programs: &Path) -> PathBuf {
    programs.parent().unwrap_or(programs).join("lab")
}

/// A temporary directory that every user may pass through.
///
/// # Errors
/// It cannot be made.
pub fn open_dir() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix(&net::own_prefix())
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("cannot make a temporary directory")
}

/// Removes the temporary directories that labs of ended processes left behind, and with `own` those
/// of this one.
///
/// # Errors
/// One cannot be removed.
pub fn sweep_dirs(own: bool) -> Result<()> {
    let temp = std::env::temp_dir();
    for entry in
        std::fs::read_dir(&temp).with_context(|| format!("cannot read {}", temp.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if net::is_leftover(&name) || (own && name.starts_with(&net::own_prefix())) {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Sets what every program of a lab gets from its environment: the log level, and nothing of the
/// caller's `ZTNA_…` settings, which would change what a scenario runs.
pub fn set_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = name.to_string_lossy().starts_with("ZTNA_") && name != "ZTNA_POSTGRES_BIN";
        if own || name == "DATABASE_URL" {
            command.env_remove(&name);
        }
    }
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "info");
    }
    command.env("NO_COLOR", "1");
    // Namespaces share the machine's files: a scenario about names sets another.
    command.env("ZTNA_RESOLV_CONF", "/dev/null");
}
