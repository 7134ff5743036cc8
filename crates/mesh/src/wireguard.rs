//! The [`WireGuard`] that ships: gotatun's protocol state machine.
//!
//! It reads the clock and the system's randomness by itself; `now` is ignored here. Known costs:
//! one allocation and one copy per sealed packet, and preshared keys that it holds unzeroized.

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

use crate::tunnel::{Admission, Received, Tunnel, WireGuard};

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

impl WireGuard for Gotatun {
    fn tunnel(&mut self, peer: &WgPublicKey, _now: Instant) -> Box<dyn Tunnel> {
        let mut tunnel = GotatunTunnel {
            tunn: Tunn::new(
                self.secret.clone(),
                PublicKey::from(*peer.as_bytes()),
                None,
                None,
                self.indices.clone(),
                Arc::clone(&self.limiter),
            ),
            confirmed: false,
        };
        tunnel.reset();
        Box::new(tunnel)
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

struct GotatunTunnel {
    tunn: Tunn,
    /// Whether the peer has shown that it holds a session with us. A responder must not send before
    /// (whitepaper §5.4.5); gotatun would, under its first session, which may be a replay's.
    confirmed: bool,
}

impl GotatunTunnel {
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
    fn seal(&mut self, mut packet: BytesMut, _now: Instant) -> Result<BytesMut, BytesMut> {
        if !self.confirmed {
            return Err(packet);
        }
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

    fn initiate(&mut self, force: bool, _now: Instant) -> Option<BytesMut> {
        self.tunn
            .format_handshake_initiation(force)
            .map(|message| into_bytes(WgKind::HandshakeInit(message)))
    }

    fn receive(
        &mut self,
        datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        _now: Instant,
    ) -> Received {
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

    fn tick(&mut self, _now: Instant) -> Option<BytesMut> {
        self.tunn.update_timers().ok().flatten().map(into_bytes)
    }

    fn set_psk(&mut self, psk: &[u8; 32]) {
        self.tunn.set_preshared_key(Some(*psk));
    }

    fn reset(&mut self) {
        self.tunn.reset();
        self.confirmed = false;
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
