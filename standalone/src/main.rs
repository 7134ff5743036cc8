//! `ztna-server`: a whole deployment in one process. Control plane and relay share one TCP port,
//! STUN has a UDP port, and the database is a PostgreSQL cluster of its own in the data directory.

mod args;
mod backup;
mod lock;
mod server;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// As `ztna-api` has.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Libraries speak up only when something is wrong.
const DEFAULT_LOG: &str = "info,refinery_core=warn,tokio_postgres=warn";

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = args::Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match args.command.take() {
        Some(command) => backup::run(command, &args).await,
        None => server::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
