//! `ztna-stun`: the STUN service.

mod program;

use std::io::IsTerminal;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// One thread is enough for TCP and signals: UDP has its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = program::args::Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    program::run(args).await
}
