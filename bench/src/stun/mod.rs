//! `ztna-bench stun`.

pub mod echo;
mod load;
mod mmsg;
mod net;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use load::{Answer, REQUEST};

use crate::Runs;
use crate::process::Server;
use ztna_bench_record::{Bar, Better, Record, Run, Sample};

/// How.
#[derive(clap::Args)]
pub struct Options {
    /// Our server
    #[arg(long, default_value = "target/release/ztna-stun", value_name = "FILE")]
    pub ztna_stun: PathBuf,
    /// coturn's server
    #[arg(long, default_value = "turnserver", value_name = "FILE")]
    pub coturn: PathBuf,
    /// The server of Debian's package stun-server
    #[arg(long, default_value = "stund", value_name = "FILE")]
    pub stund: PathBuf,
}

enum Kind {
    Ztna,
    Coturn { threads: Option<u8> },
    Stund,
    Echo,
}

/// In the order of the report; ours first.
const SERVERS: &[(Kind, &str)] = &[
    (Kind::Ztna, "ztna-stun"),
    (Kind::Coturn { threads: None }, "coturn"),
    (Kind::Coturn { threads: Some(0) }, "coturn, single-threaded"),
    (Kind::Stund, "stun-server"),
    (Kind::Echo, "bare UDP echo"),
];

/// Runs the figures.
pub fn run(options: &Options, runs: Runs) -> Result<Vec<Record>> {
    let net = net::Net::make()?;
    eprintln!("▶ {}", net.note);
    let mut all: Vec<Vec<Run>> = SERVERS.iter().map(|_| Vec::new()).collect();
    for round in 1..=runs.count {
        for ((kind, name), seen) in SERVERS.iter().zip(&mut all) {
            eprintln!("▶ answers: {name}, run {round} of {}", runs.count);
            let run = once(kind, name, options, &net, runs);
            seen.push(run.with_context(|| format!("answers: {name}"))?);
        }
    }
    let samples: Vec<Sample> = SERVERS
        .iter()
        .zip(&all)
        .map(|((_, name), runs)| Sample::new(name, runs, true))
        .collect();
    let figure = |bar: &str| {
        format!("answers to bare binding requests over UDP, IPv4, per CPU-second, beside {bar}")
    };
    let unit = "answers/CPU-s";
    let mut records = vec![
        Record::compare(
            ("stun-answers", &figure("coturn"), unit),
            (Better::More, Bar::Ratio(3.0)),
            samples.clone(),
            &["coturn", "coturn, single-threaded"],
        ),
        Record::compare(
            (
                "stun-answers-echo",
                &figure("a server that sends datagrams back with the same socket calls"),
                unit,
            ),
            (Better::More, Bar::Ratio(0.7)),
            samples,
            &["bare UDP echo"],
        ),
    ];
    for record in &mut records {
        record.notes.push(net.note.clone());
    }
    Ok(records)
}

fn once(kind: &Kind, name: &str, options: &Options, net: &net::Net, runs: Runs) -> Result<Run> {
    let dir = tempfile::tempdir()?;
    let to = SocketAddrV4::new(net.server, free_port(net.server)?);
    let answer = match kind {
        Kind::Echo => Answer::Echo,
        _ => Answer::Stun,
    };
    let command = command(kind, options, to, net, dir.path())?;
    let mut server = Server::start(name, command, runs.cpus)?;
    let probe = UdpSocket::bind((net.clients, 0))?;
    probe.set_read_timeout(Some(Duration::from_millis(100)))?;
    probe.connect(to)?;
    server.wait_ready(|| {
        // Nothing listens yet: the next try will tell.
        let _ = probe.send(&REQUEST);
        let mut buf = [0; 512];
        let len = probe.recv(&mut buf).ok()?;
        answer.is(&buf[..len]).then_some(())
    })?;
    load::run(&server, net.clients, to, answer, runs.length)
}

/// A port that nothing listens on.
fn free_port(address: Ipv4Addr) -> Result<u16> {
    Ok(UdpSocket::bind((address, 0))?.local_addr()?.port())
}

fn command(
    kind: &Kind,
    options: &Options,
    to: SocketAddrV4,
    net: &net::Net,
    dir: &Path,
) -> Result<Command> {
    Ok(match kind {
        Kind::Ztna => {
            let mut command = Command::new(&options.ztna_stun);
            command.args(["--listen", &to.to_string()]);
            // The bound is kept up, and never reached.
            command.env("ZTNA_STUN_RATE", "100000000");
            command
        }
        Kind::Coturn { threads } => {
            let mut command = Command::new(&options.coturn);
            command
                .args(["-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli"])
                .args(["--no-stdout-log", "--log-file", "/dev/null"])
                .args(["--listening-ip", &to.ip().to_string()])
                .args(["--listening-port", &to.port().to_string()])
                .arg("--pidfile")
                .arg(dir.join("turnserver.pid"))
                .arg("--userdb")
                .arg(dir.join("turndb"));
            if let Some(threads) = threads {
                command.args(["--relay-threads", &threads.to_string()]);
            }
            command
        }
        Kind::Stund => {
            let mut command = Command::new(&options.stund);
            command
                .args(["-h", &to.ip().to_string()])
                .args(["-a", &net.second.to_string()])
                .args(["-p", &to.port().to_string()])
                .args(["-o", &free_port(net.server)?.to_string()]);
            command
        }
        Kind::Echo => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["serve-echo", &to.to_string()]);
            command
        }
    })
}
