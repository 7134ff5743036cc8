//! Starts a daemon that outlives the command.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};
use ztna_local::{Client, ClientError, Status};

use super::daemon::DaemonFlags;
use crate::platform::detach;

/// How long a daemon may take until it listens.
const WAIT: Duration = Duration::from_secs(10);
/// And one that the system starts until it answers.
const SERVICE_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What is read of a failed daemon's last words, in bytes.
const MAX_LAST_WORDS: u64 = 64 * 1024;

/// Starts a daemon in a session of its own and connects to it.
///
/// # Errors
/// The daemon ended at once (what it said), or does not listen in time.
pub async fn detached(socket: &Path, flags: &DaemonFlags) -> anyhow::Result<Client> {
    let program = std::env::current_exe().context("cannot find the ztna program's own file")?;
    let mut command = Command::new(&program);
    detach(&mut command);
    let mut daemon = command
        .arg("daemon")
        .arg("--detached")
        .arg("--socket")
        .arg(socket)
        .args(flags.args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Secrets of this command are none of the daemon's environment.
        .env_remove("ZTNA_AUTH_KEY")
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let until = Instant::now() + WAIT;
    loop {
        match Client::connect(socket).await {
            Ok(client) => return Ok(client),
            Err(ClientError::NotRunning(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if daemon.try_wait()?.is_some() {
            bail!(last_words(&mut daemon));
        }
        if Instant::now() >= until {
            bail!(
                "the ztna daemon does not answer at {}; see its log in {}",
                socket.display(),
                flags.state_dir.display()
            );
        }
        sleep(POLL).await;
    }
}

/// Waits until a daemon that the system starts answers, and gives what it says.
///
/// # Errors
/// None does in time.
pub async fn answer(socket: &Path) -> anyhow::Result<Status> {
    let until = Instant::now() + SERVICE_WAIT;
    loop {
        let asked = async { Client::connect(socket).await?.status().await };
        match asked.await {
            Ok(status) => return Ok(status),
            Err(ClientError::NotRunning(_) | ClientError::Ended) if Instant::now() < until => {}
            Err(error) => return Err(error.into()),
        }
        sleep(POLL).await;
    }
}

/// What a daemon said before it ended, without the program's name before it.
fn last_words(daemon: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = daemon.stderr.take() {
        // What was read counts, even if it is no more.
        let _ = stderr.take(MAX_LAST_WORDS).read_to_string(&mut text);
    }
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    match last {
        Some(line) => line.trim_start_matches(super::ui::ERROR_PREFIX).to_owned(),
        None => "the ztna daemon ended without a word; run `ztna daemon` to see why".to_owned(),
    }
}
