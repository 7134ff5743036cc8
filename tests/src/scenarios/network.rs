//! What lies behind machines: a host behind a subnet router is reached by its address, as far as the
//! policy goes and an admin has approved; a second router takes over; an exit node carries what is
//! bound for the internet, and the control plane stays outside. Names of machines and records resolve as
//! programs look them up, until `ztna down`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use ztna_proto::MachineId;
use ztna_proto::network::{DnsRecord, DnsSettings};

use super::pair::{EMAIL, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::api::{Owner, Server};
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::cmd::{poll, run as command};
use crate::net::link::Spec;
use crate::net::{Host, Nat, Netns};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "network",
    about: "subnet routes by policy and approval, with a router that takes over; exit nodes; names",
    run,
    expected_logs: &[],
};

/// Longest wait for a change to be in force.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// How long a packet that must not arrive is waited for, in seconds.
const SILENCE: &str = "1";
/// What the laptop's programs ask before: one that does not answer.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\n";
/// The table of routes that lead to networks behind peers.
const TABLE: &str = "5240";

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let key = owner.auth_key(true, None)?;
    let key = key.key.expose();

    let site = lab.net.router("r1", Nat::Cone)?;
    let (first, second) = (site.host("gate")?, site.host("gate2")?);
    let (printer, safe) = (site.host("printer")?, site.host("safe")?);
    let away = lab.net.router("r2", Nat::Cone)?;
    // Not on the exit node's own network, which it offers to nobody.
    let (beyond, _sea) = lab
        .net
        .beyond(&Spec::round_trip(Duration::from_millis(2)))?;
    let (exit, web) = (lab.net.host("exit", 201)?, beyond.host("web", 2)?);
    let subnet = format!("{}/24", site.network());
    owner.set_policy(&policy(&subnet, &safe))?;
    // The site of the web knows only the exit node.
    web.netns.nft(&format!(
        "table ip only {{
            chain input {{
                type filter hook input priority 0
                ip saddr != {} icmp type echo-request drop
            }}
        }}",
        exit.address
    ))?;

    let enrol = |host: &Host| -> Result<Agent> {
        let mut agent = Agent::new(lab, host, &[])?;
        agent.enrol(&server.server, key)?;
        Ok(agent)
    };
    let (mut gate, mut gate2) = (enrol(&first)?, enrol(&second)?);
    let laptop_host = away.host("laptop")?;
    laptop_host.netns.set_resolv_conf(RESOLV_CONF)?;
    let mut laptop = Agent::new(lab, &laptop_host, &["--resolv-conf", "/etc/resolv.conf"])?;
    laptop.enrol(&server.server, key)?;
    let mut exit_node = enrol(&exit)?;
    let refused = gate.refused(&["up", "--advertise-routes", "10.1.0.7/24"])?;
    if !refused.contains("write 10.1.0.0/24") {
        bail!("a malformed network is refused so: {refused}");
    }
    for gate in [&gate, &gate2] {
        let said = gate.run(&["up", "--advertise-routes", &subnet])?;
        if !said.contains("approve") || !said.contains("forwarding on") {
            bail!("offering a route says nothing of approval or forwarding: {said}");
        }
    }
    laptop.run(&["up", "--accept-routes"])?;
    silent(&laptop, &printer, "before approval")?;

    let ids = [owner.machine("gate")?.id, owner.machine("gate2")?.id];
    for id in ids {
        owner.approve_routes(id, &[&subnet])?;
    }
    laptop.ping_until(printer.address, CHANGE_LIMIT)?;
    silent(&laptop, &safe, "denied by policy")?;
    demand_route(&laptop, &subnet, true)?;
    names(&owner, &laptop, &gate, &printer)?;

    let switched = fails_over(&mut gate, &server.server, &laptop, &printer)?;
    figures.seconds("router_took_over_s", switched);

    cut(&owner, &ids, &laptop, &printer)?;
    demand_route(&laptop, &subnet, false)?;

    silent(&laptop, &web, "without an exit node")?;
    exit_node.run(&["up", "--advertise-exit-node"])?;
    let id = owner.machine("exit")?.id;
    owner.approve_routes(id, &["0.0.0.0/0", "::/0"])?;
    poll(CHANGE_LIMIT, "the laptop may use the exit node", || {
        // Refused until it hears that there is one.
        if laptop.run(&["up", "--exit-node", "exit"]).is_err() {
            return Ok(None);
        }
        Ok(laptop.pings(web.address)?.then_some(()))
    })?;
    figures.set("exit_round_trip_ms", laptop.round_trip_ms(web.address)?);
    silent(&laptop, &safe, "private, through the exit node")?;
    // The control plane is not behind the exit node: a change arrives while that is away.
    exit_node.run(&["down"])?;
    poll(CHANGE_LIMIT, "nothing leaves another way", || {
        Ok((!laptop.pings_within(web.address, SILENCE)?).then_some(()))
    })?;
    let status = laptop.run(&["status"])?;
    if !status.contains("connected") {
        bail!("the control plane is away with the exit node: {status}");
    }
    laptop.run(&["up", "--exit-node", ""])?;
    demand_route(&laptop, "default", false)?;

    laptop.run(&["down"])?;
    demand_eq(
        "/etc/resolv.conf after `down`",
        &*laptop.netns().resolv_conf()?,
        RESOLV_CONF,
    )?;
    for agent in [&mut gate, &mut gate2, &mut laptop, &mut exit_node] {
        agent.run(&["down"])?;
        clean(agent.netns())?;
        agent.stop_daemon()?;
    }
    figures.set("path", "direct");
    server.stop()
}

/// Programs of the laptop find machines and records by name, short ones too, and each other's names by
/// address.
fn names(owner: &Owner<'_>, laptop: &Agent, gate: &Agent, printer: &Host) -> Result<()> {
    owner.set_dns(&DnsSettings {
        search: vec!["corp.test".to_owned()],
        records: vec![DnsRecord {
            name: "printer.corp.test".to_owned(),
            address: printer.address.into(),
        }],
        ..DnsSettings::default()
    })?;
    let ask = |name: &str| {
        let mut getent = laptop.netns().command("getent");
        let said = command(getent.args(["hosts", name])).unwrap_or_default();
        said.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    poll(CHANGE_LIMIT, "a record of the org resolves", || {
        Ok((!ask("printer").is_empty()).then_some(()))
    })?;
    let address = printer.address.to_string();
    demand_eq(
        "a record",
        &ask("printer.corp.test"),
        &vec![address, "printer.corp.test".to_owned()],
    )?;
    let tailnet = gate.ipv4()?.to_string();
    let found = ask(&tailnet);
    demand_eq(
        "name of an address",
        &found.get(1).map(String::as_str),
        &Some("gate.lab.ztna.internal"),
    )?;
    demand_eq(
        "a machine's short name is known",
        &ask("gate").is_empty(),
        &false,
    )?;
    demand_eq(
        "a name that is nobody's",
        &ask("nobody.lab.ztna.internal").is_empty(),
        &true,
    )?;
    let mut ping = laptop.netns().command("ping");
    command(ping.args(["-c", "1", "-W", "5", "printer"]))?;
    Ok(())
}

/// Everybody reaches the network, its safe excepted, and the internet.
fn policy(subnet: &str, safe: &Host) -> String {
    format!(
        r#"{{"acls": [
            {{"action": "accept", "src": ["*"], "dst": ["{subnet}:*", "autogroup:internet:*"]}},
            {{"action": "deny", "src": ["*"], "dst": ["{}:*"]}},
        ]}}"#,
        safe.address
    )
}

/// The router that is in charge goes down, and the other one is there; then it comes back.
fn fails_over(
    gate: &mut Agent,
    server: &Server,
    laptop: &Agent,
    printer: &Host,
) -> Result<Duration> {
    gate.run(&["down"])?;
    clean(gate.netns())?;
    let took = laptop.ping_until(printer.address, CHANGE_LIMIT)?;
    gate.up(&crate::agent::Up {
        server: Some(server),
        auth_key: None,
    })?;
    laptop.ping_until(printer.address, CHANGE_LIMIT)?;
    Ok(took)
}

/// Takes the approval back: nothing arrives any more.
fn cut(owner: &Owner<'_>, ids: &[MachineId], laptop: &Agent, printer: &Host) -> Result<()> {
    for id in ids {
        owner.approve_routes(*id, &[])?;
    }
    poll(CHANGE_LIMIT, "the network is cut off", || {
        Ok((!laptop.pings_within(printer.address, SILENCE)?).then_some(()))
    })
}

fn silent(from: &Agent, to: &Host, why: &str) -> Result<()> {
    if from.pings_within(to.address, SILENCE)? {
        bail!("{} answers {}: {why}", to.name, from.name());
    }
    Ok(())
}

/// Whether a route leads into the tunnel.
fn demand_route(agent: &Agent, network: &str, is: bool) -> Result<()> {
    let mut ip = agent.netns().command("ip");
    let routes = command(ip.args(["route", "show", "table", TABLE])).unwrap_or_default();
    let there = routes.lines().any(|line| line.starts_with(network));
    demand_eq(&format!("a route to {network} in the tunnel"), &there, &is)
}

/// Nothing of ours is left in a namespace.
fn clean(netns: &Netns) -> Result<()> {
    let said = |mut program: Command, args: &[&str]| command(program.args(args));
    let tables = said(netns.command("nft"), &["list", "tables"])?;
    let rules = said(netns.command("ip"), &["rule"])?;
    if tables.contains("ztna") || rules.contains("proto 141") || rules.contains(TABLE) {
        bail!("something is left: {tables} {rules}");
    }
    Ok(())
}
