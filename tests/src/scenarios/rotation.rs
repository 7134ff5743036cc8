//! Ten preshared keys in a row on a path that loses packets at random: what the stream lacks at the end is
//! what the path lost, packet by packet, and nothing more.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::pair::Pair;
use super::{Scenario, demand_eq, psk};
use crate::lab::Lab;
use crate::measure::Stream;
use crate::net::link::shape::{Loss, Shape};
use crate::net::link::{Link, Spec};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "rotation",
    about: "ten PSK epochs under the stream on a lossy path: no packet is lost by a rotation",
    run,
    // The relay is out of reach on purpose.
    expected_logs: &["quinn_udp: sendmsg error"],
};

/// Seconds between two keys.
const INTERVAL: &str = "5";
/// Epochs that must be seen.
const EPOCHS: usize = 10;
/// Longest wait for them.
const EPOCHS_LIMIT: Duration = Duration::from_secs(75);
/// Share of all packets that the path loses, each way.
const LOSS: f64 = 0.02;
/// What the path takes, each way.
const DELAY: Duration = Duration::from_millis(10);
/// A stream packet on the path, in bytes of IP: its 172 bytes under UDP and IPv4 (28), padded to a
/// multiple of 16 and sealed by WireGuard (32), under UDP and IPv4 again (28).
const STREAM_PACKET: usize = 208 + 32 + 28;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let calm = Shape {
        delay: DELAY,
        ..Shape::CLEAN
    };
    let (a, link) = lab.net.host_behind("near", 11, &Spec::both(calm))?;
    let b = lab.net.host("far", 12)?;
    let pair = Pair::enrol(lab, figures, [&a, &b], &["--psk-interval", INTERVAL])?;
    pair.wait_for_path(figures, "direct")?;
    // While a path is in doubt packets go by relay as well, which would save some of the lost ones.
    cut_relay(&pair, "add")?;

    let before = lost(&link);
    let stream = Stream::between(&pair.a, &pair.b)?;
    link.set(Shape {
        loss: Loss::Random(LOSS),
        ..calm
    });
    let epochs = psk::watch_epochs(&pair, EPOCHS, EPOCHS_LIMIT)?;
    link.set(calm);
    let loss = stream.finish()?;
    let after = lost(&link);

    loss.note(figures);
    figures.set("psk_epochs", epochs.len());
    let by_path = [0, 1].map(|way| after[way] - before[way]);
    figures.set("path_lost_a_to_b", by_path[0]);
    figures.set("path_lost_b_to_a", by_path[1]);
    let counts = link.counts();
    figures.set(
        "path_lost_of_all_kinds",
        counts.outward.lost + counts.inward.lost,
    );
    ensure!(
        by_path.iter().all(|lost| *lost > 0),
        "the path lost nothing: {by_path:?}"
    );
    demand_eq("lost on the way from a to b", &loss.forward, &by_path[0])?;
    demand_eq("lost on the way from b to a", &loss.backward, &by_path[1])?;
    cut_relay(&pair, "del")?;
    pair.stop()
}

/// Stream packets that the link lost so far: from a to b, and from b to a.
fn lost(link: &Link) -> [u64; 2] {
    link.lost_of_length(STREAM_PACKET)
}

/// Takes the way to the relay from both machines, or gives it back.
fn cut_relay(pair: &Pair, change: &str) -> Result<()> {
    let relay = pair.relay().0;
    for machine in [&pair.a, &pair.b] {
        machine
            .netns()
            .ip(&format!("route {change} blackhole {relay}/32"))?;
    }
    Ok(())
}
