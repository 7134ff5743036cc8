//! Machines that do not belong get nothing, and are told why: one of another org, one that never
//! enrolled, one that was deleted, one whose key expired. All are on the open internet, so that
//! only the platform is in their way.

use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use ztna_proto::api::UpdateMachineRequest;

use super::pair::{EMAIL, FIRST_PING_LIMIT, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::cmd::poll;
use crate::net::{Host, nat};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "strangers",
    about: "another org's, unenrolled, deleted and expired machines get nothing and are told why",
    run,
    expected_logs: &["deleted", "expired", "revoked by the control plane"],
};

/// A change reaches the machines within this time.
const SPREAD_LIMIT: Duration = Duration::from_secs(15);
/// Pings of a stranger, none of which may be answered.
const TRIES: usize = 3;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "ours")?;
    let key = owner.auth_key(true, None)?;
    let other = api.sign_up("owner@elsewhere.example", PASSWORD, "theirs")?;
    let other_key = other.auth_key(true, None)?;

    let agent = |name: &str, last: u8| Agent::new(lab, &lab.net.host(name, last)?, &[]);
    let (mut a, mut b, mut c) = (agent("a", 11)?, agent("b", 12)?, agent("c", 13)?);
    let (mut foreign, mut unenrolled) = (agent("foreign", 14)?, agent("unenrolled", 15)?);
    for machine in [&mut a, &mut b, &mut c] {
        machine.enrol(&server.server, key.key.expose())?;
    }
    foreign.enrol(&server.server, other_key.key.expose())?;
    unenrolled.start_daemon()?;
    b.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
    c.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;

    demand_eq(
        "peers of the foreign machine",
        &foreign.status()?.peers.len(),
        &0,
    )?;
    demand_eq("peers of a", &a.status()?.peers.len(), &2)?;
    // The orgs' addresses overlap: ask for one that is not its own.
    let own = foreign.ipv4()?;
    let target = if own == a.ipv4()? { &b } else { &a };
    nat::reset(target.netns())?;
    gets_nothing(&foreign, target)?;
    nothing_came_from(target, &foreign.host)?;
    figures.set("foreign", "nothing");

    gets_nothing(&unenrolled, &a)?;
    nothing_came_from(&a, &unenrolled.host)?;
    demand_eq(
        "state of the unenrolled",
        &*unenrolled.status()?.state,
        "needs_login",
    )?;
    let refusal = unenrolled.refused(&["ping", "a"])?;
    figures.set("unenrolled", refusal);

    owner.delete(owner.machine("b")?.id)?;
    figures.set("deleted", shut_out(&a, &b, "deleted")?);

    let expire = UpdateMachineRequest {
        key_expires_at: Some(Timestamp::now() - jiff::SignedDuration::from_secs(1)),
        ..UpdateMachineRequest::default()
    };
    owner.update(owner.machine("c")?.id, &expire)?;
    figures.set("expired", shut_out(&a, &c, "expired")?);

    for mut machine in [a, b, c, foreign, unenrolled] {
        machine.stop_daemon()?;
    }
    server.stop()
}

/// None of several pings of a stranger is answered.
fn gets_nothing(stranger: &Agent, target: &Agent) -> Result<()> {
    let address = target.ipv4()?;
    for _ in 0..TRIES {
        if stranger.pings(address)? {
            bail!("{} got an answer from {}", stranger.name(), target.name());
        }
    }
    Ok(())
}

fn nothing_came_from(target: &Agent, stranger: &Host) -> Result<()> {
    let count = nat::read(target.netns())?.udp_with(stranger.public);
    demand_eq("packets exchanged with a stranger", &count.packets, &0)
}

/// A machine that lost its place: its peer forgets it, its own tunnel carries nothing, and it knows
/// why. Returns what it says.
fn shut_out(peer: &Agent, machine: &Agent, why: &str) -> Result<String> {
    // While the tunnel still stood; afterwards it does not say.
    let address = peer.ipv4()?;
    let name = machine.name();
    poll(
        SPREAD_LIMIT,
        &format!("{} forgets {name}", peer.name()),
        || Ok(peer.peer(name)?.is_none().then_some(())),
    )?;
    for _ in 0..TRIES {
        if machine.pings(address)? {
            bail!("{name} still reaches {}", peer.name());
        }
    }
    let what = format!("{name} says that it was {why}");
    poll(SPREAD_LIMIT, &what, || {
        let status = machine.status()?;
        let told = status.state == "needs_login" && status.message.contains(why);
        Ok(told.then_some(status.message))
    })
}
