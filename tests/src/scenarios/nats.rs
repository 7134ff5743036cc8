//! The lab proves itself: its NATs let through what real ones do, its counters see it, and its
//! stream counts what is lost. Without this, no other record means anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::{Scenario, demand_eq};
use crate::lab::Lab;
use crate::measure::{Gauge, Path, STREAM_PORT, Stream, let_run};
use crate::net::{Host, Nat, Router, nat};
use crate::program::Tool;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "nats",
    about: "the lab's own NATs, counters and stream: cone-cone punches through, hard does not",
    run,
    expected_logs: &[],
};

/// Address and port of the reflector.
const REFLECTOR: (u8, u16) = (2, 3478);
/// Port that both ends of a punch use.
const PORT: u16 = 41641;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = lab.net.host("server", REFLECTOR.0)?;
    let bind = format!("0.0.0.0:{}", REFLECTOR.1);
    let _reflector = Tool::start_ready(&server.netns, &["reflect", "--bind", &bind])?;
    let reflector = SocketAddr::from((server.address, REFLECTOR.1));

    let open = lab.net.host("open", 3)?;
    let routers = [
        lab.net.router("cone1", Nat::Cone)?,
        lab.net.router("cone2", Nat::Cone)?,
        lab.net.router("hard1", Nat::Hard)?,
        lab.net.router("hard2", Nat::Hard)?,
        lab.net.router("block", Nat::UdpBlocked)?,
    ];
    let [cone1, cone2, hard1, hard2, blocked] = [
        routers[0].host("a")?,
        routers[1].host("b")?,
        routers[2].host("c")?,
        routers[3].host("d")?,
        routers[4].host("e")?,
    ];

    for (name, one, other, reached) in [
        ("open_cone", &open, &cone1, true),
        ("open_hard", &open, &hard1, true),
        ("cone_cone", &cone1, &cone2, true),
        ("cone_hard", &cone1, &hard1, false),
        ("hard_hard", &hard1, &hard2, false),
    ] {
        for router in &routers {
            nat::reset(&router.netns)?;
        }
        let both = punch(one, other, reflector, PORT)?;
        figures.set(name, both);
        demand_eq(name, &both, &reached)?;
    }

    let meter = nat::read(&routers[3].netns)?;
    demand_eq(
        "packets that hard2 sent towards hard1",
        &(meter.udp_with(routers[2].public).packets > 0),
        &true,
    )?;
    let error = punch(&blocked, &cone1, reflector, PORT).err();
    figures.set("udp_blocked", error.is_some());
    demand_eq("UDP is blocked behind block", &error.is_some(), &true)?;

    stream_is_counted(
        figures,
        [&cone1, &cone2],
        &routers[0],
        server.address,
        reflector,
    )
}

/// Lets both hosts learn their addresses, tells each the other's, and returns whether both were
/// reached. Either both are or none: the NATs here filter by address and port.
fn punch(one: &Host, other: &Host, reflector: SocketAddr, port: u16) -> Result<bool> {
    let start = |host: &Host| {
        let bind = format!("0.0.0.0:{port}");
        let reflector = reflector.to_string();
        let args = ["punch", "--bind", &bind, "--reflector", &reflector];
        Tool::start(&host.netns, &args)
    };
    let (mut one, mut other) = (start(one)?, start(other)?);
    let addresses = (one.read_line()?, other.read_line()?);
    one.say(&addresses.1)?;
    other.say(&addresses.0)?;
    let reached = (one.read_line()?, other.read_line()?);
    demand_eq("both ends of a punch agree", &reached.0, &reached.1)?;
    Ok(reached.0 == "reached")
}

/// A stream over a punched hole: complete, and counted as direct; with UDP blocked it loses.
fn stream_is_counted(
    figures: &mut Figures,
    hosts: [&Host; 2],
    router: &Router,
    relay: Ipv4Addr,
    reflector: SocketAddr,
) -> Result<()> {
    let gauge = Gauge {
        at: router.netns.clone(),
        peer: hosts[1].public,
        relay: (relay, reflector.port()),
    };
    // The ports of the stream, so that its first packets find the hole open.
    demand_eq(
        "the stream's port is punched",
        &punch(hosts[0], hosts[1], reflector, STREAM_PORT)?,
        &true,
    )?;
    let start = || {
        Stream::start(
            [
                (&hosts[0].netns, hosts[0].address),
                (&hosts[1].netns, hosts[1].address),
            ],
            [hosts[0].public, hosts[1].public],
        )
    };

    gauge.reset()?;
    let stream = start()?;
    let_run(Duration::from_secs(1));
    let loss = stream.finish()?;
    loss.note(figures);
    loss.demand_none()?;
    let path = gauge.path(loss.ends[0].sent + loss.ends[1].sent)?;
    figures.set("path", path.name());
    demand_eq("path", &path, &Path::Direct)?;

    let stream = start()?;
    router.block_udp()?;
    let_run(Duration::from_millis(500));
    router.unblock_udp()?;
    let_run(Duration::from_millis(500));
    let loss = stream.finish()?;
    figures.set("lost_while_blocked", loss.forward + loss.backward);
    demand_eq("a blocked stream loses", &(loss.forward > 0), &true)?;
    demand_eq("the gap shows", &(loss.max_gap_ms() >= 400), &true)
}
