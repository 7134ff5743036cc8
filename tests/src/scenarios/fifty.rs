//! Fifty machines join with one reusable key, from five networks, and every pair pings.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::pair::{EMAIL, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "fifty",
    about: "fifty machines enrolled with one reusable key: every pair pings",
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
    for mut machine in machines {
        machine.stop_daemon()?;
    }
    server.stop()
}

/// Every machine pings every other.
fn all_pairs(machines: &[Agent], addresses: &[Ipv4Addr], figures: &mut Figures) -> Result<()> {
    let start = Instant::now();
    let slowest = Mutex::new(Duration::ZERO);
    each(machines, |machine| {
        let own = machine.ipv4()?;
        for address in addresses.iter().filter(|address| **address != own) {
            let took = machine.ping_until(*address, PING_LIMIT)?;
            if let Ok(mut slowest) = slowest.lock() {
                *slowest = took.max(*slowest);
            }
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
