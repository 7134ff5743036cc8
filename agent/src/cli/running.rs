//! The daemon that runs now, and starting it anew with another program.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::platform::{process, service};

/// How long a daemon may take to end, since it says goodbye to peers and relays; then it is killed.
const END_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A daemon that answers.
pub struct Running {
    /// Its process.
    pub pid: u32,
    keeper: Keeper,
}

/// By what it was started.
#[derive(Debug, PartialEq, Eq)]
enum Keeper {
    /// The system's service.
    Service,
    /// `ztna up`, with these arguments.
    Up(Vec<OsString>),
    /// A person, or a program that we do not know.
    Somebody,
}

impl Running {
    /// Finds it. `None`: nobody listens.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub async fn find(socket: &Path) -> anyhow::Result<Option<Self>> {
        let peer = match UnixStream::connect(socket).await {
            Ok(stream) => stream.peer_cred()?.pid(),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot reach the ztna daemon at {}", socket.display())
                });
            }
        };
        let pid = peer.and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.context("the system does not tell which process the ztna daemon is")?;
        let keeper = match service::process() {
            Some(main) if main == pid => Keeper::Service,
            _ => keeper(process::arguments(pid).unwrap_or_default()),
        };
        Ok(Some(Self { pid, keeper }))
    }

    /// Whether the system's service keeps it.
    pub fn is_service(&self) -> bool {
        self.keeper == Keeper::Service
    }

    /// Whether it runs this file, and not one that had its name before.
    pub fn runs(&self, program: &Path) -> bool {
        process::is_same_file(&process::program(self.pid), program)
    }

    /// Whether [`Running::restart`] can be tried.
    ///
    /// # Errors
    /// Somebody else started it, and has to end it.
    pub fn can_be_restarted(&self) -> anyhow::Result<()> {
        if self.keeper == Keeper::Somebody {
            bail!(
                "the ztna daemon that runs (process {}) was started by hand, or by a program that ztna does not know; \
                 stop it and start again",
                self.pid
            );
        }
        Ok(())
    }

    /// Ends it, and starts the file that has the program's name now. Its tunnel comes up again if it was up.
    ///
    /// # Errors
    /// It does not end, or the new one does not start.
    pub async fn restart(&mut self, program: &Path) -> anyhow::Result<()> {
        match &self.keeper {
            Keeper::Service => service::restart(),
            Keeper::Up(arguments) => {
                self.end().await?;
                self.pid = start(program, arguments)?;
                Ok(())
            }
            Keeper::Somebody => self.can_be_restarted(),
        }
    }

    /// Ends it. Its tunnel goes down with it, and comes back with the next one.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end(&self) -> anyhow::Result<()> {
        if process::has_ended(self.pid) {
            return Ok(());
        }
        let cannot = || format!("cannot end the ztna daemon (process {})", self.pid);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            process::send(self.pid, signal).with_context(cannot)?;
            let until = Instant::now() + END_WAIT;
            while Instant::now() < until {
                if process::has_ended(self.pid) {
                    return Ok(());
                }
                sleep(POLL).await;
            }
        }
        bail!(
            "the ztna daemon (process {}) does not end, not even when it is killed; restart this machine",
            self.pid
        );
    }
}

fn keeper(arguments: Vec<OsString>) -> Keeper {
    match arguments.iter().any(|word| word == "--detached") {
        true => Keeper::Up(arguments),
        false => Keeper::Somebody,
    }
}

/// Its process.
fn start(program: &Path, arguments: &[OsString]) -> anyhow::Result<u32> {
    let started = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_remove("ZTNA_AUTH_KEY")
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(started.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_daemon_is_known_by_how_it_was_started() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let up = words("daemon --detached --socket /run/ztna/ztna.sock");
        assert_eq!(keeper(up.clone()), Keeper::Up(up));
        assert_eq!(keeper(words("daemon")), Keeper::Somebody);
    }

    #[tokio::test]
    async fn where_nobody_listens_no_daemon_runs() {
        let folder = tempfile::tempdir().unwrap();
        let found = Running::find(&folder.path().join("none")).await.unwrap();
        assert!(found.is_none());
    }
}
