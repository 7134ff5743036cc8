//! `ztna-sim`: runs seeds for as long as one likes.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use clap::Parser;
use ztna_sim::run_seed;
use ztna_sim::world::Outcome;

/// Progress is told after this many seeds.
const PROGRESS_EVERY: u64 = 500;

/// Runs the data plane in simulated networks, one for each seed, and says which went wrong.
#[derive(Parser)]
#[command(name = "ztna-sim", version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed. Alone, it is the only one, and its timeline is shown.
    #[arg(long)]
    seed: Option<u64>,
    /// With a line for every datagram in timelines.
    #[arg(long)]
    datagrams: bool,
    /// Results as JSON.
    #[arg(long)]
    json: bool,
}

/// What all runs came to.
#[derive(Default)]
struct Total {
    next: u64,
    run: u64,
    failed: Vec<u64>,
    packets: (u64, u64),
    paths: (u64, u64),
    virtual_seconds: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.run += 1;
        self.packets.0 += outcome.packets.0 as u64;
        self.packets.1 += outcome.packets.1 as u64;
        self.paths.0 += outcome.paths.0 as u64;
        self.paths.1 += outcome.paths.1 as u64;
        self.virtual_seconds += outcome.span.as_secs();
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let is_single = args.seed.is_some() && !std::env::args().any(|arg| arg.starts_with("--seeds"));
    let seeds = if is_single { 1 } else { args.seeds };
    let first = args.seed.unwrap_or(0);
    let began = Instant::now();
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = {
                        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                        total.next += 1;
                        total.next - 1
                    };
                    if number >= seeds {
                        return;
                    }
                    let outcome = run_seed(first + number, args.datagrams);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(&outcome);
                    if !outcome.violations.is_empty() {
                        total.failed.push(outcome.seed);
                    }
                    if !outcome.violations.is_empty() || is_single {
                        eprintln!("{outcome}");
                    } else if total.run.is_multiple_of(PROGRESS_EVERY) {
                        let seconds = began.elapsed().as_secs();
                        eprintln!(
                            "  {} of {seeds} seeds, {} failed, {seconds} s",
                            total.run,
                            total.failed.len()
                        );
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    show(&total, began, args.json);
    ExitCode::from(u8::from(!total.failed.is_empty()))
}

#[allow(clippy::print_stdout)] // The results are what the program is for.
fn show(total: &Total, began: Instant, json: bool) {
    let seconds = began.elapsed().as_secs_f64();
    if json {
        let record = serde_json::json!({
            "seeds": total.run,
            "failed": total.failed,
            "packets_sent": total.packets.0,
            "packets_delivered": total.packets.1,
            "pairs_direct": total.paths.0,
            "pairs_relayed": total.paths.1,
            "virtual_seconds": total.virtual_seconds,
            "seconds": seconds,
        });
        println!("{record}");
        return;
    }
    println!(
        "{} seeds, {} failed: {} virtual hours in {seconds:.0} s, {} packets, {} pairs direct, {} relayed",
        total.run,
        total.failed.len(),
        total.virtual_seconds / 3600,
        total.packets.0,
        total.paths.0,
        total.paths.1
    );
}
