//! The same relay over TCP and over QUIC, on a bad path, beside a bulk flow: what a packet lost on one
//! flow's account costs the other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ztna_proto::RegionId;

use super::Scenario;
use super::pair::{EMAIL, PASSWORD, wait_for_kind};
use super::regions::wait_for_home;
use crate::agent::Agent;
use crate::deploy::{Apart, PORT, Site};
use crate::lab::Lab;
use crate::measure::{Bulk, Stream, let_run};
use crate::net::link::shape::{Loss, Shape};
use crate::net::link::{Link, Spec};
use crate::net::{Nat, Router, nat};
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "quic",
    about: "relay over TCP and over QUIC at 40 ms and 2 % loss, beside a bulk flow: QUIC halves p99 at least",
    run,
    expected_logs: &[],
};

/// What is between each machine and the relay, in each direction.
const BAD: Shape = Shape {
    delay: Duration::from_millis(20),
    loss: Loss::Random(0.02),
    ..Shape::CLEAN
};
/// Packets a second of the stream whose latency counts: a voice call's.
const RATE: u32 = 50;
/// How long the bulk flow runs.
const BULK_SECONDS: u32 = 20;
/// How long the bulk flow runs before the stream, and at least after it.
const BULK_AROUND: Duration = Duration::from_secs(2);
/// What latency over QUIC may be of that over TCP.
const SHARE: f64 = 0.5;

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let site = Site {
        host: lab.net.host("relay", 3)?,
        region: RegionId(1),
        code: "lab",
    };
    let mut servers = Apart::with_relays(lab, &[site])?;
    let api = servers.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let key = owner.auth_key(true, None)?;
    let clean = Spec::both(Shape::CLEAN);
    let mut ends = Vec::new();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let link = Spec {
            seed,
            ..clean.clone()
        };
        let (router, link) = lab
            .net
            .router_behind(&format!("r-{name}"), Nat::Hard, &link)?;
        let mut machine = Agent::new(lab, &router.host(name)?, &[])?;
        machine.enrol(&servers.server, key.key.expose())?;
        ends.push(End {
            machine,
            router,
            link,
        });
    }

    let tcp = measure(lab, figures, &servers, &ends, Transport::Tcp)?;

    let Some(quic_port) = servers.relays[0].quic_port else {
        bail!("the relay offers no QUIC: derp.json has no quic_port");
    };
    servers.relays[0].node.quic_port = Some(quic_port);
    servers.write_relay_map()?;
    servers.kill_api()?;
    servers.restart_api()?;
    for end in &mut ends {
        end.machine.stop_daemon()?;
        end.machine.start_daemon()?;
    }
    let quic = measure(lab, figures, &servers, &ends, Transport::Quic)?;
    for end in &mut ends {
        end.machine.stop_daemon()?;
    }
    servers.stop()?;
    figures.set("p99_quic_of_tcp", (quic / tcp * 1000.0).round() / 1000.0);
    ensure!(
        quic <= SHARE * tcp,
        "p99 beside a bulk flow is {quic} ms over QUIC and {tcp} ms over TCP"
    );
    Ok(())
}

/// A machine, its router, and the link between that and the internet.
struct End {
    machine: Agent,
    router: Router,
    link: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Quic,
}

/// Measures a stream beside a bulk flow of the same direction, and proves by the routers' counters
/// which transport carried both. Returns the stream's p99 in milliseconds.
fn measure(
    lab: &Lab,
    figures: &mut Figures,
    servers: &Apart<'_>,
    ends: &[End],
    transport: Transport,
) -> Result<f64> {
    let [from, to] = ends else {
        bail!("a flow has two ends");
    };
    let (a, b) = (&from.machine, &to.machine);
    for end in ends {
        wait_for_home(&end.machine, "lab")?;
    }
    wait_for_kind(a, b, "relay")?;
    for end in ends {
        end.link.set(BAD);
        nat::reset(&end.router.netns)?;
    }
    let seconds = Duration::from_secs(BULK_SECONDS.into());
    let receiver = (b.netns(), b.ipv4()?);
    let bulk = Bulk::start(a.netns(), receiver, BULK_SECONDS, &lab.log("iperf3"))?;
    let_run(BULK_AROUND);
    let stream = Stream::between_at(RATE, a, b)?;
    let_run(seconds.saturating_sub(BULK_AROUND * 3));
    let loss = stream.finish()?;
    let mbits = bulk.finish()?;
    for end in ends {
        end.link.set(Shape::CLEAN);
    }

    let name = match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
    };
    let latency = loss.ends[1].latency;
    let ms = |us: u32| f64::from(us) / 1000.0;
    figures.set(&format!("{name}_p50_ms"), ms(latency.p50_us));
    figures.set(&format!("{name}_p99_ms"), ms(latency.p99_us));
    figures.set(&format!("{name}_max_ms"), ms(latency.max_us));
    figures.set(&format!("{name}_sent"), loss.ends[0].sent);
    figures.set(&format!("{name}_lost"), loss.forward);
    figures.set(&format!("{name}_bulk_mbit_s"), mbits);
    ensure!(loss.ends[1].received > 0, "nothing of the stream arrived");
    demand_transport(servers, &from.router, transport)?;
    demand_transport(servers, &to.router, transport)?;
    Ok(ms(latency.p99_us))
}

/// Nearly all that passed between a router and the relay was of one transport.
fn demand_transport(servers: &Apart<'_>, router: &Router, must: Transport) -> Result<()> {
    let relay = servers.relays[0].address().0;
    let meter = nat::read(&router.netns).context("no counters")?;
    let (udp, tcp) = (
        meter.udp_with(relay).bytes,
        meter.tcp_with(relay, PORT).bytes,
    );
    let (most, rest) = match must {
        Transport::Tcp => (tcp, udp),
        Transport::Quic => (udp, tcp),
    };
    ensure!(
        most > 10 * rest,
        "{must:?} was to carry the packets; {} exchanged {udp} bytes of UDP and {tcp} of TCP with the relay",
        router.netns.name()
    );
    Ok(())
}
