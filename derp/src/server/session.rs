//! One client of the relay, from its handshake to its end.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ztna_proto::{OrgId, WgPublicKey};

use super::Server;
use super::admission::{Admitted, Applicant, Refusal};
use super::limits::{Bounds, Limits};
use super::metrics::Drop as DropReason;
use super::registry::{Connection, MAX_REMEMBERED_PEERS, Route};
use super::welcome::{HANDSHAKE_TIMEOUT, Welcome, welcome};
use crate::bucket::TokenBucket;
use crate::frame::{Frame, FrameError, GoneReason, PING_LEN, recv_packet_head};
use crate::handshake::HandshakeError;
use crate::outbox::{Flow, Item, Lane, Outbox, Pushed};
use crate::reader::ReadError;
use crate::transport::{Sink, Source};

/// A KeepAlive is sent this often (`derp/derp.go`), which middleboxes need …
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// … and up to so much later, so that thousands of clients do not wake up together.
const KEEP_ALIVE_JITTER: Duration = Duration::from_secs(5);
/// A client that was silent for so long is pinged, if it answers Pings …
const PING_AFTER: Duration = Duration::from_secs(75);
/// … and given up after so long. Others show by TCP whether they live.
const SILENCE: Duration = Duration::from_secs(150);
/// A client must take a byte within this time while there are some for it.
const WRITE_STALL: Duration = Duration::from_secs(10);
/// Frames of the protocol that wait for another relay, which must not miss one: all our clients
/// twice. Their memory is there only while they wait.
const RELAY_SIGNALS: usize = 200_000;
/// PeerGone(not here) answers per second …
const NOT_HERE_RATE: u64 = 1;
/// … and at once (`derp/derpserver`).
const NOT_HERE_BURST: u64 = 3;
/// Tickets are renewed hourly; who does it more often than this is not listened to.
const MIN_RENEWAL: Duration = Duration::from_secs(10);
/// On shutdown so many clients a second are sent away, each at another moment …
const DRAIN_PER_SECOND: u32 = 200;
/// … over at most this time, …
const MAX_DRAIN: Duration = Duration::from_secs(8);
/// … and told to come back within this one …
const RESTART_SPREAD: Duration = Duration::from_secs(2);
/// … and to try for so long.
const RESTART_TRY_FOR: Duration = Duration::from_secs(60);

/// Last word to a client that another relay has cut off.
const CLOSED_BY_REGION: &str = "another relay of the region ended this connection";

/// Why a client is no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("no handshake within {}s", HANDSHAKE_TIMEOUT.as_secs())]
    HandshakeTimeout,
    #[error("no ClientInfo")]
    NoClientInfo,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("nothing came for {}s", SILENCE.as_secs())]
    Silent,
    #[error("it sent a frame that is for relays only")]
    NotPermitted,
    #[error("its ticket has expired")]
    Expired,
}

impl SessionError {
    /// The last word to a client that can be told.
    fn last_word(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted => Some("frames between relays are not permitted to clients"),
            Self::Expired => Some("the relay ticket has expired; connect with a fresh one"),
            _ => None,
        }
    }
}

impl From<ReadError> for SessionError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Lost(error),
            ReadError::Frame(error) => Self::Frame(error),
        }
    }
}

/// Serves a client until its end. `into_sink` makes what carries frames out of the stream that the
/// handshake went over.
pub(super) async fn run<S, W, K>(
    server: &Arc<Server>,
    mut source: S,
    mut write: W,
    into_sink: impl FnOnce(W) -> K,
    address: SocketAddr,
    shutdown: &CancellationToken,
) -> Result<(), SessionError>
where
    S: Source,
    W: AsyncWrite + Unpin,
    K: Sink,
{
    let welcome = tokio::select! {
        welcome = Box::pin(welcome(server, &mut source, &mut write, address)) => welcome?,
        () = shutdown.cancelled() => return Ok(()),
    };

    let connection = Arc::new(Connection {
        id: server.next_id(),
        key: welcome.applicant.key,
        org: welcome.admitted.org,
        address,
        outbox: if welcome.is_relay {
            Outbox::with_signals(RELAY_SIGNALS)
        } else {
            Outbox::default()
        },
        cut: CancellationToken::new(),
    });
    // The first signal is the first frame that is written.
    connection.outbox.signal(&welcome.answer);
    // Relays are nobody's destination.
    if !welcome.is_relay
        && let Some(oldest) = server.clients.insert(Arc::clone(&connection))
    {
        oldest.close(&Frame::Health(
            "too many connections with this machine's key; is its state copied to another machine?"
                .into(),
        ));
    }
    if !welcome.is_relay && server.admission.is_revoked(&welcome.applicant) {
        connection.close(&Frame::Health(super::REVOKED.to_owned()));
    }
    server.metrics.connections.increment(1);
    tracing::debug!(%address, key = %connection.key, app = welcome.app_name, "relay client");

    let writer = tokio::spawn(write_all(
        Arc::clone(server),
        Arc::clone(&connection),
        into_sink(write),
    ));
    let mut session = Session::new(server, Arc::clone(&connection), source, welcome);
    let ended = session.serve(shutdown).await;
    session.leave();
    if let Some(last_word) = ended.as_ref().err().and_then(SessionError::last_word) {
        connection.close(&Frame::Health(last_word.to_owned()));
    }
    connection.outbox.close();
    server.metrics.connections.decrement(1);
    // The last words go out before the stream is dropped.
    let _ = writer.await;
    ended
}

async fn write_all(server: Arc<Server>, connection: Arc<Connection>, sink: impl Sink) {
    let written = sink.drain(&connection.outbox, WRITE_STALL, &server.metrics);
    if let Err(error) = written.await {
        if error.kind() == io::ErrorKind::TimedOut {
            server.metrics.write_timeouts.increment(1);
        }
        tracing::debug!(key = %connection.key, %error, "relay client takes no more");
    }
    connection.outbox.close();
    connection.cut.cancel();
}

/// The reading half of a client.
struct Session<'a, S> {
    server: &'a Arc<Server>,
    connection: Arc<Connection>,
    source: S,
    applicant: Applicant,
    admitted: Admitted,
    is_relay: bool,
    can_ack_pings: bool,
    limits: watch::Receiver<Limits>,
    bounds: Bounds,
    /// Until then nothing is read: the client has sent more than it may.
    throttled_until: Instant,
    not_here: TokenBucket,
    /// Who got packets of this client.
    sent_to: HashSet<WgPublicKey>,
    /// The last of them.
    last_sent_to: Option<WgPublicKey>,
    /// Source and destination of the last packet of another relay.
    last_forwarded: Option<(WgPublicKey, WgPublicKey)>,
    preferred: bool,
    heard: Instant,
    pinged: bool,
    keep_alive_at: Instant,
    expires_at: Option<Instant>,
    renewable_at: Instant,
    /// When the client is sent away, because the relay shuts down.
    leave_at: Option<Instant>,
}

impl<'a, S: Source> Session<'a, S> {
    fn new(
        server: &'a Arc<Server>,
        connection: Arc<Connection>,
        source: S,
        welcome: Welcome,
    ) -> Self {
        let now = Instant::now();
        let mut session = Self {
            server,
            connection,
            source,
            applicant: Applicant {
                // Proved for this connection, and the ticket is of no more use.
                ticket: None,
                ..welcome.applicant
            },
            admitted: welcome.admitted,
            is_relay: welcome.is_relay,
            can_ack_pings: welcome.can_ack_pings,
            limits: server.limits.subscribe(),
            bounds: Bounds::default(),
            throttled_until: now,
            not_here: TokenBucket::new(NOT_HERE_RATE, NOT_HERE_BURST, now),
            sent_to: HashSet::new(),
            last_sent_to: None,
            last_forwarded: None,
            preferred: false,
            heard: now,
            pinged: false,
            keep_alive_at: next_keep_alive(now),
            expires_at: None,
            renewable_at: now,
            leave_at: None,
        };
        session.apply(welcome.admitted, now);
        session
    }

    /// Takes over what a ticket allows.
    fn apply(&mut self, admitted: Admitted, now: Instant) {
        self.expires_at = admitted.expires_in.map(|left| now + left);
        self.admitted = admitted;
        self.apply_limits(now);
    }

    fn apply_limits(&mut self, now: Instant) {
        if self.is_relay {
            return;
        }
        let limits = *self.limits.borrow_and_update();
        let orgs = &self.server.org_buckets;
        self.bounds.apply(&limits, &self.admitted, orgs, now);
        self.throttled_until = now + self.bounds.charge(0, now);
    }

    async fn serve(&mut self, shutdown: &CancellationToken) -> Result<(), SessionError> {
        loop {
            while let Some(frame) = self.source.buffered()? {
                self.handle(frame).await?;
            }
            let throttled = self.throttled_until > Instant::now();
            let cut = Arc::clone(&self.connection);
            tokio::select! {
                biased;
                () = cut.cut.cancelled() => return Ok(()),
                () = shutdown.cancelled(), if self.leave_at.is_none() => self.drain(),
                () = tokio::time::sleep_until(self.next_timer()) => {
                    if self.leave_at.is_some_and(|at| at <= Instant::now()) {
                        self.say_goodbye();
                        return Ok(());
                    }
                    self.on_timer()?;
                }
                Ok(()) = self.limits.changed() => self.apply_limits(Instant::now()),
                read = self.source.fill(), if !throttled => {
                    let count = read?;
                    self.on_read(count);
                }
            }
        }
    }

    fn on_read(&mut self, count: usize) {
        let now = Instant::now();
        self.heard = now;
        self.pinged = false;
        self.server.metrics.bytes_received.increment(count as u64);
        let wait = self.bounds.charge(count, now);
        if !wait.is_zero() {
            self.server.metrics.rate_limit_waits.increment(1);
            self.throttled_until = now + wait;
        }
    }

    /// Since when the client is silent. While it is throttled it is not read, so it is not silent.
    fn quiet_since(&self) -> Instant {
        self.heard.max(self.throttled_until)
    }

    /// When something is due without the client's doing.
    fn next_timer(&self) -> Instant {
        let idle = self.quiet_since() + if self.pinged { SILENCE } else { PING_AFTER };
        let throttled = Some(self.throttled_until).filter(|until| *until > Instant::now());
        [
            Some(self.keep_alive_at),
            Some(idle).filter(|_| self.can_ack_pings),
            self.expires_at,
            self.leave_at,
            throttled,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.keep_alive_at)
    }

    fn on_timer(&mut self) -> Result<(), SessionError> {
        let now = Instant::now();
        if self.expires_at.is_some_and(|at| at <= now) {
            return Err(SessionError::Expired);
        }
        if self.keep_alive_at <= now {
            self.connection.outbox.signal(&Frame::KeepAlive);
            self.keep_alive_at = next_keep_alive(now);
        }
        if !self.can_ack_pings {
            return Ok(());
        }
        if self.quiet_since() + SILENCE <= now {
            return Err(SessionError::Silent);
        }
        if self.quiet_since() + PING_AFTER <= now && !self.pinged {
            self.pinged = true;
            let data: [u8; PING_LEN] = rand::random();
            self.connection.outbox.signal(&Frame::Ping(data));
        }
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), SessionError> {
        match frame {
            Frame::SendPacket { to, packet } => self.forward(to, packet),
            Frame::Ping(data) => {
                self.server.metrics.got_ping.increment(1);
                self.server.metrics.sent_pong.increment(1);
                self.connection.outbox.signal(&Frame::Pong(data));
            }
            Frame::NotePreferred(preferred) => self.note_preferred(preferred),
            Frame::RenewTicket(ticket) => self.renew(ticket).await,
            Frame::WatchConns | Frame::ClosePeer(_) | Frame::ForwardPacket { .. }
                if !self.is_relay =>
            {
                return Err(SessionError::NotPermitted);
            }
            Frame::WatchConns => self.server.clients.watch(&self.connection),
            Frame::ClosePeer(key) => {
                self.server.disconnect(&key, CLOSED_BY_REGION);
            }
            Frame::ForwardPacket {
                org,
                from,
                to,
                packet,
            } => self.deliver_forwarded(org, from, to, &packet),
            Frame::Unknown { .. } => self.server.metrics.unknown_frames.increment(1),
            // A Pong was heard by arriving; the rest means nothing to a relay.
            _ => {}
        }
        Ok(())
    }

    fn forward(&mut self, to: WgPublicKey, packet: Bytes) {
        let metrics = &self.server.metrics;
        let lane = Lane::of(&packet);
        metrics.received(lane);
        let bytes = packet.len() as u64;
        let from = self.connection.key;
        let org = self.connection.org;
        let pushed = match self.server.clients.route(&to) {
            Some(route) if route.org() != org => {
                // Who is in another org is not here, as far as this client is to know.
                return self.not_here(to, DropReason::OtherOrg, lane, bytes);
            }
            None => return self.not_here(to, DropReason::UnknownDest, lane, bytes),
            Some(Route::Local(target)) => {
                if self.last_sent_to != Some(to) && self.sent_to.len() < MAX_REMEMBERED_PEERS {
                    self.sent_to.insert(to);
                    self.last_sent_to = Some(to);
                }
                deliver(&target, lane, &from, &packet, self.heard)
            }
            Some(Route::Remote(link, _)) => {
                metrics.forwarded_out.increment(1);
                link.forward(lane, org, [from, to], packet, self.heard)
            }
        };
        metrics.pushed(pushed, lane, bytes);
    }

    /// Tells a client that sets something up that it does so in vain.
    fn not_here(&mut self, peer: WgPublicKey, reason: DropReason, lane: Lane, bytes: u64) {
        let metrics = &self.server.metrics;
        metrics.dropped(reason, lane, 1, bytes);
        if lane == Lane::Control && self.not_here.take(1, Instant::now()) {
            metrics.gone_not_here.increment(1);
            self.connection.outbox.signal(&Frame::PeerGone {
                peer,
                reason: GoneReason::NotHere,
            });
        }
    }

    /// Another relay hands a packet over. It goes no further than to an own client.
    fn deliver_forwarded(
        &mut self,
        org: Option<OrgId>,
        from: WgPublicKey,
        to: WgPublicKey,
        packet: &[u8],
    ) {
        let metrics = &self.server.metrics;
        let lane = Lane::of(packet);
        metrics.forwarded_in.increment(1);
        let bytes = packet.len() as u64;
        let target = match self.server.clients.active(&to) {
            Some(target) if target.org == org => target,
            Some(_) => return metrics.dropped(DropReason::OtherOrg, lane, 1, bytes),
            None => return metrics.dropped(DropReason::UnknownDestOnForward, lane, 1, bytes),
        };
        if self.last_forwarded != Some((from, to)) {
            self.server.clients.note_heard(&from, to);
            self.last_forwarded = Some((from, to));
        }
        metrics.pushed(
            deliver(&target, lane, &from, packet, self.heard),
            lane,
            bytes,
        );
    }

    fn note_preferred(&mut self, preferred: bool) {
        if self.preferred == preferred {
            return;
        }
        self.preferred = preferred;
        let metrics = &self.server.metrics;
        if preferred {
            metrics.home_moves_in.increment(1);
            metrics.home_connections.increment(1);
        } else {
            metrics.home_moves_out.increment(1);
            metrics.home_connections.decrement(1);
        }
    }

    /// A fresh ticket replaces the old one; one that is no good leaves it in force.
    async fn renew(&mut self, ticket: String) {
        let now = Instant::now();
        if now < self.renewable_at {
            return;
        }
        self.renewable_at = now + MIN_RENEWAL;
        let applicant = Applicant {
            ticket: Some(ticket),
            ..self.applicant.clone()
        };
        match self.server.admission.admit(&applicant).await {
            Ok(admitted) if admitted.org == self.connection.org => self.apply(admitted, now),
            Ok(_) => tracing::debug!(key = %applicant.key, "renewal with another org's ticket"),
            Err(refusal) => tracing::debug!(key = %applicant.key, %refusal, "renewal refused"),
        }
    }

    /// The relay shuts down. Until its moment comes the client is served on.
    fn drain(&mut self) {
        let clients = u32::try_from(self.server.clients.len()).unwrap_or(u32::MAX);
        let spread = (Duration::from_secs(1) / DRAIN_PER_SECOND).saturating_mul(clients);
        let wait = spread.min(MAX_DRAIN).mul_f64(rand::random());
        self.leave_at = Some(Instant::now() + wait);
    }

    fn say_goodbye(&self) {
        self.connection.outbox.signal(&Frame::Restarting {
            reconnect_in: RESTART_SPREAD.mul_f64(rand::random()),
            try_for: RESTART_TRY_FOR,
        });
    }

    /// Leaves the registry, and tells those who heard of this client.
    fn leave(&mut self) {
        if self.is_relay {
            return self.server.clients.unwatch(&self.connection);
        }
        self.note_preferred(false);
        if self.server.clients.remove(&self.connection) {
            self.server.tell_gone(self.connection.key, &self.sent_to);
        }
    }
}

/// Queues a packet for a client of this relay.
fn deliver(
    target: &Connection,
    lane: Lane,
    from: &WgPublicKey,
    packet: &[u8],
    now: Instant,
) -> Pushed {
    // A copy of its own: a slice would keep the whole read buffer alive in the queue.
    let head = recv_packet_head(from, packet.len());
    let item = Item::Packet(head, Bytes::copy_from_slice(packet));
    let flow = Flow::of(*from, packet);
    target.outbox.push(lane, flow, item, now)
}

fn next_keep_alive(now: Instant) -> Instant {
    now + KEEP_ALIVE + KEEP_ALIVE_JITTER.mul_f64(rand::random())
}
