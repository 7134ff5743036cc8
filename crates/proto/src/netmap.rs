//! The machine stream: what a machine knows of its org, and what it tells of itself.
//!
//! One WebSocket per machine (`GET /api/machine-stream`, bearer: machine token), one JSON message
//! per text frame. Two planes share it:
//!
//! * **Durable**: this machine, its peers, the filter, the relay map. Every change carries the
//!   org's `seq` and a [`StateHash`] of the state that results, so a machine notices a lost or
//!   misapplied change and asks for a full map.
//! * **Volatile**: where a peer is reached right now ([`PeerVolatile`]). A version per machine, the
//!   highest wins; sent whole after each connect; outside `seq` and hash.
//!
//! Records travel as raw JSON: the hash is taken over the very text that was sent, so a member that
//! an older agent does not know still counts, and the server serialises each record once.
//! "Absent" never means "empty": a full map names every part, a delta names only what changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::ErrorBody;
use crate::ids::{MachineId, OrgId, RegionId};
use crate::keys::{DiscoPublicKey, KemKeyHash, WgPublicKey, hex, parse_hex};
use crate::machines::Hold;
use crate::network::SelfNetwork;
use crate::posture::PostureNotice;

/// Largest stream message either side reads, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The server sends something at least this often, in seconds; three silent periods mean a dead
/// connection.
pub const KEEP_ALIVE_SECONDS: u64 = 20;

/// Most endpoints that a machine may report.
pub const MAX_ENDPOINTS: usize = 32;

/// Whether a pair of machines demands the post-quantum handshake.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PqMode {
    /// For plain WireGuard devices, which carry no agent.
    Preferred,
    /// No traffic without a preshared key from the hybrid handshake. Also read from any value that
    /// this build does not know.
    #[default]
    #[serde(other)]
    Required,
}

/// What a machine is told of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfRecord {
    /// This machine.
    pub id: MachineId,
    /// Its org.
    pub org: OrgId,
    /// The org's name.
    pub org_name: String,
    /// The machine's name in the org.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// The WireGuard key that it is registered with.
    pub wg_key: WgPublicKey,
    /// Tailnet address, IPv4.
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    pub ipv6: Ipv6Addr,
    /// When the machine must sign in again. `None`: never.
    pub key_expires_at: Option<Timestamp>,
    /// Its part in the network: what it routes, and the org's names.
    #[serde(default)]
    pub network: SelfNetwork,
    /// Posture policies that it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub posture: Vec<PostureNotice>,
    /// Why it is not in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// A peer: another machine of the org that some rule joins with this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The peer.
    pub id: MachineId,
    /// Its name in the org.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Its WireGuard key.
    pub wg_key: WgPublicKey,
    /// Hash of its ML-KEM-768 key. `None`: a plain WireGuard device.
    pub kem_key: Option<KemKeyHash>,
    /// Tailnet address, IPv4.
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    pub ipv6: Ipv6Addr,
    /// Networks behind the peer that this machine may route to it.
    #[serde(default)]
    pub routes: Vec<IpNet>,
    /// Groups that filter rules name ([`crate::filter::PeerSelector::Group`]).
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether this pair demands the post-quantum handshake.
    #[serde(default)]
    pub pq: PqMode,
    /// Operating system, for display.
    #[serde(default)]
    pub os: String,
    /// E-mail of the machine's user, for display. Empty for machines enrolled by auth key.
    #[serde(default)]
    pub user: String,
}

impl PeerRecord {
    /// The peer's tailnet addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}

/// Where a machine may be reached.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub struct Endpoint {
    /// UDP address and port.
    #[schema(value_type = String)]
    pub addr: SocketAddr,
    /// How the machine came to know it.
    pub kind: EndpointKind,
}

/// How a machine came to know an endpoint of its own.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// Address of an interface.
    Local,
    /// Address of an interface that is itself a tunnel, of another VPN say: used when nothing else is.
    Tunnel,
    /// What a STUN service saw.
    Stun,
    /// Opened on the router by PCP, NAT-PMP or UPnP.
    PortMapped,
    /// A kind that this build does not know; used like the others.
    #[serde(other)]
    Other,
}

/// What a machine reports of itself, and its peers are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolatileReport {
    /// Where it may be reached, at most [`MAX_ENDPOINTS`].
    pub endpoints: Vec<Endpoint>,
    /// The region whose relay it keeps a connection to.
    pub home_region: Option<RegionId>,
    /// Its discovery key of this start.
    pub disco_key: Option<DiscoPublicKey>,
}

/// A peer's volatile state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerVolatile {
    /// The peer.
    pub id: MachineId,
    /// Grows with every change; an older version than the one held is ignored.
    pub version: u64,
    /// Whether its stream is connected or its heartbeat recent.
    pub online: bool,
    /// When it was last heard of, if it is not online.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    /// What it reported last.
    #[serde(flatten)]
    pub report: VolatileReport,
}

/// Sent by the control plane. On the wire `{"type": …, "body": …}`, see [`ServerMessage::encode`].
#[derive(Debug)]
pub enum ServerMessage {
    /// `full`: the whole state; replaces everything.
    Full(FullMap),
    /// `delta`: what changed since its `base_seq`.
    Delta(MapDelta),
    /// `volatile`: where peers are reached.
    Volatile(VolatileUpdate),
    /// `relay_ticket`: a fresh relay ticket ([`crate::ticket`]).
    RelayTicket(String),
    /// `keep_alive`: nothing new; tells where the machine's map should stand, so that a gap shows.
    KeepAlive(Resume),
    /// `error`: the stream ends, and why. `MACHINE_DELETED` and `KEY_EXPIRED` are final; on others
    /// the machine connects again. With `MACHINE_DISABLED` its map is void.
    Error(ErrorBody),
    /// A message of a newer control plane; skipped.
    Unknown,
}

/// The frame around every message's body.
#[derive(Serialize, Deserialize)]
struct Frame<'a, T> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    body: T,
}

fn frame<T: Serialize>(kind: &str, body: T) -> serde_json::Result<String> {
    serde_json::to_string(&Frame {
        kind: kind.into(),
        body,
    })
}

impl ServerMessage {
    /// The message as one text frame. `Unknown` is never sent and encodes as itself.
    ///
    /// # Errors
    /// None for messages that this crate can build.
    pub fn encode(&self) -> serde_json::Result<String> {
        match self {
            Self::Full(body) => frame("full", body),
            Self::Delta(body) => frame("delta", body),
            Self::Volatile(body) => body.encode(),
            Self::RelayTicket(body) => frame("relay_ticket", body),
            Self::KeepAlive(body) => frame("keep_alive", body),
            Self::Error(body) => frame("error", body),
            Self::Unknown => frame("unknown", ()),
        }
    }

    /// Reads one text frame.
    ///
    /// # Errors
    /// The text is not a frame, or a known type's body is not of its form.
    pub fn decode(text: &str) -> serde_json::Result<Self> {
        let frame: Frame<'_, &RawValue> = serde_json::from_str(text)?;
        let body = frame.body.get();
        Ok(match &*frame.kind {
            "full" => Self::Full(serde_json::from_str(body)?),
            "delta" => Self::Delta(serde_json::from_str(body)?),
            "volatile" => Self::Volatile(serde_json::from_str(body)?),
            "relay_ticket" => Self::RelayTicket(serde_json::from_str(body)?),
            "keep_alive" => Self::KeepAlive(serde_json::from_str(body)?),
            "error" => Self::Error(serde_json::from_str(body)?),
            _ => Self::Unknown,
        })
    }
}

/// Volatile state of peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolatileUpdate<P = PeerVolatile> {
    /// Whether this is the state of all peers: those that are not named have none.
    pub whole: bool,
    /// The peers that changed, or all.
    pub peers: Vec<P>,
}

impl<P: Serialize> VolatileUpdate<P> {
    /// The message as one text frame. The peers may be in any form that is written as a [`PeerVolatile`] is.
    ///
    /// # Errors
    /// None for what this crate can build.
    pub fn encode(&self) -> serde_json::Result<String> {
        frame("volatile", self)
    }
}

/// The whole durable state of one machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct FullMap {
    /// The org's change number that this state stands at.
    pub seq: u64,
    /// Hash of this state.
    pub hash: StateHash,
    /// A [`SelfRecord`].
    pub this: Box<RawValue>,
    /// Every [`PeerRecord`].
    pub peers: Vec<Box<RawValue>>,
    /// A [`crate::filter::PacketFilter`].
    pub filter: Box<RawValue>,
    /// A [`crate::relay::RelayMap`].
    pub relays: Box<RawValue>,
}

/// What changed in one machine's durable state.
#[derive(Debug, Serialize, Deserialize)]
pub struct MapDelta {
    /// The `seq` that the machine must stand at for this delta to apply.
    pub base_seq: u64,
    /// The `seq` after it.
    pub seq: u64,
    /// Hash of the state that results.
    pub hash: StateHash,
    /// The new [`SelfRecord`], if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub this: Option<Box<RawValue>>,
    /// [`PeerRecord`]s that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers_changed: Vec<Box<RawValue>>,
    /// Peers that are peers no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers_removed: Vec<MachineId>,
    /// The new [`crate::filter::PacketFilter`], if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Box<RawValue>>,
    /// The new [`crate::relay::RelayMap`], if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relays: Option<Box<RawValue>>,
}

/// Sent by a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// The first message of a stream.
    Hello {
        /// [`crate::CAPABILITY`] of the agent.
        capability: u32,
        /// The agent's version, for display.
        agent_version: String,
        /// `seq` and hash of the map that the machine holds, if it wants to resume from it.
        #[serde(default)]
        resume: Option<Resume>,
    },
    /// The machine's volatile state, whole.
    Report(VolatileReport),
    /// The machine's state is not what the hash says: send a full map.
    Resync,
    /// A message of a newer agent; skipped.
    #[serde(other)]
    Unknown,
}

/// Where a machine's map stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Its `seq`.
    pub seq: u64,
    /// Its hash.
    pub hash: StateHash,
}

/// Which part of the state a record is; part of what is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`SelfRecord`]
    This,
    /// [`PeerRecord`]
    Peer,
    /// [`crate::filter::PacketFilter`]
    Filter,
    /// [`crate::relay::RelayMap`]
    Relays,
}

/// Hash of a durable state: the XOR of SHA-256(kind byte ‖ record text), first 16 bytes, over all
/// records. Order does not matter and one record's change costs two hashes. It finds mistakes; it
/// is no defence against a forger, who would have to be the control plane itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StateHash(pub [u8; 16]);

impl StateHash {
    /// Adds a record that is not in the state, or takes out one that is.
    pub fn toggle(&mut self, kind: RecordKind, record: &RawValue) {
        let kind = match kind {
            RecordKind::This => b's',
            RecordKind::Peer => b'p',
            RecordKind::Filter => b'f',
            RecordKind::Relays => b'r',
        };
        let digest = Sha256::new_with_prefix([kind])
            .chain_update(record.get())
            .finalize();
        for (mine, theirs) in self.0.iter_mut().zip(digest) {
            *mine ^= theirs;
        }
    }
}

impl std::fmt::Display for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for StateHash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateHash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        parse_hex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a state hash is 32 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn hash_does_not_know_order_and_undoes() {
        let (a, b) = (raw(r#"{"a":1}"#), raw(r#"{"b":2}"#));
        let mut one = StateHash::default();
        one.toggle(RecordKind::Peer, &a);
        one.toggle(RecordKind::Peer, &b);
        let mut two = StateHash::default();
        two.toggle(RecordKind::Peer, &b);
        two.toggle(RecordKind::Peer, &a);
        assert_eq!(one, two);
        two.toggle(RecordKind::Peer, &a);
        assert_ne!(one, two);
        two.toggle(RecordKind::Filter, &a);
        assert_ne!(one, two, "the kind counts");
    }

    #[test]
    fn raw_records_keep_their_text() {
        let text = r#"{"type":"delta","body":{"base_seq":1,"seq":2,"hash":"00000000000000000000000000000000","peers_changed":[{ "id" : 1, "future":true }]}}"#;
        let ServerMessage::Delta(delta) = ServerMessage::decode(text).unwrap() else {
            panic!("not a delta");
        };
        assert_eq!(
            delta.peers_changed[0].get(),
            r#"{ "id" : 1, "future":true }"#
        );
        assert!(delta.filter.is_none());
        assert_eq!(
            ServerMessage::Delta(delta)
                .encode()
                .unwrap()
                .replace(' ', ""),
            text.replace(' ', "")
        );
    }

    #[test]
    fn newer_messages_are_unknown_not_errors() {
        let message = ServerMessage::decode(r#"{"type":"later","body":{"x":1}}"#).unwrap();
        assert!(matches!(message, ServerMessage::Unknown));
        let message: ClientMessage = serde_json::from_str(r#"{"type":"later"}"#).unwrap();
        assert_eq!(message, ClientMessage::Unknown);
        let kind: EndpointKind = serde_json::from_str("\"teleport\"").unwrap();
        assert_eq!(kind, EndpointKind::Other);
        let mode: PqMode = serde_json::from_str("\"later\"").unwrap();
        assert_eq!(mode, PqMode::Required, "an unknown mode fails closed");
    }

    #[test]
    fn volatile_state_is_flat() {
        let peer = PeerVolatile {
            id: MachineId::generate(),
            version: 3,
            online: true,
            last_seen: None,
            report: VolatileReport {
                endpoints: vec![Endpoint {
                    addr: "192.0.2.1:41641".parse().unwrap(),
                    kind: EndpointKind::Stun,
                }],
                home_region: Some(RegionId(1)),
                disco_key: None,
            },
        };
        let json = serde_json::to_string(&peer).unwrap();
        assert!(json.contains(r#""home_region":1"#), "{json}");
        assert_eq!(serde_json::from_str::<PeerVolatile>(&json).unwrap(), peer);
    }
}
