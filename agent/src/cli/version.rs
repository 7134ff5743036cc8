//! `ztna version`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use ztna_local::{Answer, Client, Request, VersionAnswer};

use super::{Json, ui};

/// Prints the version of this command and of the running daemon
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct VersionArgs {
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna version
  ztna version --json";

pub async fn run(socket: &Path, args: VersionArgs) -> anyhow::Result<ExitCode> {
    let own = env!("CARGO_PKG_VERSION");
    let daemon = running(socket).await;
    if args.json.wanted {
        ui::json(&json!({ "version": own, "daemon": daemon }))?;
        return Ok(ExitCode::SUCCESS);
    }
    ui::line(format_args!("ztna {own}"))?;
    match daemon {
        Some(daemon) if daemon.version == own => {}
        Some(daemon) => ui::line(format_args!(
            "daemon {}; restart it to use {own}",
            daemon.version
        ))?,
        None => ui::line("no daemon is running")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The daemon's version; a daemon that does not run or does not understand has none.
pub async fn running(socket: &Path) -> Option<VersionAnswer> {
    let client = Client::connect(socket).await.ok()?;
    match client.ask(Request::Version).await.ok()? {
        Answer::Version(version) => Some(version),
        _ => None,
    }
}
