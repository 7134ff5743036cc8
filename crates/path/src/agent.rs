//! One peer's path.

mod explain;
mod size;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ztna_disco::{MAX_CALL_ENDPOINTS, TxId};
use ztna_proto::RegionId;
use ztna_proto::netmap::{Endpoint, MAX_ENDPOINTS};

use crate::budget::Budget;
use crate::candidate::{Candidate, Candidates, FAILED_HOLD, Origin, normal};
use crate::chosen::Chosen;
use crate::lan::LanPings;
use crate::limits::{
    ANSWER_FRESH, CALL_SPACING, ECHO_GAP, ECHO_SPACING, GOOD_ENOUGH, IDLE_AFTER, PING_BURST,
    PING_SPACING, PINGS_PER_SECOND, PONG_BURST, PONGS_PER_SECOND, SOURCE_FRESH, SUSPICION_SPACING,
};
use crate::relay::RelayChoice;
use crate::score::{Contender, PRIVATE_POINTS, better, points};
use crate::search::Search;
use crate::types::{Output, Route, Selected, Via};
use size::Size;

pub use explain::{CandidateReport, CandidateState, Explanation};

/// Rounds of pings after a call by the peer.
const ECHO_ROUNDS: u8 = 2;

/// Chooses the way to one peer. See the [crate's page](crate).
///
/// After every input the caller drains [`PathAgent::poll_output`] and asks
/// [`PathAgent::poll_timeout`] anew.
pub struct PathAgent {
    candidates: Candidates,
    chosen: Option<Chosen>,
    size: Size,
    relay: RelayChoice,
    /// Until when there is traffic; `None`: idle.
    awake_until: Option<Instant>,
    data_sent_at: Option<Instant>,
    /// By which way the peer's authenticated data came last, and when.
    heard: Option<(Via, Instant)>,
    search: Option<Search>,
    /// Rounds that the peer's calls ask for: how many are left, and when the next one is due.
    echo: Option<(u8, Instant)>,
    echoed_at: Option<Instant>,
    wants_call: bool,
    called_at: Option<Instant>,
    suspected_at: Option<Instant>,
    lan: LanPings,
    pings: Budget,
    pongs: Budget,
    /// What was told last by [`Output::Changed`].
    told: Selected,
    outputs: VecDeque<Output>,
    rng: StdRng,
}

impl PathAgent {
    /// A path to a peer of which nothing is known. The seed makes the pings' transactions.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            candidates: Candidates::default(),
            chosen: None,
            size: Size::default(),
            relay: RelayChoice::default(),
            awake_until: None,
            data_sent_at: None,
            heard: None,
            search: None,
            echo: None,
            echoed_at: None,
            wants_call: false,
            called_at: None,
            suspected_at: None,
            lan: LanPings::default(),
            pings: Budget::new(PINGS_PER_SECOND, PING_BURST, now),
            pongs: Budget::new(PONGS_PER_SECOND, PONG_BURST, now),
            told: Selected::None,
            outputs: VecDeque::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Where the peer reports that it may be: all of it.
    pub fn set_candidates(&mut self, endpoints: &[Endpoint], now: Instant) {
        let reported = endpoints
            .iter()
            .take(MAX_ENDPOINTS)
            .map(|at| (at.addr, at.kind));
        let any_new = self.candidates.report(reported, self.in_use(), now);
        if any_new && self.is_awake() {
            self.search = Some(Search::start(now));
        }
        self.handle_timeout(now);
    }

    /// The region at whose relay the peer says that it listens.
    pub fn set_relay(&mut self, region: Option<RegionId>, now: Instant) {
        let had_none = self.relay().is_none();
        self.relay.set_home(region, now);
        if had_none && region.is_some() && self.is_awake() {
            self.search = Some(Search::start(now));
        }
        self.handle_timeout(now);
    }

    /// The region at whose relay the peer is reached, whether packets go there or not.
    #[must_use]
    pub fn relay(&self) -> Option<RegionId> {
        self.relay.region()
    }

    /// A ping of the peer.
    pub fn handle_ping(&mut self, tx: TxId, from: Via, now: Instant) {
        if !self.pongs.take(now) {
            return;
        }
        let observed = match from {
            Via::Direct(addr) => normal(addr),
            Via::Relay(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        self.outputs.push_back(Output::Pong {
            to: from,
            tx,
            observed,
        });
        if let Via::Direct(addr) = from {
            self.learn(addr, Origin::Ping, ANSWER_FRESH, now);
        }
        self.handle_timeout(now);
    }

    /// A pong of the peer.
    pub fn handle_pong(&mut self, tx: TxId, from: Via, now: Instant) {
        let Via::Direct(addr) = from else { return };
        let addr = normal(addr);
        let counts = self
            .candidates
            .get_mut(&addr)
            .is_some_and(|known| known.pong(tx, now));
        if counts {
            self.answered(addr, now);
            self.look_at_size(&addr, now);
        } else if !self.size_answered(&addr, tx, now)
            && (self.candidates.is_any_waiting_for(tx, now) || self.lan.is_waiting_for(tx, now))
        {
            self.learn(addr, Origin::Pong, ANSWER_FRESH, now);
        }
        self.handle_timeout(now);
    }

    /// The peer asks to be pinged at these addresses. Only by relay. It would not if it trusted the path
    /// between us, so that has to answer again.
    pub fn handle_call_me_maybe(&mut self, endpoints: &[SocketAddr], now: Instant) {
        let in_use = self.in_use();
        if let Some(addr) = in_use {
            self.suspect(addr, now);
        }
        for addr in endpoints.iter().take(MAX_CALL_ENDPOINTS) {
            self.candidates.learn(*addr, Origin::Call, in_use, now);
        }
        let earliest = self.echoed_at.map_or(now, |at| at + ECHO_SPACING).max(now);
        self.echo = Some((ECHO_ROUNDS, earliest));
        self.handle_timeout(now);
    }

    /// Data leaves for the peer. Once for a batch will do.
    pub fn data_sent(&mut self, now: Instant) {
        self.data_sent_at = Some(now);
        self.wake(now);
        self.handle_timeout(now);
    }

    /// Authenticated WireGuard data of the peer came.
    pub fn data_received(&mut self, from: Via, now: Instant) {
        self.wake(now);
        self.heard(from, now);
    }

    /// A handshake message or keep-alive of the peer's tunnel came. It tells where the peer is, and is no
    /// traffic: a key that is replaced must not keep an idle path awake.
    pub fn heard(&mut self, from: Via, now: Instant) {
        self.heard = Some((from, now));
        match from {
            Via::Relay(region) => self.relay.heard(region, now),
            Via::Direct(addr) => self.heard_from(normal(addr), now),
        }
        self.handle_timeout(now);
    }

    /// The host refused to send to this address: no route, no such network.
    pub fn send_failed(&mut self, addr: SocketAddr, now: Instant) {
        let addr = normal(addr);
        if let Some(candidate) = self.candidates.get_mut(&addr) {
            candidate.held_until = Some(now + FAILED_HOLD);
        }
        if let Some(chosen) = self.chosen.as_mut().filter(|chosen| chosen.addr == addr)
            && !chosen.is_doubted()
        {
            chosen.doubt(now);
            if self.is_awake() {
                self.search = Some(Search::start(now));
            }
        }
        self.handle_timeout(now);
    }

    /// Our own addresses, routes or endpoints changed: every path has to answer again.
    pub fn network_changed(&mut self, now: Instant) {
        self.candidates.forget_probes();
        self.forget_size();
        if let Some(chosen) = &mut self.chosen {
            chosen.distrust(now);
        }
        if self.is_awake() {
            self.called_at = None;
            self.search = Some(Search::start(now));
        }
        self.handle_timeout(now);
    }

    /// Others see us elsewhere: a peer that is not reached directly is told at once.
    pub fn endpoints_changed(&mut self, now: Instant) {
        if self.is_awake() && !self.is_trusted(now) {
            self.called_at = None;
            self.wants_call = true;
            self.handle_timeout(now);
        }
    }

    /// The peer's process is a new one: nothing that its paths proved holds.
    pub fn reset(&mut self, now: Instant) {
        self.candidates.reset();
        self.forget_size();
        self.chosen = None;
        self.echo = None;
        if self.is_awake() {
            self.search = Some(Search::start(now));
        }
        self.handle_timeout(now);
    }

    /// Where a packet goes now.
    #[must_use]
    pub fn route(&self, now: Instant) -> Route {
        match &self.chosen {
            Some(chosen) if chosen.is_trusted(now) => Route {
                direct: Some(chosen.addr),
                relay: None,
            },
            Some(chosen) => Route {
                direct: Some(chosen.addr),
                relay: self.relay(),
            },
            None => Route {
                direct: None,
                relay: self.relay(),
            },
        }
    }

    /// What carries the peer's traffic. A path that rests without traffic is still the one; a doubted
    /// one is not, unless there is no relay.
    #[must_use]
    pub fn selected(&self) -> Selected {
        match (&self.chosen, self.relay()) {
            (Some(chosen), relay) if !chosen.is_doubted() || relay.is_none() => Selected::Direct {
                addr: chosen.addr,
                latency: self.latency(&chosen.addr),
            },
            (_, Some(region)) => Selected::Relay(region),
            (_, None) => Selected::None,
        }
    }

    /// Whether there are other addresses among the candidates than when this was asked last.
    pub fn take_candidates_changed(&mut self) -> bool {
        self.candidates.take_changed()
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`PathAgent::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let echo = self.echo.map(|(_, at)| at);
        let Some(awake_until) = self.awake_until else {
            return echo;
        };
        let chosen = self.chosen.as_ref();
        let ping = chosen.map(|chosen| chosen.ping_at(self.data_sent_at));
        let doubt = chosen.and_then(Chosen::doubt_at);
        let give_up = chosen
            .filter(|_| self.relay().is_some())
            .and_then(Chosen::give_up_at);
        let search = self.search.map(|search| search.next());
        [
            echo,
            Some(awake_until),
            ping,
            doubt,
            give_up,
            search,
            self.call_at(),
            self.size_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.relay.update(now);
        if self.awake_until.is_some_and(|until| until <= now) {
            self.rest();
        }
        if self.is_awake() {
            self.watch_path(now);
            self.run_search(now);
        }
        self.find_size(now);
        self.run_echo(now);
        self.call(now);
        self.tell();
    }

    fn is_awake(&self) -> bool {
        self.awake_until.is_some()
    }

    fn in_use(&self) -> Option<SocketAddr> {
        self.chosen.map(|chosen| chosen.addr)
    }

    fn is_trusted(&self, now: Instant) -> bool {
        self.chosen.is_some_and(|chosen| chosen.is_trusted(now))
    }

    fn contender(&self, addr: SocketAddr) -> Contender {
        Contender {
            addr,
            latency: self.latency(&addr),
            in_tunnel: self.in_tunnel(&addr),
        }
    }

    fn points(&self, addr: &SocketAddr) -> i32 {
        points(addr, self.in_tunnel(addr))
    }

    fn in_tunnel(&self, addr: &SocketAddr) -> bool {
        self.candidates.get(addr).is_some_and(Candidate::in_tunnel)
    }

    fn latency(&self, addr: &SocketAddr) -> Duration {
        self.candidates
            .get(addr)
            .and_then(|known| known.latency)
            .unwrap_or_default()
    }

    fn wake(&mut self, now: Instant) {
        let was_awake = self.awake_until.is_some_and(|until| now < until);
        self.awake_until = Some(now + IDLE_AFTER);
        if was_awake {
            return;
        }
        let trusted = self.is_trusted(now);
        self.search = Some(if trusted {
            Search::settled(now)
        } else {
            Search::start(now)
        });
    }

    fn rest(&mut self) {
        self.awake_until = None;
        self.search = None;
        self.wants_call = false;
        if let Some(chosen) = &mut self.chosen {
            chosen.rest();
        }
    }

    /// The peer may be at this address: asks it, unless it has answered lately.
    fn learn(&mut self, addr: SocketAddr, origin: Origin, fresh: Duration, now: Instant) {
        let addr = normal(addr);
        self.candidates.learn(addr, origin, self.in_use(), now);
        let Some(known) = self.candidates.get(&addr) else {
            return;
        };
        if !known.has_answered_within(fresh, now) && self.may_ping(&addr, now) {
            self.ping(addr, now);
        }
    }

    /// Data came from this address. If it is news to us, the peer has moved, and what we send to its
    /// old address may be lost: both are asked, and the relay helps out until one answers.
    fn heard_from(&mut self, addr: SocketAddr, now: Instant) {
        let Some(chosen) = self.chosen.filter(|chosen| chosen.addr != addr) else {
            if self.chosen.is_none() {
                self.learn(addr, Origin::Data, SOURCE_FRESH, now);
            }
            return;
        };
        let known = self.candidates.get(&addr);
        if known.is_some_and(|known| known.has_answered_within(SOURCE_FRESH, now)) {
            return;
        }
        self.learn(addr, Origin::Data, SOURCE_FRESH, now);
        self.suspect(chosen.addr, now);
    }

    /// The path in use may not lead to the peer any more: packets go both ways until it answers.
    fn suspect(&mut self, addr: SocketAddr, now: Instant) {
        let is_too_soon = self
            .suspected_at
            .is_some_and(|at| now.duration_since(at) < SUSPICION_SPACING);
        if is_too_soon || !self.is_trusted(now) {
            return;
        }
        self.suspected_at = Some(now);
        if let Some(chosen) = &mut self.chosen {
            chosen.distrust(now);
        }
        self.ping(addr, now);
    }

    /// An address has answered a ping.
    fn answered(&mut self, addr: SocketAddr, now: Instant) {
        match self.chosen {
            Some(chosen) if chosen.addr != addr && chosen.is_trusted(now) => {
                if !better(self.contender(addr), self.contender(chosen.addr)) {
                    return;
                }
            }
            _ => self.wants_call = false,
        }
        self.chosen = Some(Chosen::new(addr, now));
        if let Some(search) = self.search.as_mut().filter(|search| search.is_settled()) {
            *search = Search::settled(now);
        }
    }

    /// Pings the path in use, doubts it, gives it up: whatever is due.
    fn watch_path(&mut self, now: Instant) {
        let has_relay = self.relay().is_some();
        let Some(chosen) = &mut self.chosen else {
            return;
        };
        if chosen.doubt_at().is_some_and(|at| at <= now) {
            chosen.doubt(now);
            self.search = Some(Search::start(now));
        }
        if has_relay && chosen.give_up_at().is_some_and(|at| at <= now) {
            self.chosen = None;
            return;
        }
        let addr = chosen.addr;
        if chosen.ping_at(self.data_sent_at) <= now {
            let was_suspect = chosen.is_suspect();
            self.ping(addr, now);
            let is_suspect = self.chosen.is_some_and(|chosen| chosen.is_suspect());
            // Soon the relay may be needed. The call shows whether it is there, and if only our half of
            // the path is dead, the peer is the one that opens another.
            self.wants_call |= is_suspect && !was_suspect;
        }
    }

    fn run_search(&mut self, now: Instant) {
        let Some(mut search) = self.search.filter(|search| search.next() <= now) else {
            return;
        };
        let found = self.is_trusted(now);
        if !found || self.could_do_better() {
            // While a path settles, the peer runs rounds of its own.
            self.wants_call |= !found || search.is_settled();
            self.ping_all(now);
            self.ping_lan(now);
        }
        search.ran(found, self.rng.random_range(-1.0..=1.0), now);
        self.search = Some(search);
    }

    fn run_echo(&mut self, now: Instant) {
        let Some((left, _)) = self.echo.filter(|(_, at)| *at <= now) else {
            return;
        };
        self.echoed_at = Some(now);
        self.ping_all(now);
        self.echo = left
            .checked_sub(1)
            .filter(|left| *left > 0)
            .map(|left| (left, now + ECHO_GAP));
    }

    /// Whether some candidate may be better than the path in use, as far as one can tell without
    /// asking it.
    fn could_do_better(&self) -> bool {
        let Some(chosen) = self.chosen else {
            return true;
        };
        let kind = self.points(&chosen.addr);
        self.latency(&chosen.addr) > GOOD_ENOUGH
            || self
                .candidates
                .iter()
                .any(|(addr, known)| points(addr, known.in_tunnel()) > kind)
    }

    fn call_at(&self) -> Option<Instant> {
        if !self.wants_call || self.relay().is_none() {
            return None;
        }
        // A call that is wanted and not sent waits for the one before.
        self.called_at.map(|at| at + CALL_SPACING)
    }

    fn call(&mut self, now: Instant) {
        if !self.wants_call || self.relay().is_none() {
            return;
        }
        if self
            .called_at
            .is_none_or(|at| now.duration_since(at) >= CALL_SPACING)
        {
            self.called_at = Some(now);
            self.wants_call = false;
            self.outputs.push_back(Output::CallMeMaybe);
        }
    }

    fn ping_all(&mut self, now: Instant) {
        self.candidates.expire(self.in_use(), now);
        for addr in self.candidates.by_last_ping() {
            if self.may_ping(&addr, now) {
                self.ping(addr, now);
            }
        }
    }

    /// Asks our own links, unless the path in use is on one of them.
    fn ping_lan(&mut self, now: Instant) {
        let is_near = self.is_trusted(now)
            && self
                .chosen
                .is_some_and(|chosen| self.points(&chosen.addr) >= PRIVATE_POINTS);
        if !is_near && self.lan.may_ping(now) && self.pings.take(now) {
            let tx = TxId(self.rng.random());
            self.lan.sent(tx, now);
            self.outputs.push_back(Output::PingLan { tx });
        }
    }

    fn may_ping(&mut self, addr: &SocketAddr, now: Instant) -> bool {
        let Some(candidate) = self.candidates.get(addr) else {
            return false;
        };
        !candidate.is_held(now)
            && !candidate.was_pinged_within(PING_SPACING, now)
            && self.pings.take(now)
    }

    fn ping(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(chosen) = self.chosen.as_mut().filter(|chosen| chosen.addr == addr) {
            chosen.pinged(now);
        }
        // The path in use is always a candidate.
        let Some(candidate) = self.candidates.get_mut(&addr) else {
            return;
        };
        let tx = TxId(self.rng.random());
        candidate.ping(tx, now);
        self.outputs.push_back(Output::Ping {
            to: Via::Direct(addr),
            tx,
        });
    }

    fn tell(&mut self) {
        let selected = self.selected();
        if !selected.is_same_way(&self.told) {
            self.outputs.push_back(Output::Changed(selected));
        }
        self.told = selected;
    }
}
