//! One check, from its first request to its report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ztna_proto::RegionId;

use crate::netcheck::{Answer, Output, Seen, TransactionId};
use crate::plan::{self, Probe, Region};
use crate::report::Report;

/// A check takes no longer.
pub const WHOLE_CHECK: Duration = Duration::from_secs(5);
/// UDP answers are waited for no longer.
pub const STUN_PHASE: Duration = Duration::from_secs(3);
/// The search for a captive portal is waited for no longer.
pub const PORTAL_PHASE: Duration = Duration::from_secs(3);
/// So many regions that answered tell enough; the rest gets a little time.
pub const ENOUGH_REGIONS: usize = 3;
/// That little time is this at least: an answer that is as fast may have been lost once.
pub const LEAST_GRACE: Duration = Duration::from_millis(150);
/// Regions that are asked by HTTPS, at most.
pub const MAX_HTTPS: usize = 16;

/// How much a check is to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// How far home and the nearest regions are.
    Incremental,
    /// Everything that matters to the machine.
    Full,
    /// What people want to know beside: the relay's TLS.
    Thorough,
}

/// A check that runs.
pub(crate) struct Check {
    pub kind: Kind,
    pub started: Instant,
    /// What is still to be sent.
    plan: Vec<Probe>,
    pending: BTreeMap<TransactionId, (Probe, Instant)>,
    /// Answers that are wanted: region, and whether by IPv6.
    wanted: BTreeSet<(RegionId, bool)>,
    /// Regions whose addresses are not known yet.
    resolving: BTreeSet<RegionId>,
    /// By which service this machine was seen at which address.
    seen: BTreeMap<SocketAddr, SocketAddr>,
    /// When enough regions have answered, the end of the wait for the others.
    grace: Option<Instant>,
    stun_over: bool,
    https: BTreeSet<RegionId>,
    /// Until when the word on a captive portal is waited for.
    portal: Option<Instant>,
    pub report: Report,
}

impl Check {
    pub fn new(kind: Kind, portal: bool, now: Instant) -> Self {
        Self {
            kind,
            started: now,
            plan: Vec::new(),
            pending: BTreeMap::new(),
            wanted: BTreeSet::new(),
            resolving: BTreeSet::new(),
            seen: BTreeMap::new(),
            grace: None,
            stun_over: false,
            https: BTreeSet::new(),
            portal: portal.then_some(now + PORTAL_PHASE),
            report: Report::default(),
        }
    }

    /// Asks every service of a region, from now on.
    pub fn ask_fully(&mut self, region: &Region, now: Instant) {
        if self.stun_over {
            return;
        }
        if region.resolving {
            self.resolving.insert(region.id);
        } else {
            self.resolving.remove(&region.id);
        }
        let begin = now.duration_since(self.started);
        let probes = plan::full(region).map(|probe| Probe {
            at: begin + probe.at,
            ..probe
        });
        let probes: Vec<Probe> = probes.collect();
        self.ask(probes);
    }

    /// Asks so.
    pub fn ask(&mut self, probes: Vec<Probe>) {
        for probe in probes {
            self.wanted.insert((probe.region, probe.to.is_ipv6()));
            self.report.regions.entry(probe.region).or_default();
            self.plan.push(probe);
        }
    }

    /// When [`Check::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        let end = self.started + WHOLE_CHECK;
        let next = self.plan.iter().map(|probe| self.started + probe.at);
        let stun = (!self.stun_over).then_some(self.started + STUN_PHASE);
        let waits = [Some(end), stun, self.grace, self.portal];
        next.chain(waits.into_iter().flatten()).min().unwrap_or(end)
    }

    /// Does what is due. `new_id` makes transactions. Says whether the check is over.
    pub fn handle_timeout(
        &mut self,
        regions: &[Region],
        now: Instant,
        outputs: &mut Vec<Output>,
        mut new_id: impl FnMut() -> TransactionId,
    ) -> bool {
        if !self.stun_over {
            let elapsed = now.duration_since(self.started);
            let (due, later) = self.plan.drain(..).partition(|probe| probe.at <= elapsed);
            self.plan = later;
            let due: Vec<Probe> = due;
            for probe in due {
                if !self.would_tell(&probe) {
                    continue;
                }
                let id = new_id();
                self.pending.insert(id, (probe, now));
                outputs.push(Output::Stun { to: probe.to, id });
            }
            let is_answered = self.wanted.is_empty() && self.resolving.is_empty();
            let asked = self.pending.values().map(|(probe, _)| probe);
            let knows_all = !asked.chain(&self.plan).any(|probe| self.would_tell(probe));
            let is_late = self.grace.is_some_and(|at| at <= now) || elapsed >= STUN_PHASE;
            if (is_answered && knows_all) || is_late {
                self.end_stun(regions, outputs);
            }
        }
        if self.portal.is_some_and(|until| until <= now) {
            self.portal = None;
        }
        let is_answered = self.stun_over && self.https.is_empty() && self.portal.is_none();
        is_answered || now.duration_since(self.started) >= WHOLE_CHECK
    }

    /// Whether an answer to this would be news.
    fn would_tell(&self, probe: &Probe) -> bool {
        let is_asked_of_other = probe.to.is_ipv4()
            && self.report.mapping_varies.is_none()
            && !self
                .seen
                .keys()
                .any(|service| service.ip() == probe.to.ip());
        self.wanted.contains(&(probe.region, probe.to.is_ipv6())) || is_asked_of_other
    }

    /// A STUN answer.
    pub fn handle_stun(
        &mut self,
        from: SocketAddr,
        id: TransactionId,
        seen: SocketAddr,
        now: Instant,
    ) -> Option<Seen> {
        let (probe, sent) = *self
            .pending
            .get(&id)
            .filter(|(probe, _)| probe.to == from)?;
        self.pending.remove(&id);
        let latency = now.duration_since(sent);
        self.wanted.remove(&(probe.region, from.is_ipv6()));
        let report = &mut self.report;
        report.udp = true;
        let found = report.regions.entry(probe.region).or_default();
        let (known, global, passes) = if from.is_ipv6() {
            (&mut found.v6, &mut report.global_v6, &mut report.ipv6)
        } else {
            (&mut found.v4, &mut report.global_v4, &mut report.ipv4)
        };
        *passes = true;
        // The first that answers is the nearest.
        global.get_or_insert(seen);
        *known = Some(known.map_or(latency, |known| known.min(latency)));
        self.seen.insert(from, seen);
        self.compare_mappings();
        self.set_grace(now);
        Some(Seen {
            region: probe.region,
            service: from,
            addr: seen,
        })
    }

    /// Two services that see the same address tell something only if they are two hosts.
    fn compare_mappings(&mut self) {
        let v4 = self.seen.iter().filter(|(service, _)| service.is_ipv4());
        let hosts: BTreeSet<_> = v4.clone().map(|(service, _)| service.ip()).collect();
        let addresses: BTreeSet<_> = v4.map(|(_, seen)| *seen).collect();
        self.report.mapping_varies = match (addresses.len(), hosts.len()) {
            (2.., _) => Some(true),
            (_, 2..) => Some(false),
            _ => None,
        };
    }

    fn set_grace(&mut self, now: Instant) {
        if self.grace.is_some() {
            return;
        }
        let latencies = self.report.regions.values();
        let latencies: Vec<Duration> = latencies.filter_map(|found| found.latency()).collect();
        let all = self.report.regions.len() + self.resolving.len();
        if latencies.len() < ENOUGH_REGIONS.min(all) {
            return;
        }
        let slowest = latencies.into_iter().max().unwrap_or_default();
        let factor = if self.kind == Kind::Incremental { 1 } else { 2 };
        self.grace = Some(now + (slowest * factor).max(LEAST_GRACE));
    }

    /// No more by UDP; HTTPS follows if need be.
    fn end_stun(&mut self, regions: &[Region], outputs: &mut Vec<Output>) {
        self.stun_over = true;
        self.grace = None;
        self.plan.clear();
        self.pending.clear();
        let relays = regions.iter().filter(|region| region.relay);
        let asked: Vec<RegionId> = match (self.kind, self.report.udp) {
            (Kind::Full | Kind::Thorough, false) => relays.map(|region| region.id).collect(),
            (Kind::Thorough, true) => {
                let nearest = self
                    .report
                    .by_latency()
                    .into_iter()
                    .map(|(region, _)| region);
                let has_relay = |id: &RegionId| relays.clone().any(|region| region.id == *id);
                nearest.filter(has_relay).take(1).collect()
            }
            _ => Vec::new(),
        };
        for region in asked.into_iter().take(MAX_HTTPS) {
            self.https.insert(region);
            self.report.regions.entry(region).or_default();
            outputs.push(Output::Https(region));
        }
        if self.report.udp {
            outputs.push(Output::Measured);
        }
    }

    /// What this check says of whether a region answers, if it says anything yet.
    pub fn answers(&self, id: RegionId) -> Option<bool> {
        let found = self.report.regions.get(&id)?;
        let answered = found.latency().is_some();
        let is_final = self.stun_over && self.report.udp;
        (answered || is_final).then_some(answered)
    }

    /// What became of a request by HTTPS. `false`: nobody asked for it.
    pub fn handle_https(&mut self, region: RegionId, answer: Option<Answer>) -> bool {
        let was_asked = self.https.remove(&region);
        if let (true, Some(answer)) = (was_asked, answer) {
            let found = self.report.regions.entry(region).or_default();
            found.https = Some(answer.latency);
            found.tls_group = answer.tls_group;
        }
        was_asked
    }

    /// What the search for a captive portal found.
    pub fn handle_portal(&mut self, found: Option<bool>) {
        if self.portal.take().is_some() {
            self.report.captive_portal = found;
        }
    }
}
