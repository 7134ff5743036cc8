//! What the demo prints.

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::{Account, Pair};
use crate::agent::{Agent, Peer};
use crate::api::Server;

/// Where the server is, who may sign in, and how a real machine joins.
pub fn access(server: &Server, account: &Account) {
    println!();
    println!("  URL        {}", server.url);
    println!("  Sign-in    {}  {}", account.email, account.password);
    println!();
    println!("  A real machine joins with (copy target/debug/ztna to it):");
    println!(
        "  sudo ./ztna up --server {} --server-pin {} --auth-key {}",
        server.url, server.pin, account.auth_key
    );
    println!();
}

/// Why there are no machines.
pub fn needs_root() {
    println!("  The demo's machines live in network namespaces, which need root: sudo ./dev up");
    println!();
}

/// That the demo stays, and how it ends.
pub fn stays() {
    println!("  Ctrl-C stops everything; the next start finds it again.");
    println!();
}

/// The pairs, one row per direction.
pub fn table(pairs: &[Pair]) {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["Pair", "NATs", "Path", "Latency", "PSK"]);
    for pair in pairs {
        table.add_row([
            format!("{} → {}", pair.from, pair.peer.name),
            format!("{} – {}", pair.nats.0.name(), pair.nats.1.name()),
            path(&pair.peer),
            format!("{:.1} ms", pair.latency_ms),
            psk(&pair.peer),
        ]);
    }
    println!("{table}");
    println!();
}

/// How to be on one of the machines.
///
/// # Errors
/// A machine is not up.
pub fn namespaces(machines: &[Agent]) -> Result<()> {
    let (Some(first), Some(second)) = (machines.first(), machines.get(1)) else {
        return Ok(());
    };
    println!(
        "  From {} to {}: sudo ip netns exec {} ping {}",
        first.name(),
        second.name(),
        first.netns().name(),
        second.ipv4()?
    );
    println!();
    Ok(())
}

fn path(peer: &Peer) -> String {
    let kind = &peer.path.kind;
    match (peer.path.addr, &peer.path.region_code) {
        (Some(addr), _) => format!("{kind} {addr}"),
        (None, Some(region)) => format!("{kind} {region}"),
        (None, None) => kind.clone(),
    }
}

fn psk(peer: &Peer) -> String {
    let psk = &peer.psk;
    match &psk.fingerprint {
        Some(fingerprint) => format!("{}, epoch {}, {fingerprint}", psk.state, psk.epoch),
        None => psk.state.clone(),
    }
}
