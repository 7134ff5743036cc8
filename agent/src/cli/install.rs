//! `ztna install`

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap::builder::FalseyValueParser;

use super::running::Running;
use super::{need_administrator, start, ui};
use crate::daemon::replace_file;
use crate::platform::process::{OWN_PROGRAM, is_same_file};
use crate::platform::service::{self, PROGRAM};

const PROGRAM_MODE: u32 = 0o755;

/// Installs this program and has its daemon start with the machine, as a service of the system
///
/// Copies the program that you run to /usr/local/bin/ztna, registers the service ztna-agent
/// (systemd) and starts it. Running it again brings everything to the program that you run, and
/// changes nothing that is so already. It joins no network: that is `ztna up`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InstallArgs {
    /// Do not start the service now, only with the machine
    #[arg(long, env = "ZTNA_NO_START", value_parser = FalseyValueParser::new())]
    no_start: bool,
    /// Install the program alone; a daemon that `ztna up` started goes on with it
    #[arg(long, env = "ZTNA_NO_SERVICE", value_parser = FalseyValueParser::new())]
    no_service: bool,
}

const EXAMPLES: &str = "Examples:
  sudo ./ztna install                                    from the folder that it was downloaded to
  sudo ztna install --no-start
  sudo ztna up --server https://ztna.example             afterwards, to join";

pub async fn run(socket: &Path, args: InstallArgs) -> anyhow::Result<ExitCode> {
    need_administrator("`ztna install`")?;
    // Nothing is changed on a machine that has no place for a service.
    if !args.no_service {
        service::check()?;
    }
    let running = Running::find(socket).await?;
    if let Some(running) = &running {
        running.can_be_restarted()?;
    }
    let program = Path::new(PROGRAM);
    place_program(program)?;
    let mut changed = false;
    if !args.no_service {
        changed = service::register()?;
        ui::line("the service ztna-agent starts with the machine")?;
    }
    let by_service = !args.no_service && service::is_in_charge();
    if !by_service && !args.no_service {
        ui::line("systemd does not run now; until it does, `sudo ztna up` starts the daemon")?;
    }
    if args.no_start {
        return Ok(ExitCode::SUCCESS);
    }
    match running {
        Some(daemon) if by_service && !daemon.is_service() => {
            daemon.end().await?;
            service::restart()?;
        }
        Some(mut daemon) if changed || !daemon.runs(program) => daemon.restart(program).await?,
        None if by_service => service::restart()?,
        Some(_) | None => return Ok(ExitCode::SUCCESS),
    }
    let status = start::answer(socket).await.with_context(|| {
        let hint = service::LOG_HINT;
        format!("the daemon was started and does not answer; see {hint}")
    })?;
    ui::line(format_args!("the daemon of ztna {} runs", status.version))?;
    Ok(ExitCode::SUCCESS)
}

/// Puts this program where the service expects it.
fn place_program(program: &Path) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let (own, place) = (Path::new(OWN_PROGRAM), program.display());
    if is_same_file(own, program) {
        return Ok(());
    }
    let bytes = fs::read(own).context("cannot read the ztna program's own file")?;
    if fs::read(program).is_ok_and(|there| there == bytes) {
        return Ok(ui::line(format_args!("{place} is ztna {version} already"))?);
    }
    replace_file(program, &bytes, PROGRAM_MODE).with_context(|| format!("cannot write {place}"))?;
    Ok(ui::line(format_args!("{place} is ztna {version} now"))?)
}
