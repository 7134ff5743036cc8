//! Frames of DERP version 2, both ways between bytes and types. No IO.
//!
//! A frame is a type (`u8`), a length (`u32`, big-endian, of what follows) and that many bytes.
//! Types, sizes and limits are those of Tailscale's `derp/derp.go`; types from 0x40 on are ours.
//! Whoever does not know a type skips the frame.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ztna_proto::keys::KEY_LEN;
use ztna_proto::ticket::MAX_TICKET_LEN;
use ztna_proto::{OrgId, WgPublicKey};

use crate::MAX_PACKET;
use crate::key::RelayPublicKey;

/// Type and length.
pub const HEADER_LEN: usize = 5;
/// First bytes of ServerKey: "DERP" and U+1F511 (a key) in UTF-8.
pub const MAGIC: [u8; 8] = [0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91];
/// Bytes of a NaCl box's nonce.
pub const NONCE_LEN: usize = 24;
/// Bytes of a Ping that come back in the Pong.
pub const PING_LEN: usize = 8;

/// Longest ServerKey; the rest beyond 40 bytes is spare.
const MAX_SERVER_KEY: usize = 1024;
/// Longest ClientInfo. Tailscale's relay takes 256 KiB, but no client sends more than its keys, a
/// few flags and, here, a ticket; strangers get no more memory than that.
const MAX_CLIENT_INFO: usize = 16 * 1024;
/// Longest ServerInfo (`derp/derp_client.go`).
const MAX_SERVER_INFO: usize = NONCE_LEN + 1024 * 1024;
/// Longest Ping and Pong (`derp/derpserver`).
const MAX_PING: usize = 1000;
/// Longest Health text, in bytes.
pub const MAX_HEALTH: usize = 4096;
/// Frames of fixed size may grow in later versions, up to this; what is unknown is ignored.
const MAX_GROWTH: usize = 1024;
/// Longest frame of an unknown type that is skipped; a longer one ends the connection. Tailscale's
/// relay skips up to 4 GiB, which is an invitation.
pub const MAX_UNKNOWN: usize = 65 * 1024;

/// Address and port in PeerPresent: IPv6 (IPv4 mapped) and `u16`.
const ENDPOINT_LEN: usize = 18;
/// An org's id.
const ORG_LEN: usize = 16;

mod kind {
    pub const SERVER_KEY: u8 = 0x01;
    pub const CLIENT_INFO: u8 = 0x02;
    pub const SERVER_INFO: u8 = 0x03;
    pub const SEND_PACKET: u8 = 0x04;
    pub const RECV_PACKET: u8 = 0x05;
    pub const KEEP_ALIVE: u8 = 0x06;
    pub const NOTE_PREFERRED: u8 = 0x07;
    pub const PEER_GONE: u8 = 0x08;
    pub const PEER_PRESENT: u8 = 0x09;
    pub const FORWARD_PACKET: u8 = 0x0a;
    pub const WATCH_CONNS: u8 = 0x10;
    pub const CLOSE_PEER: u8 = 0x11;
    pub const PING: u8 = 0x12;
    pub const PONG: u8 = 0x13;
    pub const HEALTH: u8 = 0x14;
    pub const RESTARTING: u8 = 0x15;
    /// Ours.
    pub const RENEW_TICKET: u8 = 0x40;
    /// Ours.
    pub const FORWARD_IN_ORG: u8 = 0x41;
}

/// Why a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneReason {
    /// 0x00: it was connected and is no more. Also what old relays mean that say nothing.
    Disconnected,
    /// 0x01: it is not connected to this relay.
    NotHere,
    /// A reason that this build does not know.
    Other(u8),
}

impl From<u8> for GoneReason {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Disconnected,
            1 => Self::NotHere,
            other => Self::Other(other),
        }
    }
}

impl From<GoneReason> for u8 {
    fn from(reason: GoneReason) -> Self {
        match reason {
            GoneReason::Disconnected => 0,
            GoneReason::NotHere => 1,
            GoneReason::Other(byte) => byte,
        }
    }
}

/// One frame. Sizes in bytes, of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 0x01, relay → client, 40 and more: magic, relay key, spare bytes.
    ServerKey {
        /// The relay's key.
        key: RelayPublicKey,
        /// What follows. Ours begins with a nonce of [`crate::handshake::FRESHNESS_LEN`] bytes.
        spare: Bytes,
    },
    /// 0x02, client → relay, 56 and more: client key, nonce, NaCl box of JSON.
    ClientInfo {
        /// The client's WireGuard key.
        key: WgPublicKey,
        /// The box's nonce.
        nonce: [u8; NONCE_LEN],
        /// The box.
        sealed: Bytes,
    },
    /// 0x03, relay → client, 24 and more: nonce, NaCl box of JSON.
    ServerInfo {
        /// The box's nonce.
        nonce: [u8; NONCE_LEN],
        /// The box.
        sealed: Bytes,
    },
    /// 0x04, client → relay, 32 to 65,568: destination, packet.
    SendPacket {
        /// Who shall get it.
        to: WgPublicKey,
        /// At most [`MAX_PACKET`].
        packet: Bytes,
    },
    /// 0x05, relay → client, 32 to 65,568: source, packet.
    RecvPacket {
        /// Who sent it.
        from: WgPublicKey,
        /// At most [`MAX_PACKET`].
        packet: Bytes,
    },
    /// 0x06, relay → client, empty.
    KeepAlive,
    /// 0x07, client → relay, 1: whether this relay is in the client's home region.
    NotePreferred(bool),
    /// 0x08, relay → client, 32 or 33: the peer, and why.
    PeerGone {
        /// The peer.
        peer: WgPublicKey,
        /// Why.
        reason: GoneReason,
    },
    /// 0x09, relay → watcher, 32, 50, 51 or, ours, 67: the peer, its address, flags, its org.
    PeerPresent {
        /// The peer.
        peer: WgPublicKey,
        /// Where it connects from.
        endpoint: Option<SocketAddr>,
        /// 1 regular, 2 mesh peer, 4 prober, 8 not the node that it wanted.
        flags: Option<u8>,
        /// The org that the peer belongs to. Sent only with address and flags.
        org: Option<OrgId>,
    },
    /// 0x0a, relay → relay, 64 to 65,600: source, destination, packet. In an org: 0x41, ours, the
    /// org's id goes before it.
    ForwardPacket {
        /// The org of source and destination.
        org: Option<OrgId>,
        /// Who sent it.
        from: WgPublicKey,
        /// Who shall get it.
        to: WgPublicKey,
        /// At most [`MAX_PACKET`].
        packet: Bytes,
    },
    /// 0x10, relay → relay, empty: tell me who is connected.
    WatchConns,
    /// 0x11, relay → relay, 32: close every connection of this key.
    ClosePeer(WgPublicKey),
    /// 0x12, both ways, 8 to 1,000: the first 8 come back in a Pong.
    Ping([u8; PING_LEN]),
    /// 0x13, both ways, 8.
    Pong([u8; PING_LEN]),
    /// 0x14, relay → client: what is wrong, UTF-8; empty when it is no more.
    Health(String),
    /// 0x15, relay → client, 8: the relay restarts; milliseconds, `u32` each.
    Restarting {
        /// Wait this long before reconnecting.
        reconnect_in: Duration,
        /// Then try for this long.
        try_for: Duration,
    },
    /// 0x40, client → relay, ours: a fresh ticket for this connection, before the old one ends.
    RenewTicket(String),
    /// A frame of unknown type, whose content is skipped.
    Unknown {
        /// The type.
        kind: u8,
        /// Bytes skipped.
        len: usize,
    },
}

/// Bytes that are no frame. The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type does not come in this size.
    #[error("a relay frame of type {kind:#04x} cannot have {len} bytes")]
    Length {
        /// The type.
        kind: u8,
        /// The length that it claims.
        len: usize,
    },
    /// ServerKey without the magic.
    #[error("the server does not speak DERP (no magic)")]
    Magic,
    /// A text is not UTF-8.
    #[error("a text in a relay frame of type {kind:#04x} is not UTF-8")]
    Text {
        /// The type.
        kind: u8,
    },
}

/// Sizes that a type comes in: (smallest, largest). `None` for unknown types.
fn bounds(kind: u8) -> Option<(usize, usize)> {
    Some(match kind {
        kind::SERVER_KEY => (MAGIC.len() + KEY_LEN, MAX_SERVER_KEY),
        kind::CLIENT_INFO => (KEY_LEN + NONCE_LEN, MAX_CLIENT_INFO),
        kind::SERVER_INFO => (NONCE_LEN, MAX_SERVER_INFO),
        kind::SEND_PACKET | kind::RECV_PACKET => (KEY_LEN, KEY_LEN + MAX_PACKET),
        kind::FORWARD_PACKET => (2 * KEY_LEN, 2 * KEY_LEN + MAX_PACKET),
        kind::FORWARD_IN_ORG => (ORG_LEN + 2 * KEY_LEN, ORG_LEN + 2 * KEY_LEN + MAX_PACKET),
        kind::KEEP_ALIVE | kind::WATCH_CONNS => (0, MAX_GROWTH),
        kind::NOTE_PREFERRED => (1, 1),
        kind::PEER_GONE | kind::PEER_PRESENT => (KEY_LEN, MAX_GROWTH),
        kind::CLOSE_PEER => (KEY_LEN, KEY_LEN),
        kind::PING | kind::PONG => (PING_LEN, MAX_PING),
        kind::HEALTH => (0, MAX_HEALTH),
        kind::RESTARTING => (8, MAX_GROWTH),
        kind::RENEW_TICKET => (0, MAX_TICKET_LEN),
        _ => return None,
    })
}

/// Cuts frames out of a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of an unknown frame that are still to be skipped.
    skip: usize,
}

impl Decoder {
    /// Takes the next frame off the front of `buf`, or `None` if it is not there as a whole.
    /// Packets and boxes are slices of `buf`'s memory, not copies.
    ///
    /// # Errors
    /// The bytes are no frame, or one that is larger than its type may be.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let skipped = self.skip.min(buf.len());
        buf.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 || buf.len() < HEADER_LEN {
            return Ok(None);
        }
        let kind = buf[0];
        let len = u32::from_be_bytes([buf[1], buf[2], buf[3], buf[4]]) as usize;
        let Some((min, max)) = bounds(kind) else {
            if len > MAX_UNKNOWN {
                return Err(FrameError::Length { kind, len });
            }
            buf.advance(HEADER_LEN);
            self.skip = len;
            return Ok(Some(Frame::Unknown { kind, len }));
        };
        if len < min || len > max {
            return Err(FrameError::Length { kind, len });
        }
        if buf.len() < HEADER_LEN + len {
            return Ok(None);
        }
        buf.advance(HEADER_LEN);
        parse(kind, buf.split_to(len).freeze()).map(Some)
    }
}

/// Parses a payload whose length is within [`bounds`].
fn parse(kind: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
    let length = FrameError::Length {
        kind,
        len: payload.len(),
    };
    Ok(match kind {
        kind::SERVER_KEY => {
            if take::<{ MAGIC.len() }>(&mut payload) != MAGIC {
                return Err(FrameError::Magic);
            }
            Frame::ServerKey {
                key: RelayPublicKey(take(&mut payload)),
                spare: payload,
            }
        }
        kind::CLIENT_INFO => Frame::ClientInfo {
            key: WgPublicKey(take(&mut payload)),
            nonce: take(&mut payload),
            sealed: payload,
        },
        kind::SERVER_INFO => Frame::ServerInfo {
            nonce: take(&mut payload),
            sealed: payload,
        },
        kind::SEND_PACKET => Frame::SendPacket {
            to: WgPublicKey(take(&mut payload)),
            packet: payload,
        },
        kind::RECV_PACKET => Frame::RecvPacket {
            from: WgPublicKey(take(&mut payload)),
            packet: payload,
        },
        kind::FORWARD_PACKET | kind::FORWARD_IN_ORG => Frame::ForwardPacket {
            org: (kind == kind::FORWARD_IN_ORG).then(|| OrgId::from_bytes(take(&mut payload))),
            from: WgPublicKey(take(&mut payload)),
            to: WgPublicKey(take(&mut payload)),
            packet: payload,
        },
        kind::KEEP_ALIVE => Frame::KeepAlive,
        kind::WATCH_CONNS => Frame::WatchConns,
        kind::NOTE_PREFERRED => Frame::NotePreferred(payload[0] == 1),
        kind::PEER_GONE => Frame::PeerGone {
            peer: WgPublicKey(take(&mut payload)),
            reason: payload.first().copied().unwrap_or_default().into(),
        },
        kind::PEER_PRESENT => {
            let peer = WgPublicKey(take(&mut payload));
            let endpoint = (payload.len() >= ENDPOINT_LEN).then(|| {
                let ip = Ipv6Addr::from_bits(payload.get_u128()).to_canonical();
                SocketAddr::new(ip, payload.get_u16())
            });
            let flags = endpoint.and_then(|_| payload.try_get_u8().ok());
            let org = (payload.len() >= ORG_LEN && flags.is_some())
                .then(|| OrgId::from_bytes(take(&mut payload)));
            Frame::PeerPresent {
                peer,
                endpoint,
                flags,
                org,
            }
        }
        kind::CLOSE_PEER => Frame::ClosePeer(WgPublicKey(take(&mut payload))),
        kind::PING => Frame::Ping(take(&mut payload)),
        kind::PONG => Frame::Pong(take(&mut payload)),
        kind::HEALTH => Frame::Health(text(kind, &payload)?),
        kind::RESTARTING => Frame::Restarting {
            reconnect_in: Duration::from_millis(payload.get_u32().into()),
            try_for: Duration::from_millis(payload.get_u32().into()),
        },
        kind::RENEW_TICKET => Frame::RenewTicket(text(kind, &payload)?),
        _ => return Err(length),
    })
}

/// The first `N` bytes. The caller has checked that they are there.
fn take<const N: usize>(payload: &mut Bytes) -> [u8; N] {
    let mut out = [0; N];
    payload.copy_to_slice(&mut out);
    out
}

fn text(kind: u8, payload: &[u8]) -> Result<String, FrameError> {
    std::str::from_utf8(payload)
        .map(str::to_owned)
        .map_err(|_| FrameError::Text { kind })
}

/// Header and key of a frame that carries a packet: all of it but the packet.
#[cfg(any(feature = "client", feature = "server"))]
pub(crate) type PacketHead = [u8; HEADER_LEN + KEY_LEN];

/// Head of a SendPacket frame. The packet, at most [`MAX_PACKET`], follows.
#[cfg(feature = "client")]
pub(crate) fn send_packet_head(to: &WgPublicKey, packet: usize) -> PacketHead {
    packet_head(kind::SEND_PACKET, to, packet)
}

/// Head of a RecvPacket frame. The packet, at most [`MAX_PACKET`], follows.
#[cfg(feature = "server")]
pub(crate) fn recv_packet_head(from: &WgPublicKey, packet: usize) -> PacketHead {
    packet_head(kind::RECV_PACKET, from, packet)
}

#[cfg(any(feature = "client", feature = "server"))]
fn packet_head(kind: u8, key: &WgPublicKey, packet: usize) -> PacketHead {
    let mut head = [0; HEADER_LEN + KEY_LEN];
    head[0] = kind;
    head[1..HEADER_LEN].copy_from_slice(&length(KEY_LEN + packet).to_be_bytes());
    head[HEADER_LEN..].copy_from_slice(&key.0);
    head
}

fn length(len: usize) -> u32 {
    // Every type is bounded far below 4 GiB.
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Frame {
    /// Appends the frame to `out`. Packets must not exceed [`MAX_PACKET`]; a Health text is cut to
    /// [`MAX_HEALTH`] bytes. An unknown frame is written with zeros for its content.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&[0; HEADER_LEN]);
        let kind = self.encode_payload(out);
        let len = length(out.len() - start - HEADER_LEN);
        out[start] = kind;
        out[start + 1..start + HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    }

    /// The frame's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Appends the payload and returns the type.
    fn encode_payload(&self, out: &mut BytesMut) -> u8 {
        match self {
            Self::ServerKey { key, spare } => {
                out.put_slice(&MAGIC);
                out.put_slice(&key.0);
                out.put_slice(spare);
                kind::SERVER_KEY
            }
            Self::ClientInfo { key, nonce, sealed } => {
                out.put_slice(&key.0);
                out.put_slice(nonce);
                out.put_slice(sealed);
                kind::CLIENT_INFO
            }
            Self::ServerInfo { nonce, sealed } => {
                out.put_slice(nonce);
                out.put_slice(sealed);
                kind::SERVER_INFO
            }
            Self::SendPacket { to, packet } => {
                out.put_slice(&to.0);
                out.put_slice(packet);
                kind::SEND_PACKET
            }
            Self::RecvPacket { from, packet } => {
                out.put_slice(&from.0);
                out.put_slice(packet);
                kind::RECV_PACKET
            }
            Self::ForwardPacket {
                org,
                from,
                to,
                packet,
            } => {
                if let Some(org) = org {
                    out.put_slice(org.as_bytes());
                }
                out.put_slice(&from.0);
                out.put_slice(&to.0);
                out.put_slice(packet);
                match org {
                    Some(_) => kind::FORWARD_IN_ORG,
                    None => kind::FORWARD_PACKET,
                }
            }
            Self::KeepAlive => kind::KEEP_ALIVE,
            Self::WatchConns => kind::WATCH_CONNS,
            Self::NotePreferred(preferred) => {
                out.put_u8((*preferred).into());
                kind::NOTE_PREFERRED
            }
            Self::PeerGone { peer, reason } => {
                out.put_slice(&peer.0);
                out.put_u8((*reason).into());
                kind::PEER_GONE
            }
            Self::PeerPresent {
                peer,
                endpoint,
                flags,
                org,
            } => {
                out.put_slice(&peer.0);
                if let Some(endpoint) = endpoint {
                    let ip = match endpoint.ip() {
                        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                        IpAddr::V6(ip) => ip,
                    };
                    out.put_u128(ip.to_bits());
                    out.put_u16(endpoint.port());
                    out.put_slice(flags.as_slice());
                    if let (Some(org), Some(_)) = (org, flags) {
                        out.put_slice(org.as_bytes());
                    }
                }
                kind::PEER_PRESENT
            }
            Self::ClosePeer(peer) => {
                out.put_slice(&peer.0);
                kind::CLOSE_PEER
            }
            Self::Ping(data) => {
                out.put_slice(data);
                kind::PING
            }
            Self::Pong(data) => {
                out.put_slice(data);
                kind::PONG
            }
            Self::Health(problem) => {
                out.put_slice(&problem.as_bytes()[..problem.floor_char_boundary(MAX_HEALTH)]);
                kind::HEALTH
            }
            Self::Restarting {
                reconnect_in,
                try_for,
            } => {
                for span in [reconnect_in, try_for] {
                    out.put_u32(u32::try_from(span.as_millis()).unwrap_or(u32::MAX));
                }
                kind::RESTARTING
            }
            Self::RenewTicket(ticket) => {
                out.put_slice(ticket.as_bytes());
                kind::RENEW_TICKET
            }
            Self::Unknown { kind, len } => {
                out.put_bytes(0, *len);
                *kind
            }
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
