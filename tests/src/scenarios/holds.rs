//! Approval, quarantine and lock cut and give the traffic of a live pair: directly, and by relay, where
//! the relay itself has to let go and to let in again. The machines stay connected to the control plane
//! throughout, and say what holds them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ztna_proto::api::CreateAuthKeyRequest;
use ztna_proto::machines::{MachineAction, UpdateOrgSettings};

use super::pair::{EMAIL, FIRST_PING_LIMIT, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::api::Owner;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::Nat;
use crate::net::cmd::poll;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "holds",
    about: "approval, quarantine and lock cut and give traffic on a live pair, direct and relayed",
    run,
    expected_logs: &["revoked by the control plane"],
};

/// A change reaches the machines within this time.
const SPREAD_LIMIT: Duration = Duration::from_secs(15);
/// Pings of a machine that is held, none of which may be answered.
const TRIES: usize = 3;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    owner.settings(&UpdateOrgSettings {
        machine_approval: Some(true),
        ..UpdateOrgSettings::default()
    })?;
    let vouched = owner.make_key(&CreateAuthKeyRequest {
        preapproved: true,
        ..CreateAuthKeyRequest::default()
    })?;
    let key = owner.auth_key(true, None)?;

    let shut = lab.net.router("shut", Nat::UdpBlocked)?;
    let mut a = Agent::new(lab, &lab.net.host("a", 201)?, &[])?;
    let mut direct = Agent::new(lab, &lab.net.host("direct", 202)?, &[])?;
    let mut relayed = Agent::new(lab, &shut.host("relayed")?, &[])?;
    a.enrol(&server.server, vouched.key.expose())?;
    demand_eq("state of the pre-approved", &*a.status()?.state, "running")?;

    for machine in [&mut direct, &mut relayed] {
        machine.enrol(&server.server, key.key.expose())?;
        is_held(&a, machine, "pending", "waits for approval")?;
        let name = machine.name().to_owned();
        act(&owner, &name, &MachineAction::Approve {})?;
        machine.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;

        let reason = || "a worm".to_owned();
        for (begin, end, state) in [
            (
                MachineAction::Quarantine { reason: reason() },
                MachineAction::Release {},
                "quarantined",
            ),
            (
                MachineAction::Lock { reason: reason() },
                MachineAction::Unlock {},
                "locked",
            ),
        ] {
            let from = Instant::now();
            act(&owner, &name, &begin)?;
            poll(SPREAD_LIMIT, &format!("{name} is cut off"), || {
                Ok((a.peer(&name)?.is_none() && !a.pings(machine.ipv4()?)?).then_some(()))
            })?;
            figures.seconds(&format!("{name}_{state}"), from.elapsed());
            is_held(&a, machine, state, "(a worm)")?;
            let from = Instant::now();
            act(&owner, &name, &end)?;
            machine.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
            figures.seconds(&format!("{name}_after_{state}"), from.elapsed());
            demand_eq("state after it", &*machine.status()?.state, "running")?;
        }
    }
    figures.set("path", "direct and relay");
    for mut machine in [a, direct, relayed] {
        machine.stop_daemon()?;
    }
    server.stop()
}

fn act(owner: &Owner<'_>, name: &str, action: &MachineAction) -> Result<()> {
    owner.act(owner.machine(name)?.id, action)
}

/// A held machine says so, is connected to the control plane, and nothing passes in either direction.
fn is_held(peer: &Agent, machine: &Agent, state: &str, why: &str) -> Result<()> {
    let name = machine.name();
    let what = format!("{name} says that it is {state}");
    let status = poll(SPREAD_LIMIT, &what, || {
        let status = machine.status()?;
        Ok((status.state == state).then_some(status))
    })?;
    if !status.message.contains(why) {
        bail!("{name} says {:?}", status.message);
    }
    demand_eq("control plane", &status.control.connected, &true)?;
    demand_eq("peers of the held machine", &status.peers.len(), &0)?;
    demand_eq(
        "what its peer knows of it",
        &peer.peer(name)?.is_none(),
        &true,
    )?;
    let (there, here) = (peer.ipv4()?, machine.ipv4()?);
    for _ in 0..TRIES {
        if machine.pings(there)? || peer.pings(here)? {
            bail!("{name} is {state}, and a ping was answered");
        }
    }
    Ok(())
}
