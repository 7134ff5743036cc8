//! The figures, size by size.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ztna_bench_record::{Bar, Better, Record, Run, Sample};
use ztna_proto::ids::OrgId;
use ztna_proto::netmap::ClientMessage;

use crate::agent::Machine;
use crate::board::quantile;
use crate::deployment::{Deployment, Node};
use crate::fleet::{Fleet, until};
use crate::heartbeats::heartbeats;
use crate::setup::{self, Admin, GROUP};

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_secs(240);
/// What is delivered at all is delivered by then.
const DELIVERY: Duration = Duration::from_secs(30);
/// Deliveries that a figure of cost or latency rests on, at least.
const DELIVERIES: usize = 20_000;
/// Memory is read when nothing has happened for so long.
const SETTLE: Duration = Duration::from_secs(2);
/// A change may cost so much whoever has to be told.
const FIXED: Duration = Duration::from_millis(1);
/// … and so many µs for each who has.
const EACH: f64 = 25.0;
/// Agents of each org where there are many orgs.
const SMALL_ORG: usize = 10;
/// The largest org in which everybody sees everybody.
const FULL_VISIBILITY: usize = 1000;
/// Pause between two changes while a node is killed.
const LOAD_PAUSE: Duration = Duration::from_millis(100);
/// Of so many changes, one is of the machine that all see; the others are news for a hundred each.
const HUB_EVERY: usize = 10;
/// Pause between two rounds of one report: the control plane passes them on five times a second.
const ROUND: Duration = Duration::from_millis(400);

/// A figure: its name, what it is, its unit, which way is better, its bar.
type Figure = (&'static str, &'static str, &'static str, Better, f64);

const FIGURES: &[Figure] = &[
    (
        "control-registrations",
        "registrations with one reusable key",
        "/s",
        Better::More,
        500.0,
    ),
    (
        "control-heartbeats",
        "heartbeats over HTTP, one node",
        "/s",
        Better::More,
        20_000.0,
    ),
    (
        "control-connect",
        "all agents of one org connected and in sync, TLS, each sees 100",
        "s",
        Better::Less,
        30.0,
    ),
    (
        "control-connect-full",
        "the same where everybody sees everybody",
        "s",
        Better::Less,
        30.0,
    ),
    (
        "control-memory",
        "memory per connected agent, plain",
        "KiB",
        Better::Less,
        20.0,
    ),
    (
        "control-memory-tls",
        "memory per connected agent, TLS in the process",
        "KiB",
        Better::Less,
        40.0,
    ),
    (
        "control-endpoint-p99",
        "one machine's endpoint changes, all are told: p99",
        "ms",
        Better::Less,
        500.0,
    ),
    (
        "control-endpoint-cpu",
        "the same: CPU per machine told, beyond 1 ms",
        "µs",
        Better::Less,
        25.0,
    ),
    (
        "control-change-p99",
        "one machine's record changes, all are told: p99",
        "ms",
        Better::Less,
        500.0,
    ),
    (
        "control-change-cpu",
        "the same: CPU per machine told, beyond 1 ms",
        "µs",
        Better::Less,
        25.0,
    ),
    (
        "control-policy-p99",
        "a policy edit for 100 machines, they alone are told: p99",
        "ms",
        Better::Less,
        500.0,
    ),
    (
        "control-failover",
        "one of two nodes is killed under load, its agents in sync at the other",
        "s",
        Better::Less,
        5.0,
    ),
    (
        "control-orgs-connect",
        "orgs of 10: connected and in sync, by the time of one org",
        "×",
        Better::Less,
        1.5,
    ),
    (
        "control-orgs-memory",
        "orgs of 10: memory per agent (TLS), by that of one org",
        "×",
        Better::Less,
        1.5,
    ),
    (
        "control-orgs-cpu",
        "orgs of 10: CPU of an endpoint's change, by what it may cost, and that by one org's",
        "×",
        Better::Less,
        1.5,
    ),
];

/// What was measured, by figure and size.
#[derive(Default)]
struct Figures {
    values: BTreeMap<&'static str, Vec<(usize, f64)>>,
    notes: BTreeMap<&'static str, Vec<String>>,
}

impl Figures {
    fn put(&mut self, name: &'static str, size: usize, value: f64) {
        eprintln!("  {name}: {value:.2}");
        self.values.entry(name).or_default().push((size, value));
    }

    fn note(&mut self, name: &'static str, text: String) {
        eprintln!("  {name}: {text}");
        self.notes.entry(name).or_default().push(text);
    }

    fn of(&self, name: &str, size: usize) -> f64 {
        let values = self.values.get(name).into_iter().flatten();
        let found = values.rev().find(|(of, _)| *of == size);
        found.map_or(f64::NAN, |(_, value)| *value)
    }

    fn records(&self) -> Vec<Record> {
        let measured = FIGURES.iter().filter_map(|figure| {
            let (name, what, unit, better, bar) = *figure;
            let values = self.values.get(name)?;
            // The largest size is the one that the bar is for.
            let samples = values.iter().rev().map(|(size, value)| {
                let run = Run {
                    value: *value,
                    ..Run::default()
                };
                Sample::new(&format!("{size} agents"), &[run], false)
            });
            let samples = samples.collect();
            let mut record = Record::compare(
                (name, what, unit),
                (better, Bar::Absolute(bar)),
                samples,
                &[],
            );
            record.notes = self.notes.get(name).cloned().unwrap_or_default();
            Some(record)
        });
        measured.collect()
    }
}

/// Measures everything at each size.
pub async fn run(program: &Path, sizes: &[usize]) -> Result<Vec<Record>> {
    let deployment = Deployment::start(program).await?;
    let mut figures = Figures::default();
    for &size in sizes {
        eprintln!("▶ {size} agents");
        one_org(&deployment, size, &mut figures).await?;
        many_orgs(&deployment, size, &mut figures).await?;
    }
    Ok(figures.records())
}

async fn one_org(deployment: &Deployment, size: usize, figures: &mut Figures) -> Result<()> {
    let database = format!("one_{size}");
    deployment.create(&database).await?;
    let node = deployment.node(&database, false, false).await?;
    let mut admin = Admin::create(&node.target).await?;
    let (org, key) = admin.new_org("bench").await?;
    let (registered, took) = setup::register(&node.target, &key, size).await?;
    figures.put(
        "control-registrations",
        size,
        size as f64 / took.as_secs_f64(),
    );
    let machines = setup::machines(registered, 0);
    figures.put(
        "control-heartbeats",
        size,
        heartbeats(&node, &machines).await?,
    );
    drop(node);

    if size <= FULL_VISIBILITY {
        let node = deployment.node(&database, true, false).await?;
        let begin = Instant::now();
        let fleet = Fleet::start(vec![node.target.clone()], &machines);
        let took = fleet.all_connected(begin, LIMIT).await?;
        figures.put("control-connect-full", size, took.as_secs_f64());
        fine(&fleet)?;
        node.kill();
    }

    let node = deployment.node(&database, false, false).await?;
    let mut admin = Admin::sign_in(&node.target).await?;
    let policy = setup::policy(&machines, None);
    admin.put_policy(org, policy).await?;
    node.kill();
    let node = deployment.node(&database, false, false).await?;
    let (fleet, _, memory) = connect(&node, &machines).await?;
    figures.put("control-memory", size, memory);
    fine(&fleet)?;
    node.kill();
    drop(fleet);

    let node = deployment.node(&database, true, true).await?;
    let before = node.cpu_time()?;
    let (fleet, took, memory) = connect(&node, &machines).await?;
    figures.put("control-connect", size, took.as_secs_f64());
    let cpu = (node.cpu_time()? - before).as_secs_f64() * 1e3 / size as f64;
    figures.note(
        "control-connect",
        format!("{size} agents: {cpu:.2} ms of the node's CPU each"),
    );
    figures.put("control-memory-tls", size, memory);
    let sent = fleet.board().bytes() as f64 / 1e3 / size as f64;
    figures.note(
        "control-connect",
        format!("{size} agents: {sent:.0} kB sent to each"),
    );
    let (p99, cpu) = endpoints(&node, &fleet, &[0], size - 1).await?;
    figures.put("control-endpoint-p99", size, p99);
    figures.put("control-endpoint-cpu", size, cpu - share_of_fixed(size));
    changes(&node, org, &fleet, size, figures).await?;
    policy_edit(&node, org, &fleet, size, figures).await?;
    fine(&fleet)?;
    drop(fleet);
    let took = failover(deployment, &database, node, org, &machines, true, figures).await?;
    figures.note(
        "control-failover",
        format!(
            "{size} agents, all at the node that is killed: {:.1} s",
            took.as_secs_f64()
        ),
    );
    let node = deployment.node(&database, true, true).await?;
    let took = failover(deployment, &database, node, org, &machines, false, figures).await?;
    figures.put("control-failover", size, took.as_secs_f64());
    Ok(())
}

/// Starts agents and waits until all are connected. Says how long that took, and the memory per agent
/// in KiB.
async fn connect(node: &Node, machines: &[Arc<Machine>]) -> Result<(Fleet, Duration, f64)> {
    let before = node.resident()?;
    let begin = Instant::now();
    let fleet = Fleet::start(vec![node.target.clone()], machines);
    let took = fleet.all_connected(begin, LIMIT).await?;
    for (n, machine) in machines.iter().enumerate() {
        fleet.say(n, ClientMessage::Report(setup::report(machine, 1)));
    }
    tokio::time::sleep(SETTLE).await;
    let grown = node.resident()?.saturating_sub(before);
    Ok((fleet, took, grown as f64 / 1024.0 / machines.len() as f64))
}

/// Every agent's every message led where it said.
fn fine(fleet: &Fleet) -> Result<()> {
    let (wrong, why) = fleet.board().wrong();
    ensure!(
        wrong == 0,
        "{wrong} messages were wrong: {}",
        why.unwrap_or_default()
    );
    Ok(())
}

/// What of the fixed cost of a change falls on each machine of an org, in µs.
fn share_of_fixed(size: usize) -> f64 {
    FIXED.as_secs_f64() * 1e6 / (size - 1) as f64
}

/// What a change costs by what it may, if it costs so many µs for each machine of an org that is told.
fn share_of_allowed(cpu: f64, size: usize) -> f64 {
    cpu / (share_of_fixed(size) + EACH)
}

/// Hubs report new endpoints, round after round. The latency's p99 in ms, and CPU per machine told in
/// µs, all in.
async fn endpoints(node: &Node, fleet: &Fleet, hubs: &[usize], told: usize) -> Result<(f64, f64)> {
    let rounds = DELIVERIES.div_ceil(told).max(5);
    let mut latencies = Vec::new();
    let before = node.cpu_time()?;
    for round in 0..rounds {
        let port = 10_000 + u16::try_from(round)?;
        fleet.board().sends(port);
        for &hub in hubs {
            let report = setup::report(&fleet.machines()[hub], port);
            fleet.say(hub, ClientMessage::Report(report));
        }
        let begin = Instant::now();
        // One report has four endpoints.
        let wanted = told * 4;
        let what = || {
            format!(
                "{} of {wanted} endpoints were heard of",
                fleet.board().heard()
            )
        };
        until(DELIVERY, what, || fleet.board().heard() >= wanted).await?;
        latencies.extend(fleet.board().take_latencies());
        tokio::time::sleep(ROUND.saturating_sub(begin.elapsed())).await;
    }
    let cpu = node.cpu_time()? - before;
    latencies.sort_unstable();
    let each = cpu.as_secs_f64() * 1e6 / (rounds * told) as f64;
    Ok((milliseconds(quantile(&latencies, 0.99)), each))
}

/// The hub gets another name, again and again: a durable change that everybody is told.
async fn changes(
    node: &Node,
    org: OrgId,
    fleet: &Fleet,
    size: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut admin = Admin::sign_in(&node.target).await?;
    let hub = Arc::clone(&fleet.machines()[0]);
    let rounds = DELIVERIES.div_ceil(size).max(5);
    let mut latencies = Vec::new();
    fleet.board().take_told();
    let before = node.cpu_time()?;
    for round in 0..rounds {
        let begin = Instant::now();
        admin.rename(org, &hub, &format!("hub-{round}")).await?;
        let what = || format!("{} of {size} were told of a change", fleet.board().told());
        until(DELIVERY, what, || fleet.board().told() >= size).await?;
        let told = fleet.board().take_told();
        latencies.extend(told.iter().map(|told| told.at.duration_since(begin)));
    }
    let cpu = (node.cpu_time()? - before).saturating_sub(FIXED * u32::try_from(rounds)?);
    latencies.sort_unstable();
    figures.put(
        "control-change-p99",
        size,
        milliseconds(quantile(&latencies, 0.99)),
    );
    let each = cpu.as_secs_f64() * 1e6 / (rounds * size) as f64;
    figures.put("control-change-cpu", size, each);
    Ok(())
}

/// One group's rule opens another port.
async fn policy_edit(
    node: &Node,
    org: OrgId,
    fleet: &Fleet,
    size: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut admin = Admin::sign_in(&node.target).await?;
    let groups = (size - 1).div_ceil(GROUP);
    let mut latencies = Vec::new();
    let mut took = Duration::ZERO;
    for round in 0..5u16 {
        let group = usize::from(round) % groups;
        let text = setup::policy(fleet.machines(), Some((group, 1000 + round)));
        let first = 1 + group * GROUP;
        let of_group: BTreeSet<usize> = (first..size.min(first + GROUP)).collect();
        // The one that was edited before is as it was, and is told so.
        let mut wanted = of_group.clone();
        if round > 0 {
            let before = 1 + (usize::from(round) - 1) % groups * GROUP;
            wanted.extend(before..size.min(before + GROUP));
        }
        fleet.board().take_told();
        let begin = Instant::now();
        admin.put_policy(org, text).await?;
        took += begin.elapsed();
        let what = || format!("{} of {} were told", fleet.board().told(), wanted.len());
        until(DELIVERY, what, || fleet.board().told() >= wanted.len()).await?;
        // Nobody else is told anything.
        tokio::time::sleep(ROUND).await;
        let told = fleet.board().take_told();
        let who: BTreeSet<usize> = told.iter().map(|told| told.agent).collect();
        ensure!(
            who == wanted && told.len() == wanted.len(),
            "others were told of a policy edit"
        );
        latencies.extend(told.iter().map(|told| told.at.duration_since(begin)));
    }
    latencies.sort_unstable();
    figures.put(
        "control-policy-p99",
        size,
        milliseconds(quantile(&latencies, 0.99)),
    );
    let call = milliseconds(took / 5);
    figures.note(
        "control-policy-p99",
        format!("{size} agents: the call itself took {call:.0} ms"),
    );
    Ok(())
}

/// The node is killed while changes go on at another; who was connected goes there. `all`: everybody was;
/// otherwise a balancer has spread them over both.
async fn failover(
    deployment: &Deployment,
    database: &str,
    node: Node,
    org: OrgId,
    machines: &[Arc<Machine>],
    all: bool,
    figures: &mut Figures,
) -> Result<Duration> {
    let size = machines.len();
    let other = deployment.node(database, true, true).await?;
    let nodes = vec![node.target.clone(), other.target.clone()];
    let (fleet, moving) = match all {
        true => (Fleet::start_at(0, nodes, machines), size),
        false => (Fleet::start(nodes, machines), size.div_ceil(2)),
    };
    fleet.all_connected(Instant::now(), LIMIT).await?;
    let mut admin = Admin::sign_in(&other.target).await?;
    let (hub, mut last) = (Arc::clone(&machines[0]), 0);
    let begun: usize = fleet.board().begun().iter().sum();
    let before = fleet.board().begun();
    admin.rename(org, &hub, "before").await?;
    fleet.turn_to(1);
    let begin = Instant::now();
    node.kill();
    let all_there = async {
        let came = || fleet.board().begun().iter().sum::<usize>() - begun;
        let what = || format!("{} of {moving} agents came over", came());
        until(LIMIT, what, || came() >= moving).await?;
        Ok::<_, anyhow::Error>(begin.elapsed())
    };
    let load = async {
        // The load never ends by itself.
        loop {
            let one = match last % HUB_EVERY {
                0 => &hub,
                _ => &machines[last % size],
            };
            admin
                .rename(org, one, &format!("under-load-{last}"))
                .await?;
            last += 1;
            tokio::time::sleep(LOAD_PAUSE).await;
        }
    };
    let took = tokio::select! {
        took = all_there => took?,
        failed = load => return failed,
    };
    let after = fleet.board().begun();
    let kinds: Vec<usize> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    figures.note(
        "control-failover",
        format!("{moving} agents moved: {} began with a full map, {} with what they had missed, {} in sync; {last} changes meanwhile", kinds[0], kinds[1], kinds[2]),
    );
    admin.rename(org, &hub, "after").await?;
    tokio::time::sleep(SETTLE).await;
    fine(&fleet)?;
    // What each has made of it is what it would be told from nothing.
    let positions: Vec<_> = (0..size).map(|n| fleet.board().position(n)).collect();
    drop(fleet);
    let fresh = Fleet::start(vec![other.target.clone()], machines);
    fresh.all_connected(Instant::now(), LIMIT).await?;
    fine(&fresh)?;
    let same = |n: usize| match (positions[n], fresh.board().position(n)) {
        (Some(held), Some(new)) => held.hash == new.hash,
        _ => false,
    };
    let lost = (0..size).filter(|n| !same(*n)).count();
    ensure!(
        lost == 0,
        "{lost} agents lost changes when the node was killed"
    );
    Ok(took)
}

async fn many_orgs(deployment: &Deployment, size: usize, figures: &mut Figures) -> Result<()> {
    let database = format!("many_{size}");
    deployment.create(&database).await?;
    let node = deployment.node(&database, false, false).await?;
    let mut admin = Admin::create(&node.target).await?;
    let mut machines = Vec::new();
    for n in 0..size / SMALL_ORG {
        let (_, key) = admin.new_org(&format!("bench {n}")).await?;
        let (registered, _) = setup::register(&node.target, &key, SMALL_ORG).await?;
        machines.extend(setup::machines(registered, n * SMALL_ORG));
    }
    heartbeats(&node, &machines).await?;
    node.kill();
    let node = deployment.node(&database, true, true).await?;
    let (fleet, took, memory) = connect(&node, &machines).await?;
    let ratio = took.as_secs_f64() / figures.of("control-connect", size);
    figures.put("control-orgs-connect", size, ratio);
    let ratio = memory / figures.of("control-memory-tls", size);
    figures.put("control-orgs-memory", size, ratio);
    let hubs: Vec<usize> = (0..machines.len()).step_by(SMALL_ORG).collect();
    let told = machines.len() - hubs.len();
    let (p99, cpu) = endpoints(&node, &fleet, &hubs, told).await?;
    let one = figures.of("control-endpoint-cpu", size);
    figures.put(
        "control-orgs-cpu",
        size,
        share_of_allowed(cpu, SMALL_ORG) / share_of_allowed(one + share_of_fixed(size), size),
    );
    figures.note(
        "control-orgs-cpu",
        format!("{size} agents: {cpu:.1} µs per machine told, p99 {p99:.0} ms with a change in every org at once"),
    );
    fine(&fleet)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
