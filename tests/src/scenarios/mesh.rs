//! Two relays of one region. Machines that can reach only one of them each still reach each other, by
//! way of both; and when a relay dies, its clients are at the other soon.

use anyhow::{Result, bail, ensure};
use ztna_proto::RegionId;

use super::Scenario;
use super::pair::{EMAIL, PASSWORD, wait_for_kind};
use super::regions::{FAILOVER_BOUND, outage, wait_for_home};
use crate::agent::Agent;
use crate::deploy::{Apart, Site};
use crate::lab::Lab;
use crate::measure::{Stream, let_run};
use crate::net::{Nat, nat};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "mesh",
    about: "two relays of one region: machines on different ones reach each other; one dies, the other takes its clients",
    run,
    // One relay starts before the other, and one is killed.
    expected_logs: &["no link to a relay of the region"],
};

/// How long the stream between machines on different relays runs.
const STREAM_TIME: std::time::Duration = std::time::Duration::from_secs(4);

/// Of so many packets, one may be lost: relays drop what is late where the machine has other work.
const MOST_LOST: u64 = 5;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let mut sites = Vec::new();
    for (name, last) in [("one", 3), ("two", 4)] {
        sites.push(Site {
            host: lab.net.host(name, last)?,
            region: RegionId(1),
            code: "lab",
        });
    }
    let [one, two] = [sites[0].host.address, sites[1].host.address];
    let mut servers = Apart::with_relays(lab, &sites)?;
    let api = servers.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let key = owner.auth_key(true, None)?;

    let (mut machines, mut routers) = (Vec::new(), Vec::new());
    for (name, barred) in [("a", Some(two)), ("b", Some(one)), ("c", None)] {
        let router = lab.net.router(&format!("r-{name}"), Nat::Hard)?;
        if let Some(barred) = barred {
            router.block_tcp_with(barred)?;
        }
        let mut machine = Agent::new(lab, &router.host(name)?, &[])?;
        machine.enrol(&servers.server, key.key.expose())?;
        wait_for_home(&machine, "lab")?;
        machines.push(machine);
        routers.push(router);
    }
    let [a, b, c] = &machines[..] else {
        bail!("three machines were made");
    };
    wait_for_kind(a, b, "relay")?;
    for router in &routers {
        nat::reset(&router.netns)?;
    }
    let stream = Stream::between(a, b)?;
    let_run(STREAM_TIME);
    let loss = stream.finish()?;
    loss.note(figures);
    figures.set("latency_p99_us", loss.ends[1].latency.p99_us);
    let lost = loss.forward + loss.backward;
    ensure!(
        lost * MOST_LOST < loss.ends[0].sent + loss.ends[1].sent,
        "{lost} packets were lost between the relays"
    );
    for (router, own) in [(&routers[0], one), (&routers[1], two)] {
        let bytes = nat::read(&router.netns)?
            .tcp_with(own, crate::deploy::PORT)
            .bytes;
        ensure!(
            bytes > loss.ends[0].sent * 172,
            "{} exchanged only {bytes} bytes with its relay",
            router.netns.name()
        );
    }

    // Where c went by its own choice: the first of the region.
    wait_for_kind(c, b, "relay")?;
    let took = outage([c, b], figures, "relay_failover", || {
        servers.relays[0].kill()
    })?;
    for machine in &mut machines {
        machine.stop_daemon()?;
    }
    servers.stop()?;
    ensure!(
        took <= FAILOVER_BOUND,
        "relayed traffic took {:.1} s to flow again after a relay of two was killed, at most {} s are allowed",
        took.as_secs_f32(),
        FAILOVER_BOUND.as_secs()
    );
    Ok(())
}
