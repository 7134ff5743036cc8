//! Benchmarks of ztna's relay and STUN service, each beside its peers on the same machine.
//!
//! Servers run as processes of their own on one CPU, the load generator on another. What a server
//! costs is read from the kernel. Results go to standard output, progress to standard error.

mod process;
mod relay;
mod stun;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use process::Cpus;
use ztna_bench_record::{Record, report};

/// Benchmarks of the relay and of the STUN service beside their peers.
#[derive(Parser)]
#[command(name = "ztna-bench", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run benchmarks and print their figures; fails unless all are ok
    Run(Options),
    /// Put the relay under everything at once for long, and see what it has kept of that
    Soak(relay::soak::Options),
    /// The bare echo server
    #[command(hide = true)]
    ServeEcho {
        /// Where
        address: SocketAddrV4,
    },
    /// The peer's server
    #[command(hide = true)]
    ServeIroh {
        /// Written when it is ready
        ready: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// The relay beside iroh-relay
    Relay,
    /// The STUN service beside coturn, Debian's stun-server and a bare echo server
    Stun,
}

#[derive(clap::Args)]
struct Options {
    /// Which; all if none is named
    benchmarks: Vec<Benchmark>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Runs per figure and server, of which the median counts
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Length of a run
    #[arg(long, default_value_t = 3.0, value_name = "N")]
    seconds: f64,
    #[command(flatten)]
    relay: relay::Options,
    #[command(flatten)]
    stun: stun::Options,
}

/// How long, and how often.
#[derive(Clone, Copy)]
struct Runs {
    count: usize,
    length: Duration,
    cpus: Cpus,
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
        Command::Run(options) => measure(&options),
        Command::Soak(options) => {
            let cpus = prepare()?;
            generator()?.block_on(relay::soak::run(&options, cpus))
        }
        Command::ServeEcho { address } => {
            stun::echo::serve(address)?;
            Ok(true)
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

fn measure(options: &Options) -> Result<bool> {
    let cpus = prepare()?;
    let runs = Runs {
        count: options.runs,
        length: Duration::from_secs_f64(options.seconds),
        cpus,
    };
    let wanted =
        |benchmark| options.benchmarks.is_empty() || options.benchmarks.contains(&benchmark);
    let mut records = Vec::new();
    if wanted(Benchmark::Relay) {
        let figures = generator()?.block_on(relay::run(&options.relay, runs));
        records.extend(figures.unwrap_or_else(|error| vec![Record::failed("relay", &error)]));
    }
    if wanted(Benchmark::Stun) {
        let figures = stun::run(&options.stun, runs);
        records.extend(figures.unwrap_or_else(|error| vec![Record::failed("stun", &error)]));
    }
    for record in &mut records {
        record.notes.push(cpus.describe());
    }
    report(&records, options.json)
}

fn prepare() -> Result<Cpus> {
    let cpus = Cpus::choose();
    process::raise_file_limit()?;
    cpus.pin_generator()?;
    eprintln!("▶ {}", cpus.describe());
    Ok(cpus)
}

/// The load generator has one CPU, and needs one thread.
fn generator() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
