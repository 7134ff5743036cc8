//! `ztna uninstall`

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap::builder::FalseyValueParser;
use ztna_local::{Client, Request};

use super::running::Running;
use super::{need_administrator, ui};
use crate::platform::STATE_DIR;
use crate::platform::service::{self, PROGRAM};

/// Takes the tunnel down and removes the service and the program
///
/// The machine's keys and registration stay in /var/lib/ztna for the next time, unless --purge is
/// given. The organisation goes on listing the machine until somebody deletes it there; `ztna
/// logout --forget` does that first.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct UninstallArgs {
    /// Remove the machine's keys and registration, too
    #[arg(long, env = "ZTNA_PURGE", value_parser = FalseyValueParser::new())]
    purge: bool,
}

const EXAMPLES: &str = "Examples:
  sudo ztna uninstall
  sudo ztna logout --forget; sudo ztna uninstall --purge     nothing of it stays, here and in the organisation";

pub async fn run(socket: &Path, args: UninstallArgs) -> anyhow::Result<ExitCode> {
    need_administrator("`ztna uninstall`")?;
    let running = Running::find(socket).await?;
    if let Some(daemon) = &running {
        if !daemon.is_service() {
            daemon.can_be_restarted()?;
        }
        let down = async { Client::connect(socket).await?.ask(Request::Down).await };
        if let Err(error) = down.await {
            // A daemon that cannot do it ends all the same, and takes its tunnel along.
            ui::note(format_args!("{0}warning{0:#}: {error}", ui::WARN));
        }
    }
    if service::deregister()? {
        ui::line("the service ztna-agent is removed")?;
    }
    if let Some(daemon) = running {
        daemon.end().await?;
    }
    if removed(fs::remove_file(PROGRAM), PROGRAM)? {
        ui::line(format_args!("{PROGRAM} is removed"))?;
    }
    if args.purge {
        if removed(fs::remove_dir_all(STATE_DIR), STATE_DIR)? {
            ui::line("the machine's keys are removed; delete it from the organisation, too")?;
        }
    } else if Path::new(STATE_DIR).exists() {
        ui::line(format_args!(
            "the machine's keys are left in {STATE_DIR} (--purge removes them, too)"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there was something to remove.
fn removed(done: io::Result<()>, what: &str) -> anyhow::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {what}")),
    }
}
