//! Fifty machines join with one reusable key, from five networks, and every pair pings. Then all are
//! left alone, and what that costs is measured.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::pair::{EMAIL, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::measure::let_run;
use crate::net::{Nat, echo, nat};
use crate::program::Usage;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "fifty",
    about: "fifty machines enrolled with one reusable key: every pair pings; idle ones cost nothing",
    run,
    expected_logs: &[],
};

/// The networks, each with [`PER_NETWORK`] machines.
const NETWORKS: [Nat; 5] = [Nat::Cone, Nat::Cone, Nat::Cone, Nat::Hard, Nat::UdpBlocked];
const PER_NETWORK: usize = 10;
/// Machines that act at the same time. More would only wait for the processor.
const AT_ONCE: usize = 8;
/// Longest wait for a pair's first answer: all pairs make their keys in one rush.
const PING_LIMIT: Duration = Duration::from_secs(60);

/// A window in which nobody sends to a peer shows that all are silent.
const SILENCE: Duration = Duration::from_secs(3);
/// How long idleness is measured: the control plane says something every 20 s.
const IDLE_FOR: Duration = Duration::from_secs(20);
/// By then all have to be silent. Paths rest after 45 s, tunnels before; on a busy machine some
/// handshakes are still repeated for a while.
const SILENT_LIMIT: Duration = Duration::from_secs(100);
/// Packets that an idle machine may exchange with the servers in a minute: STUN, keep-alives and
/// heartbeats, each some times over.
const IDLE_PACKETS: f64 = 150.0;
/// Share of a processor that an idle machine may use, in per cent, in a debug build on a busy machine.
const IDLE_CPU: f64 = 2.0;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let created = owner.auth_key(true, None)?;

    let mut machines = Vec::new();
    for (n, kind) in NETWORKS.into_iter().enumerate() {
        let router = lab.net.router(&format!("r{n}"), kind)?;
        for m in 0..PER_NETWORK {
            let host = router.host(&format!("m{n}{m}"))?;
            machines.push(Mutex::new(Agent::new(lab, &host, &[])?));
        }
    }

    let start = Instant::now();
    each(&machines, |machine| {
        let mut machine = machine.lock().map_err(|_| anyhow!("a thread panicked"))?;
        machine.enrol(&server.server, created.key.expose())
    })?;
    figures.seconds("enrolled_after_s", start.elapsed());

    let machines = machines
        .into_iter()
        .map(|machine| {
            machine
                .into_inner()
                .map_err(|_| anyhow!("a thread panicked"))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut addresses = Vec::new();
    for machine in &machines {
        addresses.push(machine.ipv4()?);
    }
    all_pairs(&machines, &addresses, figures)?;

    let listed = owner.machines()?;
    figures.set("machines", listed.len());
    demand_eq("machines of the org", &listed.len(), &machines.len())?;
    demand_eq(
        "machines online",
        &listed.iter().filter(|machine| machine.online).count(),
        &machines.len(),
    )?;
    idle(&machines, server.host.address, figures)?;
    let machines: Vec<_> = machines.into_iter().map(Mutex::new).collect();
    each(&machines, |machine| {
        let mut machine = machine.lock().map_err(|_| anyhow!("a thread panicked"))?;
        machine.stop_daemon()
    })?;
    server.stop()
}

/// What machines cost that have forty-nine peers each and nothing to tell them, from when the last of
/// them has fallen silent.
fn idle(machines: &[Agent], server: Ipv4Addr, figures: &mut Figures) -> Result<()> {
    let since = Instant::now();
    let (silent_after, cost) = loop {
        let before = since.elapsed();
        if meter(machines, server, SILENCE)?.packets_to_peers == 0 {
            let cost = meter(machines, server, IDLE_FOR)?;
            if cost.packets_to_peers == 0 {
                break (before, cost);
            }
        }
        ensure!(
            since.elapsed() < SILENT_LIMIT,
            "idle machines still send to each other after {} s",
            SILENT_LIMIT.as_secs()
        );
    };
    figures.seconds("silent_after_s", silent_after);
    let machine_seconds = cost.time.as_secs_f64() * machines.len() as f64;
    let per_minute = |count: u64| count as f64 / machine_seconds * 60.0;
    let to_servers = per_minute(cost.packets_to_servers);
    let wake_ups = per_minute(cost.wake_ups);
    let percent = cost.cpu.as_secs_f64() / machine_seconds * 100.0;
    figures.set("idle_packets_per_minute", to_servers.round());
    figures.set("idle_wake_ups_per_minute", wake_ups.round());
    figures.set("idle_cpu_percent", (percent * 1000.0).round() / 1000.0);
    ensure!(
        to_servers <= IDLE_PACKETS && percent <= IDLE_CPU,
        "an idle machine exchanged {to_servers:.0} packets a minute with the servers and used \
         {percent:.2} % of a processor; {IDLE_PACKETS} and {IDLE_CPU} % are allowed"
    );
    Ok(())
}

/// What all machines together did in some time.
#[derive(Default)]
struct Cost {
    time: Duration,
    packets_to_servers: u64,
    packets_to_peers: u64,
    cpu: Duration,
    wake_ups: u64,
}

fn meter(machines: &[Agent], server: Ipv4Addr, time: Duration) -> Result<Cost> {
    each(machines, |machine| nat::reset(machine.netns()))?;
    let (before, begun) = (usage(machines)?, Instant::now());
    let_run(time);
    let (after, time) = (usage(machines)?, begun.elapsed());
    let cost = Mutex::new(Cost {
        time,
        cpu: after.cpu.saturating_sub(before.cpu),
        wake_ups: after.wake_ups.saturating_sub(before.wake_ups),
        ..Cost::default()
    });
    each(machines, |machine| {
        let meter = nat::read(machine.netns())?;
        let mut cost = cost.lock().map_err(|_| anyhow!("a thread panicked"))?;
        cost.packets_to_servers += meter.with(server).packets;
        cost.packets_to_peers += meter.without(server).packets;
        Ok(())
    })?;
    cost.into_inner().map_err(|_| anyhow!("a thread panicked"))
}

fn usage(machines: &[Agent]) -> Result<Usage> {
    let mut total = Usage::default();
    for machine in machines {
        let usage = machine.daemon()?.usage()?;
        total.cpu += usage.cpu;
        total.wake_ups += usage.wake_ups;
    }
    Ok(total)
}

/// Every machine pings every other.
fn all_pairs(machines: &[Agent], addresses: &[Ipv4Addr], figures: &mut Figures) -> Result<()> {
    let start = Instant::now();
    let slowest = Mutex::new(Duration::ZERO);
    each(machines, |machine| {
        let own = machine.ipv4()?;
        let others: Vec<_> = addresses.iter().copied().filter(|to| *to != own).collect();
        let took = echo::reach_all(machine.netns(), &others, PING_LIMIT)
            .with_context(|| format!("from {}", machine.name()))?;
        if let Ok(mut slowest) = slowest.lock() {
            *slowest = took.max(*slowest);
        }
        Ok(())
    })?;
    figures.seconds("all_pairs_s", start.elapsed());
    figures.set("pings", machines.len() * (machines.len() - 1));
    if let Ok(slowest) = slowest.into_inner() {
        figures.seconds("slowest_ping_s", slowest);
    }
    let mut direct = 0;
    for machine in machines {
        let peers = machine.status()?.peers;
        direct += peers
            .iter()
            .filter(|peer| peer.path.kind == "direct")
            .count();
    }
    figures.set("direct_views", direct);
    Ok(())
}

/// Does something with each machine, several at a time; the first error counts.
fn each<T: Sync>(machines: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || -> Result<()> {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(machine) = machines.get(n) else {
                return Ok(());
            };
            work(machine)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_does_all_and_tells_the_first_error() {
        let done = Mutex::new(Vec::new());
        let all: Vec<u32> = (0..100).collect();
        each(&all, |n| {
            done.lock().unwrap().push(*n);
            Ok(())
        })
        .unwrap();
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, all);
        let error = each(&all, |n| {
            if *n == 7 {
                Err(anyhow!("seven"))
            } else {
                Ok(())
            }
        });
        assert_eq!(error.unwrap_err().to_string(), "seven");
    }
}
