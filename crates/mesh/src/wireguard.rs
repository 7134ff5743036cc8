//! The [`WireGuard`] that ships: gotatun's protocol state machine.
//!
//! It reads the clock and the system's randomness by itself; `now` only says when it has to look at
//! the clock again. Known costs: one allocation and one copy per sealed packet, and preshared keys that it holds unzeroized.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gotatun::noise::handshake::parse_handshake_anon;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519::{PublicKey, StaticSecret};
use rand::Rng;
use zeroize::Zeroize;
use ztna_proto::{WgPrivateKey, WgPublicKey};

use crate::config::TICK_HANDSHAKING;
use crate::tunnel::{Admission, Received, Tunnel, WireGuard, is_initiation};

/// Handshake messages per second and source address before cookies are demanded.
const HANDSHAKES_PER_SECOND: u64 = 100;

/// WireGuard messages are padded to a multiple of this (whitepaper §5.4.6).
const PADDING: usize = 16;

/// gotatun for one machine.
pub struct Gotatun {
    secret: StaticSecret,
    public: PublicKey,
    indices: IndexTable,
    limiter: Arc<RateLimiter>,
}

impl Gotatun {
    /// WireGuard under this key.
    #[must_use]
    pub fn new(key: &WgPrivateKey) -> Self {
        let secret = StaticSecret::from(*key.expose());
        let public = PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        Self {
            secret,
            public,
            indices: IndexTable::from_os_rng(),
            limiter,
        }
    }
}

impl Gotatun {
    /// The same, as [`NewWireGuard`](crate::tunnel::NewWireGuard) has it.
    #[must_use]
    pub fn boxed(key: &WgPrivateKey) -> Box<dyn WireGuard> {
        Box::new(Self::new(key))
    }
}

impl WireGuard for Gotatun {
    fn tunnel(&mut self, peer: &WgPublicKey, now: Instant) -> Box<dyn Tunnel> {
        Box::new(Dormant {
            secret: self.secret.clone(),
            peer: PublicKey::from(*peer.as_bytes()),
            indices: self.indices.clone(),
            limiter: Arc::clone(&self.limiter),
            since: now,
            awake: None,
        })
    }

    fn admit(&mut self, from: SocketAddr, datagram: BytesMut, _now: Instant) -> Admission {
        self.limiter.try_reset_count();
        match self
            .limiter
            .verify_packet(from, Packet::from_bytes(datagram))
        {
            Ok(kind) => Admission::Pass(into_bytes(kind)),
            Err(TunnResult::WriteToNetwork(cookie)) => Admission::Reply(into_bytes(cookie)),
            Err(_) => Admission::Drop,
        }
    }

    fn initiator(&self, initiation: &[u8]) -> Option<WgPublicKey> {
        let packet = Packet::from_bytes(BytesMut::from(initiation));
        let Ok(WgKind::HandshakeInit(message)) = packet.try_into_wg() else {
            return None;
        };
        let half = parse_handshake_anon(&self.secret, &self.public, &message).ok()?;
        Some(WgPublicKey(half.peer_static_public))
    }
}

/// A tunnel that costs a key agreement, and memory, only once it is used: a machine knows many more
/// peers than it speaks with.
struct Dormant {
    secret: StaticSecret,
    peer: PublicKey,
    indices: IndexTable,
    limiter: Arc<RateLimiter>,
    since: Instant,
    awake: Option<Box<GotatunTunnel>>,
}

impl Dormant {
    fn wake(&mut self) -> &mut GotatunTunnel {
        self.awake.get_or_insert_with(|| {
            let mut tunnel = GotatunTunnel {
                tunn: Tunn::new(
                    self.secret.clone(),
                    self.peer,
                    None,
                    None,
                    self.indices.clone(),
                    Arc::clone(&self.limiter),
                ),
                confirmed: false,
                ticked: self.since,
                due: None,
            };
            tunnel.reset();
            Box::new(tunnel)
        })
    }
}

impl Tunnel for Dormant {
    fn seal(&mut self, packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        match &mut self.awake {
            Some(tunnel) => tunnel.seal(packet, now),
            None => Err(packet),
        }
    }

    fn initiate(&mut self, force: bool, now: Instant) -> Option<BytesMut> {
        self.wake().initiate(force, now)
    }

    fn receive(
        &mut self,
        datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        now: Instant,
    ) -> Received {
        self.wake().receive(datagram, psks, now)
    }

    fn tick(&mut self, now: Instant) -> Option<BytesMut> {
        self.awake.as_mut()?.tick(now)
    }

    fn set_psk(&mut self, psk: &[u8; 32]) {
        self.wake().set_psk(psk);
    }

    fn reset(&mut self) {
        if let Some(tunnel) = &mut self.awake {
            tunnel.reset();
        }
    }

    fn session_age(&self) -> Option<Duration> {
        self.awake.as_ref()?.session_age()
    }
}

struct GotatunTunnel {
    tunn: Tunn,
    /// Whether the peer has shown that it holds a session with us. A responder must not send before
    /// (whitepaper §5.4.5); gotatun would, under its first session, which may be a replay's.
    confirmed: bool,
    /// When gotatun last looked at the clock. It dates whatever happens, sessions too, by that look,
    /// and would take a session made after a rest for one as old as the rest.
    ticked: Instant,
    /// What a look between two ticks asks to send.
    due: Option<BytesMut>,
}

impl GotatunTunnel {
    /// Has gotatun look at the clock, unless it has just done so.
    fn catch_up(&mut self, now: Instant) {
        if now.saturating_duration_since(self.ticked) >= TICK_HANDSHAKING {
            self.due = self.look(now).or(self.due.take());
        }
    }

    fn look(&mut self, now: Instant) -> Option<BytesMut> {
        self.ticked = now;
        self.tunn.update_timers().ok().flatten().map(into_bytes)
    }

    fn take(&mut self, datagram: BytesMut) -> Option<TunnResult> {
        let kind = Packet::from_bytes(datagram).try_into_wg().ok()?;
        Some(self.tunn.handle_incoming_packet(kind))
    }

    /// A response opens under the key that its sender answered with: one of ours, if it is honest.
    /// gotatun keeps its handshake state when a response does not open, so keys may be tried.
    fn receive_response(
        &mut self,
        response: &BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
    ) -> Received {
        let mut own = self.tunn.preshared_key();
        let mut outcome = Received::Refused;
        for psk in psks {
            self.tunn.set_preshared_key(Some(*psk));
            if let Some(TunnResult::WriteToNetwork(keepalive)) = self.take(response.clone()) {
                self.confirmed = true;
                outcome = Received::Reply {
                    datagram: into_bytes(keepalive),
                    established: true,
                };
                break;
            }
        }
        self.tunn.set_preshared_key(own);
        own.zeroize();
        outcome
    }
}

impl Tunnel for GotatunTunnel {
    fn seal(&mut self, mut packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        if !self.confirmed {
            return Err(packet);
        }
        self.catch_up(now);
        let length = packet.len();
        packet.resize(length.next_multiple_of(PADDING), 0);
        match self
            .tunn
            .encapsulate_with_session(Packet::from_bytes(packet))
        {
            Ok(sealed) => Ok(into_bytes(WgKind::Data(sealed))),
            Err(mut packet) => {
                let mut packet = std::mem::take(packet.buf_mut());
                packet.truncate(length);
                Err(packet)
            }
        }
    }

    fn initiate(&mut self, force: bool, now: Instant) -> Option<BytesMut> {
        self.catch_up(now);
        let due = self.due.take().filter(|due| !force && is_initiation(due));
        if due.is_some() {
            return due;
        }
        self.tunn
            .format_handshake_initiation(force)
            .map(|message| into_bytes(WgKind::HandshakeInit(message)))
    }

    fn receive(
        &mut self,
        datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        now: Instant,
    ) -> Received {
        self.catch_up(now);
        if datagram.first() == Some(&2) {
            return self.receive_response(&datagram, psks);
        }
        match self.take(datagram) {
            Some(TunnResult::WriteToTunnel(mut packet)) => {
                self.confirmed = true;
                Received::Packet(std::mem::take(packet.buf_mut()))
            }
            Some(TunnResult::WriteToNetwork(reply)) => Received::Reply {
                datagram: into_bytes(reply),
                established: false,
            },
            Some(TunnResult::Done) => Received::Nothing,
            Some(TunnResult::Err(_)) | None => Received::Refused,
        }
    }

    fn tick(&mut self, now: Instant) -> Option<BytesMut> {
        let fresh = self.look(now);
        fresh.or(self.due.take())
    }

    fn set_psk(&mut self, psk: &[u8; 32]) {
        self.tunn.set_preshared_key(Some(*psk));
    }

    fn reset(&mut self) {
        self.tunn.reset();
        self.confirmed = false;
        self.due = None;
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        self.tunn.set_preshared_key(Some(random));
        random.zeroize();
    }

    fn session_age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }
}

fn into_bytes(kind: WgKind) -> BytesMut {
    std::mem::take(Packet::from(kind).buf_mut())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a session between two tunnels that have the same preshared key.
    fn shake_hands(a: &mut dyn Tunnel, b: &mut dyn Tunnel) {
        let psk = [7; 32];
        a.set_psk(&psk);
        b.set_psk(&psk);
        let initiation = a.initiate(false, Instant::now()).unwrap();
        let mut psks = std::iter::once(&psk);
        let Received::Reply { datagram, .. } = b.receive(initiation, &mut psks, Instant::now())
        else {
            panic!("no response");
        };
        let Received::Reply { datagram, .. } = a.receive(datagram, &mut psks, Instant::now())
        else {
            panic!("no session");
        };
        let keepalive = b.receive(datagram, &mut psks, Instant::now());
        assert!(matches!(keepalive, Received::Packet(packet) if packet.is_empty()));
    }

    /// Else a first session, minutes after the peers came to know each other, is over at once.
    #[test]
    fn a_session_is_no_older_than_its_handshake() {
        let keys = [[1; 32], [2; 32]].map(WgPrivateKey::from_bytes);
        let tunnel = |own: usize, other: usize| {
            Gotatun::new(&keys[own]).tunnel(&keys[other].public(), Instant::now())
        };
        let (mut a, mut b) = (tunnel(0, 1), tunnel(1, 0));
        std::thread::sleep(TICK_HANDSHAKING * 2);
        let started = Instant::now();
        shake_hands(&mut *a, &mut *b);
        for tunnel in [a, b] {
            let age = tunnel.session_age().unwrap();
            assert!(age <= started.elapsed(), "{age:?}");
        }
    }

    #[test]
    fn a_responder_waits_until_the_initiator_has_the_session() {
        let keys = [[1; 32], [2; 32]].map(WgPrivateKey::from_bytes);
        let psk = [7; 32];
        let now = Instant::now();
        let mut a = Gotatun::new(&keys[0]).tunnel(&keys[1].public(), now);
        let mut b = Gotatun::new(&keys[1]).tunnel(&keys[0].public(), now);
        a.set_psk(&psk);
        b.set_psk(&psk);
        let initiation = a.initiate(false, now).unwrap();
        let response = b.receive(initiation, &mut std::iter::once(&psk), now);
        assert!(matches!(response, Received::Reply { .. }));
        assert!(b.seal(BytesMut::from(&b"packet"[..]), now).is_err());
    }
}
