//! The bad link of other labs is what it says: its delays and rate by the clock, and by count what it
//! loses, overtakes, and drops.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Scenario, demand_eq};
use crate::agent::succeed;
use crate::lab::Lab;
use crate::measure::{Bulk, Loss as StreamLoss, Stream, let_run};
use crate::net::Host;
use crate::net::link::shape::{Counts, Jitter, Loss, Shape};
use crate::net::link::{Link, Spec};
use crate::program::finish;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "link",
    about: "the bad link: delay, jitter, loss, order, rate, MTU and cut are as configured",
    run,
    expected_logs: &[],
};

/// Delay in each direction.
const DELAY: Duration = Duration::from_millis(20);
/// Most that half of all round trips may exceed the configured one, in milliseconds. The link adds
/// tens of microseconds; the rest is room for a machine with other work.
const TOLERANCE_MS: f64 = 2.0;
/// Pings of a measurement.
const PINGS: usize = 200;
/// Longest wait for them.
const PING_LIMIT: Duration = Duration::from_secs(60);
/// Packets a second of the streams whose packets are counted.
const RATE: u32 = 4000;
/// How long they run.
const STREAM_TIME: Duration = Duration::from_secs(4);
/// What the line sends in the measurement of its rate.
const LINE_MBIT_S: f64 = 20.0;
/// Least share of the line that TCP must use.
const USED_SHARE: f64 = 0.7;
/// MTU of the second link: the least of IPv6.
const SMALL_MTU: u16 = 1280;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let (near, link) = lab.net.host_behind("near", 2, &Spec::both(Shape::CLEAN))?;
    let far = lab.net.host("far", 3)?;
    let ends = Ends { near, far, link };
    ends.delays(figures)?;
    ends.loses_by_count(figures)?;
    ends.keeps_order_unless_asked(figures)?;
    ends.sends_at_its_rate(lab, figures)?;
    ends.is_cut_and_mended(figures)?;
    bounds_packets(lab, &ends.far)?;
    adds_up(lab, figures, &ends)
}

struct Ends {
    near: Host,
    far: Host,
    link: Link,
}

impl Ends {
    fn delays(&self, figures: &mut Figures) -> Result<()> {
        let plain = Shape {
            delay: DELAY,
            ..Shape::CLEAN
        };
        self.link.set(plain);
        let trips = round_trips(&self.near, &self.far)?;
        demand_trip(&trips, 40.0, 1)?;
        figures.set("rtt_ms_of_40", trips[PINGS / 2]);
        figures.set("rtt_p99_ms_of_40", trips[PINGS * 99 / 100]);

        self.link.set(Shape {
            jitter: Jitter::Uniform(Duration::from_millis(5)),
            ..plain
        });
        let trips = round_trips(&self.near, &self.far)?;
        ensure!(
            trips[0] >= 30.0,
            "20 ± 5 ms each way cannot be {} ms both ways",
            trips[0]
        );
        let (early, late) = (trips[PINGS / 10], trips[PINGS * 9 / 10]);
        ensure!(
            early < 39.0 && late > 41.0,
            "20 ± 5 ms each way should vary, 80 % took {early} to {late} ms"
        );
        figures.set("jitter_p10_ms", early);
        figures.set("jitter_p90_ms", late);
        self.link.set(Shape::CLEAN);
        Ok(())
    }

    /// A stream in both directions, and what the link counted of it.
    fn stream(&self) -> Result<(StreamLoss, Counts, Counts)> {
        let before = self.link.counts();
        let (near, far) = (&self.near, &self.far);
        let ends = [(&near.netns, near.address), (&far.netns, far.address)];
        let stream = Stream::start_at(RATE, ends, [near.address, far.address])?;
        let_run(STREAM_TIME);
        let loss = stream.finish()?;
        let after = self.link.counts();
        let outward = since(after.outward, before.outward);
        let inward = since(after.inward, before.inward);
        for (sent, received, counts) in [
            (&loss.ends[0], &loss.ends[1], outward),
            (&loss.ends[1], &loss.ends[0], inward),
        ] {
            demand_eq("packets that came to the link", &counts.offered, &sent.sent)?;
            let delivered = counts.delivered;
            demand_eq("packets received", &received.received, &delivered)?;
            demand_eq("packets on their way after all", &counts.travelling(), &0)?;
            demand_eq("packets that came twice", &received.duplicates, &0)?;
        }
        Ok((loss, outward, inward))
    }

    fn loses_by_count(&self, figures: &mut Figures) -> Result<()> {
        self.link.set(Shape {
            loss: Loss::Random(0.02),
            ..Shape::CLEAN
        });
        let (loss, outward, inward) = self.stream()?;
        demand_eq("lost outward", &loss.forward, &outward.lost)?;
        demand_eq("lost inward", &loss.backward, &inward.lost)?;
        for counts in [outward, inward] {
            let share = counts.lost as f64 / counts.offered as f64;
            // Four standard deviations of a binomial count.
            let tolerance = 4.0 * (0.02 * 0.98 / counts.offered as f64).sqrt();
            ensure!(
                (share - 0.02).abs() <= tolerance,
                "2 % should be lost, {} of {} were",
                counts.lost,
                counts.offered
            );
        }
        figures.set("loss_offered", outward.offered + inward.offered);
        figures.set("loss_lost", outward.lost + inward.lost);

        self.link.set(Shape {
            loss: Loss::Bursts {
                begin: 0.005,
                end: 0.25,
            },
            ..Shape::CLEAN
        });
        let (loss, outward, _) = self.stream()?;
        demand_eq("lost in bursts", &loss.forward, &outward.lost)?;
        ensure!(outward.lost > 0, "no burst in {} packets", outward.offered);
        figures.set("bursts_lost", outward.lost);
        Ok(())
    }

    fn keeps_order_unless_asked(&self, figures: &mut Figures) -> Result<()> {
        let jittery = Shape {
            delay: DELAY,
            jitter: Jitter::Normal(Duration::from_millis(5)),
            ..Shape::CLEAN
        };
        self.link.set(jittery);
        let (loss, ..) = self.stream()?;
        demand_eq("out of order", &reordered(&loss), &0)?;
        loss.demand_none()?;
        figures.set("latency_p50_us_of_20000", loss.ends[1].latency.p50_us);

        self.link.set(Shape {
            reorder: 0.05,
            ..jittery
        });
        let (loss, outward, inward) = self.stream()?;
        loss.demand_none()?;
        // Each that overtakes makes those before it late, so more are late than overtake.
        let overtook = outward.reordered + inward.reordered;
        ensure!(overtook > 0, "the link lets nothing overtake");
        ensure!(
            reordered(&loss) >= overtook,
            "{overtook} packets overtook, {} came late",
            reordered(&loss)
        );
        figures.set("overtook", overtook);
        figures.set("came_late", reordered(&loss));
        self.link.set(Shape::CLEAN);
        Ok(())
    }

    fn sends_at_its_rate(&self, lab: &Lab, figures: &mut Figures) -> Result<()> {
        let bulk = || {
            let to = (&self.far.netns, self.far.address);
            Bulk::start(&self.near.netns, to, 3, &lab.log("iperf3"))?.finish()
        };
        figures.set("unshaped_mbit_s", bulk()?);
        let before = self.link.counts().outward;
        self.link.set_outward(Shape {
            delay: DELAY,
            rate: Some((LINE_MBIT_S * 1e6) as u64),
            queue: 50_000,
            ..Shape::CLEAN
        });
        let rate = bulk()?;
        let dropped = since(self.link.counts().outward, before).overflowed;
        figures.set("shaped_mbit_s_of_20", rate);
        figures.set("queue_drops", dropped);
        self.link.set_outward(Shape::CLEAN);
        ensure!(
            (LINE_MBIT_S * USED_SHARE..=LINE_MBIT_S).contains(&rate),
            "a line of {LINE_MBIT_S} Mbit/s carried {rate} Mbit/s of TCP"
        );
        ensure!(
            dropped > 0,
            "TCP filled the line and the queue dropped nothing"
        );
        Ok(())
    }

    fn is_cut_and_mended(&self, figures: &mut Figures) -> Result<()> {
        let before = self.link.counts().outward;
        self.link.cut();
        ensure!(!answers(&self.near, &self.far, &["-c3", "-i0.1", "-W1"])?);
        let counts = since(self.link.counts().outward, before);
        demand_eq("packets that pass a cut", &counts.delivered, &0)?;
        // More if the flow before has left something on its way.
        ensure!(counts.cut >= 3, "3 pings came to a cut, {}", counts.cut);
        self.link.mend();
        ensure!(answers(&self.near, &self.far, &["-c1", "-W5"])?);
        let latest = self.link.counts().outward.latest;
        figures.set("latest_us", u64::try_from(latest.as_micros())?);
        Ok(())
    }
}

/// Packets larger than the link's MTU do not pass, those as large do.
fn bounds_packets(lab: &Lab, far: &Host) -> Result<()> {
    let small = Spec {
        mtu: SMALL_MTU,
        ..Spec::both(Shape::CLEAN)
    };
    let (host, _link) = lab.net.host_behind("small", 4, &small)?;
    // Headers of IPv4 and ICMP: 28 bytes.
    let exact = (SMALL_MTU - 28).to_string();
    let over = (SMALL_MTU - 27).to_string();
    let sized = |size: &str| answers(far, &host, &["-c1", "-W2", "-Mdo", "-s", size]);
    ensure!(sized(&exact)?, "{exact} bytes and headers fit the link");
    ensure!(!sized(&over)?, "{over} bytes and headers are too much");
    Ok(())
}

/// Links in a row, and the part of the internet beyond one: a path has the sum of its delays.
fn adds_up(lab: &Lab, figures: &mut Figures, ends: &Ends) -> Result<()> {
    let ms = Duration::from_millis;
    let (beyond, _sea) = lab.net.beyond(&Spec::round_trip(ms(30)))?;
    let (host, _last) = beyond.host_behind("island", 2, &Spec::round_trip(ms(10)))?;
    ends.link.set(Shape {
        delay: DELAY,
        ..Shape::CLEAN
    });
    let trips = round_trips(&ends.near, &host)?;
    figures.set("rtt_ms_of_80", trips[PINGS / 2]);
    demand_trip(&trips, 80.0, 3)
}

/// No round trip takes less than it must, and one of them no more, but for what each of the links in
/// a row may be late. How many take longer is the machine's matter: it may have other things to do.
fn demand_trip(trips: &[f64], must_ms: f64, links: u8) -> Result<()> {
    let shortest = trips[0];
    let must = must_ms..=must_ms + TOLERANCE_MS * f64::from(links);
    ensure!(
        must.contains(&shortest),
        "round trips of {must_ms} ms took {shortest} ms at least"
    );
    Ok(())
}

/// Round trips in milliseconds, sorted.
fn round_trips(from: &Host, to: &Host) -> Result<Vec<f64>> {
    let mut ping = from.netns.command("ping");
    let count = PINGS.to_string();
    ping.args(["-n", "-c", &count, "-i", "0.01", &to.address.to_string()]);
    let said = succeed("ping", finish(ping, PING_LIMIT)?)?;
    let mut trips = said
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.strip_suffix(" ms"))
        .map(|time| time.parse().with_context(|| format!("ping says {time:?}")))
        .collect::<Result<Vec<f64>>>()?;
    demand_eq("answered pings", &trips.len(), &PINGS)?;
    trips.sort_by(f64::total_cmp);
    Ok(trips)
}

fn answers(from: &Host, to: &Host, flags: &[&str]) -> Result<bool> {
    let mut ping = from.netns.command("ping");
    ping.arg("-n").args(flags).arg(to.address.to_string());
    Ok(finish(ping, PING_LIMIT)?.status.success())
}

fn reordered(loss: &StreamLoss) -> u64 {
    loss.ends[0].reordered + loss.ends[1].reordered
}

/// What was counted between two moments.
fn since(after: Counts, before: Counts) -> Counts {
    Counts {
        offered: after.offered - before.offered,
        delivered: after.delivered - before.delivered,
        lost: after.lost - before.lost,
        overflowed: after.overflowed - before.overflowed,
        cut: after.cut - before.cut,
        reordered: after.reordered - before.reordered,
        refused: after.refused - before.refused,
        latest: after.latest,
    }
}
