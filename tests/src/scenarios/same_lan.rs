//! Two machines behind one router must not go through it: the path is direct, by LAN addresses. Cut off
//! from everything else, they find each other even where both have moved.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::pair::Pair;
use super::{Scenario, demand_eq};
use crate::lab::Lab;
use crate::measure::{Gauge, Path};
use crate::net::Nat;
use crate::net::cmd::poll;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "same-lan",
    about: "two machines on one LAN: direct, by the LAN address; cut off and moved, by multicast",
    run,
    // Of the relay, while there is no way to it.
    expected_logs: &["Network is unreachable"],
};

/// Longest that two neighbours may take to find each other.
const FOUND_LIMIT: Duration = Duration::from_secs(10);
/// Last parts of the addresses that they move to.
const MOVED: [u8; 2] = [111, 112];

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let router = lab.net.router("r1", Nat::Cone)?;
    let (mut a, mut b) = (router.host("a")?, router.host("b")?);
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

    // Neither control plane nor relay can tell where the neighbour is now.
    router.netns.ip("link set wan down")?;
    let (a_tailnet, since) = (pair.a.ipv4()?, Instant::now());
    a.readdress(MOVED[0])?;
    b.readdress(MOVED[1])?;
    poll(FOUND_LIMIT, "the neighbours find each other", || {
        Ok(pair.b.pings_within(a_tailnet, "0.2")?.then_some(()))
    })?;
    figures.seconds("moved_cut_off_found_s", since.elapsed());
    for (view, host) in pair.views()?.iter().zip([&b, &a]) {
        let said = view.path.addr.map(|addr| addr.ip());
        demand_eq("address of a neighbour", &said, &Some(host.address.into()))?;
    }
    router.netns.ip("link set wan up")?;
    router.default_route()?;
    pair.stop()
}
