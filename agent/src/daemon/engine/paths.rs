//! What the engine tells of a peer's paths.

use std::time::{Duration, Instant};

use ztna_local::{CandidateOrigin, CandidateState, CandidateStatus, Heard, PathsReport};
use ztna_path::{CandidateReport, CandidateState as State, Origin, Via};
use ztna_proto::MachineId;
use ztna_proto::netmap::EndpointKind;

use super::run::Engine;
use super::status;

/// Why packets to a peer go the way they go. `None`: there is no such peer.
pub fn of(engine: &Engine, peer: MachineId) -> Option<PathsReport> {
    let explained = engine.mesh.explain(peer, Instant::now())?;
    let code = |region| engine.relays.code(region);
    let heard = explained.heard.map(|(via, ago)| {
        let (addr, region) = match via {
            Via::Direct(addr) => (Some(addr), None),
            Via::Relay(region) => (None, Some(region)),
        };
        Heard {
            addr,
            region,
            region_code: region.and_then(code),
            ms_ago: millis(ago),
        }
    });
    Some(PathsReport {
        path: status::path(engine, explained.selected),
        why: explained.why,
        relay_region: explained.relay,
        relay_code: explained.relay.and_then(code),
        heard,
        candidates: explained.candidates.into_iter().map(candidate).collect(),
        ..PathsReport::default()
    })
}

fn candidate(report: CandidateReport) -> CandidateStatus {
    CandidateStatus {
        addr: report.addr,
        origin: origin(report.origin),
        pinged_ms_ago: report.pinged.map(millis),
        answered_ms_ago: report.answered.map(millis),
        latency_ms: report.latency.map(|time| time.as_secs_f64() * 1000.0),
        points: report.points,
        state: match report.state {
            State::InUse => CandidateState::InUse,
            State::Doubted => CandidateState::Doubted,
            State::Standby => CandidateState::Standby,
            State::Silent => CandidateState::Silent,
            State::Untried => CandidateState::Untried,
            State::Refused => CandidateState::Refused,
        },
        why: report.why,
    }
}

fn origin(origin: Origin) -> CandidateOrigin {
    match origin {
        Origin::Netmap(EndpointKind::Local) => CandidateOrigin::Local,
        Origin::Netmap(EndpointKind::Tunnel) => CandidateOrigin::Tunnel,
        Origin::Netmap(EndpointKind::Stun) => CandidateOrigin::Stun,
        Origin::Netmap(EndpointKind::PortMapped) => CandidateOrigin::PortMapped,
        Origin::Netmap(_) => CandidateOrigin::Other,
        Origin::Call => CandidateOrigin::Call,
        Origin::Ping => CandidateOrigin::Ping,
        Origin::Pong => CandidateOrigin::Pong,
        Origin::Data => CandidateOrigin::Data,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
