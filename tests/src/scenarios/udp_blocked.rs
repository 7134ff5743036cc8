//! A network that lets no UDP out: not even STUN answers, and TCP 443 is all there is.

use anyhow::Result;

use super::Scenario;
use super::pair::Pair;
use crate::lab::Lab;
use crate::measure::Path;
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "udp-blocked",
    about: "UDP blocked on one side: relay over 443/tcp",
    run,
    expected_logs: &[],
};

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::UdpBlocked)?;
    let two = lab.net.router("r2", Nat::Cone)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "relay")?;
    let gauges = [pair.gauge(&one, &b), pair.gauge(&two, &a)];
    pair.measure(lab, figures, &gauges, &[Path::Relay])?;
    pair.stop()
}
