//! `ztna-lab`: whole-system tests in network namespaces, and the demo of `./dev up`.
#![allow(clippy::print_stdout)]

mod agent;
mod api;
mod database;
mod demo;
mod deploy;
mod lab;
mod logs;
mod measure;
mod net;
mod program;
mod record;
mod scenarios;
mod signal;
mod tools;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

/// Whole-system tests in network namespaces.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  ztna-lab list\n  ztna-lab run cone-cone hard-hard\n  ztna-lab run --json > records.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Lists the scenarios.
    List,
    /// Runs scenarios, all if none is named; exits 0 only if every one is as it must be.
    Run {
        /// Names of scenarios
        scenarios: Vec<String>,
        /// Print an array of records on standard output
        #[arg(long)]
        json: bool,
    },
    /// Shows three machines behind different NATs in an org of a running ztna-server.
    Demo(demo::DemoArgs),
    /// What labs run inside their namespaces.
    #[command(subcommand, hide = true)]
    Tool(ToolCommand),
}

#[derive(Subcommand)]
enum ToolCommand {
    /// One end of a stream of numbered packets
    Stream(tools::stream::StreamArgs),
    /// One end of a hole punch
    Punch(tools::punch::PunchArgs),
    /// Counts UDP packets
    Listen(tools::listen::ListenArgs),
    /// A machine that does not filter what it sends
    Rogue(tools::rogue::RogueArgs),
    /// Tells everybody the address that they come from
    Reflect {
        /// Own address and port
        #[arg(long)]
        bind: SocketAddr,
    },
}

fn main() -> ExitCode {
    let result = dispatch(Cli::parse().command);
    signal::yield_to_end();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ztna-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Commands) -> Result<ExitCode> {
    match command {
        Commands::List => {
            for scenario in scenarios::ALL {
                println!("{:16} {}", scenario.name, scenario.about);
            }
        }
        Commands::Run { scenarios, json } => return run(&scenarios, json),
        Commands::Demo(args) => return demo::run(&args),
        Commands::Tool(ToolCommand::Stream(args)) => {
            println!("{}", serde_json::to_string(&tools::stream::run(&args)?)?);
        }
        Commands::Tool(ToolCommand::Punch(args)) => tools::punch::punch(&args)?,
        Commands::Tool(ToolCommand::Listen(args)) => tools::listen::run(&args)?,
        Commands::Tool(ToolCommand::Rogue(args)) => tools::rogue::run(&args)?,
        Commands::Tool(ToolCommand::Reflect { bind }) => tools::punch::reflect(bind)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs scenarios one after the other: they measure, and would disturb each other.
fn run(names: &[String], json: bool) -> Result<ExitCode> {
    let chosen = scenarios::select(names)?;
    require_root()?;
    net::sweep()?;
    lab::sweep_dirs(false)?;
    let _watch = signal::Watch::start()?;
    let mut records = Vec::new();
    for scenario in chosen {
        eprintln!("▶ {}: {}", scenario.name, scenario.about);
        let (record, line) = scenarios::run(scenario);
        signal::yield_to_end();
        let mark = if record.ok { "✔" } else { "✘" };
        eprintln!("{mark} {} in {} s: {line}", record.name, record.seconds);
        if let Some(error) = &record.error {
            eprintln!("  {error}");
        }
        if let Some(logs) = &record.logs {
            eprintln!("  logs: {logs}");
        }
        records.push(record);
    }
    let passed = records.iter().filter(|record| record.ok).count();
    let failed = records.len() - passed;
    if json {
        println!("{}", serde_json::to_string_pretty(&records)?);
    }
    eprintln!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("labs make network namespaces, which needs root; run this with sudo");
    }
    Ok(())
}
