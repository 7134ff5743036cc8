//! No punch can get through, so the relay carries everything.

use anyhow::Result;

use super::Scenario;
use super::pair::Pair;
use crate::lab::Lab;
use crate::measure::Path;
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "hard-hard",
    about: "hard NAT to hard NAT: relay",
    run,
    expected_logs: &[],
};

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Hard)?;
    let two = lab.net.router("r2", Nat::Hard)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "relay")?;
    let gauges = [pair.gauge(&one, &b), pair.gauge(&two, &a)];
    pair.measure(lab, figures, &gauges, &[Path::Relay])?;
    pair.stop()
}
