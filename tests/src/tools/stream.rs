//! A stream of numbered UDP packets in both directions: what an application loses.
//!
//! Each end sends packets at a steady rate and watches the numbers of those that come. Loss is
//! what one end sent and the other never got, so the lab puts the two reports together.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::{READY, demand_line, next_line};

/// First bytes of a packet of ours, so that strays are not counted.
const MAGIC: &[u8; 8] = b"ztstream";
/// Size of a packet's UDP payload: what a voice call sends.
const PAYLOAD: usize = 172;
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
        packet[MAGIC.len()..MAGIC.len() + 8].copy_from_slice(&number.to_be_bytes());
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
                if let Some(number) = parse(&buffer[..length]) {
                    let now = Instant::now();
                    tally.count(number, now);
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

fn parse(packet: &[u8]) -> Option<u64> {
    let (magic, rest) = packet.split_first_chunk()?;
    let number = u64::from_be_bytes(*rest.first_chunk()?);
    (magic == MAGIC && number < MAX_PACKETS).then_some(number)
}

/// Counts the numbers as they come.
#[derive(Default)]
struct Tally {
    /// One bit a number.
    seen: Vec<u64>,
    highest: Option<u64>,
    last: Option<Instant>,
    max_gap: Duration,
    report: StreamReport,
}

impl Tally {
    fn count(&mut self, number: u64, now: Instant) {
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
            tally.count(*number, start + Duration::from_millis(10 * at as u64));
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
        assert_eq!(parse(&packet), Some(7));
        packet[8] = 0xff;
        assert_eq!(parse(&packet), None, "beyond what can be counted");
        assert_eq!(parse(&packet[..12]), None);
    }
}
