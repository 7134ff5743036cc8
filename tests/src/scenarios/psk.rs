//! Preshared keys change under traffic without losing a packet, and without one there is no way in,
//! not even with a machine's WireGuard key.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::pair::Pair;
use super::{Scenario, demand_eq};
use crate::lab::Lab;
use crate::measure::{Gauge, Path, Stream};
use crate::net::Nat;
use crate::net::cmd::{poll, run, run_with_input};
use crate::net::nat;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "psk",
    about: "three PSK epochs under the stream: nothing lost; stock WireGuard without PSK gets nothing",
    run: scenario,
    // Stock WireGuard in the place of b makes no new keys.
    expected_logs: &["preshared key expired"],
};

/// Seconds between two keys.
const INTERVAL: &str = "5";
/// Epochs that must be seen.
const EPOCHS: usize = 3;
/// Longest wait for them.
const EPOCHS_LIMIT: Duration = Duration::from_secs(90);
/// Pings through stock WireGuard; its handshake is tried every 5 s.
const STOCK_PINGS: &str = "12";

fn scenario(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let one = lab.net.router("r1", Nat::Cone)?;
    let two = lab.net.router("r2", Nat::Cone)?;
    let (a, b) = (one.host("a")?, two.host("b")?);
    let mut pair = Pair::enrol(lab, figures, [&a, &b], &["--psk-interval", INTERVAL])?;
    pair.wait_for_path(figures, "direct")?;
    let gauge = pair.gauge(&one, &b);
    pair.measure(lab, figures, std::slice::from_ref(&gauge), &[Path::Direct])?;

    gauge.reset()?;
    let stream = Stream::between(&pair.a, &pair.b)?;
    let epochs = watch_epochs(&pair, EPOCHS, EPOCHS_LIMIT)?;
    let loss = stream.finish()?;
    loss.note(figures);
    figures.set("path", gauge.path(loss.ends[0].received)?.name());
    figures.set("psk_epoch", epochs.keys().next_back().copied());
    figures.set("psk_epochs", epochs.keys().copied().collect::<Vec<_>>());
    loss.demand_none()?;

    stock_wireguard(&mut pair, figures, &gauge)?;
    pair.stop()
}

/// Watches both ends until they have shared `count` epochs: epoch → fingerprint.
pub fn watch_epochs(pair: &Pair, count: usize, limit: Duration) -> Result<BTreeMap<u64, String>> {
    let mut shared: BTreeMap<u64, String> = BTreeMap::new();
    poll(limit, &format!("{count} epochs pass"), || {
        let [a, b] = pair.views()?.map(|view| view.psk);
        if a.epoch == b.epoch && a.epoch > 0 {
            let (Some(at_a), Some(at_b)) = (a.fingerprint, b.fingerprint) else {
                return Ok(None);
            };
            demand_eq(
                &format!("fingerprint of epoch {} at b", a.epoch),
                &at_b,
                &at_a,
            )?;
            if let Some(before) = shared.insert(a.epoch, at_a.clone()) {
                demand_eq("fingerprint within an epoch", &at_a, &before)?;
            }
        }
        Ok((shared.len() >= count).then_some(()))
    })
    .with_context(|| format!("seen: {shared:?}"))?;
    let mut fingerprints: Vec<_> = shared.values().collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    demand_eq("different fingerprints", &fingerprints.len(), &shared.len())?;
    Ok(shared)
}

/// Puts stock WireGuard in the place of b, with b's own private key and the hole that b punched,
/// and no preshared key: a must not let it in.
fn stock_wireguard(pair: &mut Pair, figures: &mut Figures, gauge: &Gauge) -> Result<()> {
    demand_eq("path before", &gauge.path(1)?, &Path::Direct)?;
    let a_address = pair.a.ipv4()?;
    let b_address = pair.b.ipv4()?;
    let a_key = private_key(&pair.a)?;
    let b_key = private_key(&pair.b)?;
    let [_, a_as_seen_by_b] = pair.views()?;
    let endpoint = a_as_seen_by_b
        .path
        .addr
        .context("b does not know where a is")?;
    pair.b.stop_daemon()?;

    let netns = pair.b.netns().clone();
    if netns.ip("link add wg0 type wireguard").is_err() {
        // A kernel without WireGuard: the program does the same.
        run(netns.command("wireguard-go").arg("wg0"))?;
    }
    let a_public = public_key(&a_key)?;
    let config = format!(
        "[Interface]\nPrivateKey = {b_key}\nListenPort = {}\n\
         [Peer]\nPublicKey = {a_public}\nEndpoint = {endpoint}\nAllowedIPs = {a_address}/32\n",
        crate::agent::PORT
    );
    run_with_input(
        netns.command("wg").args(["setconf", "wg0", "/dev/stdin"]),
        &config,
    )?;
    netns.ip(&format!("addr add {b_address}/32 dev wg0"))?;
    netns.ip("link set wg0 up")?;
    netns.ip(&format!("route add {a_address}/32 dev wg0"))?;

    nat::reset(&gauge.at)?;
    let mut ping = netns.command("ping");
    ping.args([
        "-n",
        "-c",
        STOCK_PINGS,
        "-i",
        "0.5",
        "-W",
        "1",
        &a_address.to_string(),
    ]);
    if run(&mut ping).is_ok() {
        bail!("stock WireGuard without the preshared key got answers");
    }
    let tried = nat::read(&gauge.at)?.udp_with(gauge.peer).packets;
    demand_eq(
        "stock WireGuard's packets reached the router of a",
        &(tried > 0),
        &true,
    )?;
    let handshakes = run(netns
        .command("wg")
        .args(["show", "wg0", "latest-handshakes"]))?;
    let when = handshakes.split_whitespace().last().map(str::to_owned);
    demand_eq(
        "stock WireGuard's last handshake",
        &when.as_deref(),
        &Some("0"),
    )?;
    figures.set("stock_wireguard", "no handshake");
    Ok(())
}

/// A machine's WireGuard key, as its state file has it.
fn private_key(machine: &crate::agent::Agent) -> Result<String> {
    let path = machine.state_dir().join("state.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let state: serde_json::Value = serde_json::from_str(&text)?;
    let key = state["keys"]["wg"].as_str();
    Ok(key
        .context("the state file holds no WireGuard key")?
        .to_owned())
}

fn public_key(private: &str) -> Result<String> {
    let mut command = std::process::Command::new("wg");
    Ok(run_with_input(command.arg("pubkey"), private)?
        .trim()
        .to_owned())
}
