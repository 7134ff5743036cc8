//! The relay's transport over QUIC (RFC 9000): packets in datagrams (RFC 9221), all else in one
//! stream.
//!
//! On a lossy path a packet that is lost holds up none that come after it, which TCP cannot offer.
//!
//! * TLS is what the TCP port has, with ALPN [`ALPN`].
//! * The relay opens one bidirectional stream as soon as it has keys, and nobody opens another. It
//!   carries the frames that the TCP transport carries after the upgrade, beginning with ServerKey.
//!   The relay opens it, so that ServerKey comes along with the TLS handshake: a client is in after
//!   two round trips.
//! * A packet that fits goes as a datagram instead of a SendPacket or RecvPacket frame: 32 bytes of
//!   key (to whom, from whom) and the packet. One that does not fit the path goes by the stream.
//! * Datagrams that are too short for a key are counted as unknown frames.
//!
//! Packets wait in the [`Outbox`](crate::outbox::Outbox), where queueing is fair and bounded, and
//! not in QUIC's own buffer, which is kept just large enough not to run dry.

mod congestion;
mod sink;
mod source;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

pub(crate) use sink::QuicSink;
pub(crate) use source::QuicSource;

/// The application protocol in the TLS handshake.
pub(crate) const ALPN: &[u8] = b"ztna-derp/1";

/// A connection without a sign of life for so long is over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The client says something at least this often: NATs forget UDP after 30 s.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Bytes of datagrams (with quinn's 32 for each) that wait in QUIC: a GSO batch of full ones.
const SEND_BUFFER: usize = 16 * 1024;

/// Bytes of datagrams that have come and wait for their reader; older ones give way.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// Bytes of the stream that one side sends ahead of the other's reading, and holds until they are
/// acknowledged: some of the largest packets.
const STREAM_WINDOW: u32 = 512 * 1024;

/// UDP payload that the path has to carry: an agent's packet of 1,340 bytes as a datagram, and its
/// key, and QUIC's own 29 bytes. On a path that is narrower the handshake, which uses it, does not
/// come about, and the client takes TCP: with smaller datagrams every full packet would go by the
/// stream, in line behind lost ones. Nor is a path thought to be narrower because packets are lost.
const UDP_PAYLOAD: u16 = 1420;

/// Largest UDP payload that is tried: 1500 less IPv6's and UDP's headers.
const MAX_UDP_PAYLOAD: u16 = 1452;

/// Packets that are acknowledged together at most, and …
const ACK_EVERY: u32 = 8;
/// … how long an acknowledgement may wait for them.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// Bytes of the kernel's buffers on a socket that thousands of clients share. The system may grant
/// less.
#[cfg(feature = "server")]
pub(crate) const SERVER_SOCKET_BUFFER: usize = 7 * 1024 * 1024;
/// The same for one client.
#[cfg(feature = "client")]
pub(crate) const CLIENT_SOCKET_BUFFER: usize = 2 * 1024 * 1024;

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    #[cfg(feature = "client")]
    Client,
    #[cfg(feature = "server")]
    Relay,
}

/// How either side runs its connections.
pub(crate) fn transport(side: Side) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let (streams, keep_alive) = match side {
        #[cfg(feature = "client")]
        Side::Client => (1u8, Some(CLIENT_KEEP_ALIVE)),
        #[cfg(feature = "server")]
        Side::Relay => (0u8, None),
    };
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_UDP_PAYLOAD);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(ACK_EVERY.into())
        .max_ack_delay(Some(ACK_DELAY));
    config
        // What is offered to the other side: only the relay opens a stream.
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u8.into())
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .keep_alive_interval(keep_alive)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(STREAM_WINDOW.into())
        .send_window(STREAM_WINDOW.into())
        .datagram_send_buffer_size(SEND_BUFFER)
        .datagram_receive_buffer_size(Some(RECEIVE_BUFFER))
        .initial_mtu(UDP_PAYLOAD)
        .min_mtu(UDP_PAYLOAD)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(congestion::SteadyBbr::default()));
    Arc::new(config)
}

/// The connection is closed in good order.
pub(crate) const CLOSED: VarInt = VarInt::from_u32(0);

/// Asks the system for buffers of this many bytes.
pub(crate) fn enlarge_buffers(socket: &UdpSocket, bytes: usize) {
    let socket = socket2::SockRef::from(socket);
    let set = socket
        .set_recv_buffer_size(bytes)
        .and(socket.set_send_buffer_size(bytes));
    if let Err(error) = set {
        tracing::debug!(%error, "the UDP socket keeps its small buffers");
    }
}
