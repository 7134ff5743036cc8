//! Benchmarks of single crates: what one packet, one rule, one peer costs. One thread, no network.
//!
//! Results go to standard output, progress to standard error.

mod filter;
mod handshake;
mod mesh;
mod timing;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use ztna_bench_record::{Record, report};

/// Benchmarks of single crates: what one packet, one rule, one peer costs.
#[derive(Parser)]
#[command(name = "ztna-bench-micro", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run benchmarks and print their figures; fails unless all are ok
    Run(Options),
    /// Make something in this process, which holds nothing else, and print what memory it took
    #[command(hide = true)]
    Weigh {
        /// What
        what: Weight,
        /// How many of it
        count: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// The packet filter at 10, 1,000 and 50,000 rules
    Filter,
    /// The hybrid handshake, and floods of its first message
    Handshake,
    /// The mesh at 100 and 10,000 peers
    Mesh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Weight {
    /// Rules of a packet filter
    Rules,
    /// Peers of a mesh
    Peers,
}

#[derive(clap::Args)]
struct Options {
    /// Which; all if none is named
    benchmarks: Vec<Benchmark>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Runs per figure, of which the median counts
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ztna-bench-micro: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Run(options) => measure(&options),
        Command::Weigh { what, count } => {
            match what {
                Weight::Rules => filter::weigh_rules(count)?,
                Weight::Peers => mesh::weigh_peers(count)?,
            }
            Ok(true)
        }
    }
}

fn measure(options: &Options) -> Result<bool> {
    let wanted =
        |benchmark| options.benchmarks.is_empty() || options.benchmarks.contains(&benchmark);
    let mut records = Vec::new();
    type Run = fn(usize) -> Result<Vec<Record>>;
    let all: [(Benchmark, &str, Run); 3] = [
        (Benchmark::Filter, "filter", filter::run),
        (Benchmark::Handshake, "handshake", handshake::run),
        (Benchmark::Mesh, "mesh", mesh::run),
    ];
    for (benchmark, name, run) in all {
        if wanted(benchmark) {
            eprintln!("▶ {name}");
            let figures = run(options.runs);
            records.extend(figures.unwrap_or_else(|error| vec![Record::failed(name, &error)]));
        }
    }
    report(&records, options.json)
}
