//! A packet that the policy forbids, sent by a machine that does not filter what it sends: the
//! receiver drops it, on the direct path and on the relayed one. Packets to an allowed port on the
//! same tunnel show that nothing else was in their way, and the router's counters that the
//! forbidden ones really came.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::pair::{EMAIL, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::{Agent, PORT};
use crate::deploy::{self, Standalone};
use crate::lab::Lab;
use crate::measure::{Gauge, Path};
use crate::net::cmd::poll;
use crate::net::{Host, Nat};
use crate::program::Tool;
use crate::record::Figures;
use crate::tools::rogue;

pub const SCENARIO: Scenario = Scenario {
    name: "policy",
    about: "a forbidden packet is dropped at the receiver, on the direct and the relayed path",
    run,
    expected_logs: &[],
};

/// The one port that the policy opens.
const ALLOWED: u16 = 7001;
/// Any other.
const FORBIDDEN: u16 = 7002;
/// Packets sent to each.
const PACKETS: u64 = 200;
/// Longest wait for a tunnel.
const TUNNEL_LIMIT: Duration = Duration::from_secs(30);

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    owner.set_policy(&one_port())?;
    let key = owner.auth_key(true, None)?;

    let router = lab.net.router("r1", Nat::Cone)?;
    let shut = lab.net.router("r2", Nat::UdpBlocked)?;
    let mut target = Agent::new(lab, &router.host("target")?, &[])?;
    target.enrol(&server.server, key.key.expose())?;
    let address = target.ipv4()?;

    let gauge = |peer: &Host| Gauge {
        at: router.netns.clone(),
        peer: peer.public,
        relay: (server.host.address, deploy::PORT),
    };
    for (host, path) in [
        (lab.net.host("direct", 201)?, Path::Direct),
        (shut.host("relayed")?, Path::Relay),
    ] {
        // Enrolled by a real agent, whose identity the rogue takes over.
        let mut member = Agent::new(lab, &host, &[])?;
        member.enrol(&server.server, key.key.expose())?;
        member.stop_daemon()?;
        let dropped = rogue_gets_nothing(&member, &target, address, &gauge(&host), path)?;
        figures.set(&format!("{}_forbidden_dropped", path.name()), dropped);
    }
    figures.set("path", "direct and relay");
    target.stop_daemon()?;
    server.stop()
}

/// Everybody may send UDP to [`ALLOWED`] of everybody, and nothing else.
fn one_port() -> String {
    format!(
        r#"{{"acls": [{{"action": "accept", "proto": "udp", "src": ["*"], "dst": ["*:{ALLOWED}"]}}]}}"#
    )
}

/// Sends to both ports and returns how many packets to the forbidden one were dropped: all.
fn rogue_gets_nothing(
    member: &Agent,
    target: &Agent,
    address: Ipv4Addr,
    gauge: &Gauge,
    path: Path,
) -> Result<u64> {
    let ports = [ALLOWED, FORBIDDEN].map(|port| format!("{address}:{port}"));
    let args = ["listen", "--bind", &ports[0], "--bind", &ports[1]];
    let mut listener = Tool::start_ready(target.netns(), &args)?;
    let state = member.state_dir().join("state.json");
    let bind = format!("{}:{PORT}", member.host.address);
    let args = [
        "rogue",
        "--state",
        &state.to_string_lossy(),
        "--bind",
        &bind,
    ];
    let mut rogue = Tool::start_ready(member.netns(), &args)?;

    // Until the tunnel stands and its path is the one that is meant.
    poll(
        TUNNEL_LIMIT,
        &format!("an allowed packet arrives on the {} path", path.name()),
        || {
            gauge.reset()?;
            let before = counts(&mut listener)?[0];
            send(&mut rogue, &ports[0], 20)?;
            let arrived = counts(&mut listener)?[0] - before;
            let there = arrived > 0 && gauge.path(1)? == path;
            Ok(there.then_some(()))
        },
    )?;

    let [allowed_before, forbidden_before] = counts(&mut listener)?;
    demand_eq(
        "forbidden packets before any was sent",
        &forbidden_before,
        &0,
    )?;
    gauge.reset()?;
    send(&mut rogue, &ports[1], PACKETS)?;
    send(&mut rogue, &ports[0], PACKETS)?;
    // The allowed ones came after the forbidden ones: when they are there, those were too.
    poll(TUNNEL_LIMIT, "the allowed packets arrive", || {
        let [allowed, _] = counts(&mut listener)?;
        Ok((allowed - allowed_before == PACKETS).then_some(()))
    })?;
    let [_, forbidden] = counts(&mut listener)?;
    demand_eq(
        "forbidden packets that reached the application",
        &forbidden,
        &0,
    )?;

    let (direct, relayed) = gauge.bytes()?;
    let least = 2 * PACKETS * rogue::PAYLOAD as u64;
    if direct + relayed < least {
        bail!(
            "the router saw {} bytes, {least} were sent: the forbidden ones never came",
            direct + relayed
        );
    }
    demand_eq("path", &gauge.path(2 * PACKETS)?, &path)?;
    Ok(PACKETS)
}

fn send(rogue: &mut Tool, to: &str, count: u64) -> Result<()> {
    rogue.say(&format!("send {to} {count}"))?;
    demand_eq("the rogue's answer", &*rogue.read_line()?, "done")
}

fn counts(listener: &mut Tool) -> Result<[u64; 2]> {
    listener.say("count")?;
    let json = listener.read_line()?;
    serde_json::from_str(&json).with_context(|| format!("counts {json}"))
}
