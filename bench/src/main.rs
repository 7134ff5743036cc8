//! Benchmarks of ztna's relay and STUN service, each beside its peers on the same machine.
//!
//! Servers run as processes of their own on one CPU, the load generator on another. What a server
//! costs is read from the kernel. Results go to standard output, progress to standard error.

mod process;
mod record;
mod relay;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use process::Cpus;

/// Benchmarks of the relay and of the STUN service beside their peers.
#[derive(Parser)]
#[command(name = "ztna-bench", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The relay beside iroh-relay
    Relay {
        #[command(flatten)]
        options: relay::Options,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// The peer's server
    #[command(hide = true)]
    ServeIroh {
        /// Written when it is ready
        ready: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ztna-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Relay { options, json } => {
            let cpus = prepare()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let records = runtime.block_on(relay::run(&options, cpus))?;
            record::report(&records, json)
        }
        Command::ServeIroh { ready } => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(relay::iroh::serve(&ready))?;
            Ok(true)
        }
    }
}

fn prepare() -> Result<Cpus> {
    let cpus = Cpus::choose();
    process::raise_file_limit()?;
    cpus.pin_generator()?;
    eprintln!("▶ {}", cpus.describe());
    Ok(cpus)
}
