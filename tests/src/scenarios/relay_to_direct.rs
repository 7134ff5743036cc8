//! The routers let the pair's UDP pass only later: the traffic begins through the relay and moves to
//! the direct path without losing a packet. What the way back costs, when the direct path breaks
//! under the traffic, is measured too.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scenario;
use super::demand_eq;
use super::pair::{PATH_LIMIT, Pair};
use crate::lab::Lab;
use crate::measure::{Gauge, Path, Stream, let_run};
use crate::net::Nat;
use crate::net::cmd::poll;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "relay-to-direct",
    about: "relay to direct while traffic runs: no packet lost by the switch",
    run,
    expected_logs: &[],
};

/// How long the stream runs on each path.
const ON_EACH: Duration = Duration::from_secs(3);

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let two = lab.net.router("r2", Nat::Cone)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    one.block_udp_with(two.public)?;
    two.block_udp_with(one.public)?;
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    let gauge = pair.gauge(&one, &b);

    pair.measure(lab, figures, std::slice::from_ref(&gauge), &[Path::Relay])?;

    gauge.reset()?;
    let stream = Stream::between(&pair.a, &pair.b)?;
    let_run(ON_EACH);
    demand_eq("path before", &gauge.path(1000)?, &Path::Relay)?;

    one.unblock_udp()?;
    two.unblock_udp()?;
    let opened = Instant::now();
    poll(PATH_LIMIT, "the path becomes direct", || {
        let views = pair.views()?;
        Ok(views
            .iter()
            .all(|view| view.path.kind == "direct")
            .then_some(()))
    })?;
    figures.seconds("direct_after_opening_s", opened.elapsed());
    gauge.reset()?;
    let_run(ON_EACH);
    let loss = stream.finish()?;
    loss.note(figures);
    let path = gauge.path(1000)?;
    figures.set("path", path.name());
    demand_eq("path after", &path, &Path::Direct)?;
    loss.demand_none()?;

    falls_back(figures, &pair, &gauge, || {
        one.block_udp_with(two.public)?;
        two.block_udp_with(one.public)
    })?;
    pair.stop()
}

/// Breaks the direct path under a stream; the relay must take over by itself.
fn falls_back(
    figures: &mut Figures,
    pair: &Pair,
    gauge: &Gauge,
    break_path: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stream = Stream::between(&pair.a, &pair.b)?;
    let_run(ON_EACH);
    break_path()?;
    poll(PATH_LIMIT, "the relay takes over", || {
        let views = pair.views()?;
        Ok(views
            .iter()
            .all(|view| view.path.kind == "relay")
            .then_some(()))
    })?;
    gauge.reset()?;
    let_run(ON_EACH);
    let path = gauge.path(1000)?;
    let loss = stream.finish()?;
    figures.set("fallback_lost", loss.forward + loss.backward);
    figures.set("fallback_gap_ms", loss.max_gap_ms());
    demand_eq("path after the break", &path, &Path::Relay)
}
