//! A phone with stock WireGuard (wireguard-go, by the configuration that the control plane hands out) joins
//! through a gateway: the policy holds in both directions, a rule that goes cuts a connection that runs, a
//! source that is not the phone's own is dropped at the gateway, and the phone is back after the gateway was
//! restarted, and out once it has new keys or is deleted.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ztna_proto::api::CreateAuthKeyRequest;
use ztna_proto::machines::{MachineAction, UpdateOrgSettings};
use ztna_proto::netmap::PqMode;
use ztna_proto::static_peers::{CreateStaticPeer, StaticPeer};

use super::pair::{EMAIL, FIRST_PING_LIMIT, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::api::Owner;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::cmd::{poll, run as command, run_with_input};
use crate::net::{Host, Nat, Netns};
use crate::program::Program;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "static-peer",
    about: "a stock WireGuard device joins through a gateway, under the policy like any machine",
    run,
    expected_logs: &["revoked by the control plane"],
};

/// The gateway's port for devices.
const PORT: u16 = 51820;
/// What the phone may open on the desk, …
const FORWARD: u16 = 7001;
/// … and the desk on the phone.
const BACKWARD: u16 = 7002;
/// An address of the tailnet that is nobody's.
const NOBODYS: &str = "100.64.9.9";
/// A change is in force within this time.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_secs(2);

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    owner.set_policy(&policy(true))?;

    let (home, away) = (
        lab.net.router("home", Nat::Cone)?,
        lab.net.router("away", Nat::Cone)?,
    );
    let gate_host = lab.net.host("gate", 202)?;
    let mut gate = enrol(lab, &server, &owner, &gate_host, "tag:gate")?;
    let mut desk = enrol(lab, &server, &owner, &home.host("desk")?, "tag:desk")?;
    let stranger_host = lab.net.host("stranger", 203)?;
    let mut stranger = enrol(lab, &server, &owner, &stranger_host, "tag:stranger")?;

    let gateway = owner.machine("gate")?.id;
    owner.make_gateway(gateway, &format!("{}:{PORT}", gate_host.address))?;
    owner.settings(&UpdateOrgSettings {
        pq: Some(PqMode::Preferred),
        ..UpdateOrgSettings::default()
    })?;
    let made = owner.static_peer(&CreateStaticPeer {
        name: "phone".to_owned(),
        gateway,
        public_key: None,
        preshared_key: true,
        tags: vec!["tag:phone".to_owned()],
        user: None,
    })?;
    let phone = Phone::start(lab, &away.host("phone")?, made.config.expose())?;
    let since = Instant::now();
    poll(FIRST_PING_LIMIT, "the phone reaches the desk", || {
        Ok(phone.pings(desk.ipv4()?.into())?.then_some(()))
    })?;
    figures.seconds("phone_first_ping", since.elapsed());
    demand_eq("it is online", &listed(&owner)?.machine.online, &true)?;

    both_ways(&owner, &phone, &desk, &stranger)?;
    let cut = cut_by_policy(&owner, &phone, &desk)?;
    figures.seconds("policy_cut", cut);
    spoofed(&phone, &desk, gate.ipv4()?)?;
    large(&phone, &desk)?;
    let back = restarted(&owner, &mut gate, &phone, &desk)?;
    figures.seconds("back_after_restart", back);
    held(&owner, &phone, &desk)?;
    ended(&owner, &phone, &desk)?;

    figures.set("path", "through a gateway");
    phone.stop()?;
    for agent in [&mut gate, &mut desk, &mut stranger] {
        agent.stop_daemon()?;
    }
    server.stop()
}

/// The phone opens one port of the desk, the desk one of the phone's; `all`: also ping.
fn policy(all: bool) -> String {
    let mut rules = vec![
        format!(r#"{{"action": "accept", "src": ["tag:desk"], "dst": ["tag:phone:{BACKWARD}"]}}"#),
        // So that only its source keeps out what the phone sends in the gateway's name.
        r#"{"action": "accept", "src": ["tag:gate"], "dst": ["*:*"]}"#.to_owned(),
        r#"{"action": "accept", "proto": "icmp", "src": ["tag:phone"], "dst": ["tag:desk:*"]}"#
            .to_owned(),
    ];
    if all {
        rules.push(format!(
            r#"{{"action": "accept", "src": ["tag:phone"], "dst": ["tag:desk:{FORWARD}"]}}"#
        ));
    }
    format!(
        r#"{{"tagOwners": {{"tag:gate": [], "tag:desk": [], "tag:phone": [], "tag:stranger": []}},
            "acls": [{}]}}"#,
        rules.join(", ")
    )
}

fn enrol(
    lab: &Lab,
    server: &Standalone,
    owner: &Owner<'_>,
    host: &Host,
    tag: &str,
) -> Result<Agent> {
    let key = owner.make_key(&CreateAuthKeyRequest {
        tags: vec![tag.to_owned()],
        ..CreateAuthKeyRequest::default()
    })?;
    let mut agent = Agent::new(lab, host, &[])?;
    agent.enrol(&server.server, key.key.expose())?;
    Ok(agent)
}

/// A host that knows WireGuard and nothing of ours.
struct Phone {
    netns: Netns,
    program: Program,
    device: String,
    ipv4: Ipv4Addr,
    ipv6: IpAddr,
}

impl Phone {
    /// Does what `wg-quick up` does with a configuration.
    fn start(lab: &Lab, host: &Host, config: &str) -> Result<Self> {
        let netns = host.netns.clone();
        // Its socket has the device's name, and all namespaces share the folder of sockets.
        let device = format!("wgp{}", std::process::id());
        let mut program = netns.command("wireguard-go");
        program.args(["--foreground", &device]);
        let program = Program::start("wireguard-go", program, &lab.log("wireguard-go"))?;
        let values = |name: &str| -> Vec<String> {
            let lines = config.lines().filter_map(|line| line.split_once(" = "));
            let found = lines.filter(|(key, _)| *key == name);
            found
                .flat_map(|(_, value)| value.split(", "))
                .map(str::to_owned)
                .collect()
        };
        poll(CHANGE_LIMIT, "wireguard-go makes its device", || {
            let set = apply(&netns, &device, config);
            Ok(set.ok())
        })?;
        let mtu = values("MTU").join("");
        let mut addresses = Vec::new();
        for address in values("Address") {
            let (address, bits) = address.split_once('/').context("an address and its bits")?;
            let flag = if address.contains(':') { "nodad" } else { "" };
            netns.ip(&format!("addr add {address}/{bits} dev {device} {flag}"))?;
            addresses.push(address.to_owned());
        }
        netns.ip(&format!("link set {device} mtu {mtu} up"))?;
        for network in values("AllowedIPs") {
            netns.ip(&format!("route add {network} dev {device}"))?;
        }
        let [ipv4, ipv6] = addresses.as_slice() else {
            bail!("the configuration has the addresses {addresses:?}");
        };
        Ok(Self {
            netns,
            program,
            device,
            ipv4: ipv4.parse()?,
            ipv6: ipv6.parse()?,
        })
    }

    fn configure(&self, config: &str) -> Result<()> {
        apply(&self.netns, &self.device, config)
    }

    fn pings(&self, to: IpAddr) -> Result<bool> {
        self.pings_with(to, &[])
    }

    fn pings_with(&self, to: IpAddr, flags: &[&str]) -> Result<bool> {
        let mut ping = self.netns.command("ping");
        ping.args(["-n", "-c", "1", "-W", "1"]).args(flags);
        Ok(command(ping.arg(to.to_string())).is_ok())
    }

    fn stop(self) -> Result<()> {
        self.program.kill()
    }
}

/// The part of a configuration that `wg` reads; the rest is for `wg-quick`.
fn apply(netns: &Netns, device: &str, config: &str) -> Result<()> {
    let for_wg: String = config
        .lines()
        .filter(|line| !line.starts_with("Address") && !line.starts_with("MTU"))
        .flat_map(|line| [line, "\n"])
        .collect();
    run_with_input(
        netns.command("wg").args(["setconf", device, "/dev/stdin"]),
        &for_wg,
    )?;
    Ok(())
}

/// Connects from one namespace to a listener in another, and has a line come back. `None`: no connection.
fn connect(from: &Netns, to: &Netns, at: SocketAddr) -> Result<Option<TcpStream>> {
    let listener = to.within(|| TcpListener::bind(at).context("cannot listen"))?;
    listener.set_nonblocking(true)?;
    let Ok(mut near) = from.within(|| Ok(TcpStream::connect_timeout(&at, SILENCE)?)) else {
        return Ok(None);
    };
    let (mut far, _) = poll(CHANGE_LIMIT, "the connection is there", || {
        Ok(listener.accept().ok())
    })?;
    far.set_nonblocking(false)?;
    // The far end gives back what it gets, until the connection ends.
    std::thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    near.set_read_timeout(Some(SILENCE))?;
    if !echoes(&mut near)? {
        bail!("a connection to {at} that carries nothing");
    }
    Ok(Some(near))
}

fn echoes(connection: &mut TcpStream) -> Result<bool> {
    connection.write_all(b"x")?;
    Ok(connection.read_exact(&mut [0]).is_ok())
}

fn listed(owner: &Owner<'_>) -> Result<StaticPeer> {
    let mut peers = owner.static_peers()?;
    demand_eq("static peers", &peers.len(), &1)?;
    peers.pop().context("there is one")
}

/// What the policy says, from and to the phone, and nothing else.
fn both_ways(owner: &Owner<'_>, phone: &Phone, desk: &Agent, stranger: &Agent) -> Result<()> {
    let (desk_address, phone_address) = (desk.ipv4()?, phone.ipv4);
    let desk_at = |port| SocketAddr::from((desk_address, port));
    let phone_at = |port| SocketAddr::from((phone_address, port));
    let (at_phone, at_desk) = (&phone.netns, desk.netns());
    for (what, from, to, at, passes) in [
        ("phone to desk", at_phone, at_desk, desk_at(FORWARD), true),
        ("another port", at_phone, at_desk, desk_at(BACKWARD), false),
        ("desk to phone", at_desk, at_phone, phone_at(BACKWARD), true),
        ("another port", at_desk, at_phone, phone_at(FORWARD), false),
    ] {
        demand_eq(what, &connect(from, to, at)?.is_some(), &passes)?;
    }
    demand_eq("ping over IPv6", &phone.pings(desk.ipv6()?.into())?, &true)?;
    demand_eq(
        "ping to a stranger",
        &phone.pings(stranger.ipv4()?.into())?,
        &false,
    )?;
    demand_eq("ping of a stranger", &stranger.pings(phone.ipv4)?, &false)?;
    demand_eq("ping of the desk", &desk.pings(phone.ipv4)?, &false)?;
    let peer = desk.peer("phone")?.context("the desk knows the phone")?;
    demand_eq("the tunnel to its gateway", &*peer.psk.state, "established")?;
    demand_eq(
        "the stranger knows",
        &stranger.peer("phone")?.is_none(),
        &true,
    )?;
    demand_eq(
        "it is listed with machines",
        &owner.machine("phone")?.online,
        &true,
    )?;
    demand_eq(
        "its address of IPv6",
        &IpAddr::from(owner.machine("phone")?.ipv6),
        &phone.ipv6,
    )
}

/// A rule that goes takes a connection along that runs.
fn cut_by_policy(owner: &Owner<'_>, phone: &Phone, desk: &Agent) -> Result<Duration> {
    let at = SocketAddr::from((desk.ipv4()?, FORWARD));
    let mut connection = connect(&phone.netns, desk.netns(), at)?.context("a connection")?;
    let since = Instant::now();
    owner.set_policy(&policy(false))?;
    poll(CHANGE_LIMIT, "the connection is cut", || {
        Ok((!echoes(&mut connection)?).then_some(()))
    })?;
    // What was lost on the way is sent again: nothing of it arrives.
    demand_eq("after that", &echoes(&mut connection)?, &false)?;
    let took = since.elapsed();
    demand_eq("ping, whose rule stays", &phone.pings(at.ip())?, &true)?;
    owner.set_policy(&policy(true))?;
    Ok(took)
}

/// The phone sends in others' names: nothing of it reaches the desk.
fn spoofed(phone: &Phone, desk: &Agent, gate: Ipv4Addr) -> Result<()> {
    let names = [gate.to_string(), NOBODYS.to_owned()];
    let counters: String = [&phone.ipv4.to_string(), &names[0], &names[1]]
        .iter()
        .map(|from| format!("ip saddr {from} icmp type echo-request counter\n"))
        .collect();
    desk.netns().nft(&format!(
        "table ip spoof {{
            chain input {{
                type filter hook input priority 0
                {counters}
            }}
        }}"
    ))?;
    for name in &names {
        phone
            .netns
            .ip(&format!("addr add {name}/32 dev {}", phone.device))?;
        phone.pings_with(desk.ipv4()?.into(), &["-c", "3", "-i", "0.2", "-I", name])?;
    }
    // This one comes after them.
    demand_eq(
        "ping in its own name",
        &phone.pings_with(desk.ipv4()?.into(), &["-I", &phone.ipv4.to_string()])?,
        &true,
    )?;
    let table = command(
        desk.netns()
            .command("nft")
            .args(["list", "table", "ip", "spoof"]),
    )?;
    let counts: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_once("counter packets ")?.1.split(' ').next())
        .collect();
    demand_eq("packets by source", &counts, &vec!["1", "0", "0"])?;
    for name in &names {
        phone
            .netns
            .ip(&format!("addr del {name}/32 dev {}", phone.device))?;
    }
    Ok(())
}

/// What is larger than the phone's tunnel arrives in pieces.
fn large(phone: &Phone, desk: &Agent) -> Result<()> {
    demand_eq(
        "a ping of 4,000 bytes",
        &phone.pings_with(desk.ipv4()?.into(), &["-s", "4000"])?,
        &true,
    )
}

/// While the gateway is away, so is the phone, and the list says why.
fn restarted(owner: &Owner<'_>, gate: &mut Agent, phone: &Phone, desk: &Agent) -> Result<Duration> {
    gate.stop_daemon()?;
    let message = poll(CHANGE_LIMIT, "the phone is offline", || {
        let peer = listed(owner)?;
        Ok((!peer.machine.online).then_some(peer.message))
    })?;
    let message = message.context("a reason")?;
    if !message.contains("its gateway gate is offline") {
        bail!("the list says {message:?}");
    }
    demand_eq(
        "without its gateway",
        &phone.pings(desk.ipv4()?.into())?,
        &false,
    )?;
    let since = Instant::now();
    gate.start_daemon()?;
    poll(CHANGE_LIMIT, "the phone is back", || {
        Ok(phone.pings(desk.ipv4()?.into())?.then_some(()))
    })?;
    Ok(since.elapsed())
}

/// Quarantine cuts the phone off, and its end lets it in again, without anything done on the phone.
fn held(owner: &Owner<'_>, phone: &Phone, desk: &Agent) -> Result<()> {
    let id = listed(owner)?.machine.id;
    let reason = String::new();
    owner.act(id, &MachineAction::Quarantine { reason })?;
    is_out(phone, desk, "in quarantine")?;
    owner.act(id, &MachineAction::Release {})?;
    poll(CHANGE_LIMIT, "the phone is released", || {
        Ok(phone.pings(desk.ipv4()?.into())?.then_some(()))
    })
}

/// With new keys the old ones open nothing; deleted, nothing does.
fn ended(owner: &Owner<'_>, phone: &Phone, desk: &Agent) -> Result<()> {
    let id = listed(owner)?.machine.id;
    let made = owner.rotate(id)?;
    is_out(phone, desk, "with its old keys")?;
    phone.configure(made.config.expose())?;
    poll(CHANGE_LIMIT, "the phone is in with its new keys", || {
        Ok(phone.pings(desk.ipv4()?.into())?.then_some(()))
    })?;
    owner.delete(id)?;
    is_out(phone, desk, "deleted")?;
    demand_eq("the desk knows it", &desk.peer("phone")?.is_none(), &true)
}

fn is_out(phone: &Phone, desk: &Agent, how: &str) -> Result<()> {
    let address = desk.ipv4()?.into();
    poll(CHANGE_LIMIT, &format!("the phone is out, {how}"), || {
        Ok((!phone.pings(address)?).then_some(()))
    })?;
    for _ in 0..3 {
        demand_eq(&format!("ping, {how}"), &phone.pings(address)?, &false)?;
    }
    Ok(())
}
