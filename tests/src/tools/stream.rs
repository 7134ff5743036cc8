//! A stream of numbered UDP packets in both directions: what an application loses.
//!
//! Each end sends packets at a steady rate and watches the numbers of those that come. Loss is
//! what one end sent and the other never got, so the lab puts the two reports together. Packets
//! carry the time at which they were sent: all namespaces of a machine share its monotonic clock.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{READY, demand_line, next_line};

/// First bytes of a packet of ours, so that strays are not counted.
const MAGIC: &[u8; 8] = b"ztstream";
/// Size of a packet's UDP payload: what a voice call sends.
const PAYLOAD: usize = 172;
/// Where a packet has its number.
const NUMBER: std::ops::Range<usize> = 8..16;
/// Where it has the time at which it was sent.
const SENT: std::ops::Range<usize> = 16..24;
/// Receive buffer: what comes while the program does not run, at any rate a lab uses.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// The receiver looks up this often whether it may end.
const LOOK_UP: Duration = Duration::from_millis(50);
/// After the end of sending, so much silence means that nothing more comes.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest wait for that silence.
const LINGER: Duration = Duration::from_secs(5);
/// Numbers that one run can count: half an hour at a thousand packets a second.
const MAX_PACKETS: u64 = 2_000_000;

/// A packet's latency that does not fit is this, in microseconds: more than an hour.
const MAX_LATENCY: u32 = u32::MAX;

/// Ranges of missing numbers that a report names.
const MAX_RANGES: usize = 10;

/// One end of the stream.
#[derive(Clone, Debug, clap::Args)]
pub struct StreamArgs {
    /// Own address and port
    #[arg(long)]
    pub bind: SocketAddr,
    /// The other end's address and port
    #[arg(long)]
    pub peer: SocketAddr,
    /// Packets per second
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
}

/// What one end of the stream saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Packets sent, those that the kernel refused included.
    pub sent: u64,
    /// Different packets received.
    pub received: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets received after one with a higher number.
    pub reordered: u64,
    /// Longest time between two packets received, in milliseconds.
    pub max_gap_ms: u64,
    /// The first numbers that never came below the highest that did, at most [`MAX_RANGES`].
    pub missing: Vec<(u64, u64)>,
    /// How long packets took.
    #[serde(default)]
    pub latency: Latency,
}

/// How long packets took from the other end's send to this end's receive, in microseconds. Zero if
/// none came. Each is the time of a packet that came, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The shortest.
    pub min_us: u32,
    /// Half took no longer.
    pub p50_us: u32,
    /// 90 % took no longer.
    pub p90_us: u32,
    /// 99 % took no longer.
    pub p99_us: u32,
    /// The longest.
    pub max_us: u32,
}

impl Latency {
    fn of(mut sample: Vec<u32>) -> Self {
        sample.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sample.len() * percent).div_ceil(100).max(1);
            sample.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            min_us: rank(0),
            p50_us: rank(50),
            p90_us: rank(90),
            p99_us: rank(99),
            max_us: rank(100),
        }
    }
}

/// Runs one end: prints `ready`, begins at the line `go`, sends until standard input ends, and
/// prints its [`StreamReport`].
///
/// # Errors
/// The socket cannot be opened.
pub fn run(args: &StreamArgs) -> Result<StreamReport> {
    let socket = UdpSocket::bind(args.bind)
        .with_context(|| format!("cannot bind UDP socket {}", args.bind))?;
    // Only root may go over the system's limit; the limit itself will do for less.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    socket.set_read_timeout(Some(LOOK_UP))?;
    println_ready();
    if demand_line("go")? != "go" {
        bail!("expected the line `go`");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&socket, &stop));
        let sender = scope.spawn(|| send(&socket, args, &stop));
        while next_line()?.is_some() {}
        stop.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .map_err(|_| anyhow::anyhow!("sender panicked"))?;
        let mut report = receiver
            .join()
            .map_err(|_| anyhow::anyhow!("receiver panicked"))??;
        report.sent = sent;
        Ok(report)
    })
}

#[allow(clippy::print_stdout)]
fn println_ready() {
    println!("{READY}");
}

fn send(socket: &UdpSocket, args: &StreamArgs, stop: &AtomicBool) -> u64 {
    let mut packet = [0; PAYLOAD];
    packet[..MAGIC.len()].copy_from_slice(MAGIC);
    let interval = Duration::from_secs(1) / args.rate.max(1);
    let mut due = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) && number < MAX_PACKETS {
        packet[NUMBER].copy_from_slice(&number.to_be_bytes());
        packet[SENT].copy_from_slice(&monotonic_us().to_be_bytes());
        // A packet that the kernel refuses is lost for the application as well.
        let _ = socket.send_to(&packet, args.peer);
        number += 1;
        due += interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    number
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<StreamReport> {
    let mut tally = Tally::default();
    let mut stopped: Option<Instant> = None;
    let mut last = Instant::now();
    let mut buffer = [0; 2048];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some((number, sent)) = parse(&buffer[..length]) {
                    let now = Instant::now();
                    let took = monotonic_us().saturating_sub(sent);
                    tally.count(number, now, u32::try_from(took).unwrap_or(MAX_LATENCY));
                    last = now;
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
        if stopped.is_none() && stop.load(Ordering::Relaxed) {
            stopped = Some(Instant::now());
        }
        if let Some(since) = stopped
            && (since.elapsed() > LINGER || since.max(last).elapsed() > SILENCE)
        {
            return Ok(tally.report());
        }
    }
}

/// Number and send time of a packet of ours.
fn parse(packet: &[u8]) -> Option<(u64, u64)> {
    let word = |range: std::ops::Range<usize>| {
        Some(u64::from_be_bytes(packet.get(range)?.try_into().ok()?))
    };
    let (number, sent) = (word(NUMBER)?, word(SENT)?);
    (packet.starts_with(MAGIC) && number < MAX_PACKETS).then_some((number, sent))
}

/// The machine's monotonic clock, in microseconds.
fn monotonic_us() -> u64 {
    // Linux always has this clock.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Counts the numbers as they come.
#[derive(Default)]
struct Tally {
    /// One bit a number.
    seen: Vec<u64>,
    highest: Option<u64>,
    last: Option<Instant>,
    max_gap: Duration,
    latencies: Vec<u32>,
    report: StreamReport,
}

impl Tally {
    fn count(&mut self, number: u64, now: Instant, took_us: u32) {
        if let Some(last) = self.last.replace(now) {
            self.max_gap = self.max_gap.max(now.saturating_duration_since(last));
        }
        if self.has(number) {
            self.report.duplicates += 1;
            return;
        }
        let (word, bit) = place(number);
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        self.seen[word] |= bit;
        self.report.received += 1;
        self.latencies.push(took_us);
        match self.highest {
            Some(highest) if number < highest => self.report.reordered += 1,
            _ => self.highest = Some(number),
        }
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen.get(word).is_some_and(|seen| seen & bit != 0)
    }

    fn report(mut self) -> StreamReport {
        self.report.max_gap_ms = u64::try_from(self.max_gap.as_millis()).unwrap_or(u64::MAX);
        self.report.missing = self.missing();
        self.report.latency = Latency::of(self.latencies);
        self.report
    }

    fn missing(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in 0..self.highest.unwrap_or(0) {
            if self.has(number) {
                continue;
            }
            let full = ranges.len() == MAX_RANGES;
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == number => *end = number,
                _ if full => break,
                _ => ranges.push((number, number)),
            }
        }
        ranges
    }
}

fn place(number: u64) -> (usize, u64) {
    // MAX_PACKETS fits any usize.
    ((number / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(numbers: &[u64]) -> StreamReport {
        let start = Instant::now();
        let mut tally = Tally::default();
        for (at, number) in numbers.iter().enumerate() {
            tally.count(
                *number,
                start + Duration::from_millis(10 * at as u64),
                100 + at as u32,
            );
        }
        tally.report()
    }

    #[test]
    fn counts_what_came_twice_late_and_never() {
        let report = tally(&[0, 1, 2, 2, 5, 4, 9]);
        assert_eq!(report.received, 6);
        assert_eq!(report.duplicates, 1);
        assert_eq!(report.reordered, 1);
        assert_eq!(report.missing, [(3, 3), (6, 8)]);
        assert_eq!(report.max_gap_ms, 10);
        assert_eq!((report.latency.min_us, report.latency.max_us), (100, 106));
    }

    #[test]
    fn percentiles_are_packets_that_came() {
        let latency = Latency::of((1..=200).rev().collect());
        let expected = Latency {
            min_us: 1,
            p50_us: 100,
            p90_us: 180,
            p99_us: 198,
            max_us: 200,
        };
        assert_eq!(latency, expected);
        assert_eq!(Latency::of(vec![7]).p50_us, 7);
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }

    #[test]
    fn nothing_received_is_no_gap() {
        assert_eq!(tally(&[]), StreamReport::default());
    }

    #[test]
    fn strays_are_not_packets_of_ours() {
        let mut packet = [0; PAYLOAD];
        assert_eq!(parse(&packet), None);
        packet[..8].copy_from_slice(MAGIC);
        packet[15] = 7;
        packet[23] = 9;
        assert_eq!(parse(&packet), Some((7, 9)));
        packet[8] = 0xff;
        assert_eq!(parse(&packet), None, "beyond what can be counted");
        assert_eq!(parse(&packet[..12]), None);
    }
}
