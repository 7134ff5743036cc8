//! Whether a firewall drops what comes in and nobody asked for: ufw and firewalld by their files, and
//! else what the kernel itself has, which `nft` lists.

use std::process::Stdio;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use ztna_proto::posture::{Known, Signal};

use super::LinuxHealth;

/// Longest listing that is read, in bytes.
const MAX_LISTING: u64 = 1024 * 1024;
/// Input chains that are looked at; people have one or two.
const MAX_CHAINS: usize = 8;

/// A base chain, as `nft -j` lists it (libnftables-json(5)).
#[derive(Debug, Deserialize, PartialEq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    hook: String,
    #[serde(default)]
    policy: String,
}

impl LinuxHealth {
    pub(super) async fn packet_filter(&self) -> Signal {
        if let Some(signal) = self.ufw() {
            return signal;
        }
        if self.firewalld() {
            return Signal::new(Known::Yes, "firewalld is running");
        }
        match timeout(self.nft_time, self.kernel()).await {
            Ok(Ok(signal)) => signal,
            Ok(Err(why)) => Signal::new(Known::Unknown, why),
            Err(_) => Signal::new(Known::Unknown, "nft did not answer in time"),
        }
    }

    /// `None`: ufw is not on.
    fn ufw(&self) -> Option<Signal> {
        let text = self.read("etc/ufw/ufw.conf")?;
        let on = |line: &str| line.trim().eq_ignore_ascii_case("enabled=yes");
        if !text.lines().any(on) {
            return None;
        }
        let defaults = self.read("etc/default/ufw").unwrap_or_default();
        let accepts = |line: &str| {
            line.trim()
                .strip_prefix("DEFAULT_INPUT_POLICY=")
                .is_some_and(|policy| policy.trim_matches('"') == "ACCEPT")
        };
        Some(match defaults.lines().any(accepts) {
            true => Signal::new(Known::No, "ufw is on and lets everything in by default"),
            false => Signal::new(Known::Yes, "ufw is on"),
        })
    }

    fn firewalld(&self) -> bool {
        let pid = self.read("run/firewalld.pid").unwrap_or_default();
        let pid = pid.trim().parse::<u32>();
        // A file of a process that is gone may be there still, and the number another's.
        pid.is_ok_and(|pid| {
            let command = self.read(&format!("proc/{pid}/cmdline"));
            command.is_some_and(|command| command.contains("firewalld"))
        })
    }

    /// What the kernel does with packets to this machine.
    async fn kernel(&self) -> Result<Signal, String> {
        let chains = input_chains(&self.nft(&["list", "chains"]).await?)?;
        let mut families = Vec::new();
        for chain in chains.iter().take(MAX_CHAINS) {
            let Chain {
                family,
                table,
                name,
                ..
            } = chain;
            let drops = chain.policy == "drop"
                || drops_at_end(&self.nft(&["list", "chain", family, table, name]).await?)?;
            if drops {
                families.push(family.as_str());
            }
        }
        let has = |family: &str| families.contains(&family);
        let ipv4 = has("inet") || has("ip");
        let ipv6 = has("inet") || has("ip6") || !self.has_ipv6();
        if ipv4 && ipv6 {
            return Ok(Signal::new(
                Known::Yes,
                "the packet filter drops by default",
            ));
        }
        // The older tables are not in the listing.
        let legacy = ["proc/net/ip_tables_names", "proc/net/ip6_tables_names"];
        let legacy = legacy.iter().filter_map(|path| self.read(path));
        if legacy
            .into_iter()
            .any(|names| names.lines().any(|name| name == "filter"))
        {
            return Err(
                "the kernel has rules of iptables-legacy, which are not read here".to_owned(),
            );
        }
        Ok(match (ipv4, has("ip6")) {
            (true, _) => Signal::new(
                Known::No,
                "the packet filter drops IPv4 only and lets IPv6 in",
            ),
            (false, true) => Signal::new(
                Known::No,
                "the packet filter drops IPv6 only and lets IPv4 in",
            ),
            (false, false) => Signal::new(Known::No, "nothing drops incoming packets by default"),
        })
    }

    fn has_ipv6(&self) -> bool {
        self.read("proc/net/if_inet6")
            .is_some_and(|addresses| !addresses.is_empty())
    }

    /// What `nft -j` with these arguments lists.
    async fn nft(&self, arguments: &[&str]) -> Result<Vec<Value>, String> {
        let Some((program, before)) = self.nft.split_first() else {
            return Err("nft, which lists the packet filter, is not installed".to_owned());
        };
        let call = async {
            let mut child = Command::new(program)
                .args(before)
                .arg("-j")
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .ok()?;
            let mut text = Vec::new();
            let stdout = child.stdout.take()?;
            stdout.take(MAX_LISTING).read_to_end(&mut text).await.ok()?;
            let ended = child.wait().await.ok()?;
            ended.success().then_some(text)
        };
        let text = call.await;
        let text =
            text.ok_or_else(|| "nft does not list the packet filter; it takes root".to_owned())?;
        listing(&text)
    }
}

/// The objects of a listing.
fn listing(text: &[u8]) -> Result<Vec<Value>, String> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Value>,
    }
    let listing: Result<Listing, _> = serde_json::from_slice(text);
    listing
        .map(|listing| listing.nftables)
        .map_err(|_| "what nft lists cannot be read".to_owned())
}

/// Chains that see packets to this machine.
fn input_chains(listing: &[Value]) -> Result<Vec<Chain>, String> {
    let chains = listing.iter().filter_map(|object| object.get("chain"));
    let chains = chains.map(|chain| {
        Chain::deserialize(chain).map_err(|_| "what nft lists cannot be read".to_owned())
    });
    let chains: Vec<Chain> = chains.collect::<Result<_, _>>()?;
    let input = |chain: &Chain| {
        chain.kind == "filter"
            && chain.hook == "input"
            && matches!(chain.family.as_str(), "inet" | "ip" | "ip6")
    };
    Ok(chains.into_iter().filter(input).collect())
}

/// Whether a chain ends with a rule that drops or rejects whatever has come so far.
fn drops_at_end(listing: &[Value]) -> Result<bool, String> {
    let mut rules = listing.iter().filter_map(|object| object.get("rule"));
    let Some(last) = rules.next_back() else {
        return Ok(false);
    };
    let expressions = last.get("expr").and_then(Value::as_array);
    let expressions = expressions.ok_or_else(|| "what nft lists cannot be read".to_owned())?;
    let mut drops = false;
    for expression in expressions {
        let key = expression
            .as_object()
            .and_then(|object| object.keys().next());
        match key.map(String::as_str) {
            Some("drop" | "reject") => drops = true,
            Some("counter" | "log") => {}
            // A condition, or another verdict.
            _ => return Ok(false),
        }
    }
    Ok(drops)
}
