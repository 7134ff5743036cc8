//! NAT behind NAT, and neighbours behind one provider's NAT that lets nobody in from inside.
//!
//! ```text
//!   server ── internet ─┬─ provider 1 ─┬─ home 1 ── a
//!                       │              └─ home 2 ── c
//!                       └─ provider 2 ─── home 3 ── b
//! ```
//!
//! All use the same source port, as machines do that nobody has set up.

use std::time::Duration;

use anyhow::Result;

use super::pair::{Pair, wait_for_kind};
use super::{Scenario, demand_eq};
use crate::agent::Agent;
use crate::lab::Lab;
use crate::measure::{Gauge, Path, Stream, let_run};
use crate::net::{Nat, Router};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "double-nat",
    about: "NAT behind NAT: direct between providers, by relay between neighbours without hairpin",
    run,
    expected_logs: &[],
};

/// How long the streams run.
const STREAM_TIME: Duration = Duration::from_secs(2);

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let providers = [
        lab.net.router("isp1", Nat::Cone)?,
        lab.net.router("isp2", Nat::Cone)?,
    ];
    let home = |name: &str, provider: &Router| provider.router(name, Nat::Cone);
    let (one, two) = (home("home1", &providers[0])?, home("home2", &providers[0])?);
    let three = home("home3", &providers[1])?;
    let (a, b, c) = (one.host("a")?, three.host("b")?, two.host("c")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "direct")?;
    let gauge = pair.gauge(&providers[0], &b);
    let path = by_stream(&gauge, &pair.a, &pair.b)?;
    figures.set("path", path.name());
    demand_eq("path between providers", &path, &Path::Direct)?;

    let mut neighbour = Agent::new(lab, &c, &[])?;
    neighbour.enrol(&pair.server.server, &pair.key)?;
    // The neighbours first: the provider gives the later one another outer port.
    wait_for_kind(&pair.a, &neighbour, "relay")?;
    let gauge = Gauge {
        at: one.netns,
        peer: providers[0].public,
        relay: pair.relay(),
    };
    let path = by_stream(&gauge, &pair.a, &neighbour)?;
    figures.set("neighbours_path", path.name());
    demand_eq("path of the neighbours", &path, &Path::Relay)?;
    wait_for_kind(&pair.b, &neighbour, "direct")?;
    figures.set("neighbour_abroad_path", "direct");
    neighbour.stop_daemon()?;
    pair.stop()
}

/// The path that a stream takes, which must lose nothing.
fn by_stream(gauge: &Gauge, one: &Agent, other: &Agent) -> Result<Path> {
    gauge.reset()?;
    let stream = Stream::between(one, other)?;
    let_run(STREAM_TIME);
    let loss = stream.finish()?;
    loss.demand_none()?;
    gauge.path(loss.ends[0].received)
}
