//! `ztna update`
//!
//! Nothing of this machine is touched before the release's signature, its digest and the program itself are checked. The
//! program takes the old one's place in one step, and the old one stays beside it until the daemon is with the new one as
//! it was with the old one; else it comes back.

use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::FalseyValueParser;
use nix::fcntl::{Flock, FlockArg};
use semver::Version;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use ztna_local::{Client, ClientError, DaemonState, Status};
use ztna_proto::keys::hex;
use ztna_proto::releases::ClientVersion;

use super::release_key::{self, ReleaseKey};
use super::running::Running;
use super::{Json, ServerArgs, need_administrator, ui};
use crate::control::{Api, Server};
use crate::platform::service;

/// This program's version.
const OWN: &str = env!("CARGO_PKG_VERSION");
/// Largest release, in bytes, as the control plane has it.
const MAX_RELEASE: u64 = 512 * 1024 * 1024;
/// The daemon has to be well for so long.
const CALM: Duration = Duration::from_secs(3);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(500);
/// A program that says nothing for so long does not work.
const SAY_WAIT: Duration = Duration::from_secs(10);

const PROGRAM_MODE: u32 = 0o755;

/// Brings ztna to the release that the control plane has for this machine
///
/// Checks the release's signature, puts the program into its place, starts the daemon anew and
/// waits until it is as it was before. If it is not, the old program comes back by itself. The tunnel
/// is away for a moment. A new release may come to some machines first; an older one is never taken.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct UpdateArgs {
    /// Only tell whether there is a newer release; needs no root
    #[arg(long, env = "ZTNA_CHECK", value_parser = FalseyValueParser::new())]
    check: bool,
    /// Public key, in PEM, that releases are signed with; the installer leaves it here
    #[arg(long, env = "ZTNA_RELEASE_KEY", value_name = "FILE", default_value = release_key::PATH)]
    release_key: PathBuf,
    /// How long the daemon may take until it is as it was, in seconds
    #[arg(long, env = "ZTNA_UPDATE_WAIT", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna update --check
  sudo ztna update
  ztna update --check --json | jq .newer
  sudo ztna update --server https://ztna.example         where no daemon runs that knows its server";

/// What became of it.
#[derive(Serialize)]
struct Outcome<'a> {
    /// The version that was installed before.
    installed: &'a str,
    /// The one that the control plane has for this machine.
    offered: &'a str,
    newer: bool,
    updated: bool,
}

impl Outcome<'_> {
    fn tell(&self, json: &Json, text: &str) -> anyhow::Result<ExitCode> {
        match json.wanted {
            true => ui::json(self)?,
            false => ui::line(text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub async fn run(socket: &Path, args: UpdateArgs) -> anyhow::Result<ExitCode> {
    if !args.check {
        need_administrator("`ztna update`")?;
    }
    let before = match Client::connect(socket).await {
        Ok(client) => Some(client.status().await?),
        Err(ClientError::NotRunning(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let api = Api::new(server(&args.server, before.as_ref())?)?;
    let machine = before.as_ref().and_then(|status| status.this.as_ref());
    // As releases name it: linux-x86_64.
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let machine = machine.map(|this| this.id);
    let offer = api.client_version(&target, machine).await?;
    let offered = offer.version.as_str();
    let order = compare(offered, OWN)?;
    let mut outcome = Outcome {
        installed: OWN,
        offered,
        newer: order == Ordering::Greater,
        updated: false,
    };
    match order {
        Ordering::Equal => {
            let text = format!("ztna {OWN} is the release for this machine");
            return outcome.tell(&args.json, &text);
        }
        Ordering::Less if args.check => {
            let text = format!("this is ztna {OWN}; {offered}, which is offered, is older");
            return outcome.tell(&args.json, &text);
        }
        Ordering::Less => bail!(
            "{} offers ztna {offered}, which is older than this ztna {OWN}; nothing was changed, for old releases are never \
             taken: to go back, install it by hand",
            api.server().origin()
        ),
        Ordering::Greater if args.check => {
            let text = format!(
                "ztna {offered} is there for this machine (this is {OWN}); take it with `sudo ztna update`"
            );
            return outcome.tell(&args.json, &text);
        }
        Ordering::Greater => {}
    }
    let key = ReleaseKey::read(&args.release_key)
        .and_then(|text| ReleaseKey::parse(&text))
        .context(
            "nothing was changed; run install.sh of your operator again, or give --release-key",
        )?;
    // What a signature is good for is said in it, so what was asked for has to be what was answered.
    ensure!(
        offer.target == target,
        "{} answers with a release for {}, and this is {target}; tell its operator",
        api.server().origin(),
        offer.target
    );
    key.check(&offer)?;
    let running = Running::find(socket).await?;
    if let Some(daemon) = &running {
        daemon.can_be_restarted()?;
    }
    let place = Place::lock()?;
    let release = download(&api, &offer, &place).await?;
    // A terminal that goes away with the tunnel, or an impatient hand, must not leave it half done. What follows has an end.
    let _deaf = deaf()?;
    place.swap(release)?;
    if let Some(mut daemon) = running {
        let health = Health {
            program: &place.program,
            socket,
            before: before.as_ref(),
            wait: Duration::from_secs(args.wait),
        };
        if let Err(why) = health.restart(&mut daemon, offered).await {
            place.swap_back()?;
            let again = health.restart(&mut daemon, OWN).await;
            let hint = service::LOG_HINT;
            match again {
                Ok(()) => bail!(
                    "release {offered} does not work on this machine and was taken back: {why:#}. ztna {OWN} runs again; \
                     tell your operator, and see {hint}"
                ),
                Err(still) => bail!(
                    "release {offered} does not work on this machine ({why:#}); ztna {OWN} is installed again, and its \
                     daemon is not as it was: {still:#}. See {hint}"
                ),
            }
        }
    }
    place.forget_previous()?;
    outcome.updated = true;
    outcome.tell(
        &args.json,
        &format!("this is ztna {offered} now (it was {OWN})"),
    )
}

/// The control plane: the one that is named, else the daemon's.
fn server(args: &ServerArgs, status: Option<&Status>) -> anyhow::Result<Server> {
    if let Some(url) = &args.server {
        return Ok(Server::parse(
            url,
            args.server_pin.as_deref(),
            args.allow_http,
        )?);
    }
    let control = status.map(|status| &status.control);
    let url = control.and_then(|control| control.url.as_deref()).context(
        "no daemon runs that knows a control plane to ask; name it with --server, or start the daemon with `sudo ztna up`",
    )?;
    let pin = control.and_then(|control| control.pin.as_deref());
    Ok(Server::parse(url, pin, args.allow_http)?)
}

/// How a version stands to another, by the rules of semver.org §11.
fn compare(offered: &str, own: &str) -> anyhow::Result<Ordering> {
    let read = |text: &str| {
        Version::parse(text).with_context(|| {
            format!("the release {text:?} is no version of the form 1.2.3, so it cannot be told whether it is newer; tell your operator")
        })
    };
    Ok(read(offered)?.cmp_precedence(&read(own)?))
}

/// Keeps signals from ending this process.
fn deaf() -> anyhow::Result<[Signal; 3]> {
    let take = |kind| signal(kind).context("cannot receive signals");
    Ok([
        take(SignalKind::interrupt())?,
        take(SignalKind::terminate())?,
        take(SignalKind::hangup())?,
    ])
}

/// Where the program is, while this process alone may change it.
struct Place {
    program: PathBuf,
    previous: PathBuf,
    beside: PathBuf,
    folder: Flock<File>,
}

impl Place {
    /// Takes the folder of this process's own program.
    fn lock() -> anyhow::Result<Self> {
        let program = std::env::current_exe()
            .and_then(fs::canonicalize)
            .context("cannot find the ztna program's own file")?;
        Self::of(program)
    }

    fn of(program: PathBuf) -> anyhow::Result<Self> {
        let folder = program.parent().unwrap_or(Path::new("/"));
        let with = |end: &str| {
            let mut name = program.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let file =
            File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
        let folder = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("another `ztna update` is at work in {}", folder.display()))?;
        let (previous, beside) = (with(".previous"), with(".new"));
        Ok(Self {
            program,
            previous,
            beside,
            folder,
        })
    }

    /// Puts a file into the program's place; the program stays beside it.
    fn swap(&self, release: Release<'_>) -> anyhow::Result<()> {
        // Of an update that the machine's end cut off.
        let _ = fs::remove_file(&self.previous);
        fs::hard_link(&self.program, &self.previous)
            .and_then(|()| fs::rename(release.0, &self.program))
            .and_then(|()| self.folder.sync_all())
            .with_context(|| format!("cannot replace {}", self.program.display()))
    }

    /// Puts the old program back.
    fn swap_back(&self) -> anyhow::Result<()> {
        fs::rename(&self.previous, &self.program)
            .and_then(|()| self.folder.sync_all())
            .with_context(|| {
                let (from, to) = (self.previous.display(), self.program.display());
                format!("cannot put the old program back; do it with `sudo mv {from} {to}` and restart the daemon")
            })
    }

    fn forget_previous(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.previous)
            .with_context(|| format!("cannot remove {}", self.previous.display()))
    }
}

/// A program that was checked, until it is in its place.
struct Release<'a>(&'a Path);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        // Gone already, if it is in its place.
        let _ = fs::remove_file(self.0);
    }
}

/// Downloads a release beside the program and checks it: it is the signed one, it runs here, and it is what it is said to be.
async fn download<'a>(
    api: &Api,
    offer: &ClientVersion,
    place: &'a Place,
) -> anyhow::Result<Release<'a>> {
    let version = &offer.version;
    ensure!(
        offer.size <= MAX_RELEASE,
        "release {version} has {} bytes, which is more than ztna takes; tell your operator",
        offer.size
    );
    let cannot_write = || {
        format!(
            "cannot write {}; nothing was changed",
            place.beside.display()
        )
    };
    let _ = fs::remove_file(&place.beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&place.beside)
        .with_context(cannot_write)?;
    let release = Release(&place.beside);
    let mut hash = Sha256::new();
    let mut left = offer.size;
    let mut body = api.release(&offer.path).await?;
    while let Some(chunk) = body.chunk().await? {
        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
            break;
        };
        left = rest;
        hash.update(&chunk);
        file.write_all(&chunk).with_context(cannot_write)?;
    }
    ensure!(
        hex(&hash.finalize()) == offer.sha256,
        "what was downloaded is not the signed release {version}: it was changed on its way, or cut off; nothing was changed. \
         Start again, or tell your operator"
    );
    file.set_permissions(Permissions::from_mode(PROGRAM_MODE))
        .and_then(|()| file.sync_all())
        .with_context(cannot_write)?;
    // A file that is open for writing cannot be run.
    drop(file);
    let said = say(&place.beside, &["--version"]).await.with_context(|| {
        format!("release {version} does not run on this machine; nothing was changed")
    })?;
    ensure!(
        said.trim() == format!("ztna {version}"),
        "release {version} says of itself that it is {:?}; nothing was changed. Tell your operator",
        said.trim()
    );
    Ok(release)
}

/// What a program prints.
async fn say(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SAY_WAIT, output)
        .await
        .context("it does not end")??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{}",
            said.trim()
                .lines()
                .last()
                .unwrap_or("it failed without a word")
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether the daemon is as it was.
struct Health<'a> {
    program: &'a Path,
    socket: &'a Path,
    before: Option<&'a Status>,
    wait: Duration,
}

impl Health<'_> {
    /// Starts the daemon anew, and waits until it is as it was.
    async fn restart(&self, daemon: &mut Running, version: &str) -> anyhow::Result<()> {
        daemon.restart(self.program).await?;
        let until = Instant::now() + self.wait;
        let mut well: Option<(u32, Instant)> = None;
        loop {
            let seen = self.look(version).await;
            well = match (&seen, well) {
                (Ok(pid), Some((same, since))) if *pid == same => {
                    if since.elapsed() >= CALM {
                        return Ok(());
                    }
                    well
                }
                (Ok(pid), _) => Some((*pid, Instant::now())),
                (Err(_), _) => None,
            };
            // One that is well at the end gets the time to stay so.
            let late = well.map_or(until, |_| until + CALM + POLL);
            if Instant::now() >= late {
                seen?;
                bail!("its daemon ends again and again");
            }
            sleep(POLL).await;
        }
    }

    /// Its process, if it is well. What it says is read by its own program, which speaks its language.
    async fn look(&self, version: &str) -> anyhow::Result<u32> {
        let daemon = Running::find(self.socket).await?;
        let pid = daemon.context("its daemon does not answer")?.pid;
        let socket = self.socket.to_string_lossy();
        let text = say(self.program, &["status", "--json", "--socket", &socket]).await?;
        let status: Status =
            serde_json::from_str(&text).context("what its daemon says is not understood")?;
        ensure!(
            status.version == version,
            "the daemon is ztna {}, not {version}",
            status.version
        );
        if let Some(before) = self.before {
            check_state(before, &status)?;
        }
        Ok(pid)
    }
}

/// Whether a daemon does what the one before did.
fn check_state(before: &Status, now: &Status) -> anyhow::Result<()> {
    let was_up = before.state == DaemonState::Running;
    if was_up && now.state != DaemonState::Running {
        let why = if now.message.is_empty() {
            "it is coming up"
        } else {
            &now.message
        };
        bail!("its tunnel is not up: {why}");
    }
    if before.control.connected && !now.control.connected {
        let why = now.control.error.as_deref().unwrap_or("not yet");
        bail!("it has not reached the control plane: {why}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_local::ControlStatus;

    #[test]
    fn versions_are_compared_as_versions() {
        for (offered, own, order) in [
            ("0.2.0", "0.1.0", Ordering::Greater),
            ("0.10.0", "0.9.0", Ordering::Greater),
            ("0.2.0-rc.1", "0.2.0", Ordering::Less),
            ("0.1.0", "0.1.0", Ordering::Equal),
            ("0.1.0+build", "0.1.0", Ordering::Equal),
        ] {
            assert_eq!(compare(offered, own).unwrap(), order, "{offered} {own}");
        }
        let error = compare("latest", "0.1.0").unwrap_err();
        assert!(error.to_string().contains("tell your operator"));
    }

    #[test]
    fn a_daemon_is_well_if_it_does_what_it_did() {
        let status = |state, connected| Status {
            state,
            control: ControlStatus {
                connected,
                ..ControlStatus::default()
            },
            ..Status::default()
        };
        let up = status(DaemonState::Running, true);
        let cut_off = status(DaemonState::Running, false);
        let down = status(DaemonState::Stopped, false);
        for (before, now, well) in [
            (&up, &up, true),
            (&up, &cut_off, false),
            (&up, &down, false),
            (&cut_off, &cut_off, true),
            (&cut_off, &up, true),
            (&down, &down, true),
        ] {
            assert_eq!(check_state(before, now).is_ok(), well);
        }
    }

    #[test]
    fn a_program_is_swapped_whole_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ztna");
        fs::write(&program, "old").unwrap();
        let place = Place::of(program.clone()).unwrap();
        assert!(Place::of(program.clone()).is_err(), "one at a time");
        fs::write(&place.previous, "left behind").unwrap();
        fs::write(&place.beside, "new").unwrap();
        place.swap(Release(&place.beside)).unwrap();
        assert_eq!(fs::read_to_string(&program).unwrap(), "new");
        assert_eq!(fs::read_to_string(&place.previous).unwrap(), "old");
        place.swap_back().unwrap();
        assert_eq!(fs::read_to_string(&program).unwrap(), "old");
        fs::write(&place.beside, "bad").unwrap();
        drop(Release(&place.beside));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing else is left");
    }
}
