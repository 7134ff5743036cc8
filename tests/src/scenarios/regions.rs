//! Two relay regions on two continents. Machines are at home in the nearer one, and when it dies,
//! loudly or silently, they are in the other one soon.
//!
//! ```text
//!   control ─────┐                40 ms              ┌── east's relay
//!   west's relay ╪══ internet ══════════════ beyond ─┤  10 ms
//!                │      ║ 10 ms                      ╘════════ router ── b
//!   c ── router ─┘   router ── a
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ztna_proto::RegionId;

use super::pair::{EMAIL, PASSWORD, PATH_LIMIT, wait_for_kind};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::deploy::{Apart, Site};
use crate::lab::Lab;
use crate::measure::{Stream, let_run};
use crate::net::Nat;
use crate::net::cmd::poll;
use crate::net::link::Spec;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "regions",
    about: "two relay regions: machines choose the nearer; when it is killed or vanishes they move to the other",
    run,
    expected_logs: &[],
};

/// Round trip between the continents.
const SEA: Duration = Duration::from_millis(40);
/// Round trip between two of the machines and what they reach first.
const LAST_MILE: Duration = Duration::from_millis(10);
/// Traffic of a relayed pair has to flow again so soon after its region died.
pub const FAILOVER_BOUND: Duration = Duration::from_secs(10);
/// Longest wait for it, so that the record has a figure beyond the bound as well.
const FAILOVER_LIMIT: Duration = Duration::from_secs(60);
/// How long a stream runs before and after what happens.
const AROUND: Duration = Duration::from_secs(2);
/// A ping that is not answered in this many seconds was lost.
const SHORT_WAIT: &str = "0.2";

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let (beyond, sea) = lab.net.beyond(&Spec::round_trip(SEA))?;
    let (west, uplink) = lab
        .net
        .host_behind("west", 3, &Spec::round_trip(Duration::ZERO))?;
    let site = |host, region, code| Site {
        host,
        region: RegionId(region),
        code,
    };
    let sites = [
        site(west, 1, "west"),
        site(beyond.host("east", 3)?, 2, "east"),
    ];
    let mut servers = Apart::with_relays(lab, &sites)?;
    let api = servers.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let key = owner.auth_key(true, None)?;

    // Behind NATs that no hole punch gets through, so that all pairs are relayed.
    let far = Spec::round_trip(LAST_MILE);
    let (router_a, _mile_a) = lab.net.router_behind("r-a", Nat::Hard, &far)?;
    let router_c = lab.net.router("r-c", Nat::Hard)?;
    let (router_b, _mile_b) = beyond.router_behind("r-b", Nat::Hard, &far)?;
    let mut machines = Vec::new();
    for (router, name, home) in [
        (router_a, "a", "west"),
        (router_c, "c", "west"),
        (router_b, "b", "east"),
    ] {
        let mut machine = Agent::new(lab, &router.host(name)?, &[])?;
        machine.enrol(&servers.server, key.key.expose())?;
        wait_for_home(&machine, home)?;
        machines.push(machine);
    }
    {
        let [a, c, b] = &machines[..] else {
            bail!("three machines were made");
        };
        for (from, to) in [(a, c), (a, b)] {
            wait_for_kind(from, to, "relay")?;
        }
        figures.set("near_rtt_ms", a.round_trip_ms(c.ipv4()?)?);
        figures.set("far_rtt_ms", a.round_trip_ms(b.ipv4()?)?);
    }

    let killed = outage(
        [&machines[0], &machines[1]],
        figures,
        "region_failover",
        || servers.relays[0].kill(),
    )?;
    for machine in &machines {
        wait_for_home(machine, "east")?;
    }
    servers.relays[0].restart()?;
    for machine in &mut machines[..2] {
        machine.stop_daemon()?;
        machine.start_daemon()?;
        wait_for_home(machine, "west")?;
    }
    wait_for_kind(&machines[0], &machines[1], "relay")?;

    let vanished = outage(
        [&machines[0], &machines[1]],
        figures,
        "region_vanish",
        || {
            uplink.cut();
            Ok(())
        },
    )?;
    for machine in &machines {
        wait_for_home(machine, "east")?;
    }
    uplink.mend();
    ensure!(
        sea.counts().outward.delivered > 0,
        "nothing crossed the sea, where the measurements should have been"
    );
    for machine in &mut machines {
        machine.stop_daemon()?;
    }
    servers.stop()?;
    for (what, took) in [("was killed", killed), ("vanished", vanished)] {
        ensure!(
            took <= FAILOVER_BOUND,
            "relayed traffic took {:.1} s to flow again after the region {what}, at most {} s are allowed",
            took.as_secs_f32(),
            FAILOVER_BOUND.as_secs()
        );
    }
    Ok(())
}

/// Waits until a machine's home is a region, whose relay has admitted it.
///
/// # Errors
/// It does not become so.
pub fn wait_for_home(machine: &Agent, code: &str) -> Result<()> {
    let mut last = None;
    poll(
        PATH_LIMIT,
        &format!("{} is at home in {code}", machine.name()),
        || {
            let relay = machine.status()?.relay;
            let there = relay.connected && relay.home_code.as_deref() == Some(code);
            last = Some(relay);
            Ok(there.then_some(()))
        },
    )
    .with_context(|| format!("it says {last:?}"))
}

/// Does something to the relay of two machines under a stream between them. Returns
/// the time from then until packets pass in both directions again, and notes it with the longest
/// silence of the stream at an end and what was lost.
///
/// # Errors
/// No packets pass again, or they do not take the relay.
pub fn outage(
    [a, c]: [&Agent; 2],
    figures: &mut Figures,
    name: &str,
    happen: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    let stream = Stream::between(a, c)?;
    let_run(AROUND);
    happen()?;
    let since = Instant::now();
    let address = c.ipv4()?;
    poll(FAILOVER_LIMIT, "relayed traffic flows again", || {
        Ok(a.pings_within(address, SHORT_WAIT)?.then_some(()))
    })?;
    let took = since.elapsed();
    figures.seconds(&format!("{name}_s"), took);
    let_run(AROUND);
    let loss = stream.finish()?;
    let silence = Duration::from_millis(loss.max_gap_ms());
    figures.seconds(&format!("{name}_silence_s"), silence);
    figures.set(&format!("{name}_lost"), loss.forward + loss.backward);
    let kind = a.peer(c.name())?.map(|peer| peer.path.kind);
    demand_eq("path after the outage", &kind.as_deref(), &Some("relay"))?;
    Ok(took)
}
