//! A machine of a lab: the `ztna` daemon on a host, driven by the `ztna` command as a person would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::api::Server;
use crate::lab::{Lab, set_environment};
use crate::net::cmd::poll;
use crate::net::{Host, Netns};
use crate::program::{Finished, Program, finish};

/// UDP port of every agent: the default, so that NATs meet what they meet outside.
pub const PORT: u16 = 41641;
/// Longest wait for a command of `ztna`.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the daemon's socket.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long one ping waits for its answer.
const PING_WAIT: &str = "1";

/// `ztna status --json`, as far as labs look.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// What the daemon is doing.
    pub state: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// This machine, once it is enrolled.
    pub this: Option<This>,
    /// The control plane.
    #[serde(default)]
    pub control: Control,
    /// Its home relay.
    #[serde(default)]
    pub relay: HomeRelay,
    /// The peers it knows.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// A machine's connection to the control plane.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Control {
    /// Whether its stream stands.
    pub connected: bool,
}

/// A machine's home relay.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HomeRelay {
    /// Code of its region, if there is one.
    pub home_code: Option<String>,
    /// Whether it has admitted the machine.
    pub connected: bool,
}

/// The machine itself.
#[derive(Clone, Debug, Deserialize)]
pub struct This {
    /// Its tailnet address.
    pub ipv4: Ipv4Addr,
    /// Its other one.
    pub ipv6: Ipv6Addr,
}

/// A peer as the machine sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its name in the org.
    pub name: String,
    /// How packets go there.
    pub path: PeerPath,
    /// The preshared key with it.
    pub psk: PeerPsk,
}

/// How packets go to a peer.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerPath {
    /// `direct`, `relay` or `none`.
    pub kind: String,
    /// The peer's endpoint on a direct path.
    #[serde(default)]
    pub addr: Option<SocketAddr>,
    /// The relay's region on a relayed path.
    #[serde(default)]
    pub region_code: Option<String>,
    /// The largest packet that the direct path is known to carry.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Whether that is all it carries.
    #[serde(default)]
    pub mtu_settled: bool,
}

/// The preshared key with a peer.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerPsk {
    /// `established`, `pending` or `none`.
    pub state: String,
    /// Grows with every key; 0 if there was none.
    #[serde(default)]
    pub epoch: u64,
    /// Keyed hash of the key: equal at both ends, different for every key.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// What `ztna up` is given.
#[derive(Clone, Debug, Default)]
pub struct Up<'a> {
    /// The control plane.
    pub server: Option<&'a Server>,
    /// Key that enrols the machine.
    pub auth_key: Option<&'a str>,
}

/// A machine: a host, and where its daemon keeps things.
pub struct Agent {
    /// Where it runs.
    pub host: Host,
    program: String,
    state_dir: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    extra: Vec<String>,
    daemon: Option<Program>,
}

impl Agent {
    /// A machine whose daemon does not run yet. `extra` are flags for the daemon.
    ///
    /// # Errors
    /// The program is not built, or its directories cannot be made.
    pub fn new(lab: &Lab, host: &Host, extra: &[&str]) -> Result<Self> {
        let (state, log) = (lab.state_dir(&host.name)?, lab.log(&host.name));
        // Not in the state directory, which is for root only: everybody may ask for the status.
        let socket = lab.state.path().join(format!("{}.sock", host.name));
        Ok(Self::at(
            lab.program("ztna")?,
            host,
            state,
            socket,
            log,
            extra,
        ))
    }

    /// [`Agent::new`] outside a lab: with its own state directory, socket and log.
    #[must_use]
    pub fn at(
        program: String,
        host: &Host,
        state_dir: PathBuf,
        socket: PathBuf,
        log: PathBuf,
        extra: &[&str],
    ) -> Self {
        Self {
            host: host.clone(),
            program,
            state_dir,
            socket,
            log,
            extra: extra.iter().map(|&flag| flag.to_owned()).collect(),
            daemon: None,
        }
    }

    /// The machine's name: its host's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// The namespace it runs in.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.host.netns
    }

    /// Where the daemon keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> &std::path::Path {
        &self.state_dir
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// `ztna` on this machine, ready for a subcommand.
    #[must_use]
    pub fn ztna(&self) -> Command {
        let mut command = self.host.netns.command(&self.program);
        set_environment(&mut command);
        command.arg("--socket").arg(&self.socket);
        command
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time.
    pub fn start_daemon(&mut self) -> Result<()> {
        let name = format!("daemon of {}", self.name());
        let program = Program::start(&name, self.daemon_command(), &self.log)?;
        let program = self.daemon.insert(program);
        let socket = &self.socket;
        poll(START_LIMIT, "the daemon opens its socket", || {
            program.check_running()?;
            Ok(std::os::unix::net::UnixStream::connect(socket).ok())
        })?;
        Ok(())
    }

    /// The daemon with this machine's files, not started.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let mut command = self.ztna();
        command
            .arg("daemon")
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args(["--tun", "ztna0", "--port", &PORT.to_string()])
            .args(&self.extra);
        command
    }

    /// Stops the daemon in order.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop_daemon(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some(daemon) => daemon.stop(),
            None => Ok(()),
        }
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn daemon(&self) -> Result<&Program> {
        self.daemon
            .as_ref()
            .with_context(|| format!("the daemon of {} does not run", self.name()))
    }

    /// Runs `ztna up` and returns how it ended, well or not.
    ///
    /// # Errors
    /// It cannot be run, or does not end in time.
    pub fn try_up(&self, up: &Up<'_>) -> Result<Finished> {
        let mut command = self.ztna();
        command.arg("up");
        if let Some(server) = up.server {
            command.args(["--server", &server.url, "--server-pin", &server.pin]);
        }
        if let Some(key) = up.auth_key {
            command.args(["--auth-key", key]);
        }
        command.args(["--hostname", self.name()]);
        finish(command, COMMAND_LIMIT)
    }

    /// Runs `ztna up` and demands that it works.
    ///
    /// # Errors
    /// It does not; the error holds what it said.
    pub fn up(&self, up: &Up<'_>) -> Result<()> {
        succeed(&format!("`ztna up` on {}", self.name()), self.try_up(up)?)?;
        Ok(())
    }

    /// Starts the daemon and enrols the machine.
    ///
    /// # Errors
    /// Either fails.
    pub fn enrol(&mut self, server: &Server, auth_key: &str) -> Result<()> {
        self.start_daemon()?;
        self.up(&Up {
            server: Some(server),
            auth_key: Some(auth_key),
        })
    }

    /// Runs a subcommand and demands that it works.
    ///
    /// # Errors
    /// It does not; the error holds what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = self.ztna();
        command.args(args);
        let what = format!("`ztna {}` on {}", args.join(" "), self.name());
        succeed(&what, finish(command, COMMAND_LIMIT)?)
    }

    /// Runs a subcommand that must fail, and returns the last line that it says.
    ///
    /// # Errors
    /// It works.
    pub fn refused(&self, args: &[&str]) -> Result<String> {
        let mut command = self.ztna();
        command.args(args);
        refusal(
            &format!("ztna {}", args.join(" ")),
            &finish(command, COMMAND_LIMIT)?,
        )
    }

    /// What `ztna status` says.
    ///
    /// # Errors
    /// It does not work, or says something else than the contract.
    pub fn status(&self) -> Result<Status> {
        let json = self.run(&["status", "--json"])?;
        serde_json::from_str(&json)
            .with_context(|| format!("status of {}: {}", self.name(), json.trim()))
    }

    /// The machine's tailnet address.
    ///
    /// # Errors
    /// It has none.
    pub fn ipv4(&self) -> Result<Ipv4Addr> {
        let this = self.status()?.this;
        Ok(this
            .with_context(|| format!("{} is not enrolled", self.name()))?
            .ipv4)
    }

    /// The machine's tailnet address of IPv6.
    ///
    /// # Errors
    /// It has none.
    pub fn ipv6(&self) -> Result<Ipv6Addr> {
        let this = self.status()?.this;
        Ok(this
            .with_context(|| format!("{} is not enrolled", self.name()))?
            .ipv6)
    }

    /// What the machine knows of a peer. `None`: nothing.
    ///
    /// # Errors
    /// `ztna status` fails.
    pub fn peer(&self, name: &str) -> Result<Option<Peer>> {
        let peers = self.status()?.peers;
        Ok(peers.into_iter().find(|peer| peer.name == name))
    }

    /// Whether one ping is answered.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn pings(&self, address: Ipv4Addr) -> Result<bool> {
        self.pings_within(address, PING_WAIT)
    }

    /// Whether one ping is answered within so many seconds.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn pings_within(&self, address: Ipv4Addr, seconds: &str) -> Result<bool> {
        self.pings_with(address.into(), &["-W", seconds])
    }

    /// Whether one ping with these flags is answered.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn pings_with(&self, address: IpAddr, flags: &[&str]) -> Result<bool> {
        let mut command = self.host.netns.command("ping");
        command
            .args(["-n", "-c", "1"])
            .args(flags)
            .arg(address.to_string());
        Ok(finish(command, COMMAND_LIMIT)?.status.success())
    }

    /// Round trip through the tailnet in milliseconds, the shortest of a few.
    ///
    /// # Errors
    /// None is answered.
    pub fn round_trip_ms(&self, address: Ipv4Addr) -> Result<f64> {
        let mut command = self.host.netns.command("ping");
        command.args(["-n", "-q", "-c", "5", "-i", "0.2", &address.to_string()]);
        let said = succeed("ping", finish(command, COMMAND_LIMIT)?)?;
        shortest_round_trip(&said).with_context(|| format!("ping names no time: {said}"))
    }

    /// Pings until an answer comes; returns how long that took.
    ///
    /// # Errors
    /// None comes in time.
    pub fn ping_until(&self, address: Ipv4Addr, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let what = format!("{} gets an answer from {address}", self.name());
        poll(limit, &what, || Ok(self.pings(address)?.then_some(())))?;
        Ok(start.elapsed())
    }
}

/// The first figure of ping's last line, `rtt min/avg/max/mdev = 0.1/…`.
fn shortest_round_trip(said: &str) -> Option<f64> {
    let (_, figures) = said
        .lines()
        .rfind(|line| line.starts_with("rtt"))?
        .split_once('=')?;
    figures.split('/').next()?.trim().parse().ok()
}

/// Demands that a command ended well, and returns its output.
///
/// # Errors
/// It did not; the error holds what it said.
pub fn succeed(what: &str, finished: Finished) -> Result<String> {
    if !finished.status.success() {
        bail!(
            "{what} failed ({}): {} {}",
            finished.status,
            finished.stderr.trim(),
            finished.stdout.trim()
        );
    }
    Ok(finished.stdout)
}

/// The error of a command that had to fail: the last line of its standard error.
///
/// # Errors
/// It ended well, or without a word.
pub fn refusal(what: &str, finished: &Finished) -> Result<String> {
    if finished.status.success() {
        bail!("`{what}` works, and must not: {}", finished.stdout.trim());
    }
    let said = finished
        .stderr
        .lines()
        .rfind(|line| !line.trim().is_empty());
    Ok(said
        .with_context(|| format!("`{what}` fails without a word"))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_tells_the_round_trip() {
        let said = "5 packets transmitted, 5 received, 0% packet loss, time 811ms\n\
                    rtt min/avg/max/mdev = 0.045/0.051/0.060/0.006 ms\n";
        assert_eq!(shortest_round_trip(said), Some(0.045));
        assert_eq!(
            shortest_round_trip("5 packets transmitted, 0 received"),
            None
        );
    }

    #[test]
    fn a_status_reads_with_and_without_what_is_optional() {
        let status: Status = serde_json::from_str(
            r#"{"state":"running","this":{"name":"a","ipv4":"100.64.0.1","ipv6":"fd00::1"},"peers":[
                {"name":"b","ipv4":"100.64.0.2","path":{"kind":"direct","addr":"198.51.100.12:41641","latency_ms":0.4},
                 "psk":{"state":"established","epoch":2,"fingerprint":"ab12"}},
                {"name":"c","ipv4":"100.64.0.3","path":{"kind":"none"},"psk":{"state":"none"}}]}"#,
        )
        .unwrap();
        assert_eq!(status.peers[0].psk.epoch, 2);
        assert_eq!(status.peers[1].path.addr, None);
        let down: Status = serde_json::from_str(r#"{"state":"needs_login","this":null}"#).unwrap();
        assert!(down.peers.is_empty());
    }
}
