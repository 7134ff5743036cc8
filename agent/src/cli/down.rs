//! `ztna down`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use ztna_local::{Client, Request};

/// Takes the tunnel down; the machine stays registered
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DownArgs {}

const EXAMPLES: &str = "Examples:
  sudo ztna down";

pub async fn run(socket: &Path, _args: DownArgs) -> anyhow::Result<ExitCode> {
    Client::connect(socket).await?.ask(Request::Down).await?;
    Ok(ExitCode::SUCCESS)
}
