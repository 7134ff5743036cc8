//! Puts together what `ztna status` shows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use ztna_local::{
    AdvertisedRoute, ControlStatus, DaemonState, NetworkStatus, PathStatus, PeerStatus,
    RelayStatus, Status, ThisMachine, Totals, Traffic,
};
use ztna_netmap::Netmap;
use ztna_proto::RegionId;
use ztna_proto::netmap::SelfRecord;

use super::engine::{EnginePeer, EngineStatus};
use super::link::LinkView;
use super::network::NetworkView;
use super::session::Session;
use super::state::{Machine, State};
use crate::control::Server;

/// People are told this long before a machine's sign-in ends.
const RENEW_WITHIN: SignedDuration = SignedDuration::from_hours(14 * 24);

/// This machine as it was registered.
#[must_use]
pub fn registered(state: &State) -> Option<ThisMachine> {
    let Machine {
        id,
        name,
        dns_name,
        org,
        org_name,
        ipv4,
        ipv6,
        key_expires_at,
        ..
    } = state.machine.clone()?;
    Some(ThisMachine {
        id,
        name,
        dns_name,
        org,
        org_name,
        ipv4,
        ipv6,
        wg_key: state.keys.wg.public(),
        key_expires_at,
    })
}

/// What a running tunnel adds to a status.
pub async fn add_session(status: &mut Status, session: &Session, tun: &str) {
    let engine = session.engine().status().await;
    let view = session.view().borrow().clone();
    status.interface = Some(tun.to_owned());
    status.control.connected = view.connected;
    status.control.error.clone_from(&view.error);
    status.warnings.extend_from_slice(session.warnings());
    status.warnings.extend(view.interface_error.clone());
    status.warnings.extend(engine.warnings.clone());
    let network_view = session.network().borrow().clone();
    status.warnings.extend_from_slice(&network_view.warnings);
    status.warnings.extend(session.gateway_warning());
    if status.state == DaemonState::Running {
        status.message = message(&view);
    }
    session.read_map(|map| {
        if let Some(this) = map.this() {
            status.this = Some(told(this));
            status.posture.clone_from(&this.posture);
            status.warnings.extend(ends_soon(this, Timestamp::now()));
        }
        status.relay = relay(&engine, map);
        status.peers = peers(&engine, map);
        status.network = network(&network_view, map);
    });
    status.totals = totals(&engine, &status.peers);
    status.totals.streams = view.streams;
    status.totals.netmap_seq = session.read_map(Netmap::seq);
    status.endpoints = engine.endpoints;
    status.drops = engine.drops;
}

fn totals(engine: &EngineStatus, peers: &[PeerStatus]) -> Totals {
    let mut drops = engine.drops.clone();
    let of_peers = peers.iter().flat_map(|peer| &peer.drops);
    for (reason, count) in of_peers.chain(&engine.departed_drops) {
        *drops.entry(reason.clone()).or_default() += count;
    }
    let told = |traffic: ztna_mesh::Traffic| Traffic {
        sent_packets: traffic.sent_packets,
        sent_bytes: traffic.sent_bytes,
        received_packets: traffic.received_packets,
        received_bytes: traffic.received_bytes,
    };
    Totals {
        direct: told(engine.totals.direct),
        relay: told(engine.totals.relay),
        epochs: engine.totals.epochs,
        drops,
        ..Totals::default()
    }
}

/// This machine's part in the network.
#[must_use]
pub fn network(view: &NetworkView, map: &Netmap) -> NetworkStatus {
    let routed = map.this().map(|this| this.network.routes.as_slice());
    let routed = routed.unwrap_or_default();
    let is_approved = |prefix: &IpNet| match prefix.prefix_len() {
        // An exit node is told all that is public, which nobody advertises.
        0 => routed
            .iter()
            .any(|route| prefix.contains(route) && !view.prefs.advertise.contains(route)),
        _ => routed.contains(prefix),
    };
    NetworkStatus {
        advertised: view
            .prefs
            .advertise
            .iter()
            .map(|prefix| AdvertisedRoute {
                prefix: *prefix,
                approved: is_approved(prefix),
            })
            .collect(),
        accept_routes: view.prefs.accept_routes,
        routes: view.routes.iter().copied().collect(),
        exit_node: view.prefs.exit_node.clone(),
        exit_node_ready: view.exit_node_ready,
        accept_dns: view.prefs.accept_dns,
        notes: view.notes.clone(),
    }
}

/// An empty status of a daemon.
#[must_use]
pub fn base(state: DaemonState, message: String, server: Option<&Server>) -> Status {
    Status {
        state,
        message,
        control: ControlStatus {
            url: server.map(|server| server.origin().to_owned()),
            pin: server.and_then(Server::pin_text),
            ..ControlStatus::default()
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Status::default()
    }
}

fn message(view: &LinkView) -> String {
    match &view.error {
        Some(error) if !view.connected => {
            format!("the control plane is away, the tunnel works from the map that it has: {error}")
        }
        _ => String::new(),
    }
}

/// That it is time to sign in again.
fn ends_soon(this: &SelfRecord, now: Timestamp) -> Option<String> {
    let ends_at = this.key_expires_at?;
    (ends_at.duration_since(now) < RENEW_WITHIN).then(|| {
        format!(
            "this machine's sign-in ends on {}; sign in again with `sudo ztna up --renew`, which \
             interrupts nothing",
            ends_at.strftime("%Y-%m-%d %H:%M UTC")
        )
    })
}

fn told(this: &SelfRecord) -> ThisMachine {
    ThisMachine {
        id: this.id,
        name: this.name.clone(),
        dns_name: this.dns_name.clone(),
        org: this.org,
        org_name: this.org_name.clone(),
        ipv4: this.ipv4,
        ipv6: this.ipv6,
        wg_key: this.wg_key,
        key_expires_at: this.key_expires_at,
    }
}

/// The code of a region, if the map knows it.
#[must_use]
pub fn code(map: &Netmap, region: RegionId) -> Option<String> {
    map.relays()
        .regions
        .get(&region)
        .map(|region| region.code.clone())
}

fn relay(engine: &EngineStatus, map: &Netmap) -> RelayStatus {
    RelayStatus {
        home_region: engine.home_region,
        home_code: engine.home_region.and_then(|region| code(map, region)),
        home_latency_ms: engine
            .home_latency
            .map(|latency| latency.as_secs_f64() * 1000.0),
        connected: engine.relay_connected,
        transport: engine.relay_transport,
        error: engine.relay_error.clone(),
    }
}

/// The peers in the map, by name.
fn peers(engine: &EngineStatus, map: &Netmap) -> Vec<PeerStatus> {
    let mut peers: Vec<PeerStatus> = map
        .peers()
        .values()
        .map(|record| {
            let EnginePeer {
                path,
                psk,
                tx_bytes,
                rx_bytes,
                last_handshake_seconds,
                drops,
            } = engine.peers.get(&record.id).cloned().unwrap_or_default();
            let volatile = map.volatile(&record.id);
            PeerStatus {
                id: record.id,
                name: record.name.clone(),
                dns_name: record.dns_name.clone(),
                ipv4: record.ipv4,
                ipv6: record.ipv6,
                online: volatile.is_some_and(|volatile| volatile.online),
                last_seen: volatile.and_then(|volatile| volatile.last_seen),
                os: record.os.clone(),
                user: record.user.clone(),
                routes: record.routes.clone(),
                path: PathStatus {
                    region_code: path.region.and_then(|region| code(map, region)),
                    ..path
                },
                psk,
                tx_bytes,
                rx_bytes,
                last_handshake_seconds,
                drops: BTreeMap::clone(&drops),
            }
        })
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_two_weeks_before_a_sign_in_ends() {
        let mut this = crate::testing::Org::new().this;
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(ends_soon(&this, now), None, "it never ends");
        this.key_expires_at = Some(now + RENEW_WITHIN);
        assert_eq!(ends_soon(&this, now), None);
        let later = now + SignedDuration::from_secs(1);
        assert_eq!(
            ends_soon(&this, later).unwrap(),
            "this machine's sign-in ends on 1970-01-15 00:00 UTC; sign in again with `sudo ztna up \
             --renew`, which interrupts nothing"
        );
    }
}
