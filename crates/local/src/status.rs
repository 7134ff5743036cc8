//! How things stand: everything that `ztna status` and `ztna peers` show.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ztna_proto::posture::{PostureNotice, PostureReport};
use ztna_proto::{MachineId, OrgId, RegionId, WgPublicKey};

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What the daemon is about.
    pub state: DaemonState,
    /// Why, for people. Empty if all is well.
    pub message: String,
    /// This machine. `None`: not registered.
    pub this: Option<ThisMachine>,
    /// The control plane.
    pub control: ControlStatus,
    /// The relay.
    pub relay: RelayStatus,
    /// Where peers may try to reach this machine.
    pub endpoints: Vec<SocketAddr>,
    /// The machines that policy joins with this one, by name.
    pub peers: Vec<PeerStatus>,
    /// Packets dropped that belong to no peer, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What a person should look at, one line each.
    pub warnings: Vec<String>,
    /// Posture policies of the org that this machine fails.
    pub posture: Vec<PostureNotice>,
    /// The daemon's version.
    pub version: String,
    /// The TUN device's name, while it is up.
    pub interface: Option<String>,
    /// This machine's part in the network.
    pub network: NetworkStatus,
    /// What was counted, for monitoring.
    pub totals: Totals,
}

/// What was counted since the tunnel came up, peers that are gone included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// What went by direct paths.
    pub direct: Traffic,
    /// What went through relays.
    pub relay: Traffic,
    /// Preshared keys that hybrid handshakes made.
    pub epochs: u64,
    /// Packets that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// How often the machine stream came to stand.
    pub streams: u64,
    /// The number of the last change in the netmap.
    pub netmap_seq: Option<u64>,
    /// The daemon's memory, in bytes.
    pub memory_bytes: Option<u64>,
}

/// IP packets to and from peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Packets to them.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets from them.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// What a machine routes for others, and sends to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStatus {
    /// The networks that it offers to route.
    pub advertised: Vec<AdvertisedRoute>,
    /// Whether it sends to networks that others route.
    pub accept_routes: bool,
    /// Those networks; they lead into the tunnel.
    pub routes: Vec<IpNet>,
    /// The exit node that is wanted.
    pub exit_node: Option<String>,
    /// Whether it is there and may be used. What is meant for one that is not goes nowhere.
    pub exit_node_ready: bool,
    /// Whether this machine's programs are to ask the tailnet's names; `notes` say how they do.
    pub accept_dns: bool,
    /// What was done to this system for all that, one line each.
    pub notes: Vec<String>,
}

impl NetworkStatus {
    /// In words, a line each. Nothing of a machine that has no part in it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let list = |approved: bool| {
            let routes = self.advertised.iter();
            let of_kind = routes.filter(|route| route.approved == approved);
            let texts: Vec<String> = of_kind.map(|route| route.prefix.to_string()).collect();
            texts.join(", ")
        };
        let mut lines = Vec::new();
        let (routing, waiting) = (list(true), list(false));
        if !routing.is_empty() {
            lines.push(format!("routes {routing} for others"));
        }
        if !waiting.is_empty() {
            lines.push(format!(
                "offers to route {waiting}; an admin of the org has to approve"
            ));
        }
        if self.accept_routes {
            let subnets = self.routes.iter().filter(|route| route.prefix_len() > 0);
            let subnets: Vec<String> = subnets.map(ToString::to_string).collect();
            lines.push(match subnets.is_empty() {
                true => {
                    "accepts routes; no network behind a peer is open to this machine".to_owned()
                }
                false => format!("reaches {} through peers", subnets.join(", ")),
            });
        }
        if let Some(name) = self.exit_node.as_ref().filter(|_| self.exit_node_ready) {
            lines.push(format!("everything else goes through the exit node {name}"));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

/// A network that a machine offers to route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedRoute {
    /// The network.
    pub prefix: IpNet,
    /// Whether it may.
    pub approved: bool,
}

/// What the machine tells of its own health, and what its org has against it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureStatus {
    /// What it tells, as it is now.
    pub report: PostureReport,
    /// Posture policies of the org that it fails.
    pub notices: Vec<PostureNotice>,
}

/// What the daemon is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// The tunnel is up.
    Running,
    /// The tunnel is coming up.
    Starting,
    /// The tunnel is down because somebody took it down, or nobody brought it up.
    #[default]
    Stopped,
    /// The machine has to register (again).
    NeedsLogin,
    /// It is registered, and waits for an admin's approval.
    Pending,
    /// An admin or a policy of the org keeps it from its peers.
    Quarantined,
    /// An admin of the org has closed its tunnel.
    Locked,
    /// An admin of the org has switched it off.
    Disabled,
    /// The tunnel should be up and is not.
    Error,
}

/// This machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThisMachine {
    /// Its id.
    pub id: MachineId,
    /// Its name in the org.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Its org.
    pub org: OrgId,
    /// Its org's name.
    pub org_name: String,
    /// Tailnet address, IPv4.
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    pub ipv6: Ipv6Addr,
    /// Its WireGuard key.
    pub wg_key: WgPublicKey,
    /// When it must sign in again. `None`: never.
    pub key_expires_at: Option<Timestamp>,
}

/// The control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// Its URL.
    pub url: Option<String>,
    /// Pin of its certificate, if it is self-signed: `sha256:` and 64 hex digits.
    #[serde(default)]
    pub pin: Option<String>,
    /// Whether the machine stream stands.
    pub connected: bool,
    /// Why it does not, for people.
    pub error: Option<String>,
}

/// The relay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// The home region.
    pub home_region: Option<RegionId>,
    /// Its code.
    pub home_code: Option<String>,
    /// Round trip to it in milliseconds, the best of the last minutes.
    #[serde(default)]
    pub home_latency_ms: Option<f64>,
    /// Whether its relay has admitted this machine.
    pub connected: bool,
    /// By what it is connected.
    #[serde(default)]
    pub transport: Option<RelayTransport>,
    /// Why it has not, for people.
    pub error: Option<String>,
}

/// What carries packets to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayTransport {
    /// TLS over TCP: it passes every firewall, and a lost packet holds up those behind it.
    Tcp,
    /// QUIC datagrams.
    Quic,
}

impl fmt::Display for RelayTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Quic => "QUIC",
        })
    }
}

/// A machine that policy joins with this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub id: MachineId,
    /// Its name in the org.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Tailnet address, IPv4.
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    pub ipv6: Ipv6Addr,
    /// Whether the control plane hears of it.
    pub online: bool,
    /// When it was last heard of, if it is not online.
    pub last_seen: Option<Timestamp>,
    /// Operating system and architecture.
    pub os: String,
    /// E-mail of its user. Empty if an auth key enrolled it.
    pub user: String,
    /// Networks behind it that are open to this machine. An exit node has `0.0.0.0/0` and `::/0`.
    #[serde(default)]
    pub routes: Vec<IpNet>,
    /// How packets reach it.
    pub path: PathStatus,
    /// The tunnel's preshared key.
    pub psk: PskStatus,
    /// Bytes of IP packets sent to it.
    pub tx_bytes: u64,
    /// Bytes of IP packets from it.
    pub rx_bytes: u64,
    /// Seconds since the last WireGuard handshake. `None`: there was none.
    pub last_handshake_seconds: Option<u64>,
    /// Packets to and from it that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// How packets reach a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Directly or not.
    pub kind: PathKind,
    /// The peer's address on a direct path.
    pub addr: Option<SocketAddr>,
    /// The relay's region on a relayed path.
    pub region: Option<RegionId>,
    /// Its code.
    pub region_code: Option<String>,
    /// Round trip on this path, in milliseconds, as last measured.
    pub latency_ms: Option<f64>,
    /// The largest IP packet that a direct path is known to carry, in bytes.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Whether larger ones are known not to pass; else that is being found out.
    #[serde(default)]
    pub mtu_settled: bool,
}

/// Directly or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// By UDP from this machine to the peer.
    Direct,
    /// Through a relay.
    Relay,
    /// Not at all right now.
    #[default]
    None,
}

/// A tunnel's preshared key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PskStatus {
    /// Whether there is one.
    pub state: PskState,
    /// Its epoch, from 1. 0: none yet.
    pub epoch: u64,
    /// A keyed fingerprint of it, 16 hex digits, the same at both ends.
    pub fingerprint: Option<String>,
    /// Seconds since it was installed.
    pub age_seconds: Option<u64>,
    /// Whether its epoch came from a full handshake, with both machines' static ML-KEM keys; else
    /// it is chained to one that did.
    pub full: bool,
}

/// Whether there is a preshared key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PskState {
    /// The tunnel uses a key from the hybrid handshake.
    Established,
    /// The handshake is on its way; packets wait.
    Pending,
    /// None, and no traffic that needs one.
    #[default]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_that_scripts_depend_on() {
        let status = Status {
            state: DaemonState::NeedsLogin,
            ..Status::default()
        };
        let json = serde_json::to_value(&status).unwrap();
        for member in [
            "state",
            "message",
            "this",
            "control",
            "relay",
            "endpoints",
            "peers",
            "drops",
            "warnings",
        ] {
            assert!(json.get(member).is_some(), "{member} is missing");
        }
        assert_eq!(json["state"], "needs_login");
        assert_eq!(json["relay"]["connected"], false);
        assert_eq!(
            serde_json::to_value(PathStatus::default()).unwrap()["kind"],
            "none"
        );
        assert_eq!(
            serde_json::to_value(PskStatus::default()).unwrap()["state"],
            "none"
        );
    }

    #[test]
    fn a_status_of_another_build_reads() {
        let status: Status = serde_json::from_str(r#"{"state":"running","later":1}"#).unwrap();
        assert_eq!(status.state, DaemonState::Running);
    }
}
