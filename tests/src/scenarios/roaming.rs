//! Machines that move, sleep and lose their paths: each event happens under a stream in both
//! directions between two machines behind NATs, and traffic has to flow again soon after it.
//!
//! ```text
//!   server ── internet ─┬─ r1 ── a (eth0)
//!                       ├─ r3 ── a (eth1)
//!                       └─ r2 ── b
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::pair::{PATH_LIMIT, Pair, wait_for_kind};
use super::{Scenario, demand_eq};
use crate::lab::Lab;
use crate::measure::{Bulk, Stream, let_run};
use crate::net::cmd::poll;
use crate::net::{Host, Nat, Router};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "roaming",
    about: "addresses, routes, NATs change, a machine sleeps, a path dies under a stream: traffic flows again soon",
    run,
    // While the interface is gone.
    expected_logs: &["Network is unreachable"],
};

/// Longest that traffic may take to flow again after any event. The aim is 2 to 3 s; a busy machine
/// takes longer.
const BACK_BOUND: Duration = Duration::from_secs(6);
/// Longest wait for it, so that the record has a figure beyond the bound as well.
const BACK_LIMIT: Duration = Duration::from_secs(30);
/// How long the stream runs before and after an event.
const AROUND: Duration = Duration::from_millis(800);
/// How long an interface is gone.
const UNPLUGGED: Duration = Duration::from_secs(3);
/// How long a daemon is stopped, if the environment does not say otherwise …
const SUSPENDED: Duration = Duration::from_secs(12);
/// … in this variable, in seconds.
const SUSPENDED_ENV: &str = "LAB_SUSPEND_SECONDS";
/// How long a TCP flow runs across paths that come and go.
const FLOW_SECONDS: u32 = 9;
/// A ping that is not answered in this many seconds was lost.
const SHORT_WAIT: &str = "0.2";
/// Last parts of addresses that machines move to: nobody else's.
const MOVED: u8 = 77;
const ADDED: u8 = 78;
const RENUMBERED: u8 = 79;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let mut two = lab.net.router("r2", Nat::Cone)?;
    let three = lab.net.router("r3", Nat::Cone)?;
    let (mut a, b) = (one.host("a")?, two.host("b")?);
    three.attach(&a, "eth1")?;
    let pair = Pair::enrol(lab, figures, [&a, &b], &[])?;
    let mut events = Events::new(&pair, figures);

    events.under_stream("address", || a.readdress(MOVED))?;
    events.under_stream("route", || a.no_default_by_eth0())?;
    events.under_stream("route_back", || a.default_by_eth0())?;
    events.after_darkness("interface", UNPLUGGED, || b.unplug(), || b.replug())?;
    let asleep = suspended()?;
    let daemon = pair.b.daemon()?;
    events.after_darkness("sleep", asleep, || daemon.suspend(), || daemon.resume())?;
    events.under_stream("rebound_port", || two.rebind_ports())?;
    events.under_stream("rebound_address", || two.renumber(RENUMBERED))?;
    events.under_stream("path_death", || block(&one, &two))?;
    let slow = events.slow;
    a_flow_survives(lab, figures, &pair, (&one, &a), &two)?;
    pair.stop()?;
    ensure!(
        slow.is_empty(),
        "traffic flowed again only after {slow:?}, at most {} s are allowed",
        BACK_BOUND.as_secs()
    );
    Ok(())
}

fn suspended() -> Result<Duration> {
    match std::env::var(SUSPENDED_ENV) {
        Ok(text) => Ok(Duration::from_secs(text.parse().with_context(|| {
            format!("{SUSPENDED_ENV}={text} is no number of seconds")
        })?)),
        Err(_) => Ok(SUSPENDED),
    }
}

fn block(one: &Router, two: &Router) -> Result<()> {
    one.block_udp_with(two.public)?;
    two.block_udp_with(one.public)
}

/// Things happen to a pair, and what they cost is noted.
struct Events<'a> {
    pair: &'a Pair,
    figures: &'a mut Figures,
    /// Those that cost too much.
    slow: Vec<(String, Duration)>,
}

impl<'a> Events<'a> {
    fn new(pair: &'a Pair, figures: &'a mut Figures) -> Self {
        Self {
            pair,
            figures,
            slow: Vec::new(),
        }
    }

    fn under_stream(&mut self, name: &str, happen: impl FnOnce() -> Result<()>) -> Result<()> {
        self.after_darkness(name, Duration::ZERO, happen, || Ok(()))
    }

    /// Something begins, lasts and ends; notes how long after its end packets pass both ways, the
    /// longest silence of the stream beyond the darkness, what it lost, and when the path was direct
    /// before.
    fn after_darkness(
        &mut self,
        name: &str,
        dark: Duration,
        begin: impl FnOnce() -> Result<()>,
        end: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Pair { a, b, .. } = self.pair;
        let since = Instant::now();
        wait_for_kind(a, b, "direct").with_context(|| format!("before {name}"))?;
        self.figures
            .seconds(&format!("{name}_direct_before_s"), since.elapsed());
        let address = b.ipv4()?;
        let stream = Stream::between(a, b)?;
        let_run(AROUND);

        let begun = Instant::now();
        begin().context(name.to_owned())?;
        let_run(dark);
        end().context(name.to_owned())?;
        let ended = Instant::now();
        poll(BACK_LIMIT, &format!("traffic flows after {name}"), || {
            Ok(a.pings_within(address, SHORT_WAIT)?.then_some(()))
        })?;
        let back = ended.elapsed();
        let_run(AROUND);
        let loss = stream.finish()?;
        let silence = Duration::from_millis(loss.max_gap_ms());
        let silence = silence.saturating_sub(ended.duration_since(begun));
        self.figures.seconds(&format!("{name}_back_s"), back);
        self.figures.seconds(&format!("{name}_silence_s"), silence);
        let lost = loss.forward + loss.backward;
        self.figures.set(&format!("{name}_lost"), lost);
        let cost = back.max(silence);
        if cost > BACK_BOUND {
            self.slow.push((name.to_owned(), cost));
        }
        Ok(())
    }
}

/// A TCP flow goes by relay, moves to a direct path as soon as a machine has a new address, and back
/// to the relay when that path dies; it does not break.
fn a_flow_survives(
    lab: &Lab,
    figures: &mut Figures,
    pair: &Pair,
    (one, a): (&Router, &Host),
    two: &Router,
) -> Result<()> {
    wait_for_kind(&pair.a, &pair.b, "relay")?;
    let to = (pair.b.netns(), pair.b.ipv4()?);
    let flow = Bulk::start(pair.a.netns(), to, FLOW_SECONDS, &lab.log("iperf3"))?;
    let_run(AROUND);
    one.unblock_udp()?;
    two.unblock_udp()?;
    let [x, y, z, _] = a.address.octets();
    a.netns
        .ip(&format!("addr add {x}.{y}.{z}.{ADDED}/24 dev eth0"))?;
    figures.seconds("signal_to_direct_s", until_kind(pair, "direct")?);
    let_run(AROUND);
    block(one, two)?;
    figures.seconds("death_to_relay_s", until_kind(pair, "relay")?);
    // A flow that was reset is an error.
    figures.set("flow_mbit_s", flow.finish()?);
    let kinds = pair.views()?.map(|view| view.path.kind);
    demand_eq("paths at the end", &kinds[0].as_str(), &"relay")
}

/// The time until both machines say that the path is of a kind.
fn until_kind(pair: &Pair, kind: &str) -> Result<Duration> {
    let since = Instant::now();
    poll(PATH_LIMIT, &format!("the path is {kind}"), || {
        let views = pair.views()?;
        let there = views.iter().all(|view| view.path.kind == kind);
        Ok(there.then_some(()))
    })?;
    Ok(since.elapsed())
}
