//! What a mesh needs of a WireGuard implementation.
//!
//! [`crate::wireguard`] is the one that ships; the simulator brings a deterministic one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ztna_proto::{WgPrivateKey, WgPublicKey};

/// WireGuard for one machine: makes tunnels, and looks at handshake messages before any tunnel does.
pub trait WireGuard: Send {
    /// A tunnel to a peer. Its preshared key is random until [`Tunnel::set_psk`].
    fn tunnel(&mut self, peer: &WgPublicKey, now: Instant) -> Box<dyn Tunnel>;

    /// Checks MACs, and rates under load, before anything expensive is done.
    fn admit(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) -> Admission;

    /// The static key of a handshake initiation's sender. `None`: not for us, or forged.
    fn initiator(&self, initiation: &[u8]) -> Option<WgPublicKey>;
}

/// Makes the implementation for a machine with this key.
pub type NewWireGuard = fn(&WgPrivateKey) -> Box<dyn WireGuard>;

/// What to do with a WireGuard datagram.
pub enum Admission {
    /// Give it to the tunnel.
    Pass(BytesMut),
    /// Answer this (a cookie) to where it came from, and forget it.
    Reply(BytesMut),
    /// Forget it.
    Drop,
}

/// A WireGuard tunnel to one peer.
pub trait Tunnel: Send {
    /// Seals an IP packet under the current session.
    ///
    /// # Errors
    /// The packet again, if there is no session.
    fn seal(&mut self, packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut>;

    /// Begins a handshake, or begins it anew. `None`: one is on its way and `force` is not set.
    fn initiate(&mut self, force: bool, now: Instant) -> Option<BytesMut>;

    /// Takes a datagram that was [admitted](WireGuard::admit). `psks` are tried on a handshake
    /// response in their order.
    fn receive(
        &mut self,
        datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        now: Instant,
    ) -> Received;

    /// Looks at the timers; gives a datagram to send (keepalive, or a handshake initiation).
    fn tick(&mut self, now: Instant) -> Option<BytesMut>;

    /// Sets the key that the next handshake answers with. The session stays.
    fn set_psk(&mut self, psk: &[u8; 32]);

    /// Ends all sessions and handshakes, and sets a random preshared key.
    fn reset(&mut self);

    /// Age of the current session. `None`: there is none.
    fn session_age(&self) -> Option<Duration>;
}

/// What came of a received datagram.
pub enum Received {
    /// An IP packet. Empty: a keepalive. Authentic either way.
    Packet(BytesMut),
    /// A handshake message to answer with. With `established`, there is a session to send with.
    Reply {
        /// The message.
        datagram: BytesMut,
        /// Whether this end may send data at once (it initiated).
        established: bool,
    },
    /// Authentic, and nothing to do.
    Nothing,
    /// Not authentic, or out of place.
    Refused,
}

/// The sender index of a handshake initiation or response, as a peer will address us with it
/// (whitepaper §5.4.2, §5.4.3). `None` for other messages.
#[must_use]
pub fn sender_index(datagram: &[u8]) -> Option<u32> {
    match datagram {
        [1 | 2, 0, 0, 0, a, b, c, d, ..] => Some(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// The index that a response, cookie reply or data message is addressed to (§5.4.3, §5.4.6, §5.4.7).
#[must_use]
pub fn receiver_index(datagram: &[u8]) -> Option<u32> {
    let at = match datagram.first()? {
        2 => 8,
        3 | 4 => 4,
        _ => return None,
    };
    let bytes = datagram.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Whether the datagram is a handshake initiation.
#[must_use]
pub fn is_initiation(datagram: &[u8]) -> bool {
    datagram.first() == Some(&1)
}

/// Whether the datagram is a handshake response.
#[must_use]
pub fn is_response(datagram: &[u8]) -> bool {
    datagram.first() == Some(&2)
}
