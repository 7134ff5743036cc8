//! The load: binding requests from a few sockets, as many under way as a server's socket holds.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::mmsg::{BATCH, Batch, wait};
use crate::process::{Meter, Server};
use ztna_bench_record::Run;

/// Client sockets, each with [`BATCH`] requests under way. Together they stay below what the
/// receive buffer of a socket holds by default (212,992 bytes, about 270 small datagrams).
const SOCKETS: u8 = 6;

/// From the first request to the first that counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// A socket that has heard nothing for so long has lost what it waited for.
const LOST_AFTER: Duration = Duration::from_millis(50);

/// A binding request without attributes (RFC 8489 §5): type, length, cookie, transaction.
pub const REQUEST: [u8; 20] = [
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, b'z', b't', b'n', b'a', b'-', b'b', b'e', b'n', 0, 0, 0, 0,
];

/// Where the number of a request is.
const NUMBER: std::ops::Range<usize> = 16..20;

/// What a server sends back.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A binding success response.
    Stun,
    /// The request.
    Echo,
}

impl Answer {
    /// Whether a datagram is one, to a request of ours.
    pub fn is(self, datagram: &[u8]) -> bool {
        let kind: &[u8] = match self {
            Self::Stun => &[1, 1],
            Self::Echo => &[0, 1],
        };
        datagram.starts_with(kind) && datagram.get(4..16) == REQUEST.get(4..16)
    }
}

struct Client {
    out: Batch,
    under_way: usize,
    heard: Instant,
}

/// Asks as fast as the server answers; answers per CPU-second of the server.
pub fn run(
    server: &Server,
    from: Ipv4Addr,
    to: SocketAddrV4,
    answer: Answer,
    length: Duration,
) -> Result<Run> {
    let mut load = Load::new(from, to, answer)?;
    load.until(Instant::now() + WARM_UP)?;
    let (answers, lost) = (load.answers, load.lost);
    let meter = Meter::start(server)?;
    load.until(Instant::now() + length)?;
    let used = meter.stop()?;
    let (answers, lost) = (load.answers - answers, load.lost - lost);
    if answers == 0 {
        bail!("no answers");
    }
    let run = Run {
        value: answers as f64 / used.server_seconds,
        lost: lost as f64 / (answers + lost) as f64,
        ..used.run
    };
    eprintln!(
        "  {:.0} answers per CPU-second, {:.0} a second, server {:.0} %, generator {:.0} %",
        run.value,
        answers as f64 / used.seconds,
        run.server_cpu * 100.0,
        run.generator_cpu * 100.0
    );
    Ok(run)
}

struct Load {
    sockets: Vec<UdpSocket>,
    clients: Vec<Client>,
    received: Batch,
    answer: Answer,
    number: u32,
    answers: u64,
    lost: u64,
}

impl Load {
    fn new(from: Ipv4Addr, to: SocketAddrV4, answer: Answer) -> Result<Self> {
        let mut load = Self {
            sockets: Vec::new(),
            clients: Vec::new(),
            received: Batch::new(false),
            answer,
            number: 0,
            answers: 0,
            lost: 0,
        };
        for number in 0..SOCKETS {
            let address = Ipv4Addr::from_bits(from.to_bits() + u32::from(number));
            let socket = UdpSocket::bind((address, 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            load.sockets.push(socket);
            let mut out = Batch::new(false);
            out.fill(&REQUEST);
            load.clients.push(Client {
                out,
                under_way: 0,
                heard: Instant::now(),
            });
            load.ask(usize::from(number))?;
        }
        Ok(load)
    }

    /// Fills up what is under way from one socket.
    fn ask(&mut self, at: usize) -> Result<()> {
        let client = &mut self.clients[at];
        let count = BATCH - client.under_way;
        for slot in 0..count {
            self.number = self.number.wrapping_add(1);
            client.out.get_mut(slot)[NUMBER].copy_from_slice(&self.number.to_be_bytes());
        }
        if count > 0 {
            match client.out.send(&self.sockets[at], count) {
                Ok(sent) => client.under_way += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn until(&mut self, end: Instant) -> Result<()> {
        let mut ready = Vec::new();
        let mut checked = Instant::now();
        loop {
            wait(&self.sockets, 10, &mut ready)?;
            let now = Instant::now();
            for &at in &ready {
                self.take(at, now)?;
                self.ask(at)?;
            }
            if now >= end {
                return Ok(());
            }
            if now - checked > LOST_AFTER {
                checked = now;
                self.give_up_lost(now)?;
            }
        }
    }

    fn take(&mut self, at: usize, now: Instant) -> Result<()> {
        let count = match self.received.receive(&self.sockets[at]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        for slot in 0..count {
            if !self.answer.is(self.received.get(slot)) {
                bail!("an answer that is none: {:02x?}", self.received.get(slot));
            }
        }
        let client = &mut self.clients[at];
        client.under_way = client.under_way.saturating_sub(count);
        client.heard = now;
        self.answers += count as u64;
        Ok(())
    }

    fn give_up_lost(&mut self, now: Instant) -> Result<()> {
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if now - client.heard > LOST_AFTER {
                self.lost += client.under_way as u64;
                client.under_way = 0;
                client.heard = now;
                self.ask(at)?;
            }
        }
        Ok(())
    }
}
