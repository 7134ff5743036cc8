//! Benchmark of the tunnel: our daemon beside other WireGuard programs and nebula, in two network
//! namespaces of this machine. Results go to standard output, progress to standard error.

mod load;
mod memory;
mod net;
mod tunnels;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use load::{Transfer, Way};
use net::Net;

use tunnels::{KINDS, Kind, Programs, Tunnel};
use ztna_bench_record::{Bar, Better, Record, Run, Sample};

/// Benchmark of the tunnel beside its peers.
#[derive(Parser)]
#[command(name = "ztna-bench-tunnel", version)]
struct Options {
    /// Which; the first if none is named
    benchmarks: Vec<Benchmark>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Runs per figure and tunnel, of which the median counts
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Length of a transfer
    #[arg(long, default_value_t = 3.0, value_name = "N")]
    seconds: f64,
    /// Only these tunnels
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<Kind>,
    /// Only these figures
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    figures: Vec<Figure>,
    #[command(flatten)]
    programs: Programs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Benchmark {
    /// Our tunnel beside other WireGuard programs and nebula
    Tunnel,
    /// The daemon's memory with 1,000 peers
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    Tcp1,
    Tcp1Back,
    Tcp4,
    Tcp4Back,
    Udp,
    Latency,
    Memory,
    FirstPing,
}

/// What one tunnel did in all runs.
#[derive(Default)]
struct Seen {
    tcp: [Vec<Run>; 4],
    cpu: Vec<Run>,
    machine: Vec<Run>,
    udp: Vec<Run>,
    udp_held: bool,
    idle: [Vec<Run>; 2],
    loaded: [Vec<Run>; 2],
    paced: [Vec<Run>; 2],
    memory: Vec<Run>,
    first_ping: Vec<Run>,
}

/// The TCP figures: their names, streams, ways, and words.
const TCP: [(Figure, &str, u32, Way, &str, f64); 4] = [
    (
        Figure::Tcp1,
        "tunnel-tcp-1",
        1,
        Way::Forth,
        "TCP, 1 stream",
        2.0,
    ),
    (
        Figure::Tcp1Back,
        "tunnel-tcp-1-back",
        1,
        Way::Back,
        "TCP, 1 stream, the other way",
        2.0,
    ),
    (
        Figure::Tcp4,
        "tunnel-tcp-4",
        4,
        Way::Forth,
        "TCP, 4 streams",
        1.8,
    ),
    (
        Figure::Tcp4Back,
        "tunnel-tcp-4-back",
        4,
        Way::Back,
        "TCP, 4 streams, the other way",
        1.8,
    ),
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ztna-bench-tunnel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let mut records = Vec::new();
    if options.benchmarks.is_empty() || options.benchmarks.contains(&Benchmark::Tunnel) {
        records.extend(measure_tunnels(options)?);
    }
    if options.benchmarks.contains(&Benchmark::Memory) {
        records.extend(memory::run(&options.programs.ztna, options.runs)?);
    }
    ztna_bench_record::report(&records, options.json)
}

fn measure_tunnels(options: &Options) -> Result<Vec<Record>> {
    // Two tailnets in one pair of namespaces would have the same addresses.
    let (mut net, mut other) = (Net::make("")?, Net::make("null-")?);
    let mut notes = Vec::new();
    let mut tunnels = Vec::new();
    for kind in KINDS {
        if !options.only.is_empty() && !options.only.contains(kind) {
            continue;
        }
        eprintln!("▶ {}: bringing it up", kind.name());
        let net = if *kind == Kind::Null {
            &mut other
        } else {
            &mut net
        };
        match Tunnel::up(*kind, net, &options.programs) {
            Ok(tunnel) => tunnels.push((tunnel, Seen::default())),
            Err(error) if kind.is_peer() => {
                eprintln!("✘ {}: {error:#}", kind.name());
                notes.push(format!("{} could not be measured: {error:#}", kind.name()));
            }
            Err(error) => return Err(error.context(kind.name())),
        }
    }
    if tunnels.is_empty() {
        bail!("there is nothing to measure");
    }
    for round in 1..=options.runs {
        for (tunnel, seen) in &mut tunnels {
            eprintln!("▶ {}, run {round} of {}", tunnel.kind.name(), options.runs);
            let net = if tunnel.kind == Kind::Null {
                &other
            } else {
                &net
            };
            measure(options, net, tunnel, seen).with_context(|| tunnel.kind.name())?;
        }
    }
    let mut records = records(options, &tunnels);
    for record in &mut records {
        record.notes.extend(notes.iter().cloned());
        record.notes.push(
            "two network namespaces joined by veth, both ends and the load on the same CPUs"
                .to_owned(),
        );
    }
    Ok(records)
}

fn measure(options: &Options, net: &Net, tunnel: &Tunnel, seen: &mut Seen) -> Result<()> {
    let wanted = |figure| options.figures.is_empty() || options.figures.contains(&figure);
    let value = |value| Run {
        value,
        ..Run::default()
    };
    for (runs, (figure, _, streams, way, ..)) in seen.tcp.iter_mut().zip(TCP) {
        if !wanted(figure) {
            continue;
        }
        let Transfer {
            bits,
            cpu_per_gb,
            machine_per_gb,
            daemons_cpu,
        } = load::tcp(net, tunnel, streams, way, options.seconds)?;
        runs.push(Run {
            value: bits / 1e9,
            server_cpu: daemons_cpu,
            ..Run::default()
        });
        eprintln!(
            "    {figure:?}: {:.3} Gbit/s, {cpu_per_gb:.2} CPU-s/GB, machine {machine_per_gb:.2}",
            bits / 1e9
        );
        if figure == Figure::Tcp1 {
            seen.cpu.push(value(cpu_per_gb));
            seen.machine.push(value(machine_per_gb));
        }
    }
    if wanted(Figure::Udp) {
        let (rate, lost, held) = load::udp(net, tunnel)?;
        eprintln!("    udp: {rate:.0} packets/s");
        seen.udp_held |= held;
        seen.udp.push(Run {
            value: rate,
            lost,
            ..Run::default()
        });
    }
    if wanted(Figure::Latency) {
        let idle = load::idle_pings(net, tunnel)?;
        let loaded = load::loaded_pings(net, tunnel, load::Beside::Tcp, options.seconds)?;
        let paced = load::loaded_pings(net, tunnel, load::Beside::PacedTcp, options.seconds)?;
        eprintln!(
            "    p99 {:.2} ms idle, {:.2} ms beside TCP, {:.2} ms beside TCP at one rate for all",
            load::quantile(&idle, 0.99),
            load::quantile(&loaded, 0.99),
            load::quantile(&paced, 0.99)
        );
        for (runs, times) in [
            (&mut seen.idle, &idle),
            (&mut seen.loaded, &loaded),
            (&mut seen.paced, &paced),
        ] {
            for (runs, share) in runs.iter_mut().zip([0.5, 0.99]) {
                runs.push(value(load::quantile(times, share)));
            }
        }
    }
    if wanted(Figure::Memory) {
        seen.memory.push(value(tunnel.resident()? / 1e6));
    }
    if wanted(Figure::FirstPing) && tunnel.kind == Kind::Ztna {
        let time = tunnels::first_ping(net, tunnel, &options.programs.ztna)?;
        eprintln!("    first ping {time:.0} ms after `ztna up`");
        seen.first_ping.push(value(time));
    }
    Ok(())
}

/// One of a tunnel's lists of runs.
type Pick<'a> = &'a dyn for<'b> Fn(&'b Seen) -> &'b Vec<Run>;

fn records(options: &Options, tunnels: &[(Tunnel, Seen)]) -> Vec<Record> {
    let wanted = |figure| options.figures.is_empty() || options.figures.contains(&figure);
    let peers: Vec<&str> = KINDS
        .iter()
        .filter(|kind| kind.is_peer())
        .map(|kind| kind.name())
        .collect();
    let compare = |words: (&str, &str, &str), bar: (Better, Bar), pick: Pick<'_>| {
        let samples = tunnels
            .iter()
            .filter(|(_, seen)| !pick(seen).is_empty())
            .map(|(tunnel, seen)| Sample::new(tunnel.kind.name(), pick(seen), false))
            .collect();
        Record::compare(words, bar, samples, &peers)
    };
    let mut records = Vec::new();
    for (at, (figure, name, _, _, words, bar)) in TCP.into_iter().enumerate() {
        if wanted(figure) {
            let words = (name, words, "Gbit/s");
            let bar = (Better::More, Bar::Ratio(bar));
            records.push(compare(words, bar, &|seen| &seen.tcp[at]));
        }
    }
    if wanted(Figure::Tcp1) {
        let name = Kind::Null.name();
        let words = (
            "tunnel-null",
            "TCP, 1 stream, beside our daemon with a cipher that does nothing",
            "Gbit/s",
        );
        let of = |kind: Kind| {
            tunnels
                .iter()
                .filter(move |(tunnel, seen)| tunnel.kind == kind && !seen.tcp[0].is_empty())
                .map(|(tunnel, seen)| Sample::new(tunnel.kind.name(), &seen.tcp[0], false))
        };
        if of(Kind::Null).next().is_some() {
            let samples = of(Kind::Ztna).chain(of(Kind::Null)).collect();
            let bar = (Better::More, Bar::Ratio(0.6));
            records.push(Record::compare(words, bar, samples, &[name]));
        }
        let words = (
            "tunnel-cpu",
            "CPU time of both daemons per GB, TCP, 1 stream",
            "CPU-s/GB",
        );
        records.push(compare(words, (Better::Less, Bar::Ratio(0.6)), &|seen| {
            &seen.cpu
        }));
        let words = (
            "tunnel-cpu-machine",
            "CPU time of the whole machine per GB, TCP, 1 stream",
            "CPU-s/GB",
        );
        records.push(compare(words, (Better::Less, Bar::Ratio(0.8)), &|seen| {
            &seen.machine
        }));
    }
    if wanted(Figure::Udp) {
        let words = (
            "tunnel-udp",
            "UDP packets of 1,200 B at less than 0.1 % loss",
            "packets/s",
        );
        let mut record = compare(words, (Better::More, Bar::Ratio(1.5)), &|seen| &seen.udp);
        for (tunnel, _) in tunnels.iter().filter(|(_, seen)| seen.udp_held) {
            record.notes.push(format!(
                "the load generator was at its limit beside {}",
                tunnel.kind.name()
            ));
        }
        records.push(record);
    }
    if wanted(Figure::Latency) {
        for (at, share) in ["p50", "p99"].into_iter().enumerate() {
            let name = format!("tunnel-latency-{share}");
            let words = (&*name, "round trip of an idle tunnel", "ms");
            records.push(compare(words, (Better::Less, Bar::Ratio(1.5)), &|seen| {
                &seen.idle[at]
            }));
            let name = format!("tunnel-latency-loaded-{share}");
            let words = (&*name, "round trip beside one TCP stream", "ms");
            records.push(compare(words, (Better::Less, Bar::Ratio(1.0)), &|seen| {
                &seen.loaded[at]
            }));
            let name = format!("tunnel-latency-paced-{share}");
            let words = (
                &*name,
                "round trip beside one TCP stream of 200 Mbit/s",
                "ms",
            );
            records.push(compare(words, (Better::Less, Bar::Ratio(1.0)), &|seen| {
                &seen.paced[at]
            }));
        }
    }
    if wanted(Figure::Memory) {
        let words = (
            "tunnel-memory",
            "resident memory of the daemon after all that, one peer",
            "MB",
        );
        records.push(compare(
            words,
            (Better::Less, Bar::Absolute(40.0)),
            &|seen| &seen.memory,
        ));
    }
    if wanted(Figure::FirstPing) {
        let words = (
            "tunnel-first-ping",
            "from `ztna up` to the first answered ping, netmap at hand",
            "ms",
        );
        records.push(compare(
            words,
            (Better::Less, Bar::Absolute(300.0)),
            &|seen| &seen.first_ping,
        ));
    }
    records
}
