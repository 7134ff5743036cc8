//! Two machines of one org: enrolled, measured, stopped. Most scenarios are this on some network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::agent::{Agent, Peer, Up};
use crate::deploy::{self, Standalone};
use crate::lab::Lab;
use crate::measure::{Gauge, Path, Stream, let_run, throughput};
use crate::net::cmd::poll;
use crate::net::{Host, Router};
use crate::record::Figures;

/// Longest wait for the first answer after `ztna up`.
pub const FIRST_PING_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a path to become what it must be.
pub const PATH_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a preshared key.
const PSK_LIMIT: Duration = Duration::from_secs(30);
/// How long the stream of a measurement runs.
const STREAM_TIME: Duration = Duration::from_secs(5);

/// Who owns the org of most labs.
pub const EMAIL: &str = "owner@lab.example";
/// Their password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Two machines of one org, and the server they are enrolled at.
pub struct Pair {
    /// The server.
    pub server: Standalone,
    /// The machine that was there first.
    pub a: Agent,
    /// The machine that came second.
    pub b: Agent,
    /// A key that enrols more machines.
    pub key: String,
    up_at: Instant,
}

impl Pair {
    /// Starts a server and enrols two machines. Notes the time from the second one's `ztna up` to
    /// the first answered ping. `flags` are extra ones for both daemons.
    ///
    /// # Errors
    /// Anything on the way fails.
    pub fn enrol(
        lab: &Lab,
        figures: &mut Figures,
        hosts: [&Host; 2],
        flags: &[&str],
    ) -> Result<Self> {
        let server = Standalone::start(lab)?;
        let api = server.api()?;
        let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
        let created = owner.auth_key(true, None)?;
        let key = created.key.expose();

        let mut a = Agent::new(lab, hosts[0], flags)?;
        a.enrol(&server.server, key)?;
        let first = a.ipv4()?;

        let mut b = Agent::new(lab, hosts[1], flags)?;
        b.start_daemon()?;
        let up_at = Instant::now();
        b.up(&Up {
            server: Some(&server.server),
            auth_key: Some(key),
        })?;
        figures.seconds("up_s", up_at.elapsed());
        b.ping_until(first, FIRST_PING_LIMIT)?;
        figures.seconds("first_ping_s", up_at.elapsed());
        Ok(Self {
            server,
            a,
            b,
            key: key.to_owned(),
            up_at,
        })
    }

    /// Gauge on the router of a machine, for a peer beyond it.
    #[must_use]
    pub fn gauge(&self, router: &Router, peer: &Host) -> Gauge {
        Gauge {
            at: router.netns.clone(),
            peer: peer.public,
            relay: self.relay(),
        }
    }

    /// The relay's address and port.
    #[must_use]
    pub fn relay(&self) -> (std::net::Ipv4Addr, u16) {
        (self.server.host.address, deploy::PORT)
    }

    /// What each machine knows of the other.
    ///
    /// # Errors
    /// One knows nothing.
    pub fn views(&self) -> Result<[Peer; 2]> {
        let view = |from: &Agent, of: &Agent| {
            from.peer(of.name())?
                .with_context(|| format!("{} does not know {}", from.name(), of.name()))
        };
        Ok([view(&self.a, &self.b)?, view(&self.b, &self.a)?])
    }

    /// Waits until both machines say that the path is of a kind, and notes when.
    ///
    /// # Errors
    /// It does not become so.
    pub fn wait_for_path(&self, figures: &mut Figures, kind: &str) -> Result<()> {
        let mut last = None;
        poll(PATH_LIMIT, &format!("the path is {kind}"), || {
            // An idle path is not probed: keep it in use.
            self.b.pings(self.a.ipv4()?)?;
            let views = self.views()?;
            let there = views.iter().all(|view| view.path.kind == kind);
            last = Some(views.map(|view| view.path));
            Ok(there.then_some(()))
        })
        .with_context(|| format!("the machines say {last:?}"))?;
        figures.seconds(&format!("{kind}_after_s"), self.up_at.elapsed());
        Ok(())
    }

    /// Measures everything that a record has, and proves the path by the gauges: it must be one of
    /// `allowed`, and no packet may be lost on it.
    ///
    /// # Errors
    /// Something is not as it must be.
    pub fn measure(
        &self,
        lab: &Lab,
        figures: &mut Figures,
        gauges: &[Gauge],
        allowed: &[Path],
    ) -> Result<()> {
        for gauge in gauges {
            gauge.reset()?;
        }
        let stream = Stream::between(&self.a, &self.b)?;
        let_run(STREAM_TIME);
        let loss = stream.finish()?;
        loss.note(figures);
        let packets = loss.ends[0].received + loss.ends[1].received;
        let path = agreed_path(gauges, packets)?;
        figures.set("path", path.name());
        loss.demand_none()?;
        if !allowed.contains(&path) {
            bail!(
                "the path is {}, must be {}; the machines say {:?}",
                path.name(),
                allowed
                    .iter()
                    .map(|path| path.name())
                    .collect::<Vec<_>>()
                    .join(" or "),
                self.views()?.map(|view| view.path)
            );
        }
        figures.set("round_trip_ms", self.b.round_trip_ms(self.a.ipv4()?)?);
        self.check_psk(figures)?;
        let mbits = throughput(&self.b, &self.a, &lab.log("iperf3"))?;
        figures.set("throughput_mbit_s", mbits);
        Ok(())
    }

    /// Both ends must have the same preshared key. Asked twice if a new one comes in between.
    fn check_psk(&self, figures: &mut Figures) -> Result<()> {
        let what = "both ends have the same preshared key";
        let mut last = None;
        let epoch = poll(PSK_LIMIT, what, || {
            let [at_a, at_b] = self.views()?.map(|view| view.psk);
            let same = at_a.fingerprint.is_some()
                && at_a.fingerprint == at_b.fingerprint
                && at_a.state == "established";
            let epoch = at_a.epoch;
            last = Some([at_a, at_b]);
            Ok(same.then_some(epoch))
        })
        .with_context(|| format!("the machines say {last:?}"))?;
        figures.set("psk_epoch", epoch);
        Ok(())
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// A program does not end well.
    pub fn stop(mut self) -> Result<()> {
        self.a.stop_daemon()?;
        self.b.stop_daemon()?;
        self.server.stop()
    }
}

/// Waits until both ends have used the path for a while and say that it is of a kind.
///
/// # Errors
/// It does not become so.
pub fn wait_for_kind(a: &Agent, b: &Agent, kind: &str) -> Result<()> {
    let address = b.ipv4()?;
    a.ping_until(address, FIRST_PING_LIMIT)?;
    let what = format!("{} and {} have a {kind} path", a.name(), b.name());
    poll(PATH_LIMIT, &what, || {
        a.pings(address)?;
        let views = [a.peer(b.name())?, b.peer(a.name())?];
        let there = views
            .iter()
            .flatten()
            .filter(|view| view.path.kind == kind)
            .count()
            == 2;
        Ok(there.then_some(()))
    })
}

/// The path that all gauges saw.
fn agreed_path(gauges: &[Gauge], packets: u64) -> Result<Path> {
    let paths = gauges
        .iter()
        .map(|gauge| gauge.path(packets))
        .collect::<Result<Vec<_>>>()?;
    let first = *paths.first().context("a path needs a gauge")?;
    Ok(if paths.iter().all(|path| *path == first) {
        first
    } else {
        Path::Mixed
    })
}
