//! Why packets to a peer go the way they go: what `ztna debug paths` shows.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use ztna_proto::RegionId;

use crate::status::PathStatus;

/// What a client wants to know the paths of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathsOptions {
    /// The peer: name, DNS name, tailnet address or id.
    pub peer: String,
}

/// How packets to a peer go, and why not another way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathsReport {
    /// The peer's name.
    pub peer: String,
    /// Whether the control plane hears of it.
    pub online: bool,
    /// The way that packets go.
    pub path: PathStatus,
    /// Why: one sentence.
    pub why: String,
    /// The region at whose relay the peer is reached, whether packets go there or not.
    pub relay_region: Option<RegionId>,
    /// Its code.
    pub relay_code: Option<String>,
    /// By which way the peer's last packet came.
    pub heard: Option<Heard>,
    /// Where the peer may be: the one in use first.
    pub candidates: Vec<CandidateStatus>,
}

/// By which way a peer's last packet came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// From this address; `None`: through a relay.
    pub addr: Option<SocketAddr>,
    /// Through this region's relay.
    pub region: Option<RegionId>,
    /// Its code.
    pub region_code: Option<String>,
    /// Milliseconds ago.
    pub ms_ago: u64,
}

/// An address where a peer may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// The address.
    pub addr: SocketAddr,
    /// Who told of it first.
    pub origin: CandidateOrigin,
    /// Milliseconds since it was pinged last. `None`: never.
    pub pinged_ms_ago: Option<u64>,
    /// Milliseconds since it answered last. `None`: never.
    pub answered_ms_ago: Option<u64>,
    /// Round trip in milliseconds, smoothed.
    pub latency_ms: Option<f64>,
    /// Points for the kind of address: more are better.
    pub points: i32,
    /// What it is.
    pub state: CandidateState,
    /// Why it is that: one sentence.
    pub why: String,
}

/// Who told of a candidate first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateOrigin {
    /// The peer reports it as an address of its own.
    Local,
    /// The peer reports it as an address at the end of another tunnel.
    Tunnel,
    /// The peer reports it: a STUN service sees it there.
    Stun,
    /// The peer reports it: its router opened a port.
    PortMapped,
    /// The peer's call for pings named it.
    Call,
    /// A ping of the peer came from it.
    Ping,
    /// An answer of the peer came from it.
    Pong,
    /// The peer's data came from it.
    Data,
    /// Another way.
    #[serde(other)]
    Other,
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// Packets go there.
    InUse,
    /// Packets go there and by relay, until it answers or another does.
    Doubted,
    /// It answers, and is not better than the one in use.
    Standby,
    /// It was pinged and did not answer.
    Silent,
    /// It was not pinged.
    Untried,
    /// This machine's network refuses to send there.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_that_scripts_depend_on() {
        let report = PathsReport {
            candidates: vec![CandidateStatus {
                addr: "192.0.2.1:41641".parse().unwrap(),
                origin: CandidateOrigin::PortMapped,
                pinged_ms_ago: Some(10),
                answered_ms_ago: None,
                latency_ms: None,
                points: 0,
                state: CandidateState::InUse,
                why: String::new(),
            }],
            ..PathsReport::default()
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["path"]["kind"], "none");
        let candidate = &json["candidates"][0];
        assert_eq!(candidate["addr"], "192.0.2.1:41641");
        assert_eq!(candidate["origin"], "port_mapped");
        assert_eq!(candidate["state"], "in_use");
        assert_eq!(candidate["pinged_ms_ago"], 10);
        let other: CandidateOrigin = serde_json::from_str("\"smoke\"").unwrap();
        assert_eq!(other, CandidateOrigin::Other);
    }
}
