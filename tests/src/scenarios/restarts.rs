//! Control plane and relay, each a process of its own, are killed in turn and started again, under
//! a stream of a direct pair and one of a relayed pair.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ztna_proto::api::UpdateMachineRequest;

use super::pair::{EMAIL, FIRST_PING_LIMIT, PASSWORD, wait_for_kind};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::api::Owner;
use crate::deploy::Apart;
use crate::lab::Lab;
use crate::measure::{Gauge, Loss, Path, Stream, let_run, throughput};
use crate::net::Nat;
use crate::net::cmd::poll;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "restarts",
    about: "api and relay killed in turn: direct pairs lose nothing, relayed ones resume, all recover alone",
    run,
    expected_logs: &[],
};

/// How long a server stays dead.
const DEAD_FOR: Duration = Duration::from_secs(3);
/// A relayed pair has to be back so soon after its relay is.
const RESUME_BOUND: Duration = Duration::from_secs(5);
/// Longest wait for machines to find the control plane again.
const RECOVER_LIMIT: Duration = Duration::from_secs(60);
/// A ping that is not answered in this many seconds was lost.
const SHORT_WAIT: &str = "0.2";

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let mut servers = Apart::start(lab)?;
    let api = servers.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let key = owner.auth_key(true, None)?;

    let (mut machines, mut routers) = (Vec::new(), Vec::new());
    for (name, kind) in [
        ("a", Nat::Cone),
        ("b", Nat::Cone),
        ("c", Nat::Hard),
        ("d", Nat::Hard),
    ] {
        let router = lab.net.router(&format!("r-{name}"), kind)?;
        let mut machine = Agent::new(lab, &router.host(name)?, &[])?;
        let up_at = Instant::now();
        machine.enrol(&servers.server, key.key.expose())?;
        if let Some(first) = machines.first().map(Agent::ipv4) {
            machine.ping_until(first?, FIRST_PING_LIMIT)?;
            figures.seconds("first_ping_s", up_at.elapsed());
        }
        machines.push(machine);
        routers.push(router);
    }
    let [a, b, c, d] = &machines[..] else {
        bail!("four machines were made");
    };
    let relay = servers.relays[0].address();
    wait_for_kind(a, b, "direct")?;
    wait_for_kind(c, d, "relay")?;

    let gauge = |at: usize, peer: &Agent| Gauge {
        at: routers[at].netns.clone(),
        peer: peer.host.public,
        relay,
    };
    let gauges = [gauge(0, b), gauge(2, d)];
    for gauge in &gauges {
        gauge.reset()?;
    }
    let losses = under_streams([(a, b), (c, d)], || {
        servers.kill_api()?;
        let_run(DEAD_FOR);
        servers.restart_api()?;
        let back = Instant::now();
        wait_online(&owner, machines.len())?;
        figures.seconds("api_recovered_s", back.elapsed());
        change_arrives(&owner, a)
    })?;
    let paths = [0, 1].map(|n| gauges[n].path(losses[n].ends[0].received));
    for (path, must) in paths.into_iter().zip([Path::Direct, Path::Relay]) {
        demand_eq("path of the stream", &path?, &must)?;
    }
    figures.set("path", "direct and relay");
    figures.set("api_direct_lost", lost(&losses[0]));
    figures.set("api_relayed_lost", lost(&losses[1]));
    losses[0].demand_none()?;
    losses[1].demand_none()?;

    let losses = under_streams([(a, b), (c, d)], || {
        servers.relays[0].kill()?;
        let_run(DEAD_FOR);
        servers.relays[0].restart()?;
        let resumed = resumes(c, d)?;
        figures.seconds("relay_resumed_s", resumed);
        Ok(())
    })?;
    figures.set("relay_direct_lost", lost(&losses[0]));
    figures.set("relay_relayed_lost", lost(&losses[1]));
    losses[0].demand_none()?;

    c.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
    let epoch = a.peer(b.name())?.map(|peer| peer.psk.epoch);
    figures.set("psk_epoch", epoch.context("a does not know b any more")?);
    figures.set("throughput_mbit_s", throughput(b, a, &lab.log("iperf3"))?);
    for machine in &mut machines {
        machine.stop_daemon()?;
    }
    servers.stop()
}

fn lost(loss: &Loss) -> u64 {
    loss.forward + loss.backward
}

/// Does something while both pairs send their streams.
fn under_streams(
    pairs: [(&Agent, &Agent); 2],
    work: impl FnOnce() -> Result<()>,
) -> Result<[Loss; 2]> {
    let streams = [
        Stream::between(pairs[0].0, pairs[0].1)?,
        Stream::between(pairs[1].0, pairs[1].1)?,
    ];
    work()?;
    let [direct, relayed] = streams;
    Ok([direct.finish()?, relayed.finish()?])
}

/// Every machine's stream stands again.
fn wait_online(owner: &Owner<'_>, machines: usize) -> Result<()> {
    poll(RECOVER_LIMIT, "all machines are online", || {
        let online = owner
            .machines()?
            .iter()
            .filter(|machine| machine.online)
            .count();
        Ok((online == machines).then_some(()))
    })
}

/// What is changed now reaches a machine.
fn change_arrives(owner: &Owner<'_>, machine: &Agent) -> Result<()> {
    let rename = |from: &str, to: &str| {
        let change = UpdateMachineRequest {
            name: Some(to.to_owned()),
            ..UpdateMachineRequest::default()
        };
        owner.update(owner.machine(from)?.id, &change)?;
        let what = format!("{} hears that {from} is {to} now", machine.name());
        poll(RECOVER_LIMIT, &what, || Ok(machine.peer(to)?.map(drop)))
    };
    rename("d", "renamed")?;
    rename("renamed", "d")
}

/// The time from now until a relayed pair has an answer again.
fn resumes(c: &Agent, d: &Agent) -> Result<Duration> {
    let back = Instant::now();
    let address = d.ipv4()?;
    poll(RECOVER_LIMIT, "the relayed pair resumes", || {
        Ok(c.pings_within(address, SHORT_WAIT)?.then_some(()))
    })?;
    let took = back.elapsed();
    if took > RESUME_BOUND {
        bail!(
            "the relayed pair took {:.1} s to resume, at most 5 s are allowed",
            took.as_secs_f32()
        );
    }
    Ok(took)
}
