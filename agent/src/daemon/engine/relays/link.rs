//! One region's connection: made, served, made anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rand::RngExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use ztna_derp::client::{
    self, ClientConfig, ConnectError, Event, Receiver, SendError, Sender, Transport,
};
use ztna_proto::relay::{RelayNode, RelayRegion};
use ztna_proto::{WgPrivateKey, WgPublicKey};

use super::RelayEvent;
use super::liveness::{Liveness, Verdict};

/// Packets kept for a connection that is being made.
const MAX_WAITING: usize = 128;
/// How long such a packet is worth sending.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// A connection that is not home ends after this long without a packet.
pub const IDLE: Duration = Duration::from_secs(60);
/// Pause after the first failed attempt, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two attempts: a relay that comes back is found in this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that stood so long and breaks is made anew without a pause.
const STEADY: Duration = Duration::from_secs(5);
/// A relay that restarts is waited for as long as it says, up to this.
const LONGEST_RESTART: Duration = Duration::from_secs(30);
/// That the relay was heard is noted for others this often, not for every packet.
const NOTED_EVERY: Duration = Duration::from_millis(100);

/// How a connection stands.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState {
    pub connected: bool,
    /// By what it stands.
    pub transport: Option<Transport>,
    /// Why there is none, for people.
    pub error: Option<String>,
    /// Since when there is none though it is tried. `None`: it stands, or there is no ticket to try
    /// with.
    pub down_since: Option<Instant>,
    /// All of the region's relays were tried since, in vain.
    pub exhausted: bool,
    /// It stands, and the relay may be gone.
    pub doubted: bool,
    /// When the relay was heard last.
    pub heard: Option<Instant>,
}

/// What a connection's task and its owner share.
#[derive(Default)]
pub struct Shared {
    state: Mutex<ConnectionState>,
    /// The network changed.
    pub network_changed: Notify,
    /// Traffic went elsewhere whose answers should come here.
    pub answers_due: Notify,
}

impl Shared {
    pub fn state(&self) -> ConnectionState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    pub fn is_connected(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connected
    }

    /// It stood or was tried, and the relay does not answer.
    pub fn is_failing(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.doubted || state.error.is_some()
    }

    fn change(&self, change: impl FnOnce(&mut ConnectionState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Keeps one region's connection.
pub struct Runner {
    pub region: RelayRegion,
    pub key: WgPrivateKey,
    pub ticket: watch::Receiver<Option<String>>,
    pub home: watch::Receiver<bool>,
    pub inbox: mpsc::Receiver<(WgPublicKey, Bytes)>,
    /// Packets that wait for the connection, with the time they came.
    pub waiting: VecDeque<(Instant, WgPublicKey, Bytes)>,
    /// When a packet came last, from either side.
    pub last_packet: Instant,
    /// The node to begin with: the one after that which failed last.
    pub first_node: usize,
    pub shared: Arc<Shared>,
    pub events: mpsc::Sender<RelayEvent>,
}

/// Why a connection ended.
enum End {
    /// Nobody needs it.
    Idle,
    Lost(String),
    /// The relay restarts, and wants so much time.
    Restarts(Duration),
}

/// Why none was made.
enum NoConnection {
    /// Every relay of the region was tried; what became of the last.
    Tried(String),
    NetworkChanged,
}

impl Runner {
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut stood = Duration::ZERO;
            let mut wait = None;
            let failure = match self.connect().await {
                Ok((sender, receiver)) => {
                    let since = Instant::now();
                    let transport = sender.transport();
                    tracing::info!(region = %self.region.code, %transport, "relay connected");
                    self.is_up(transport);
                    let end = self.serve(&sender, receiver).await;
                    stood = since.elapsed();
                    match end {
                        End::Idle => {
                            self.is_down(None);
                            return;
                        }
                        End::Lost(why) => why,
                        End::Restarts(time) => {
                            wait = Some(time);
                            "the relay restarts".to_owned()
                        }
                    }
                }
                Err(NoConnection::NetworkChanged) => "the network changed".to_owned(),
                Err(NoConnection::Tried(why)) => {
                    self.shared.change(|state| state.exhausted = true);
                    why
                }
            };
            tracing::info!(region = %self.region.code, why = failure, "relay not connected");
            self.is_down(Some(failure));
            if !self.is_needed() {
                return;
            }
            let has_other = self.nodes().len() > 1;
            match wait.filter(|_| !has_other) {
                Some(time) => self.wait(Instant::now() + time).await,
                None if wait.is_some() || stood >= STEADY => pause = FIRST_PAUSE,
                None => {
                    let jitter = rand::rng().random_range(0.5..1.0);
                    self.wait(Instant::now() + pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Whether anybody wants this connection.
    fn is_needed(&self) -> bool {
        *self.home.borrow() || self.last_packet.elapsed() < IDLE
    }

    fn nodes(&self) -> Vec<RelayNode> {
        self.region.relays().cloned().collect()
    }

    /// Tries the region's relays, each once, beginning after the one that failed last.
    async fn connect(&mut self) -> Result<(Sender, Receiver), NoConnection> {
        let ticket = loop {
            let ticket = self.ticket.borrow_and_update().clone();
            if let Some(ticket) = ticket {
                break ticket;
            }
            let mut fresh = self.ticket.clone();
            if fresh.changed().await.is_err() {
                return Err(NoConnection::Tried("no relay ticket".to_owned()));
            }
        };
        self.shared.change(|state| {
            state.down_since.get_or_insert_with(Instant::now);
        });
        // An owner that waits for this connection counts from now.
        self.tell_change();
        let mut failure = format!("region {} has no relay", self.region.code);
        let nodes = self.nodes();
        for _ in 0..nodes.len() {
            let node = nodes[self.first_node % nodes.len()].clone();
            let name = node.host.clone();
            let (key, ticket) = (self.key.clone(), ticket.clone());
            let connecting = client::connect(ClientConfig { node, key, ticket });
            tokio::pin!(connecting);
            let result = loop {
                tokio::select! {
                    result = &mut connecting => break result,
                    Some((to, packet)) = self.inbox.recv() => self.keep(to, packet),
                    () = self.shared.network_changed.notified() => {
                        return Err(NoConnection::NetworkChanged);
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
                    self.next_node();
                }
            }
        }
        Err(NoConnection::Tried(failure))
    }

    fn next_node(&mut self) {
        self.first_node = self.first_node.wrapping_add(1);
    }

    /// Serves until the connection ends. A node that is lost is not the first to be tried again.
    async fn serve(&mut self, sender: &Sender, receiver: Receiver) -> End {
        let end = self.serve_node(sender, receiver).await;
        if matches!(end, End::Lost(_) | End::Restarts(_)) {
            self.next_node();
        }
        end
    }

    async fn serve_node(&mut self, sender: &Sender, mut receiver: Receiver) -> End {
        let is_home = *self.home.borrow_and_update();
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        let mut sent = sender.note_preferred(is_home);
        for (since, to, packet) in self.waiting.drain(..) {
            if now.duration_since(since) < MAX_WAIT {
                liveness.sent(packet.len(), now);
                sent = sent.and(forward(sender, to, packet));
            }
        }
        // When the others were told that the relay was heard.
        let mut noted = now;
        loop {
            if let Err(error) = sent {
                return End::Lost(error.to_string());
            }
            let is_home = *self.home.borrow();
            let idle_at = self.last_packet + IDLE;
            let check_at = liveness.next();
            let mut came = None;
            tokio::select! {
                message = self.inbox.recv() => {
                    let Some((to, packet)) = message else { return End::Idle };
                    self.last_packet = Instant::now();
                    liveness.sent(packet.len(), self.last_packet);
                    sent = forward(sender, to, packet);
                }
                event = receiver.next() => came = Some(event),
                Ok(()) = self.home.changed() => {
                    sent = sender.note_preferred(*self.home.borrow_and_update());
                }
                Ok(()) = self.ticket.changed() => {
                    let ticket = self.ticket.borrow_and_update().clone();
                    sent = ticket.map_or(Ok(()), |ticket| sender.renew_ticket(ticket));
                }
                () = self.shared.network_changed.notified() => {
                    // The connection may hang on an address that is gone: the relay has to answer.
                    liveness.ping_sent(receiver.received(), Instant::now());
                    sent = sender.ping();
                }
                () = self.shared.answers_due.notified() => liveness.sent(0, Instant::now()),
                () = sleep_until(check_at.unwrap_or(now)), if check_at.is_some() => {
                    came = receiver.next().now_or_never();
                    if came.is_none() {
                        match liveness.check(receiver.received(), Instant::now()) {
                            Verdict::Fine => {}
                            Verdict::Ping => sent = sender.ping(),
                            Verdict::Doubtful => {
                                self.shared.change(|state| state.doubted = true);
                                self.tell_change();
                            }
                            Verdict::Dead => {
                                return End::Lost("the relay does not answer".to_owned());
                            }
                        }
                    }
                }
                () = sleep_until(idle_at), if !is_home => return End::Idle,
            }
            match came.transpose() {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if let Some(end) = self.handle(event, &mut liveness).await {
                        return end;
                    }
                    if liveness.heard_at() >= noted + NOTED_EVERY {
                        noted = liveness.heard_at();
                        self.was_heard(noted);
                    }
                }
                Err(error) => return End::Lost(error.to_string()),
            }
        }
    }

    async fn handle(&mut self, event: Event, liveness: &mut Liveness) -> Option<End> {
        let now = Instant::now();
        match event {
            Event::Packet { from, packet } => {
                self.last_packet = now;
                liveness.packet(now);
                let region = self.region.id;
                let event = RelayEvent::Packet {
                    region,
                    from,
                    packet,
                };
                if self.events.send(event).await.is_err() {
                    return Some(End::Idle);
                }
            }
            Event::Pong { rtt } => liveness.pong(rtt, now),
            Event::Restarting { reconnect_in, .. } => {
                tracing::info!(region = %self.region.code, "relay restarts");
                return Some(End::Restarts(reconnect_in.min(LONGEST_RESTART)));
            }
            Event::Health(problem) => {
                liveness.heard(now);
                if !problem.is_empty() {
                    tracing::warn!(region = %self.region.code, problem, "relay reports");
                }
            }
            Event::PeerGone { .. } => liveness.heard(now),
        }
        None
    }

    /// Waits, and keeps the packets that come meanwhile. A change of network ends the wait.
    async fn wait(&mut self, until: Instant) {
        loop {
            tokio::select! {
                Some((to, packet)) = self.inbox.recv() => self.keep(to, packet),
                () = self.shared.network_changed.notified() => return,
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

    fn was_heard(&self, at: Instant) {
        let mut was_doubted = false;
        self.shared.change(|state| {
            was_doubted = state.doubted;
            state.heard = Some(at);
            state.doubted = false;
        });
        if was_doubted {
            self.tell_change();
        }
    }

    fn is_up(&self, transport: Transport) {
        self.shared.change(|state| {
            *state = ConnectionState {
                connected: true,
                transport: Some(transport),
                error: None,
                down_since: None,
                exhausted: false,
                doubted: false,
                heard: Some(Instant::now()),
            };
        });
        self.tell_change();
    }

    fn is_down(&self, error: Option<String>) {
        self.shared.change(|state| {
            state.connected = false;
            state.transport = None;
            state.doubted = false;
            state.error = error;
            state.down_since.get_or_insert_with(Instant::now);
        });
        self.tell_change();
    }

    /// An engine that is busy looks by itself, soon.
    fn tell_change(&self) {
        let _ = self.events.try_send(RelayEvent::Changed);
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
