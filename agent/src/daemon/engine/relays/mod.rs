//! Connections to relays: one to the home region, always; others while packets go there.

mod link;
mod liveness;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use ztna_proto::relay::{RelayMap, RelayRegion};
use ztna_proto::{RegionId, WgPrivateKey, WgPublicKey};

pub use self::link::ConnectionState;
use self::link::{Runner, Shared};

/// Packets on their way from the engine to one region's connection.
const OUTBOX: usize = 512;
/// A home region that is lost may find another of its relays in this time; then another region that
/// is connected becomes home. If all of its relays refuse, there is nothing to wait for.
const HOME_PATIENCE: Duration = Duration::from_millis(600);
/// The same for its first connection, before any attempt has failed.
const FIRST_PATIENCE: Duration = Duration::from_millis(1500);
/// A better region has this long to prove that it can be connected to.
const BETTER_PATIENCE: Duration = Duration::from_secs(10);
/// Traffic by other relays lets the home connection be watched, noted this often.
const NOTICE_EVERY: Duration = Duration::from_millis(100);
/// Regions to which a connection is made ready when the home region is in doubt.
const STANDBYS: usize = 2;
/// How long a region that was lost as home is left alone if there is another: half to one and a half
/// of this, so that the machines that a relay lost do not come back at once.
const AVOID_FOR: Duration = Duration::from_secs(120);

/// What comes from the relays.
pub enum RelayEvent {
    /// A packet of a peer.
    Packet {
        region: RegionId,
        from: WgPublicKey,
        packet: Bytes,
    },
    /// A relay refused the ticket.
    TicketRefused,
    /// A connection stands, is lost or is in doubt: home is to be looked at.
    Changed,
}

/// All relay connections of one engine.
pub struct Relays {
    key: WgPrivateKey,
    ticket: watch::Sender<Option<String>>,
    map: RelayMap,
    home: Option<RegionId>,
    connections: BTreeMap<RegionId, Connection>,
    /// Regions that were lost while they were home, and until when that counts.
    avoided: BTreeMap<RegionId, Instant>,
    /// When the home connection was told last that answers are due.
    noticed: Option<Instant>,
    events: mpsc::Sender<RelayEvent>,
}

struct Connection {
    outbox: mpsc::Sender<(WgPublicKey, Bytes)>,
    home: watch::Sender<bool>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Connection {
    fn send(&self, to: WgPublicKey, packet: Bytes) {
        if self.outbox.try_send((to, packet)).is_err() {
            tracing::trace!("no room for a packet to the relay");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relays {
    /// No connections yet. Packets and refusals go to `events`.
    pub fn new(key: WgPrivateKey, events: mpsc::Sender<RelayEvent>) -> Self {
        Self {
            key,
            ticket: watch::Sender::new(None),
            map: RelayMap::default(),
            home: None,
            connections: BTreeMap::new(),
            avoided: BTreeMap::new(),
            noticed: None,
            events,
        }
    }

    /// A fresh ticket: used from the next connection on.
    pub fn set_ticket(&mut self, ticket: String) {
        self.ticket.send_replace(Some(ticket));
    }

    /// The relay map. Connections to regions that changed or are gone end. Says whether it is
    /// another than before.
    pub fn set_map(&mut self, map: &RelayMap) -> bool {
        if self.map == *map {
            return false;
        }
        let old = std::mem::replace(&mut self.map, map.clone());
        let new = &self.map.regions;
        self.connections
            .retain(|region, _| old.regions.get(region) == new.get(region));
        self.connect_home();
        true
    }

    /// The regions that are fit to be home: they have a relay, which was not lost as home lately;
    /// all that have a relay, if all were.
    pub fn home_candidates(&mut self, now: Instant) -> Vec<RegionId> {
        self.avoided.retain(|_, until| now < *until);
        let has_relay = |region: &&RelayRegion| region.relays().next().is_some();
        let relays = self.map.regions.values().filter(has_relay);
        let all: Vec<RegionId> = relays.map(|region| region.id).collect();
        let fit = all.iter().filter(|id| !self.avoided.contains_key(id));
        let fit: Vec<RegionId> = fit.copied().collect();
        if fit.is_empty() { all } else { fit }
    }

    /// A region's short code.
    pub fn code(&self, region: RegionId) -> Option<String> {
        self.map
            .regions
            .get(&region)
            .map(|region| region.code.clone())
    }

    /// Chooses home among `ranked`, the best first, and stays connected to it. A region becomes home
    /// once the connection to it stands, except the first of all; while home is in doubt, the next
    /// ones are made ready. To be called whenever something changed, and now and then: a connection
    /// that ended for want of use in the moment in which it became home is made anew.
    pub fn choose_home(&mut self, ranked: &[RegionId], now: Instant) -> Option<RegionId> {
        let present = self.home.filter(|home| self.map.regions.contains_key(home));
        let next = match present {
            None => ranked.first().copied(),
            Some(home) => self.successor(home, ranked, now).or(present),
        };
        self.set_home(next);
        next
    }

    /// The region that takes over from home, if one is to and can.
    fn successor(&mut self, home: RegionId, ranked: &[RegionId], now: Instant) -> Option<RegionId> {
        let state = self.state(home);
        // One that was lost earlier is better than none.
        let earlier: Vec<RegionId> = self.avoided.keys().copied().collect();
        let others = ranked.iter().copied().chain(earlier);
        let others = others.filter(|region| *region != home);
        let others: Vec<RegionId> = others.take(STANDBYS).collect();
        if state.connected {
            if state.doubted {
                self.make_ready(&others);
                return None;
            }
            let better = ranked.first().copied().filter(|best| *best != home)?;
            return self.try_better(better, now);
        }
        let is_out_of_time = self.out_of_time(home)? <= now;
        if state.error.is_some() || is_out_of_time {
            self.make_ready(&others);
        }
        if !is_out_of_time {
            return None;
        }
        let next = others
            .into_iter()
            .find(|region| self.state(*region).connected)?;
        tracing::info!(from = %home, to = %next, "home relay lost");
        self.avoid(home, now);
        Some(next)
    }

    /// A nearer region is home once the connection to it stands.
    fn try_better(&mut self, better: RegionId, now: Instant) -> Option<RegionId> {
        self.make_ready(&[better]);
        let state = self.state(better);
        let is_hopeless = state
            .down_since
            .is_some_and(|since| now.duration_since(since) >= BETTER_PATIENCE);
        if is_hopeless {
            self.avoid(better, now);
        }
        state.connected.then_some(better)
    }

    fn avoid(&mut self, region: RegionId, now: Instant) {
        let jitter = rand::rng().random_range(0.5..1.5);
        self.avoided.insert(region, now + AVOID_FOR.mul_f64(jitter));
    }

    fn make_ready(&mut self, regions: &[RegionId]) {
        for region in regions {
            self.connection(*region);
        }
    }

    /// When [`Relays::choose_home`] is to be called though nothing happens: a home that is down runs
    /// out of time.
    pub fn look_at(&self, now: Instant) -> Option<Instant> {
        self.out_of_time(self.home?).filter(|at| *at > now)
    }

    fn set_home(&mut self, home: Option<RegionId>) {
        if self.home != home {
            self.home = home;
            for (region, connection) in &self.connections {
                connection.home.send_replace(Some(*region) == home);
            }
        }
        self.connect_home();
    }

    /// This machine's addresses or routes changed: every connection has to prove itself.
    pub fn network_changed(&mut self) {
        self.avoided.clear();
        ztna_derp::client::network_changed();
        for connection in self.connections.values() {
            connection.shared.network_changed.notify_one();
        }
    }

    fn connect_home(&mut self) {
        if let Some(home) = self.home {
            self.connection(home);
        }
    }

    /// Sends through a region's relay; connects to it if need be. Never waits: what does not fit is
    /// lost. While that relay does not answer, the home relay gets a copy: a peer that was at home
    /// there has to move as well, and is likely to come here before it can say so.
    pub fn send(&mut self, region: RegionId, to: WgPublicKey, packet: Bytes) {
        let Some(connection) = self.connection(region) else {
            return;
        };
        let copy = connection.shared.is_failing().then(|| packet.clone());
        connection.send(to, packet);
        // Answers come to the home region, which has to be there for them.
        let home = self.home.filter(|home| *home != region);
        let Some(home) = home.and_then(|home| self.connections.get(&home)) else {
            return;
        };
        if let Some(copy) = copy.filter(|_| home.shared.is_connected()) {
            home.send(to, copy);
        }
        let now = Instant::now();
        if self
            .noticed
            .is_none_or(|at| now.duration_since(at) >= NOTICE_EVERY)
        {
            self.noticed = Some(now);
            home.shared.answers_due.notify_one();
        }
    }

    fn connection(&mut self, region: RegionId) -> Option<&Connection> {
        if self
            .connections
            .get(&region)
            .is_some_and(|connection| connection.task.is_finished())
        {
            self.connections.remove(&region);
        }
        if !self.connections.contains_key(&region) {
            let description = self.map.regions.get(&region)?.clone();
            let connection = self.start(description);
            self.connections.insert(region, connection);
        }
        self.connections.get(&region)
    }

    fn start(&self, region: RelayRegion) -> Connection {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let home = watch::Sender::new(Some(region.id) == self.home);
        let shared = Arc::new(Shared::default());
        let runner = Runner {
            region,
            key: self.key.clone(),
            ticket: self.ticket.subscribe(),
            home: home.subscribe(),
            inbox,
            waiting: VecDeque::new(),
            last_packet: Instant::now(),
            first_node: 0,
            shared: Arc::clone(&shared),
            events: self.events.clone(),
        };
        Connection {
            outbox,
            home,
            shared,
            task: tokio::spawn(runner.run()),
        }
    }

    /// Whether the connection to a region stands and its relay answers.
    pub fn is_up(&self, region: RegionId) -> bool {
        self.connections.get(&region).is_some_and(|connection| {
            connection.shared.is_connected() && !connection.shared.is_failing()
        })
    }

    /// Whether there is a home region and the connection to it stands.
    pub fn is_home_up(&self) -> bool {
        let connection = self.home.and_then(|home| self.connections.get(&home));
        connection.is_some_and(|connection| connection.shared.is_connected())
    }

    /// How the connection to the home region stands.
    pub fn home_state(&self) -> ConnectionState {
        self.home
            .map_or_else(ConnectionState::default, |home| self.state(home))
    }

    fn state(&self, region: RegionId) -> ConnectionState {
        let connection = self.connections.get(&region);
        connection.map_or_else(ConnectionState::default, |connection| {
            connection.shared.state()
        })
    }

    /// Until when a region that is not connected is waited for. `None`: it is connected, or nothing
    /// was tried yet.
    fn out_of_time(&self, region: RegionId) -> Option<Instant> {
        let state = self.state(region);
        let region = self.map.regions.get(&region);
        let relays = region.map_or(0, |region| region.relays().count());
        let patience = match state.error {
            _ if state.exhausted => Duration::ZERO,
            // It had no other relay to try.
            Some(_) if relays < 2 => Duration::ZERO,
            Some(_) => HOME_PATIENCE,
            None => FIRST_PATIENCE,
        };
        Some(state.down_since? + patience)
    }
}
