//! Connections to relays: one to the home region, always; others while packets go there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use ztna_derp::client::{self, ClientConfig, ConnectError, Event, Receiver, SendError, Sender};
use ztna_proto::relay::{RelayMap, RelayRegion};
use ztna_proto::{RegionId, WgPrivateKey, WgPublicKey};

/// Packets on their way from the engine to one region's connection.
const OUTBOX: usize = 512;
/// Packets kept for a connection that is being made.
const MAX_WAITING: usize = 128;
/// How long such a packet is worth sending.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// A connection that is not home ends after this long without a packet.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after the first failed attempt, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two attempts: a relay that comes back is found in this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A home relay that cannot be reached for so long is no home, if there is another.
const HOME_PATIENCE: Duration = Duration::from_secs(10);
/// How long a region that was given up as home is left alone.
const AVOID_FOR: Duration = Duration::from_secs(600);
/// After a change of network a relay has to answer a ping within this time: the connection may hang
/// on an address that is gone.
const PROOF_TIME: Duration = Duration::from_secs(3);

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
}

/// How a connection stands, for status.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState {
    pub connected: bool,
    /// Why there is none, for people.
    pub error: Option<String>,
    /// Since when it is tried in vain.
    failing_since: Option<Instant>,
}

/// All relay connections of one engine.
pub struct Relays {
    key: WgPrivateKey,
    ticket: watch::Sender<Option<String>>,
    map: RelayMap,
    home: Option<RegionId>,
    connections: BTreeMap<RegionId, Connection>,
    /// Regions that could not be reached while they were home, and until when that counts.
    avoided: BTreeMap<RegionId, Instant>,
    events: mpsc::Sender<RelayEvent>,
}

struct Connection {
    outbox: mpsc::Sender<(WgPublicKey, Bytes)>,
    home: watch::Sender<bool>,
    network_changed: Arc<Notify>,
    state: Arc<Mutex<ConnectionState>>,
    task: JoinHandle<()>,
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

    /// The regions that are fit to be home: they have a relay, which has not failed as home lately;
    /// all that have a relay, if all have failed.
    pub fn home_candidates(&mut self, now: Instant) -> Vec<RegionId> {
        let given_up = self.home.filter(|_| {
            let failing = self.home_state().failing_since;
            failing.is_some_and(|since| now.duration_since(since) >= HOME_PATIENCE)
        });
        if let Some(home) = given_up {
            self.avoided.insert(home, now + AVOID_FOR);
        }
        self.avoided.retain(|_, until| now < *until);
        let has_relay = |region: &&RelayRegion| region.nodes.iter().any(|n| n.derp_port.is_some());
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

    /// The region to stay connected to. To be said again from time to time: a connection that ended
    /// for want of use in the moment in which it became home is made anew.
    pub fn set_home(&mut self, home: Option<RegionId>) {
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
        for connection in self.connections.values() {
            connection.network_changed.notify_one();
        }
    }

    fn connect_home(&mut self) {
        if let Some(home) = self.home {
            self.connection(home);
        }
    }

    /// Sends through a region's relay; connects to it if need be. Never waits: what does not fit is
    /// lost.
    pub fn send(&mut self, region: RegionId, to: WgPublicKey, packet: Bytes) {
        if let Some(connection) = self.connection(region)
            && connection.outbox.try_send((to, packet)).is_err()
        {
            tracing::trace!(%region, "no room for a packet to the relay");
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
        let state = Arc::new(Mutex::new(ConnectionState::default()));
        let network_changed = Arc::new(Notify::new());
        let runner = Runner {
            region,
            key: self.key.clone(),
            ticket: self.ticket.subscribe(),
            home: home.subscribe(),
            network_changed: Arc::clone(&network_changed),
            inbox,
            waiting: VecDeque::new(),
            last_packet: Instant::now(),
            state: Arc::clone(&state),
            events: self.events.clone(),
        };
        Connection {
            outbox,
            home,
            network_changed,
            state,
            task: tokio::spawn(runner.run()),
        }
    }

    /// How the connection to the home region stands.
    pub fn home_state(&self) -> ConnectionState {
        let connection = self.home.and_then(|home| self.connections.get(&home));
        connection.map_or_else(ConnectionState::default, |connection| {
            connection
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        })
    }
}

/// Keeps one region's connection.
struct Runner {
    region: RelayRegion,
    key: WgPrivateKey,
    ticket: watch::Receiver<Option<String>>,
    home: watch::Receiver<bool>,
    network_changed: Arc<Notify>,
    inbox: mpsc::Receiver<(WgPublicKey, Bytes)>,
    /// Packets that wait for the connection, with the time they came.
    waiting: VecDeque<(Instant, WgPublicKey, Bytes)>,
    /// When a packet came last, from either side.
    last_packet: Instant,
    state: Arc<Mutex<ConnectionState>>,
    events: mpsc::Sender<RelayEvent>,
}

/// Why a connection ended.
enum End {
    /// Nobody needs it.
    Idle,
    Lost(String),
}

impl Runner {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.connect().await {
                Ok((sender, receiver)) => {
                    pause = FIRST_PAUSE;
                    tracing::info!(region = %self.region.code, "relay connected");
                    self.set_state(true, None);
                    match self.serve(&sender, receiver).await {
                        End::Idle => {
                            self.set_state(false, None);
                            return;
                        }
                        End::Lost(why) => why,
                    }
                }
                Err(why) => why,
            };
            tracing::info!(region = %self.region.code, why = failure, "relay not connected");
            self.set_state(false, Some(failure));
            if !self.is_needed() {
                return;
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            self.wait(Instant::now() + pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether anybody wants this connection.
    fn is_needed(&self) -> bool {
        *self.home.borrow() || self.last_packet.elapsed() < IDLE
    }

    /// Tries the region's relays in their order.
    async fn connect(&mut self) -> Result<(Sender, Receiver), String> {
        let ticket = loop {
            let ticket = self.ticket.borrow_and_update().clone();
            if let Some(ticket) = ticket {
                break ticket;
            }
            let mut fresh = self.ticket.clone();
            if fresh.changed().await.is_err() {
                return Err("no relay ticket".to_owned());
            }
        };
        let mut failure = format!("region {} has no relay", self.region.code);
        let nodes: Vec<_> = self
            .region
            .nodes
            .iter()
            .filter(|node| node.derp_port.is_some())
            .cloned()
            .collect();
        for node in nodes {
            let name = node.host.clone();
            let (key, ticket) = (self.key.clone(), ticket.clone());
            let connecting = client::connect(ClientConfig { node, key, ticket });
            tokio::pin!(connecting);
            let result = loop {
                tokio::select! {
                    result = &mut connecting => break result,
                    Some((to, packet)) = self.inbox.recv() => self.keep(to, packet),
                    () = self.network_changed.notified() => {
                        return Err("the network changed".to_owned());
                    }
                }
            };
            match result {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    if matches!(error, ConnectError::Refused(_)) {
                        // The engine asks for another; nothing is lost if it is busy.
                        let _ = self.events.try_send(RelayEvent::TicketRefused);
                    }
                    failure = format!("relay {name}: {error}");
                }
            }
        }
        Err(failure)
    }

    async fn serve(&mut self, sender: &Sender, mut receiver: Receiver) -> End {
        let is_home = *self.home.borrow_and_update();
        let now = Instant::now();
        let mut sent = sender.note_preferred(is_home);
        for (since, to, packet) in self.waiting.drain(..) {
            if now.duration_since(since) < MAX_WAIT {
                sent = sent.and(forward(sender, to, packet));
            }
        }
        let mut answer_by: Option<Instant> = None;
        loop {
            if let Err(error) = sent {
                return End::Lost(error.to_string());
            }
            let is_home = *self.home.borrow();
            let idle_at = self.last_packet + IDLE;
            let proof_at = answer_by.unwrap_or(now);
            tokio::select! {
                message = self.inbox.recv() => {
                    let Some((to, packet)) = message else { return End::Idle };
                    self.last_packet = Instant::now();
                    sent = forward(sender, to, packet);
                }
                event = receiver.next() => {
                    answer_by = None;
                    match event {
                        Ok(Event::Packet { from, packet }) => {
                            self.last_packet = Instant::now();
                            let region = self.region.id;
                            let event = RelayEvent::Packet { region, from, packet };
                            if self.events.send(event).await.is_err() {
                                return End::Idle;
                            }
                        }
                        Ok(Event::Health(problem)) if !problem.is_empty() => {
                            tracing::warn!(region = %self.region.code, problem, "relay reports");
                        }
                        Ok(Event::Restarting { reconnect_in, .. }) => {
                            tracing::info!(region = %self.region.code, "relay restarts");
                            self.wait(Instant::now() + reconnect_in.min(LONGEST_PAUSE)).await;
                            return End::Lost("the relay restarts".to_owned());
                        }
                        Ok(_) => {}
                        Err(error) => return End::Lost(error.to_string()),
                    }
                }
                Ok(()) = self.home.changed() => {
                    sent = sender.note_preferred(*self.home.borrow_and_update());
                }
                Ok(()) = self.ticket.changed() => {
                    let ticket = self.ticket.borrow_and_update().clone();
                    sent = ticket.map_or(Ok(()), |ticket| sender.renew_ticket(ticket));
                }
                () = self.network_changed.notified() => {
                    answer_by = Some(Instant::now() + PROOF_TIME);
                    sent = sender.ping();
                }
                () = sleep_until(proof_at), if answer_by.is_some() => {
                    return End::Lost("no answer since the network changed".to_owned());
                }
                () = sleep_until(idle_at), if !is_home => return End::Idle,
            }
        }
    }

    /// Waits, and keeps the packets that come meanwhile. A change of network ends the wait.
    async fn wait(&mut self, until: Instant) {
        loop {
            tokio::select! {
                Some((to, packet)) = self.inbox.recv() => self.keep(to, packet),
                () = self.network_changed.notified() => return,
                () = sleep_until(until) => return,
            }
        }
    }

    fn keep(&mut self, to: WgPublicKey, packet: Bytes) {
        self.last_packet = Instant::now();
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((self.last_packet, to, packet));
    }

    fn set_state(&self, connected: bool, error: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failing_since = error
            .is_some()
            .then(|| state.failing_since.unwrap_or_else(Instant::now));
        *state = ConnectionState {
            connected,
            error,
            failing_since,
        };
    }
}

/// Queues a packet. One that the relay would not take is lost, and costs the others nothing.
fn forward(sender: &Sender, to: WgPublicKey, packet: Bytes) -> Result<(), SendError> {
    match sender.try_send(to, packet) {
        Err(error @ (SendError::RateLimited | SendError::TooLong(_))) => {
            tracing::trace!(%error, "packet not sent by relay");
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use ztna_proto::relay::{CertificatePin, RelayNode};

    use super::*;

    /// A region whose relay nobody listens at.
    fn dead(id: u32) -> RelayRegion {
        RelayRegion {
            id: RegionId(id),
            code: format!("r{id}"),
            name: String::new(),
            nodes: vec![RelayNode {
                name: "node".into(),
                host: "127.0.0.1".into(),
                addresses: Vec::new(),
                derp_port: Some(1),
                stun_port: None,
                quic_port: None,
                http_port: None,
                certificate: CertificatePin::WebPki,
            }],
        }
    }

    fn relays(regions: &[u32]) -> (Relays, mpsc::Receiver<RelayEvent>) {
        let (sender, receiver) = mpsc::channel(1);
        let mut relays = Relays::new(WgPrivateKey::from_bytes([3; 32]), sender);
        relays.set_ticket("ticket".into());
        let regions = regions.iter().map(|id| (RegionId(*id), dead(*id)));
        let map = RelayMap {
            regions: regions.collect(),
        };
        assert!(relays.set_map(&map));
        (relays, receiver)
    }

    fn is_tried(relays: &Relays, region: u32) -> bool {
        let connection = relays.connections.get(&RegionId(region));
        connection.is_some_and(|connection| !connection.task.is_finished())
    }

    #[tokio::test(start_paused = true)]
    async fn a_region_that_nobody_needs_is_not_tried_for_ever() {
        let (mut relays, _events) = relays(&[1, 2]);
        relays.set_home(Some(RegionId(1)));
        relays.send(
            RegionId(2),
            WgPublicKey([8; 32]),
            Bytes::from_static(b"packet"),
        );
        tokio::time::sleep(IDLE / 2).await;
        assert!(is_tried(&relays, 1) && is_tried(&relays, 2));
        tokio::time::sleep(IDLE).await;
        assert!(is_tried(&relays, 1) && !is_tried(&relays, 2));

        // Home is another region now, and the connection to it, which ended, is made anew.
        relays.set_home(Some(RegionId(2)));
        tokio::time::sleep(IDLE * 2).await;
        assert!(!is_tried(&relays, 1) && is_tried(&relays, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_home_that_cannot_be_reached_gives_way_to_another_region() {
        let (mut relays, _events) = relays(&[1, 2]);
        let both = [RegionId(1), RegionId(2)];
        assert_eq!(relays.home_candidates(Instant::now()), both);
        relays.set_home(Some(RegionId(1)));
        tokio::time::sleep(HOME_PATIENCE / 2).await;
        assert_eq!(relays.home_candidates(Instant::now()), both);
        tokio::time::sleep(HOME_PATIENCE).await;
        assert_eq!(relays.home_candidates(Instant::now()), [RegionId(2)]);
        relays.set_home(Some(RegionId(2)));
        assert_eq!(relays.home_candidates(Instant::now()), [RegionId(2)]);
        tokio::time::sleep(HOME_PATIENCE * 2).await;
        assert_eq!(
            relays.home_candidates(Instant::now()),
            both,
            "none is better"
        );
        relays.network_changed();
        relays.set_home(None);
        assert_eq!(relays.home_candidates(Instant::now()), both);
    }
}
