//! WireGuard as a deterministic model: what the mesh can see of [`ztna_mesh::wireguard`], without
//! its cryptography, its clock and its randomness.
//!
//! Keys are hashes that nobody in the simulation would guess, datagrams are as long as real ones.
//! What is modelled: the preshared key is mixed into the response only; an initiation is accepted
//! once, by its timestamp; eight sessions, each with a window against replays; a session is made anew
//! after 120 s and forgotten after 180 s; unanswered initiations are repeated for 90 s; keepalives.
//! Times are as coarse as the real one's, which looks at the clock when it is asked to. Cookies are
//! left out: nothing in the simulation makes as much load as they are for.

mod session;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use ztna_mesh::tunnel::{
    Admission, Received, Tunnel, WireGuard, is_initiation, receiver_index, sender_index,
};
use ztna_proto::WgPublicKey;

use session::{Hash, Session, hash, part};

/// Whitepaper §6.1.
const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Whitepaper §6.1.
const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Whitepaper §6.1.
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Whitepaper §6.1.
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Whitepaper §6.1.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whitepaper §6.1: by so much timers vary.
const MAX_JITTER: Duration = Duration::from_millis(333);
/// The real one's clock is looked at when so much time has passed.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// Sessions that are kept.
const SESSIONS: usize = 8;
/// Bytes to whose multiple packets are padded (§5.4.6).
const PADDING: usize = 16;

/// Bytes of an initiation (§5.4.2), and where its parts are in the model.
const INITIATION: usize = 148;
const INITIATION_PROOF: usize = 80;
const INITIATION_MAC: usize = 116;
/// Bytes of a response (§5.4.3), and where its parts are in the model.
const RESPONSE: usize = 92;
const RESPONSE_PROOF: usize = 44;
const RESPONSE_MAC: usize = 60;
/// What only the two ends know, X25519 between their static keys in the real one.
fn pair_secret(a: &WgPublicKey, b: &WgPublicKey) -> Hash {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    hash("pair", &[low.as_bytes(), high.as_bytes()])
}

/// WireGuard for one machine.
pub struct Model {
    key: WgPublicKey,
    rng: StdRng,
    clock: Clock,
}

/// The clock that goes on while the machine sleeps.
#[derive(Clone)]
pub struct Clock {
    origin: Instant,
    slept: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that stands at zero at `origin`.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            slept: Arc::default(),
        }
    }

    /// The machine was asleep, and its other clock stood still.
    pub fn sleep(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.slept.fetch_add(nanos, Ordering::Relaxed);
    }

    fn at(&self, now: Instant) -> Duration {
        let slept = Duration::from_nanos(self.slept.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin) + slept
    }
}

impl Model {
    /// WireGuard of the machine with this key.
    #[must_use]
    pub fn new(key: WgPublicKey, clock: Clock, seed: u64) -> Self {
        Self {
            key,
            rng: StdRng::seed_from_u64(seed),
            clock,
        }
    }

    fn has_mac(&self, datagram: &[u8], at: usize) -> bool {
        let mac = hash("mac1", &[self.key.as_bytes(), &datagram[..at]]);
        datagram[at..].starts_with(&mac)
    }
}

impl WireGuard for Model {
    fn tunnel(&mut self, peer: &WgPublicKey, now: Instant) -> Box<dyn Tunnel> {
        let mut tunnel = ModelTunnel {
            own: self.key,
            peer: *peer,
            psk: [0; 32],
            rng: StdRng::seed_from_u64(self.rng.next_u64()),
            created: self.clock.at(now),
            clock: self.clock.clone(),
            state: State::None,
            previous: State::None,
            stamped: 0,
            accepted: 0,
            sessions: std::array::from_fn(|_| None),
            session_since: [Duration::ZERO; SESSIONS],
            current: 0,
            made: 0,
            timers: Timers::default(),
            confirmed: false,
            ticked: now,
            due: None,
            latest: Duration::ZERO,
        };
        tunnel.reset();
        Box::new(tunnel)
    }

    fn admit(&mut self, _from: SocketAddr, datagram: BytesMut, _now: Instant) -> Admission {
        let is_good = match (datagram.first(), datagram.len()) {
            (Some(1), INITIATION) => self.has_mac(&datagram, INITIATION_MAC),
            (Some(2), RESPONSE) => self.has_mac(&datagram, RESPONSE_MAC),
            _ => false,
        };
        if is_good {
            Admission::Pass(datagram)
        } else {
            Admission::Drop
        }
    }

    fn initiator(&self, initiation: &[u8]) -> Option<WgPublicKey> {
        let initiation: &[u8; INITIATION] = initiation.try_into().ok()?;
        let from = WgPublicKey(part(initiation, 40)?);
        let proof = initiation_proof(&from, &self.key, initiation);
        initiation[INITIATION_PROOF..]
            .starts_with(&proof)
            .then_some(from)
    }
}

fn initiation_proof(from: &WgPublicKey, to: &WgPublicKey, message: &[u8]) -> Hash {
    let head = &message[..INITIATION_PROOF];
    hash("initiation", &[&pair_secret(from, to), head])
}

#[derive(Clone)]
enum State {
    None,
    Sent {
        index: u32,
        ephemeral: [u8; 32],
        sent: Duration,
    },
    Expired,
}

/// Times since the tunnel was made, as of the last look at the clock.
#[derive(Default)]
struct Timers {
    is_initiator: bool,
    current: Duration,
    established: Duration,
    started: Duration,
    data_received: Duration,
    data_sent: Duration,
    want_keepalive: Option<Duration>,
    want_handshake: Option<(Duration, Duration)>,
    rekey_timeout: Duration,
}

impl Timers {
    fn clear(&mut self, now: Duration) {
        let now = now.max(self.current);
        *self = Self {
            is_initiator: self.is_initiator,
            current: now,
            established: now,
            started: now,
            data_received: now,
            data_sent: now,
            rekey_timeout: REKEY_TIMEOUT,
            ..Self::default()
        };
    }

    fn sent(&mut self) {
        self.want_keepalive = None;
    }

    fn received(&mut self) {
        self.want_handshake = None;
    }
}

struct ModelTunnel {
    own: WgPublicKey,
    peer: WgPublicKey,
    psk: [u8; 32],
    rng: StdRng,
    clock: Clock,
    created: Duration,
    state: State,
    previous: State,
    /// Timestamp of the last initiation that was sent, and of the last one that was accepted.
    stamped: u64,
    accepted: u64,
    sessions: [Option<Session>; SESSIONS],
    session_since: [Duration; SESSIONS],
    current: usize,
    made: usize,
    timers: Timers,
    confirmed: bool,
    ticked: Instant,
    due: Option<BytesMut>,
    latest: Duration,
}

impl ModelTunnel {
    fn age(&self, now: Instant) -> Duration {
        self.clock.at(now).saturating_sub(self.created)
    }

    fn catch_up(&mut self, now: Instant) {
        if now.saturating_duration_since(self.ticked) >= LOOK_AFTER {
            self.due = self.look(now).or(self.due.take());
        }
    }

    fn jitter(&mut self) -> Duration {
        self.rng.random_range(Duration::from_nanos(1)..=MAX_JITTER)
    }

    fn end_everything(&mut self) {
        self.sessions = std::array::from_fn(|_| None);
        self.timers.clear(self.latest);
    }

    fn expire(&mut self) -> Option<BytesMut> {
        self.state = State::Expired;
        self.previous = State::Expired;
        self.end_everything();
        None
    }

    /// Looks at the clock, and gives what is to be sent.
    fn look(&mut self, now: Instant) -> Option<BytesMut> {
        self.ticked = now;
        self.latest = self.age(now);
        let at = self.latest.max(self.timers.current);
        self.timers.current = at;
        for (session, since) in self.sessions.iter_mut().zip(&mut self.session_since) {
            if at - *since > REJECT_AFTER_TIME {
                *session = None;
                *since = at;
            }
        }
        let age = at.saturating_sub(self.timers.established);
        let sent = match self.state {
            State::Expired => return None,
            _ if age >= REJECT_AFTER_TIME * 3 => return self.expire(),
            State::Sent { sent, .. } => Some(sent),
            State::None => None,
        };
        if let Some(sent) = sent {
            if at.saturating_sub(self.timers.started) >= REKEY_ATTEMPT_TIME {
                return self.expire();
            }
            let is_due = self.latest.saturating_sub(sent) >= self.timers.rekey_timeout;
            return is_due.then(|| self.initiation());
        }
        let timers = &mut self.timers;
        let is_silent = timers
            .want_handshake
            .take_if(|(since, patience)| at.saturating_sub(*since) >= *patience)
            .is_some();
        let aged = timers.is_initiator
            && (timers.established < timers.data_sent && age >= REKEY_AFTER_TIME
                || timers.established < timers.data_received
                    && age >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT);
        if is_silent || aged {
            return Some(self.initiation());
        }
        timers
            .want_keepalive
            .take_if(|since| at.saturating_sub(*since) >= KEEPALIVE_TIMEOUT)?;
        match self.seal_now(&[]) {
            Some(keepalive) => Some(keepalive),
            None => Some(self.initiation()),
        }
    }

    fn initiation(&mut self) -> BytesMut {
        if matches!(self.state, State::Expired) {
            self.timers.clear(self.latest);
        }
        let is_new = !matches!(self.state, State::Sent { .. });
        let index = self.rng.next_u32();
        let ephemeral: [u8; 32] = self.rng.random();
        let wall = self.created + self.latest;
        let stamp = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        self.stamped = stamp.max(self.stamped + 1);
        let mut out = BytesMut::with_capacity(INITIATION);
        out.put_slice(&[1, 0, 0, 0]);
        out.put_u32_le(index);
        out.put_slice(&ephemeral);
        out.put_slice(self.own.as_bytes());
        out.put_u64_le(self.stamped);
        let proof = initiation_proof(&self.own, &self.peer, &out);
        out.put_slice(&proof);
        out.resize(INITIATION_MAC, 0);
        let mac = hash("mac1", &[self.peer.as_bytes(), &out]);
        out.put_slice(&mac);
        out.resize(INITIATION, 0);
        let state = State::Sent {
            index,
            ephemeral,
            sent: self.latest,
        };
        self.previous = std::mem::replace(&mut self.state, state);
        if is_new {
            self.timers.started = self.timers.current;
        }
        self.timers.sent();
        self.timers.rekey_timeout = REKEY_TIMEOUT + self.jitter();
        out
    }

    fn add_session(&mut self, session: Session, is_initiator: bool) -> usize {
        let slot = self.made % SESSIONS;
        self.made += 1;
        self.sessions[slot] = Some(session);
        self.session_since[slot] = self.timers.current;
        self.timers.established = self.timers.current;
        self.timers.is_initiator = is_initiator;
        slot
    }

    fn use_session(&mut self, slot: usize) {
        if self.sessions[self.current].is_none()
            || self.session_since[slot] >= self.session_since[self.current]
        {
            self.current = slot;
        }
    }

    fn seal_now(&mut self, packet: &[u8]) -> Option<BytesMut> {
        let session = self.sessions[self.current].as_mut()?;
        let sealed = session.seal(packet);
        self.timers.sent();
        if !packet.is_empty() {
            self.timers.data_sent = self.timers.current;
            if self.timers.want_handshake.is_none() {
                let patience = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter();
                self.timers.want_handshake = Some((self.timers.current, patience));
            }
        }
        Some(sealed)
    }

    /// The keys of a session: from initiator to responder, and back.
    fn session_keys(&self, psk: &[u8; 32], initiation: &[u8], response: &[u8]) -> [Hash; 2] {
        let secret = pair_secret(&self.own, &self.peer);
        ["there", "back"].map(|label| hash(label, &[&secret, psk, initiation, response]))
    }

    fn response_proof(&self, psk: &[u8; 32], ephemeral: &[u8; 32], message: &[u8]) -> Hash {
        let secret = pair_secret(&self.own, &self.peer);
        let head = &message[..RESPONSE_PROOF];
        hash("response", &[&secret, psk, ephemeral, head])
    }

    fn take_initiation(&mut self, message: &[u8]) -> Option<Received> {
        let peer_index = sender_index(message).filter(|_| message.len() == INITIATION)?;
        let from = WgPublicKey(part(message, 40)?);
        let proof = initiation_proof(&from, &self.own, message);
        if from != self.peer || !message[INITIATION_PROOF..].starts_with(&proof) {
            return None;
        }
        let stamp = u64::from_le_bytes(part(message, 72)?);
        if stamp <= self.accepted {
            return None;
        }
        self.accepted = stamp;
        self.previous = std::mem::replace(&mut self.state, State::None);
        let ephemeral: [u8; 32] = part(message, 8)?;
        let (index, own_ephemeral): (u32, [u8; 32]) = (self.rng.next_u32(), self.rng.random());
        let mut out = BytesMut::with_capacity(RESPONSE);
        out.put_slice(&[2, 0, 0, 0]);
        out.put_u32_le(index);
        out.put_u32_le(peer_index);
        out.put_slice(&own_ephemeral);
        let proof = self.response_proof(&self.psk, &ephemeral, &out);
        out.put_slice(&proof);
        let mac = hash("mac1", &[self.peer.as_bytes(), &out]);
        out.put_slice(&mac);
        out.resize(RESPONSE, 0);
        let [receive_key, send_key] = self.session_keys(&self.psk, &ephemeral, &own_ephemeral);
        let session = Session {
            index,
            peer_index,
            send_key,
            receive_key,
            next_out: 0,
            next_in: 0,
            seen: BTreeSet::new(),
        };
        self.add_session(session, false);
        self.timers.received();
        self.timers.sent();
        Some(Received::Reply {
            datagram: out,
            established: false,
        })
    }

    fn take_response(
        &mut self,
        message: &[u8],
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
    ) -> Option<Received> {
        let to = receiver_index(message).filter(|_| message.len() == RESPONSE)?;
        let find = |state: &State| match state {
            State::Sent {
                index, ephemeral, ..
            } if *index == to => Some(*ephemeral),
            _ => None,
        };
        let current = find(&self.state);
        let ephemeral = current.or_else(|| find(&self.previous))?;
        let proof: Hash = part(message, RESPONSE_PROOF)?;
        let mut opener = None;
        for psk in psks {
            if self.response_proof(psk, &ephemeral, message) == proof {
                opener = Some(*psk);
                break;
            }
        }
        let psk = opener?;
        let [send_key, receive_key] = self.session_keys(&psk, &ephemeral, &message[12..44]);
        let mut session = Session {
            index: to,
            peer_index: sender_index(message)?,
            send_key,
            receive_key,
            next_out: 0,
            next_in: 0,
            seen: BTreeSet::new(),
        };
        if current.is_some() {
            self.state = State::None;
        } else {
            self.previous = State::None;
        }
        let keepalive = session.seal(&[]);
        let slot = self.add_session(session, true);
        self.timers.received();
        self.use_session(slot);
        self.confirmed = true;
        Some(Received::Reply {
            datagram: keepalive,
            established: true,
        })
    }

    fn take_data(&mut self, datagram: &[u8]) -> Option<Received> {
        let to = receiver_index(datagram)?;
        let slot = self
            .sessions
            .iter()
            .position(|session| session.as_ref().is_some_and(|session| session.index == to))?;
        let packet = self.sessions[slot].as_mut()?.open(datagram)?;
        self.use_session(slot);
        self.timers.received();
        if !packet.is_empty() {
            self.timers.data_received = self.timers.current;
            self.timers
                .want_keepalive
                .get_or_insert(self.timers.current);
        }
        self.confirmed = true;
        Some(Received::Packet(packet))
    }
}

impl Tunnel for ModelTunnel {
    fn seal(&mut self, mut packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        if !self.confirmed {
            return Err(packet);
        }
        self.latest = self.age(now);
        self.catch_up(now);
        let length = packet.len();
        packet.resize(length.next_multiple_of(PADDING), 0);
        self.seal_now(&packet).ok_or_else(|| {
            packet.truncate(length);
            packet
        })
    }

    fn initiate(&mut self, force: bool, now: Instant) -> Option<BytesMut> {
        self.latest = self.age(now);
        self.catch_up(now);
        let due = self.due.take().filter(|due| !force && is_initiation(due));
        if due.is_some() {
            return due;
        }
        let is_waiting = matches!(self.state, State::Sent { .. });
        (force || !is_waiting).then(|| self.initiation())
    }

    fn receive(
        &mut self,
        datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        now: Instant,
    ) -> Received {
        self.latest = self.age(now);
        self.catch_up(now);
        let received = match datagram.first() {
            Some(1) => self.take_initiation(&datagram),
            Some(2) => self.take_response(&datagram, psks),
            Some(4) => self.take_data(&datagram),
            _ => None,
        };
        received.unwrap_or(Received::Refused)
    }

    fn tick(&mut self, now: Instant) -> Option<BytesMut> {
        let fresh = self.look(now);
        fresh.or(self.due.take())
    }

    fn set_psk(&mut self, psk: &[u8; 32]) {
        self.psk = *psk;
    }

    fn reset(&mut self) {
        self.end_everything();
        self.state = State::None;
        self.previous = State::None;
        self.confirmed = false;
        self.due = None;
        self.psk = self.rng.random();
    }

    fn session_age(&self) -> Option<Duration> {
        let now = self.latest.max(self.timers.current);
        self.sessions[self.current]
            .as_ref()
            .map(|_| now.saturating_sub(self.timers.established))
    }
}
