//! `ztna-sim`: runs seeds for as long as one likes.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use clap::Parser;
use ztna_sim::run_seed;
use ztna_sim::world::Outcome;

/// Progress is told after this many seeds.
const PROGRESS_EVERY: u64 = 100;

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
    paths_v6: u64,
    too_large: u64,
    refused: u64,
    virtual_seconds: u64,
    settled: Vec<Duration>,
    recovered: Vec<Duration>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.run += 1;
        self.packets.0 += outcome.packets.0 as u64;
        self.packets.1 += outcome.packets.1 as u64;
        self.paths.0 += outcome.paths.0 as u64;
        self.paths.1 += outcome.paths.1 as u64;
        self.paths_v6 += outcome.paths_v6 as u64;
        self.too_large += outcome.too_large as u64;
        self.refused += outcome.refused as u64;
        self.virtual_seconds += outcome.span.as_secs();
        self.settled.push(outcome.settled);
        self.recovered.push(outcome.recovered);
    }
}

/// Median, 99th percentile and maximum, in seconds.
fn spread(mut spans: Vec<Duration>) -> [f64; 3] {
    spans.sort_unstable();
    let at = |share: usize| {
        let index = (spans.len() * share / 100).min(spans.len().saturating_sub(1));
        spans.get(index).map_or(0.0, Duration::as_secs_f64)
    };
    [at(50), at(99), at(100)]
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
    let [settled, recovered] =
        [&total.settled, &total.recovered].map(|spans| spread(spans.clone()));
    if json {
        let record = serde_json::json!({
            "seeds": total.run,
            "failed": total.failed,
            "packets_sent": total.packets.0,
            "packets_delivered": total.packets.1,
            "pairs_direct": total.paths.0,
            "pairs_relayed": total.paths.1,
            "pairs_direct_by_ipv6": total.paths_v6,
            "datagrams_too_large_for_a_link": total.too_large,
            "packets_whose_senders_were_told": total.refused,
            "seconds_until_paths_are_right_p50_p99_max": settled,
            "seconds_until_nothing_is_lost_p50_p99_max": recovered,
            "virtual_seconds": total.virtual_seconds,
            "seconds": seconds,
        });
        println!("{record}");
        return;
    }
    println!(
        "{} seeds, {} failed: {} virtual hours in {seconds:.0} s, {} packets, {} pairs direct ({} by IPv6), {} relayed",
        total.run,
        total.failed.len(),
        total.virtual_seconds / 3600,
        total.packets.0,
        total.paths.0,
        total.paths_v6,
        total.paths.1
    );
    println!(
        "{} datagrams were too large for a link, {} packets' senders were told",
        total.too_large, total.refused
    );
    for (what, [median, most, all]) in [
        ("every path is as it should be", settled),
        ("no packet is lost any more", recovered),
    ] {
        println!(
            "after the last fault {what}: median {median:.1} s, 99 % of seeds {most:.1} s, all {all:.1} s"
        );
    }
}
