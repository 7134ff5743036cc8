//! What a mesh wants done.

use std::net::SocketAddr;

use bytes::BytesMut;
use ztna_path::Selected;
use ztna_proto::{KemKeyHash, MachineId, RegionId, WgPublicKey};

/// One thing to carry out, in order.
pub enum Output {
    /// Send by the UDP socket.
    Udp {
        /// Where to.
        to: SocketAddr,
        /// Whom for, to tell [`Mesh::send_failed`](crate::Mesh::send_failed). `None`: an answer to
        /// somebody who has not proved who they are.
        peer: Option<MachineId>,
        /// UDP payload.
        datagram: BytesMut,
    },
    /// Send what is larger than the direct path: through the relay if the connection to it stands, else by
    /// the UDP socket in fragments of IP.
    Oversize {
        /// The address of the direct path.
        to: SocketAddr,
        /// The region whose relay the peer is at, and the peer. `None`: only in fragments.
        relay: Option<(RegionId, WgPublicKey)>,
        /// UDP payload.
        datagram: BytesMut,
    },
    /// Send through a relay. The IO side connects to the region if it is not connected yet.
    Relay {
        /// The region whose relay the peer is at.
        region: RegionId,
        /// The peer.
        peer: WgPublicKey,
        /// DERP packet payload.
        datagram: BytesMut,
    },
    /// Send to the multicast group of our own links, from the port of the UDP socket; or drop it.
    Lan(BytesMut),
    /// Write to the TUN device.
    Tun(BytesMut),
    /// Fetch this ML-KEM key and give it to
    /// [`Mesh::provide_kem_key`](crate::Mesh::provide_kem_key).
    NeedKemKey(KemKeyHash),
    /// Something that a user may want to know.
    Event(Event),
}

/// Something that a user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer's traffic goes another way.
    Path {
        /// The peer.
        peer: MachineId,
        /// The way.
        selected: Selected,
    },
    /// A peer's tunnel has a new preshared key.
    Psk {
        /// The peer.
        peer: MachineId,
        /// The key's epoch.
        epoch: u64,
    },
    /// A peer's preshared key expired without a successor; its session was ended.
    PskExpired {
        /// The peer.
        peer: MachineId,
    },
}
