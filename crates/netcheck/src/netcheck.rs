//! Checks, one after another.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ztna_proto::RegionId;

use crate::check::{Check, Kind};
use crate::history::{History, Present};
use crate::plan::{self, MAX_NODES, Region};
use crate::report::{PortMapping, Report};

/// Between two checks, in seconds: just under the 30 s after which many NATs forget a UDP mapping.
pub const ROUND: Range<f64> = 20.0..26.0;
/// A full check is made this often at least.
pub const FULL_EVERY: Duration = Duration::from_secs(300);
/// Between two checks that are [hurried](Netcheck::hurry).
pub const HURRY_SPACING: Duration = Duration::from_secs(5);
/// Without an answer for so long, a machine need not wait for one before it takes any region.
pub const FIRST_ANSWER: Duration = Duration::from_millis(250);
/// Regions that are asked, at most.
pub const MAX_REGIONS: usize = 64;

/// Joins a STUN answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// What a [`Netcheck`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a binding request from the socket that peers use.
    Stun {
        /// The service.
        to: SocketAddr,
        /// The request's transaction.
        id: TransactionId,
    },
    /// Measure a region's relay by HTTPS and tell [`Netcheck::handle_https`], in time.
    Https(RegionId),
    /// Look for a captive portal and tell [`Netcheck::handle_portal`], in time.
    Portal,
    /// How far the regions are is known anew: the time to choose the home region.
    Measured,
    /// A check is over, and [`Netcheck::last`] is its report. `thorough`: one that was
    /// [asked for](Netcheck::request).
    Done {
        /// Whether a person asked for it.
        thorough: bool,
    },
}

/// A STUN answer that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The region that was asked.
    pub region: RegionId,
    /// The service that answered.
    pub service: SocketAddr,
    /// Where it saw this machine's socket.
    pub addr: SocketAddr,
}

/// What a relay answered by HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Round trip of the request, the connection being there already.
    pub latency: Duration,
    /// The TLS key exchange, by its name.
    pub tls_group: Option<String>,
}

/// See the [crate's page](crate). After every input the caller drains [`Netcheck::poll_output`] and
/// asks [`Netcheck::poll_timeout`] anew.
pub struct Netcheck {
    regions: Vec<Region>,
    /// Whether any node can be asked for a captive portal.
    portal: bool,
    check: Option<Check>,
    last: Option<Report>,
    /// When the last full check began.
    last_full: Option<Instant>,
    next: Option<Instant>,
    hurried: Option<Instant>,
    home: Option<RegionId>,
    port_mapping: PortMapping,
    history: History,
    outputs: VecDeque<Output>,
    rng: StdRng,
}

impl Netcheck {
    /// Nothing to ask yet. The seed makes transactions and pauses: make it of random bytes, they
    /// keep others from answering in a service's place.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            regions: Vec::new(),
            portal: false,
            check: None,
            last: None,
            last_full: None,
            next: None,
            hurried: None,
            home: None,
            port_mapping: PortMapping::default(),
            history: History::default(),
            outputs: VecDeque::new(),
            rng: StdRng::from_seed(seed),
        }
    }

    /// Whom to ask: everybody is asked anew. `portal`: whether some node helps to find a captive
    /// portal. What was measured of regions that stay still counts.
    pub fn set_regions(&mut self, mut regions: Vec<Region>, portal: bool, now: Instant) {
        regions.truncate(MAX_REGIONS);
        for region in &mut regions {
            region.v4.truncate(MAX_NODES);
            region.v6.truncate(MAX_NODES);
        }
        self.history
            .retain(|id| regions.iter().any(|region| region.id == id));
        self.regions = regions;
        self.portal = portal;
        self.start(Kind::Full, now);
    }

    /// Names of a region were looked up: it is asked at these addresses too, in the check that runs
    /// or in one that begins now.
    pub fn add_services(
        &mut self,
        id: RegionId,
        addresses: &[SocketAddr],
        resolving: bool,
        now: Instant,
    ) {
        let Some(region) = self.regions.iter_mut().find(|region| region.id == id) else {
            return;
        };
        let mut found = Region {
            resolving,
            v4: Vec::new(),
            v6: Vec::new(),
            ..region.clone()
        };
        for addr in addresses {
            let (known, new) = match addr {
                SocketAddr::V4(_) => (&mut region.v4, &mut found.v4),
                SocketAddr::V6(_) => (&mut region.v6, &mut found.v6),
            };
            if known.len() < MAX_NODES && !known.contains(addr) {
                known.push(*addr);
                new.push(*addr);
            }
        }
        region.resolving = resolving;
        match &mut self.check {
            Some(check) if check.kind != Kind::Incremental => check.ask_fully(&found, now),
            _ if found.v4.is_empty() && found.v6.is_empty() => {}
            _ => self.start(Kind::Full, now),
        }
        self.handle_timeout(now);
    }

    /// Another network: nothing that was measured holds.
    pub fn network_changed(&mut self, now: Instant) {
        self.history.clear();
        self.last = None;
        self.start(Kind::Full, now);
    }

    /// A person wants to know: a full check now, and the nearest relay's TLS. One that was asked for
    /// already will do.
    pub fn request(&mut self, now: Instant) {
        let runs = self
            .check
            .as_ref()
            .is_some_and(|check| check.kind == Kind::Thorough);
        if !runs {
            self.start(Kind::Thorough, now);
        }
    }

    /// Something suggests that the NAT is not what it was: the next check is made now instead of at its
    /// time, unless this was said less than [`HURRY_SPACING`] ago.
    pub fn hurry(&mut self, now: Instant) {
        let is_too_soon = self
            .hurried
            .is_some_and(|at| now.duration_since(at) < HURRY_SPACING);
        if self.check.is_none() && self.next.is_some() && !is_too_soon {
            self.hurried = Some(now);
            self.next = Some(now);
            self.handle_timeout(now);
        }
    }

    /// The home region, which is measured in every check.
    pub fn set_home(&mut self, home: Option<RegionId>) {
        self.home = home;
    }

    /// What the router offers, for reports.
    pub fn set_port_mapping(&mut self, found: PortMapping) {
        if let Some(last) = &mut self.last {
            last.port_mapping = found.clone();
        }
        self.port_mapping = found;
    }

    fn start(&mut self, kind: Kind, now: Instant) {
        // Whoever waits for a thorough report gets one from the check that takes its place.
        let was_thorough = self
            .check
            .as_ref()
            .is_some_and(|check| check.kind == Kind::Thorough);
        let kind = if was_thorough { Kind::Thorough } else { kind };
        // What the check before has not sent yet is sent by this one, if it matters.
        self.outputs
            .retain(|output| matches!(output, Output::Measured | Output::Done { .. }));
        let portal = self.portal && kind != Kind::Incremental;
        let mut check = Check::new(kind, portal, now);
        match (&self.last, kind) {
            (Some(last), Kind::Incremental) if !last.by_latency().is_empty() && last.udp => {
                check.ask(plan::incremental(&self.regions, last, self.home));
            }
            _ => {
                for region in &self.regions {
                    check.ask_fully(region, now);
                }
            }
        }
        if kind != Kind::Incremental {
            self.last_full = Some(now);
        }
        if portal {
            self.outputs.push_back(Output::Portal);
        }
        self.next = None;
        self.check = Some(check);
        self.handle_timeout(now);
    }

    /// When [`Netcheck::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let check = self.check.as_ref().map(Check::poll_timeout);
        check.into_iter().chain(self.next).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check.is_none() && self.next.is_some_and(|at| at <= now) {
            let is_full_due = self
                .last_full
                .is_none_or(|at| now.duration_since(at) >= FULL_EVERY);
            let kind = if is_full_due {
                Kind::Full
            } else {
                Kind::Incremental
            };
            return self.start(kind, now);
        }
        let Some(check) = &mut self.check else { return };
        let mut outputs = Vec::new();
        let rng = &mut self.rng;
        let over = check.handle_timeout(&self.regions, now, &mut outputs, || {
            TransactionId(rng.random())
        });
        if outputs.contains(&Output::Measured) {
            for (region, latency) in check.report.by_latency() {
                self.history.note(region, latency, now);
            }
        }
        self.outputs.extend(outputs);
        if over && let Some(check) = self.check.take() {
            self.end(check, now);
        }
    }

    fn end(&mut self, check: Check, now: Instant) {
        let Check {
            kind, mut report, ..
        } = check;
        let before = self.last.take().unwrap_or_default();
        let mut is_cut_off = false;
        if kind == Kind::Incremental {
            report.captive_portal = before.captive_portal;
            is_cut_off = before.udp && !report.udp;
            for (id, found) in before.regions {
                if !self.regions.iter().any(|region| region.id == id) {
                    continue;
                }
                // A region that was not asked is as far as it was.
                let entry = report.regions.entry(id).or_insert_with(|| found.clone());
                if !report.udp {
                    entry.https = found.https;
                }
            }
        }
        report.mapping_varies = report.mapping_varies.or(before.mapping_varies);
        report.port_mapping = self.port_mapping.clone();
        if !report.udp {
            self.outputs.push_back(Output::Measured);
        }
        self.last = Some(report);
        let preferred = self
            .rank(self.home, None, &self.relays(), now)
            .first()
            .copied();
        if let Some(last) = &mut self.last {
            last.preferred = preferred;
        }
        // UDP passes no more: the regions are measured by HTTPS at once.
        let pause = if is_cut_off {
            self.last_full = None;
            Duration::ZERO
        } else {
            Duration::from_secs_f64(self.rng.random_range(ROUND))
        };
        self.next = (!self.regions.is_empty()).then_some(now + pause);
        let thorough = kind == Kind::Thorough;
        self.outputs.push_back(Output::Done { thorough });
    }

    /// A STUN answer. `None`: it answers nothing that was asked.
    pub fn handle_stun(
        &mut self,
        from: SocketAddr,
        id: TransactionId,
        seen: SocketAddr,
        now: Instant,
    ) -> Option<Seen> {
        let seen = self.check.as_mut()?.handle_stun(from, id, seen, now)?;
        self.handle_timeout(now);
        Some(seen)
    }

    /// What came of [`Output::Https`]. `None`: nothing.
    pub fn handle_https(&mut self, region: RegionId, answer: Option<Answer>, now: Instant) {
        let Some(check) = &mut self.check else { return };
        let latency = answer.as_ref().map(|answer| answer.latency);
        if !check.handle_https(region, answer) {
            return;
        }
        // Beside UDP it says how the relay is reached, not how far it is.
        if let Some(latency) = latency.filter(|_| !check.report.udp) {
            self.history.note(region, latency, now);
        }
        self.handle_timeout(now);
    }

    /// What came of [`Output::Portal`]. `None`: nothing.
    pub fn handle_portal(&mut self, found: Option<bool>, now: Instant) {
        if let Some(check) = &mut self.check {
            check.handle_portal(found);
            self.handle_timeout(now);
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The report of the last check that is over.
    #[must_use]
    pub fn last(&self) -> Option<&Report> {
        self.last.as_ref()
    }

    /// Whether a home region may be chosen: something has answered, or is not to be waited for.
    #[must_use]
    pub fn is_settled(&self, now: Instant) -> bool {
        let Some(check) = &self.check else {
            return true;
        };
        self.last.is_some()
            || !check.report.by_latency().is_empty()
            || now.duration_since(check.started) >= FIRST_ANSWER
    }

    /// A region's distance: its best round trip lately.
    #[must_use]
    pub fn latency(&self, region: RegionId, now: Instant) -> Option<Duration> {
        self.history.best(region, now)
    }

    /// The regions that are `fit` to be home, in the order in which they are to be tried. `heard`: when the
    /// present home's relay was last heard.
    #[must_use]
    pub fn rank(
        &self,
        home: Option<RegionId>,
        heard: Option<Instant>,
        fit: &[RegionId],
        now: Instant,
    ) -> Vec<RegionId> {
        let present = home.map(|region| Present { region, heard });
        self.history
            .rank(present, fit, |region| self.answers(region), now)
    }

    /// Whether a region answers, by the check that runs, or by the last.
    fn answers(&self, id: RegionId) -> bool {
        if let Some(answers) = self.check.as_ref().and_then(|check| check.answers(id)) {
            return answers;
        }
        let found = self.last.as_ref().and_then(|last| last.regions.get(&id));
        found.is_some_and(|found| found.latency().is_some())
    }

    fn relays(&self) -> Vec<RegionId> {
        let relays = self.regions.iter().filter(|region| region.relay);
        relays.map(|region| region.id).collect()
    }
}
