//! `ztna install` and `ztna uninstall`, on macOS and Windows.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::FalseyValueParser;

#[cfg(target_os = "macos")]
use super::version;
use super::{need_administrator, start, ui};
use crate::platform::service;

/// Has the daemon start with the machine, as a service of the system
///
/// Running it again changes nothing but what is not so. It joins no network: that is `ztna up`.
#[derive(Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub struct InstallArgs {
    /// Do not start the service now, only with the machine
    #[arg(long, env = "ZTNA_NO_START", value_parser = FalseyValueParser::new())]
    no_start: bool,
}

const INSTALL_EXAMPLES: &str = "Examples:
  ztna install
  ztna install --no-start";

/// Ends the daemon and takes its service away; the machine's keys stay
#[derive(Args)]
#[command(after_help = UNINSTALL_EXAMPLES)]
pub struct UninstallArgs {}

const UNINSTALL_EXAMPLES: &str = "Examples:
  ztna uninstall";

/// Registers the program that is at its place, and has it run.
pub async fn install(socket: &Path, args: &InstallArgs) -> anyhow::Result<ExitCode> {
    need_administrator("`ztna install`")?;
    let program = service::program();
    let own = std::env::current_exe().context("cannot find the ztna program's own file")?;
    let is_there = || Some(own.canonicalize().ok()? == program.canonicalize().ok()?);
    if is_there() != Some(true) {
        // A service runs with all rights: nobody else may be able to change its program.
        bail!(
            "the service runs {}, and this is {}; put the program there, which only administrators \
             can write to, and run it from there",
            program.display(),
            own.display()
        );
    }
    // Windows does not let anybody replace a program that runs.
    #[cfg(target_os = "macos")]
    let before = version::running(socket).await;
    tell(&service::install(Path::new(&program), !args.no_start)?)?;
    if args.no_start {
        return Ok(ExitCode::SUCCESS);
    }
    #[cfg(target_os = "macos")]
    if before.is_some_and(|daemon| daemon.version != env!("CARGO_PKG_VERSION")) {
        service::restart()?;
    }
    let status = start::answer(socket)
        .await
        .context("the daemon was started and does not answer; look at its log")?;
    ui::line(format_args!("the daemon of ztna {} runs", status.version))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the service away.
pub fn uninstall() -> anyhow::Result<ExitCode> {
    need_administrator("`ztna uninstall`")?;
    tell(&service::uninstall()?)
}

fn tell(done: &[String]) -> anyhow::Result<ExitCode> {
    for line in done {
        ui::line(line)?;
    }
    Ok(ExitCode::SUCCESS)
}
