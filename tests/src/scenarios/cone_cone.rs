//! Both machines behind routers that keep ports: a hole punch must get through.

use anyhow::Result;

use super::Scenario;
use super::pair::Pair;
use crate::lab::Lab;
use crate::measure::Path;
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "cone-cone",
    about: "cone NAT to cone NAT: direct",
    run,
    expected_logs: &[],
};

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let two = lab.net.router("r2", Nat::Cone)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "direct")?;
    let gauges = [pair.gauge(&one, &b), pair.gauge(&two, &a)];
    pair.measure(lab, figures, &gauges, &[Path::Direct])?;
    pair.stop()
}
