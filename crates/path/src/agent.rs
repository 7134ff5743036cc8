//! One peer's path.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ztna_disco::TxId;
use ztna_proto::RegionId;
use ztna_proto::netmap::Endpoint;

use crate::budget::Budget;
use crate::candidate::{Candidate, Candidates, Origin};
use crate::score::is_better;
use crate::times::{
    ACTIVE_FOR, CALL_SPACING, DOUBT_BUSY, DOUBT_QUIET, DROP_AFTER, GOOD_ENOUGH, PING_SPACING,
    PING_TIMEOUT, PROBE_AGAIN, PROBE_BUSY, PROBE_QUIET, ROUND_PAUSES, TRUST_FOR, UPGRADE,
};
use crate::types::{Output, Route, Selected, Via};

/// Pings that wait for their pongs.
const MAX_PENDING: usize = 512;

/// Chooses the way to one peer. See the [crate's page](crate).
pub struct PathAgent {
    candidates: Candidates,
    pending: BTreeMap<TxId, (SocketAddr, Instant)>,
    relay: Option<RegionId>,
    direct: Option<Direct>,
    last_sent: Option<Instant>,
    last_data: Option<Instant>,
    /// When the next round of pings is due, and how many there were since it last started over.
    next_round: Option<Instant>,
    rounds: usize,
    last_call: Option<Instant>,
    /// What was last told by [`Output::Changed`].
    selected: Selected,
    budget: Budget,
    rng: StdRng,
    outputs: VecDeque<Output>,
}

/// The address that packets go to.
struct Direct {
    addr: SocketAddr,
    latency: Duration,
    last_ping: Instant,
    last_pong: Instant,
    /// The first ping since the last pong.
    unanswered: Option<Instant>,
    /// Since when it is not trusted.
    doubted: Option<Instant>,
}

impl Direct {
    /// When the path is to be doubted if nothing is heard. A pong is due sooner while data is sent.
    fn doubt_at(&self, last_sent: Option<Instant>) -> Option<Instant> {
        let since = self.unanswered?;
        let busy = last_sent.is_some_and(|sent| sent >= since);
        Some(since + if busy { DOUBT_BUSY } else { DOUBT_QUIET })
    }

    fn is_trusted(&self, last_sent: Option<Instant>, now: Instant) -> bool {
        self.doubted.is_none()
            && now.duration_since(self.last_pong) < TRUST_FOR
            && self.doubt_at(last_sent).is_none_or(|at| now < at)
    }

    fn probe_at(&self, last_sent: Option<Instant>) -> Instant {
        let busy = last_sent.is_some_and(|sent| sent >= self.last_ping);
        let pause = match (busy, self.unanswered) {
            (true, Some(_)) => PROBE_AGAIN,
            (true, None) => PROBE_BUSY,
            (false, _) => PROBE_QUIET,
        };
        self.last_ping + pause
    }
}

impl PathAgent {
    /// A path to a peer of which nothing is known. The seed makes the pings' names.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            candidates: Candidates::default(),
            pending: BTreeMap::new(),
            relay: None,
            direct: None,
            last_sent: None,
            last_data: None,
            next_round: None,
            rounds: 0,
            last_call: None,
            selected: Selected::None,
            budget: Budget::new(now),
            rng: StdRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Where the peer says that it may be.
    pub fn set_candidates(&mut self, endpoints: &[Endpoint], now: Instant) {
        let named: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.addr).collect();
        self.candidates.retain_netmap(&named);
        let mut new = false;
        for addr in named {
            new |= self.candidates.add(addr, Origin::Netmap, now);
        }
        if new && self.is_active(now) && !self.is_direct(now) {
            self.start_rounds(now);
        }
    }

    /// The region at whose relay the peer is reached.
    pub fn set_relay(&mut self, region: Option<RegionId>, now: Instant) {
        self.relay = region;
        self.tell(now);
    }

    /// The region at whose relay the peer is reached, whether packets go there or not.
    #[must_use]
    pub fn relay(&self) -> Option<RegionId> {
        self.relay
    }

    /// A ping of the peer.
    pub fn handle_ping(&mut self, tx: TxId, from: Via, now: Instant) {
        let observed = match from {
            Via::Direct(addr) => addr,
            Via::Relay(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        self.outputs.push_back(Output::Pong {
            to: from,
            tx,
            observed,
        });
        if let Via::Direct(addr) = from {
            self.candidates.add(addr, Origin::Ping, now);
            if !self.is_direct(now) || self.is_unmeasured(&addr) {
                self.ping(addr, PING_SPACING, now);
            }
        }
    }

    /// A pong of the peer. It counts only from the address that its ping went to.
    pub fn handle_pong(&mut self, tx: TxId, from: Via, now: Instant) {
        let Via::Direct(from) = from else { return };
        let Some((addr, sent)) = self.pending.get(&tx).copied() else {
            return;
        };
        if addr != from {
            self.candidates.add(from, Origin::Ping, now);
            self.ping(from, PING_SPACING, now);
            return;
        }
        self.pending.remove(&tx);
        let latency = now.duration_since(sent);
        let Some(candidate) = self.candidates.get_mut(&addr) else {
            return;
        };
        candidate.answered = Some(now);
        candidate.latency = Some(latency);
        let trusted = self.is_direct(now);
        match &mut self.direct {
            Some(direct) if direct.addr == addr => {
                direct.latency = latency;
                direct.last_pong = now;
                direct.doubted = None;
                // A later ping may still be on its way; only its silence counts.
                direct.unanswered = (direct.last_ping > sent).then_some(direct.last_ping);
            }
            Some(direct)
                if trusted && !is_better((addr, latency), (direct.addr, direct.latency)) => {}
            direct => {
                *direct = Some(Direct {
                    addr,
                    latency,
                    last_ping: sent,
                    last_pong: now,
                    unanswered: None,
                    doubted: None,
                });
                self.next_round = None;
            }
        }
        self.tell(now);
    }

    /// The peer asks to be pinged at these addresses. It came by relay.
    pub fn handle_call_me_maybe(&mut self, endpoints: &[SocketAddr], now: Instant) {
        for addr in endpoints {
            self.candidates.add(*addr, Origin::Call, now);
        }
        self.ping_all(now);
    }

    /// Data leaves for the peer.
    pub fn data_sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
        self.data_seen(now);
    }

    /// Authentic data of the peer came.
    pub fn data_received(&mut self, from: Via, now: Instant) {
        if let Via::Relay(region) = from
            && self.relay.is_none()
        {
            self.set_relay(Some(region), now);
        }
        self.data_seen(now);
    }

    fn data_seen(&mut self, now: Instant) {
        let was_active = self.is_active(now);
        self.last_data = Some(now);
        if was_active {
            return;
        }
        // What was proved before a silence counts only if it is fresh.
        if !self.is_direct(now)
            && let Some(direct) = &mut self.direct
        {
            direct.doubted.get_or_insert(now);
        }
        self.start_rounds(now);
        self.tell(now);
    }

    /// A datagram to this address could not be sent.
    pub fn send_failed(&mut self, addr: SocketAddr, now: Instant) {
        let Some(direct) = &mut self.direct else {
            return;
        };
        if direct.addr != addr || direct.doubted.is_some() {
            return;
        }
        direct.doubted = Some(now);
        self.start_rounds(now);
        self.tell(now);
    }

    /// Our own addresses or routes changed.
    pub fn network_changed(&mut self, now: Instant) {
        self.candidates.forget_answers();
        self.pending.clear();
        if let Some(direct) = &mut self.direct {
            direct.doubted.get_or_insert(now);
        }
        if self.is_active(now) {
            self.last_call = None;
            self.start_rounds(now);
        }
        self.tell(now);
    }

    /// The peer's process is a new one.
    pub fn reset(&mut self, now: Instant) {
        self.candidates.clear();
        self.pending.clear();
        self.direct = None;
        self.last_call = None;
        if self.is_active(now) {
            self.start_rounds(now);
        }
        self.tell(now);
    }

    /// Where a packet goes now.
    #[must_use]
    pub fn route(&self, now: Instant) -> Route {
        let relay = self.relay;
        match &self.direct {
            Some(direct) if direct.is_trusted(self.last_sent, now) => Route {
                direct: Some(direct.addr),
                relay: None,
            },
            direct => Route {
                direct: direct.as_ref().map(|direct| direct.addr),
                relay,
            },
        }
    }

    /// The way that traffic goes, as last told.
    #[must_use]
    pub fn selected(&self) -> Selected {
        match (self.selected, &self.direct) {
            (Selected::Direct { addr, .. }, Some(direct)) if direct.addr == addr => {
                Selected::Direct {
                    addr,
                    latency: direct.latency,
                }
            }
            (selected, _) => selected,
        }
    }

    /// All candidates, for people who ask why.
    pub fn candidates(&self) -> impl Iterator<Item = (&SocketAddr, &Candidate)> {
        self.candidates.iter()
    }

    /// When [`PathAgent::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let active_until = self.last_data? + ACTIVE_FOR;
        let of_direct = self.direct.as_ref().map(|direct| match direct.doubted {
            Some(since) => (since + DROP_AFTER).min(direct.probe_at(self.last_sent)),
            None => {
                let probe = direct.probe_at(self.last_sent);
                direct
                    .doubt_at(self.last_sent)
                    .map_or(probe, |doubt| doubt.min(probe))
            }
        });
        [of_direct, self.next_round]
            .into_iter()
            .flatten()
            .min()
            .filter(|at| *at < active_until)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_active(now) {
            self.next_round = None;
            return;
        }
        self.pending
            .retain(|_, (_, sent)| now.duration_since(*sent) < PING_TIMEOUT);
        self.doubt(now);
        let probe = self
            .direct
            .as_ref()
            .filter(|d| d.probe_at(self.last_sent) <= now);
        if let Some(addr) = probe.map(|direct| direct.addr) {
            self.ping(addr, Duration::ZERO, now);
        }
        if self.next_round.is_some_and(|at| at <= now) {
            self.round(now);
        }
        self.tell(now);
    }

    /// Doubts a path that owes a pong, drops one that was doubted long enough.
    fn doubt(&mut self, now: Instant) {
        let Some(direct) = &mut self.direct else {
            return;
        };
        match direct.doubted {
            None if !direct.is_trusted(self.last_sent, now) => {
                direct.doubted = Some(now);
                self.start_rounds(now);
            }
            Some(since) if now.duration_since(since) >= DROP_AFTER => {
                self.direct = None;
                if self.next_round.is_none() {
                    self.start_rounds(now);
                }
            }
            _ => {}
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn is_active(&self, now: Instant) -> bool {
        self.last_data
            .is_some_and(|at| now.duration_since(at) < ACTIVE_FOR)
    }

    fn is_direct(&self, now: Instant) -> bool {
        self.direct
            .as_ref()
            .is_some_and(|direct| direct.is_trusted(self.last_sent, now))
    }

    fn is_unmeasured(&mut self, addr: &SocketAddr) -> bool {
        self.candidates
            .get_mut(addr)
            .is_some_and(|candidate| candidate.answered.is_none())
    }

    fn start_rounds(&mut self, now: Instant) {
        self.rounds = 0;
        self.round(now);
    }

    /// One round: calls the peer and pings all its candidates. While there is a good path, rounds only
    /// look for a better one, and rarely.
    fn round(&mut self, now: Instant) {
        if self.relay.is_some()
            && self
                .last_call
                .is_none_or(|at| now.duration_since(at) >= CALL_SPACING)
        {
            self.last_call = Some(now);
            self.outputs.push_back(Output::CallMeMaybe);
        }
        self.ping_all(now);
        let pause = match &self.direct {
            Some(direct) if direct.doubted.is_none() => {
                (direct.latency > GOOD_ENOUGH).then_some(UPGRADE)
            }
            _ => ROUND_PAUSES
                .get(self.rounds)
                .or(ROUND_PAUSES.last())
                .copied(),
        };
        self.rounds += 1;
        self.next_round = pause.map(|pause| now + pause);
    }

    fn ping_all(&mut self, now: Instant) {
        let all: Vec<SocketAddr> = self.candidates.iter().map(|(addr, _)| *addr).collect();
        for addr in all {
            self.ping(addr, PING_SPACING, now);
        }
    }

    /// Pings an address, unless it was pinged just now or the budget is spent.
    fn ping(&mut self, addr: SocketAddr, spacing: Duration, now: Instant) {
        let Some(candidate) = self.candidates.get_mut(&addr) else {
            return;
        };
        let recent = |at: Instant| now.duration_since(at) < spacing;
        if candidate.pinged.is_some_and(recent) || self.pending.len() >= MAX_PENDING {
            return;
        }
        if let Some(direct) = self.direct.as_mut().filter(|direct| direct.addr == addr) {
            // Even without budget: a path that cannot be probed must not look alive.
            direct.last_ping = now;
            direct.unanswered.get_or_insert(now);
        }
        if !self.budget.take(now) {
            return;
        }
        candidate.pinged = Some(now);
        let tx = TxId(self.rng.random());
        self.pending.insert(tx, (addr, now));
        self.outputs.push_back(Output::Ping {
            to: Via::Direct(addr),
            tx,
        });
    }

    /// Tells of a change of the way that traffic goes.
    fn tell(&mut self, now: Instant) {
        let route = self.route(now);
        let selected = match (route, &self.direct) {
            (
                Route {
                    direct: Some(addr),
                    relay: None,
                },
                Some(direct),
            ) => Selected::Direct {
                addr,
                latency: direct.latency,
            },
            (
                Route {
                    relay: Some(region),
                    ..
                },
                _,
            ) => Selected::Relay(region),
            _ => Selected::None,
        };
        let same = match (selected, self.selected) {
            (Selected::Direct { addr: a, .. }, Selected::Direct { addr: b, .. }) => a == b,
            (a, b) => a == b,
        };
        if !same {
            self.selected = selected;
            self.outputs.push_back(Output::Changed(selected));
        }
        if self.direct.is_some() && self.next_round.is_none() && self.is_active(now) {
            let slow = self
                .direct
                .as_ref()
                .is_some_and(|direct| direct.latency > GOOD_ENOUGH);
            self.next_round = slow.then_some(now + UPGRADE);
        }
    }
}
