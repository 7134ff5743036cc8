//! The packet filter as it travels: rules compiled for one machine.
//!
//! Order never matters: a packet that any `deny` matches is dropped, one that an `allow` matches is
//! let through, and everything else is dropped. Replies to an allowed flow need no rule.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ids::{MachineId, RuleId};

/// One machine's filter. Both ends of a tunnel hold the rules that concern them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PacketFilter {
    /// What peers may open towards this machine.
    pub inbound: Vec<FilterRule>,
    /// What this machine may open towards peers.
    pub outbound: Vec<FilterRule>,
}

/// One compiled rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FilterRule {
    /// The policy rule it comes from, for explanations.
    pub rule: RuleId,
    /// What happens to a packet that matches.
    pub action: Action,
    /// The other machine: source of an inbound rule, destination of an outbound one.
    pub peers: Vec<PeerSelector>,
    /// Destination networks. Empty: the destination machine's own addresses.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<IpNet>,
    /// Protocols. Empty: every one.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// Destination ports. Empty: every one, and protocols without ports.
    #[serde(default)]
    pub ports: Vec<PortRange>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let through unless a `deny` matches too.
    Allow,
    /// Drop, whatever allows it.
    Deny,
}

/// Which peers a rule speaks of.
///
/// A rule names a group rather than its machines where it can: peers carry their groups in the
/// netmap, so a machine that joins a group changes nobody's filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerSelector {
    /// Every peer in the netmap.
    Any,
    /// Peers whose record carries this group.
    Group(String),
    /// One machine.
    Machine(MachineId),
    /// A selector of a newer control plane. Matches nothing in an `allow`, everything in a `deny`.
    #[serde(untagged)]
    #[schema(value_type = Object)]
    Unknown(serde_json::Value),
}

/// An IP protocol.
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
pub enum Protocol {
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
    /// ICMP (1) on IPv4, ICMPv6 (58) on IPv6.
    Icmp,
    /// SCTP, number 132.
    Sctp,
    /// Any other, by its IANA number.
    Number(u8),
}

/// Ports `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port; at least `first`.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether the range holds the port.
    #[must_use]
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_round_trips_and_tolerates_newer_selectors() {
        let filter = PacketFilter {
            inbound: vec![FilterRule {
                rule: RuleId::generate(),
                action: Action::Allow,
                peers: vec![PeerSelector::Any, PeerSelector::Group("member".into())],
                networks: vec!["10.0.0.0/8".parse().unwrap()],
                protocols: vec![Protocol::Tcp, Protocol::Number(47)],
                ports: vec![PortRange::single(22)],
            }],
            outbound: vec![],
        };
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<PacketFilter>(&json).unwrap(), filter);

        let newer: PeerSelector = serde_json::from_str(r#"{"posture":"strict"}"#).unwrap();
        assert!(matches!(newer, PeerSelector::Unknown(_)));
    }
}
