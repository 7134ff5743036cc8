//! The demo of `./dev up`: three machines in network namespaces behind different NATs, in an org of
//! a `ztna-server` that runs on this machine.

mod account;
mod network;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::agent::{Agent, Up};
use crate::api::{Api, Server};
use crate::net::cmd::poll;
use crate::net::{self, Nat};
use crate::{lab, signal};
use account::Account;

/// The machines: name and what their router does.
const MACHINES: [(&str, Nat); 3] = [
    ("office", Nat::Cone),
    ("home", Nat::Cone),
    ("mobile", Nat::Hard),
];
/// Longest wait for the first answer between two machines.
const PING_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the direct path between the machines whose NATs allow one.
const DIRECT_LIMIT: Duration = Duration::from_secs(30);

/// What `ztna-lab demo` is given.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Data directory of a running ztna-server
    #[arg(long)]
    data_dir: PathBuf,
    /// Verify everything and exit with 0 or 1
    #[arg(long)]
    check: bool,
    /// No machines, which need root: only the account and the join command
    #[arg(long)]
    server_only: bool,
}

/// What the server says of itself when it is ready.
#[derive(Deserialize)]
pub struct ServerFile {
    #[serde(flatten)]
    server: Server,
    stun_port: u16,
}

/// Runs the demo until a signal comes, or once with `--check`.
///
/// # Errors
/// The server does not answer, or the demo cannot be set up.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let ready = read_server(&args.data_dir)?;
    let api = Api::new(&ready.server, None)?;
    let account = Account::find_or_make(&api, &args.data_dir)?;
    if args.server_only {
        let watch = signal::Watch::start()?;
        account.sign_in(&api)?;
        show::access(&ready.server, &account);
        show::needs_root();
        if !args.check {
            watch.wait();
        }
        return Ok(ExitCode::SUCCESS);
    }
    crate::require_root()?;
    net::sweep()?;
    lab::sweep_dirs(false)?;
    let watch = signal::Watch::start()?;
    let demo = Demo::start(args, &ready, &account)?;
    demo.wait_until_connected()?;
    let pairs = demo.pairs()?;
    show::access(&ready.server, &account);
    show::table(&pairs);
    show::namespaces(&demo.machines)?;
    let code = if args.check {
        verdict(&pairs)
    } else {
        show::stays();
        watch.wait();
        ExitCode::SUCCESS
    };
    demo.stop()?;
    Ok(code)
}

fn read_server(data: &Path) -> Result<ServerFile> {
    let file = data.join("server.json");
    let json = std::fs::read_to_string(&file)
        .with_context(|| format!("no server runs on {} (no server.json)", data.display()))?;
    serde_json::from_str(&json).with_context(|| format!("{}: {json}", file.display()))
}

/// The running machines.
struct Demo {
    machines: Vec<Agent>,
    // Outlives the machines; then it takes their namespaces along.
    _net: net::Net,
    _sockets: tempfile::TempDir,
}

/// One direction of a pair of machines.
pub struct Pair {
    /// From which machine.
    pub from: String,
    /// To which.
    pub peer: crate::agent::Peer,
    /// The kinds of their NATs.
    pub nats: (Nat, Nat),
    /// Round trip, in milliseconds.
    pub latency_ms: f64,
}

impl Demo {
    fn start(args: &DemoArgs, ready: &ServerFile, account: &Account) -> Result<Self> {
        let net = network::make(&ready.server.url, ready.stun_port)?;
        let program = lab::program(&lab::program_dir()?, "ztna")?;
        let sockets = lab::open_dir()?;
        let mut machines = Vec::new();
        for (n, (name, nat)) in MACHINES.into_iter().enumerate() {
            let host = net.router(&format!("r{n}"), nat)?.host(name)?;
            let state = args.data_dir.join("demo").join(name);
            std::fs::create_dir_all(&state)
                .with_context(|| format!("cannot make {}", state.display()))?;
            let log = args.data_dir.join("demo").join(format!("{name}.log"));
            let socket = sockets.path().join(name);
            let mut machine = Agent::at(program.clone(), &host, state, socket, log, &[]);
            machine.start_daemon()?;
            // A machine of an earlier start is known already, and the key is not used.
            machine.up(&Up {
                server: Some(&ready.server),
                auth_key: Some(&account.auth_key),
            })?;
            eprintln!("  {name} is up, behind a {} NAT", nat.name());
            machines.push(machine);
        }
        Ok(Self {
            machines,
            _net: net,
            _sockets: sockets,
        })
    }

    /// Waits until every machine has an answer from every other, and for the direct path where the
    /// NATs allow one.
    fn wait_until_connected(&self) -> Result<()> {
        for from in &self.machines {
            for to in &self.machines {
                if from.name() != to.name() {
                    from.ping_until(to.ipv4()?, PING_LIMIT)?;
                }
            }
        }
        let [office, home, _] = &self.machines[..] else {
            bail!("the demo has three machines");
        };
        let address = home.ipv4()?;
        // Not there in time is no error here: the table tells, and the check judges.
        let _ = poll(DIRECT_LIMIT, "the direct path", || {
            office.pings(address)?;
            let paths = [office.peer(home.name())?, home.peer(office.name())?];
            let direct = paths
                .iter()
                .flatten()
                .all(|peer| peer.path.kind == "direct");
            Ok(direct.then_some(()))
        });
        Ok(())
    }

    fn pairs(&self) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for (from, (_, nat)) in self.machines.iter().zip(MACHINES) {
            for (to, (_, peer_nat)) in self.machines.iter().zip(MACHINES) {
                if from.name() == to.name() {
                    continue;
                }
                let latency_ms = from.round_trip_ms(to.ipv4()?)?;
                let peer = from.peer(to.name())?;
                pairs.push(Pair {
                    from: from.name().to_owned(),
                    peer: peer
                        .with_context(|| format!("{} does not know {}", from.name(), to.name()))?,
                    nats: (nat, peer_nat),
                    latency_ms,
                });
            }
        }
        Ok(pairs)
    }

    fn stop(mut self) -> Result<()> {
        for machine in &mut self.machines {
            machine.stop_daemon()?;
        }
        Ok(())
    }
}

/// Whether every pair has a key, equal at both ends, and the machines behind cone NATs a direct
/// path. That they answer is known already.
fn verdict(pairs: &[Pair]) -> ExitCode {
    let mut faults = Vec::new();
    for pair in pairs {
        let name = format!("{} → {}", pair.from, pair.peer.name);
        if pair.peer.psk.state != "established" {
            faults.push(format!("{name}: the PSK is {}", pair.peer.psk.state));
        }
        if pair.nats == (Nat::Cone, Nat::Cone) && pair.peer.path.kind != "direct" {
            faults.push(format!("{name}: the path is {}", pair.peer.path.kind));
        }
        let back = pairs
            .iter()
            .find(|other| other.from == pair.peer.name && other.peer.name == pair.from);
        if back.is_none_or(|back| back.peer.psk.fingerprint != pair.peer.psk.fingerprint) {
            faults.push(format!("{name}: the ends have different PSKs"));
        }
    }
    for fault in &faults {
        eprintln!("✘ {fault}");
    }
    if faults.is_empty() {
        eprintln!(
            "✔ all {} directions answer, each under its own PSK",
            pairs.len()
        );
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: &str, to: &str, kind: &str, fingerprint: &str) -> Pair {
        let peer = serde_json::json!({"name": to, "ipv4": "100.64.0.1", "path": {"kind": kind},
            "psk": {"state": "established", "epoch": 1, "fingerprint": fingerprint}});
        Pair {
            from: from.to_owned(),
            peer: serde_json::from_value(peer).unwrap(),
            nats: (Nat::Cone, Nat::Cone),
            latency_ms: 1.0,
        }
    }

    #[test]
    fn the_check_judges_path_and_keys() {
        let failure = format!("{:?}", ExitCode::FAILURE);
        let judge = |pairs: &[Pair]| format!("{:?}", verdict(pairs)) != failure;
        let direct = [pair("a", "b", "direct", "x"), pair("b", "a", "direct", "x")];
        assert!(judge(&direct));
        let relayed = [pair("a", "b", "relay", "x"), pair("b", "a", "relay", "x")];
        assert!(!judge(&relayed));
        let different = [pair("a", "b", "direct", "x"), pair("b", "a", "direct", "y")];
        assert!(!judge(&different));
        assert!(!judge(&direct[..1]), "one end is missing");
    }
}
