//! Load, and what it costs.

// sysconf has no safe wrapper in std.
#![allow(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::net::{End, Net, output};
use crate::tunnels::Tunnel;

/// The program that sends and counts UDP packets; it lies beside this one.
const UDP_PROGRAM: &str = "ztna-bench-udp";
/// Port of the load generator's server.
const PORT: &str = "5201";
/// Payload of the UDP packets, in bytes.
pub const UDP_PAYLOAD: u32 = 1200;
/// Packets per second between which the rate is searched.
const SEARCH: (f64, f64) = (4_000.0, 512_000.0);
/// Halvings of that range, on a logarithmic scale: the rate is found to within 4 %.
const SEARCH_STEPS: u32 = 7;
/// Length of a step.
const SEARCH_SECONDS: f64 = 1.0;
/// Loss that counts as none.
const LOSS: f64 = 0.001;
/// A generator that sends less than this share of what it is told to is at its limit.
const KEPT_UP: f64 = 0.9;
/// Between two pings, in milliseconds.
const PING_PAUSE_MS: u32 = 5;
/// TCP at the same rate for all: what the slowest of them carries, in bits per second.
const PACED: u64 = 200_000_000;
/// Pings of an idle tunnel.
const IDLE_PINGS: u32 = 400;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forth,
    Back,
}

/// What a transfer brought and took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// Bits per second that arrived.
    pub bits: f64,
    /// CPU time of the daemons, in seconds per 10^9 bytes that arrived.
    pub cpu_per_gb: f64,
    /// The same, of the whole machine.
    pub machine_per_gb: f64,
    /// Share of one CPU that the daemons used.
    pub daemons_cpu: f64,
}

/// What a ping runs beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// One TCP stream, as fast as it goes.
    Tcp,
    /// One TCP stream of [`PACED`].
    PacedTcp,
}

/// Moves data by TCP for so long.
pub fn tcp(net: &Net, tunnel: &Tunnel, streams: u32, way: Way, seconds: f64) -> Result<Transfer> {
    let mut args = vec!["-P".to_owned(), streams.to_string()];
    if way == Way::Back {
        args.push("-R".to_owned());
    }
    transfer(net, tunnel, seconds, &args)
}

fn transfer(net: &Net, tunnel: &Tunnel, seconds: f64, args: &[String]) -> Result<Transfer> {
    let before = (tunnel.cpu_time()?, machine_cpu_time()?, Instant::now());
    let said = iperf(net, tunnel, seconds, args)?;
    let elapsed = before.2.elapsed().as_secs_f64();
    let cpu = tunnel.cpu_time()? - before.0;
    let machine = machine_cpu_time()? - before.1;
    let received = &said["end"]["sum_received"];
    let gigabytes = number(&received["bytes"])? / 1e9;
    Ok(Transfer {
        bits: number(&received["bits_per_second"])?,
        cpu_per_gb: cpu / gigabytes,
        machine_per_gb: machine / gigabytes,
        daemons_cpu: cpu / elapsed,
    })
}

/// The most UDP packets per second that arrive with less loss than [`LOSS`], that loss, and whether
/// the generator was at its limit.
pub fn udp(net: &Net, tunnel: &Tunnel) -> Result<(f64, f64, bool)> {
    let (mut low, mut high) = SEARCH;
    let (mut best, mut lost, mut held) = (0.0, 0.0, false);
    for _ in 0..SEARCH_STEPS {
        let rate = (low * high).sqrt();
        let (sent, received) = udp_at(net, tunnel, rate)?;
        let share = 1.0 - received / sent.max(1.0);
        if share < LOSS {
            let per_second = received / SEARCH_SECONDS;
            if per_second > best {
                (best, lost) = (per_second, share.max(0.0));
                held = per_second < rate * KEPT_UP;
            }
            low = rate;
        } else {
            high = rate;
        }
    }
    Ok((best, lost, held))
}

/// Packets that are sent at a rate, and those that arrive.
fn udp_at(net: &Net, tunnel: &Tunnel, rate: f64) -> Result<(f64, f64)> {
    let program = std::env::current_exe()?.with_file_name(UDP_PROGRAM);
    let to = format!("{}:{PORT}", tunnel.inner[1]);
    let mut receiver = net
        .command(End::B, &program)
        .args(["receive", &to])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = receiver.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(said).lines();
    lines.next().context("the receiver is not ready")??;
    let mut send = net.command(End::A, &program);
    send.args(["send", &to])
        .args([UDP_PAYLOAD.to_string(), rate.to_string()])
        .arg(SEARCH_SECONDS.to_string());
    let sent = output(&mut send);
    let received = lines.next().context("the receiver said nothing")??;
    receiver.wait()?;
    Ok((sent?.trim().parse()?, received.trim().parse()?))
}

/// Round trips in milliseconds, sorted, without other traffic.
pub fn idle_pings(net: &Net, tunnel: &Tunnel) -> Result<Vec<f64>> {
    round_trips(&output(&mut ping(net, tunnel, IDLE_PINGS))?)
}

/// Round trips in milliseconds, sorted, beside one TCP stream.
pub fn loaded_pings(net: &Net, tunnel: &Tunnel, beside: Beside, seconds: f64) -> Result<Vec<f64>> {
    let count = (seconds * 1000.0 / f64::from(PING_PAUSE_MS) * 0.7).round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // thousands
    let mut command = ping(net, tunnel, count as u32);
    std::thread::scope(|scope| {
        let pings = scope.spawn(move || {
            sleep(Duration::from_secs_f64(seconds * 0.15));
            output(&mut command)
        });
        let args = match beside {
            Beside::Tcp => vec![],
            Beside::PacedTcp => vec!["-b".to_owned(), PACED.to_string()],
        };
        transfer(net, tunnel, seconds, &args)?;
        match pings.join() {
            Ok(said) => round_trips(&said?),
            Err(_) => bail!("the thread that pings panicked"),
        }
    })
}

/// The value below which this share of the sorted values lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // hundreds
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn ping(net: &Net, tunnel: &Tunnel, count: u32) -> Command {
    let mut command = net.command(End::A, "ping");
    let pause = format!("{}", f64::from(PING_PAUSE_MS) / 1000.0);
    command
        .args(["-n", "-i", &pause, "-c", &count.to_string(), "-W", "1"])
        .arg(tunnel.inner[1].to_string());
    command
}

fn round_trips(said: &str) -> Result<Vec<f64>> {
    let mut times: Vec<f64> = said
        .lines()
        .filter_map(|line| {
            line.split_once("time=")?
                .1
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .collect();
    if times.is_empty() {
        bail!("no ping was answered");
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn iperf(net: &Net, tunnel: &Tunnel, seconds: f64, args: &[String]) -> Result<Value> {
    let [from, to] = tunnel.inner.map(|address| address.to_string());
    let mut server = net
        .command(End::B, "iperf3")
        .args(["-s", "-1", "-p", PORT, "-B", &to])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start iperf3")?;
    let mut client = net.command(End::A, "iperf3");
    client
        .args(["-c", &to, "-B", &from, "-p", PORT, "--json"])
        .args([
            "--connect-timeout",
            "2000",
            "-t",
            &seconds.ceil().to_string(),
        ])
        .args(args);
    // The server needs a moment to listen, and does not say when it does.
    let mut result = Err(anyhow::anyhow!("iperf3 was not run"));
    for _ in 0..50 {
        sleep(Duration::from_millis(50));
        result = output(&mut client);
        if result.is_ok() {
            break;
        }
    }
    let _ = server.kill();
    server.wait()?;
    Ok(serde_json::from_str(&result?)?)
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("iperf3 lacks a figure")
}

/// CPU time of a process so far, in seconds: user and system time of all its threads
/// (proc_pid_stat(5), fields 14 and 15).
pub fn cpu_time(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let rest = text.rsplit(')').next().unwrap_or_default();
    seconds(rest.split_whitespace().skip(11).take(2))
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS in /proc/PID/status")?
        .parse()?;
    Ok(kib * 1024.0)
}

/// CPU time of everything so far, in seconds (proc_stat(5): user, nice, system, irq, softirq).
fn machine_cpu_time() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    seconds(
        [1, 2, 3, 6, 7]
            .iter()
            .filter_map(|at| fields.get(*at).copied()),
    )
}

fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> Result<f64> {
    // SAFETY: no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let sum: u64 = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    #[allow(clippy::cast_precision_loss)] // months of ticks
    Ok(sum as f64 / per_second as f64)
}
