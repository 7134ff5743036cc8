//! One router takes random ports: whether a punch gets through is luck, whether packets arrive is not.

use anyhow::Result;

use super::Scenario;
use super::pair::Pair;
use crate::lab::Lab;
use crate::measure::Path;
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "cone-hard",
    about: "cone NAT to hard NAT: direct or relay, never lost",
    run,
    expected_logs: &[],
};

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let two = lab.net.router("r2", Nat::Hard)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;

    let gauges = [pair.gauge(&one, &b), pair.gauge(&two, &a)];
    pair.measure(lab, figures, &gauges, &[Path::Direct, Path::Relay])?;
    pair.stop()
}
