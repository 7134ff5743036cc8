//! `ztna peers`

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ztna_local::{PathKind, PeerStatus, PskState, Status};

use super::{Json, ask_status, ui};

/// Lists the peers, or tells all about one
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PeersArgs {
    /// Name, DNS name, address or id of one peer
    name: Option<String>,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna peers
  ztna peers db-1
  ztna peers db-1 --json";

/// Seconds for which WireGuard's handshake holds (`REJECT_AFTER_TIME`, whitepaper §6.1).
const HANDSHAKE_HOLDS: u64 = 180;

pub async fn run(socket: &Path, args: PeersArgs) -> anyhow::Result<ExitCode> {
    let status = ask_status(socket).await?;
    match &args.name {
        Some(name) => {
            let peer = find(&status, name)?;
            if args.json.wanted {
                ui::json(peer)?;
            } else {
                detail(peer)?;
            }
        }
        None if args.json.wanted => ui::json(&status.peers)?,
        None if status.peers.is_empty() && !status.message.is_empty() => {
            bail!("{}", status.message)
        }
        None => table(&status.peers.iter().collect::<Vec<_>>())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The peer of that name, DNS name, tailnet address or id.
pub fn find<'a>(status: &'a Status, wanted: &str) -> anyhow::Result<&'a PeerStatus> {
    let name = wanted.trim_end_matches('.');
    let found = status.peers.iter().find(|peer| {
        peer.name.eq_ignore_ascii_case(name)
            || peer.dns_name.eq_ignore_ascii_case(name)
            || wanted
                .parse()
                .is_ok_and(|ip: std::net::Ipv4Addr| ip == peer.ipv4)
            || wanted
                .parse()
                .is_ok_and(|ip: std::net::Ipv6Addr| ip == peer.ipv6)
            || peer.id.to_string() == name
    });
    match found {
        Some(peer) => Ok(peer),
        None if status.peers.is_empty() && !status.message.is_empty() => {
            bail!("{}", status.message)
        }
        None => bail!(
            "no peer is called {wanted:?}; `ztna peers` lists those that the policy lets this \
             machine see"
        ),
    }
}

/// One line per peer.
pub fn table(peers: &[&PeerStatus]) -> io::Result<()> {
    let heading = [
        "PEER", "ADDRESS", "PATH", "LATENCY", "PSK", "SENT", "RECEIVED",
    ];
    let rows = peers.iter().map(|peer| {
        let style = if peer.online {
            anstyle::Style::new()
        } else {
            ui::DIM
        };
        let cells = vec![
            peer.name.clone(),
            peer.ipv4.to_string(),
            path(peer),
            latency(peer),
            psk(peer),
            ui::bytes(peer.tx_bytes),
            ui::bytes(peer.rx_bytes),
        ];
        (style, cells)
    });
    ui::table(&heading, rows.collect())
}

fn detail(peer: &PeerStatus) -> io::Result<()> {
    let mut lines = vec![
        ("name", peer.name.clone()),
        ("DNS name", peer.dns_name.clone()),
        ("id", peer.id.to_string()),
        ("addresses", format!("{} {}", peer.ipv4, peer.ipv6)),
        ("system", peer.os.clone()),
        ("user", peer.user.clone()),
        ("online", online(peer)),
        ("path", format!("{} {}", path(peer), latency(peer))),
        ("path MTU", mtu(peer)),
        ("PSK", psk_detail(peer)),
        (
            "handshake",
            match peer.last_handshake_seconds {
                Some(seconds) => format!("{} ago", ui::age(seconds)),
                None => "none yet".to_owned(),
            },
        ),
        ("sent", ui::bytes(peer.tx_bytes)),
        ("received", ui::bytes(peer.rx_bytes)),
    ];
    for (reason, count) in &peer.drops {
        lines.push(("dropped", format!("{count} ({reason})")));
    }
    for (name, value) in lines {
        if !value.is_empty() {
            ui::line(format_args!("{name:<10} {}", value.trim_end()))?;
        }
    }
    Ok(())
}

fn online(peer: &PeerStatus) -> String {
    match (peer.online, peer.last_seen) {
        (true, _) => "yes".to_owned(),
        (false, Some(seen)) => format!("no, seen {}", ui::ago(seen)),
        (false, None) => "no".to_owned(),
    }
}

fn path(peer: &PeerStatus) -> String {
    let path = &peer.path;
    // Packets go to its relay whether it is there or not; while the handshake is young, it is, whatever the control plane
    // knows of it.
    let is_there = peer.online
        || path.kind == PathKind::Direct
        || peer
            .last_handshake_seconds
            .is_some_and(|age| age < HANDSHAKE_HOLDS);
    if !is_there {
        return match peer.last_seen {
            Some(seen) => format!("offline, seen {}", ui::ago(seen)),
            None => "offline".to_owned(),
        };
    }
    match (path.kind, path.addr, &path.region_code, path.region) {
        (PathKind::Direct, Some(addr), ..) => format!("direct {addr}"),
        (PathKind::Direct, None, ..) => "direct".to_owned(),
        (PathKind::Relay, _, Some(code), _) => format!("relay {code}"),
        (PathKind::Relay, _, None, Some(region)) => format!("relay {region}"),
        (PathKind::Relay, ..) => "relay".to_owned(),
        (PathKind::None, ..) => "idle".to_owned(),
    }
}

fn mtu(peer: &PeerStatus) -> String {
    match peer.path.mtu {
        Some(size) if peer.path.mtu_settled => format!("{size} bytes"),
        Some(size) => format!("{size} bytes at least, being measured"),
        None => String::new(),
    }
}

fn latency(peer: &PeerStatus) -> String {
    peer.path
        .latency_ms
        .map(ui::milliseconds)
        .unwrap_or_default()
}

fn psk(peer: &PeerStatus) -> String {
    match peer.psk.state {
        PskState::Established => format!("epoch {}", peer.psk.epoch),
        PskState::Pending => "pending".to_owned(),
        // The first packet begins the handshake.
        PskState::None => "idle".to_owned(),
    }
}

fn psk_detail(peer: &PeerStatus) -> String {
    let psk = &peer.psk;
    match psk.state {
        PskState::Established => {}
        // The mode is `required` between machines that have this agent: there is no way around it.
        PskState::Pending if peer.online => {
            return "pending: the post-quantum handshake is not answered yet; until it is, packets \
                    are refused"
                .to_owned();
        }
        PskState::Pending => {
            return "pending: the peer is offline; without the post-quantum handshake packets are \
                    refused"
                .to_owned();
        }
        PskState::None => return "none: the first packet begins the handshake".to_owned(),
    }
    let kind = if psk.full {
        "full handshake: X25519 and ML-KEM-768, ephemeral and static"
    } else {
        "chained to the epoch before"
    };
    let age = psk.age_seconds.map(ui::age).unwrap_or_default();
    let fingerprint = psk.fingerprint.as_deref().unwrap_or_default();
    format!("epoch {}, {fingerprint}, {age} old, {kind}", psk.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_proto::MachineId;

    fn peer() -> PeerStatus {
        PeerStatus {
            id: MachineId::generate(),
            name: "db-1".to_owned(),
            dns_name: "db-1.acme.ztna.internal".to_owned(),
            ipv4: "100.64.0.7".parse().unwrap(),
            ipv6: "fd00::7".parse().unwrap(),
            online: true,
            last_seen: None,
            os: String::new(),
            user: String::new(),
            routes: Vec::new(),
            path: Default::default(),
            psk: Default::default(),
            tx_bytes: 0,
            rx_bytes: 0,
            last_handshake_seconds: None,
            drops: Default::default(),
        }
    }

    #[test]
    fn peers_are_found_by_every_name_that_they_have() {
        let status = Status {
            peers: vec![peer()],
            ..Status::default()
        };
        let id = status.peers[0].id.to_string();
        for name in [
            "db-1",
            "DB-1",
            "db-1.acme.ztna.internal",
            "db-1.acme.ztna.internal.",
            "100.64.0.7",
            "fd00:0::7",
            &id,
        ] {
            assert!(find(&status, name).is_ok(), "{name}");
        }
        let Err(error) = find(&status, "db-2") else {
            panic!("found what is not there");
        };
        assert_eq!(
            error.to_string(),
            "no peer is called \"db-2\"; `ztna peers` lists those that the policy lets this \
             machine see"
        );
    }

    #[test]
    fn without_a_key_a_peer_says_what_it_waits_for() {
        let mut peer = peer();
        assert!(psk_detail(&peer).starts_with("none: "));
        peer.psk.state = PskState::Pending;
        assert!(psk_detail(&peer).contains("not answered yet"));
        peer.online = false;
        assert!(psk_detail(&peer).contains("offline"));
    }

    #[test]
    fn paths_are_words() {
        let mut peer = peer();
        assert_eq!(path(&peer), "idle");
        peer.online = false;
        assert_eq!(path(&peer), "offline");
        peer.path.kind = PathKind::Relay;
        peer.path.region_code = Some("lon".to_owned());
        assert_eq!(path(&peer), "offline");
        peer.last_handshake_seconds = Some(HANDSHAKE_HOLDS);
        assert_eq!(path(&peer), "offline");
        peer.last_handshake_seconds = Some(HANDSHAKE_HOLDS - 1);
        assert_eq!(path(&peer), "relay lon");
        peer.last_handshake_seconds = None;
        peer.online = true;
        assert_eq!(path(&peer), "relay lon");
        peer.path.kind = PathKind::Direct;
        peer.path.addr = Some("192.0.2.1:1".parse().unwrap());
        assert_eq!(path(&peer), "direct 192.0.2.1:1");
        assert_eq!(mtu(&peer), "");
        peer.path.mtu = Some(1492);
        assert_eq!(mtu(&peer), "1492 bytes at least, being measured");
        peer.path.mtu_settled = true;
        assert_eq!(mtu(&peer), "1492 bytes");
    }
}
