//! Benchmark of the control plane: simulated agents on real sockets against `ztna-api` processes with a
//! PostgreSQL and a Valkey of their own, all on this machine.
//!
//! An agent here is a connection that keeps the map's hashes and checks each message against them; it
//! has no tunnel. Results go to standard output, progress to standard error.

mod agent;
mod board;
mod deployment;
mod fleet;
mod heartbeats;
mod http;
mod rows;
mod setup;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ztna_bench_record::{Record, report};

/// Sizes of a whole run: agents of one org.
const SIZES: &[usize] = &[1000, 3000, 10_000];

#[derive(Parser)]
#[command(name = "ztna-bench-control", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmark and print its figures; fails unless all are ok
    Run(Options),
}

#[derive(clap::Args)]
struct Options {
    /// Which; there is one
    #[arg(value_parser = ["control"])]
    benchmarks: Vec<String>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Agents of the org, smallest first; each size is measured by itself
    #[arg(long, value_delimiter = ',', default_values_t = SIZES.to_vec(), value_name = "N,…")]
    agents: Vec<usize>,
    /// The control plane
    #[arg(long, value_name = "PATH")]
    ztna_api: PathBuf,
}

fn main() -> ExitCode {
    let Command::Run(options) = Args::parse().command;
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ztna-bench-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    system::raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let records = runtime.block_on(rows::run(&options.ztna_api, &options.agents));
    let records = records.unwrap_or_else(|error| vec![Record::failed("control", &error)]);
    report(&records, options.json)
}
