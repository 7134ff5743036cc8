//! Two machines behind one router must not go through it: the path is direct, by LAN addresses.

use anyhow::{Result, bail};

use super::Scenario;
use super::pair::Pair;
use crate::lab::Lab;
use crate::measure::{Gauge, Path};
use crate::net::Nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "same-lan",
    about: "two machines on one LAN: direct, by the LAN address",
    run,
    expected_logs: &[],
};

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let router = lab.net.router("r1", Nat::Cone)?;
    let (a, b) = (router.host("a")?, router.host("b")?);
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    pair.wait_for_path(figures, "direct")?;
    // The machines count themselves: between them there is only a switch.
    let gauges = [
        Gauge::on_host(&a, &b, pair.relay()),
        Gauge::on_host(&b, &a, pair.relay()),
    ];
    pair.measure(lab, figures, &gauges, &[Path::Direct])?;
    for (view, host) in pair.views()?.iter().zip([&b, &a]) {
        let said = view.path.addr.map(|addr| addr.ip());
        if said != Some(host.address.into()) {
            bail!(
                "{} is said to be at {said:?}, is at {}",
                view.name,
                host.address
            );
        }
    }
    pair.stop()
}
