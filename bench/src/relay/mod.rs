//! `ztna-bench relay`.

mod derp;
pub mod iroh;
mod load;
mod packet;
pub mod soak;
mod target;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use load::Shape;
use target::Relay;

use crate::Runs;
use ztna_bench_record::{Bar, Better, Record, Run, Sample, median};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Forwarded packets per CPU-second
    Packets,
    /// Forwarded Gbit/s of 64 clients
    Throughput,
    /// Added latency
    Latency,
    /// Memory per idle client
    Memory,
}

/// How.
#[derive(clap::Args)]
pub struct Options {
    /// Our relay
    #[arg(long, default_value = "target/release/ztna-derp", value_name = "FILE")]
    pub ztna_derp: PathBuf,
    /// Tailscale's derper, where there is one: measured as a further peer
    #[arg(long, env = "DERPER", value_name = "FILE")]
    pub derper: Option<PathBuf>,
    /// Only these figures
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Figure>,
    /// Idle clients
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
}

/// One packet stream between two clients.
const ONE_WAY: Shape = Shape {
    pairs: 1,
    both_ways: false,
    window: 256,
};

/// 64 clients in pairs, both of a pair sending.
const PAIRS: Shape = Shape {
    pairs: 32,
    both_ways: true,
    window: 64,
};

/// Runs the figures.
pub async fn run(options: &Options, runs: Runs) -> Result<Vec<Record>> {
    let mut relays = vec![
        Relay::Ztna(options.ztna_derp.clone()),
        Relay::Iroh { joined: false },
        Relay::Iroh { joined: true },
    ];
    relays.extend(options.derper.clone().map(Relay::Derper));
    let bench = Bench { relays, runs };
    let wanted = |figure| options.only.is_empty() || options.only.contains(&figure);
    let mut records = Vec::new();
    let latency = wanted(Figure::Latency);
    if wanted(Figure::Packets) || latency {
        let (packets, slowest) = bench.packets().await?;
        records.extend(wanted(Figure::Packets).then_some(packets));
        if latency {
            records.push(bench.latency(slowest / 2.0).await?);
        }
    }
    if wanted(Figure::Throughput) {
        records.push(bench.throughput().await?);
    }
    if wanted(Figure::Memory) {
        records.push(bench.memory(options.clients).await?);
    }
    Ok(records)
}

struct Bench {
    relays: Vec<Relay>,
    runs: Runs,
}

/// The peers that ours is measured against: single packets on both sides. Joined datagrams are
/// shown beside them.
const PEERS: &[&str] = &["iroh-relay", "derper"];

impl Bench {
    /// Runs `one` for every relay, `runs` times in turn, so that whatever else this machine does
    /// meets all of them alike.
    async fn in_turn<T>(
        &self,
        what: &str,
        one: impl AsyncFn(&Relay) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut all: Vec<Vec<T>> = self.relays.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.runs.count {
            for (relay, runs) in self.relays.iter().zip(&mut all) {
                let name = relay.name();
                eprintln!("▶ {what}: {name}, run {round} of {}", self.runs.count);
                runs.push(
                    one(relay)
                        .await
                        .with_context(|| format!("{what}: {name}"))?,
                );
            }
        }
        Ok(all)
    }

    fn samples(&self, runs: &[Vec<Run>], load: bool) -> Vec<Sample> {
        self.relays
            .iter()
            .zip(runs)
            .map(|(relay, runs)| Sample::new(relay.name(), runs, load))
            .collect()
    }

    /// The figure, and what the slowest relay forwards in a second.
    async fn packets(&self) -> Result<(Record, f64)> {
        let runs = self
            .in_turn("packets", async |relay| {
                let running = relay.start(self.runs.cpus)?;
                let seen = load::flood(&running, ONE_WAY, self.runs.length).await?;
                let run = seen.worth(seen.packets_per_cpu_second());
                eprintln!(
                    "  {:.0} packets per CPU-second, {:.0} a second, server {:.0} %, generator {:.0} %",
                    run.value,
                    seen.packets_per_second(),
                    run.server_cpu * 100.0,
                    run.generator_cpu * 100.0
                );
                Ok((run, seen.packets_per_second()))
            })
            .await?;
        let slowest = runs
            .iter()
            .map(|runs| median(&runs.iter().map(|run| run.1).collect::<Vec<_>>()))
            .fold(f64::INFINITY, f64::min);
        let runs: Vec<Vec<Run>> = runs
            .into_iter()
            .map(|runs| runs.into_iter().map(|run| run.0).collect())
            .collect();
        let record = Record::compare(
            (
                "relay-packets",
                "packets forwarded per CPU-second of the relay: 1,280 B, 2 clients, one sends, TLS 1.3",
                "packets/CPU-s",
            ),
            (Better::More, Bar::Ratio(2.0)),
            self.samples(&runs, true),
            PEERS,
        );
        Ok((record, slowest))
    }

    async fn throughput(&self) -> Result<Record> {
        let runs = self
            .in_turn("throughput", async |relay| {
                let running = relay.start(self.runs.cpus)?;
                let seen = load::flood(&running, PAIRS, self.runs.length).await?;
                let run = seen.worth(seen.gigabits_per_second());
                eprintln!(
                    "  {:.3} Gbit/s, server {:.0} %, generator {:.0} %",
                    run.value,
                    run.server_cpu * 100.0,
                    run.generator_cpu * 100.0
                );
                Ok(run)
            })
            .await?;
        Ok(Record::compare(
            (
                "relay-throughput",
                "packet content forwarded: 64 clients in pairs, all send, 1,280 B, TLS 1.3, relay on one CPU",
                "Gbit/s",
            ),
            (Better::More, Bar::Ratio(1.5)),
            self.samples(&runs, true),
            PEERS,
        ))
    }

    async fn latency(&self, rate: f64) -> Result<Record> {
        let mut direct = Vec::new();
        for round in 1..=self.runs.count {
            eprintln!("▶ latency: no relay, run {round} of {}", self.runs.count);
            let times = load::paced_without_relay(rate, self.runs.length).await?;
            direct.push(load::percentile(&times, 50));
        }
        let direct = median(&direct);
        eprintln!("  median {direct:.1} µs");
        let runs = self
            .in_turn("latency", async |relay| {
                let running = relay.start(self.runs.cpus)?;
                let (seen, times) = load::paced(&running, rate, self.runs.length).await?;
                let run = seen.worth(load::percentile(&times, 99) - direct);
                eprintln!(
                    "  p99 {:.1} µs added, median {:.1} µs, server {:.0} %",
                    run.value,
                    load::percentile(&times, 50) - direct,
                    run.server_cpu * 100.0
                );
                Ok(run)
            })
            .await?;
        let mut record = Record::compare(
            (
                "relay-latency",
                "99th percentile of the time that the relay adds to the way of a packet, at one rate for all",
                "µs",
            ),
            (Better::Less, Bar::Ratio(0.5)),
            self.samples(&runs, false),
            PEERS,
        );
        record
            .notes
            .push(format!("{rate:.0} packets/s, half of what the slowest can"));
        record.notes.push(format!(
            "{direct:.1} µs, the median without a relay over the same TLS, are taken off"
        ));
        Ok(record)
    }

    async fn memory(&self, clients: usize) -> Result<Record> {
        let runs = self
            .in_turn("memory", async |relay| {
                if matches!(relay, Relay::Iroh { joined: true }) {
                    return Ok(None);
                }
                let running = relay.start(self.runs.cpus)?;
                let run = load::idle(&running, clients).await?;
                eprintln!("  {:.1} KiB per client", run.value);
                Ok(Some(run))
            })
            .await?;
        let samples = self
            .relays
            .iter()
            .zip(&runs)
            .map(|(relay, runs)| {
                let runs: Vec<Run> = runs.iter().copied().flatten().collect();
                Sample::new(relay.name(), &runs, false)
            })
            .filter(|sample| sample.median.is_finite())
            .collect();
        Ok(Record::compare(
            (
                "relay-memory",
                &format!(
                    "growth of the relay's resident memory by {clients} idle TLS clients, for each"
                ),
                "KiB",
            ),
            (Better::Less, Bar::Absolute(12.0)),
            samples,
            PEERS,
        ))
    }
}
