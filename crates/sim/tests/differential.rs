//! The model of WireGuard against gotatun: the same script of operations, the same observations.
//!
//! gotatun reads the system's clock by itself. In this program the clocks that it reads stand still
//! unless a script moves them, so that minutes pass in no time and at known instants.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // The lints' leave for tests ends at test functions.

#[path = "../../mesh/tests/harness/clock.rs"]
mod clock;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use ztna_mesh::tunnel::{Admission, Received, Tunnel, WireGuard, is_initiation};
use ztna_mesh::wireguard::Gotatun;
use ztna_proto::{WgPrivateKey, WgPublicKey};
use ztna_sim::wireguard::{Clock, Model};

/// Scripts that are run.
const SCRIPTS: u64 = 200;
/// Operations of a script.
const OPERATIONS: usize = 250;
/// What an operation takes, so that no two timestamps are equal.
const STEP: Duration = Duration::from_micros(100);
/// Time passes in multiples of this. No multiple comes near a timer of WireGuard, nor into the third
/// of a second by which some of them vary at random.
const SPAN: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug)]
enum Op {
    Initiate { end: usize, force: bool },
    Seal { end: usize, length: usize },
    Tick { end: usize },
    Pass(u32),
    Deliver { which: usize, psks: usize },
    DeliverChanged { which: usize, byte: usize },
    SetPsk { end: usize, psk: u8 },
    Reset { end: usize },
    Restart { end: usize },
    Age { end: usize },
}

fn script(seed: u64) -> Vec<Op> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rng = &mut rng;
    let spans = [1, 1, 2, 7, 8, 15, 16, 22, 86, 130, 172, 236, 258, 772];
    (0..OPERATIONS)
        .map(|_| {
            let end = rng.random_range(0..2);
            match rng.random_range(0..100) {
                0..8 => Op::Initiate {
                    end,
                    force: rng.random_bool(0.3),
                },
                8..28 => Op::Seal {
                    end,
                    length: rng.random_range(0..200),
                },
                28..40 => Op::Tick { end },
                40..54 => Op::Pass(*spans.choose(rng).unwrap()),
                54..88 => Op::Deliver {
                    // Most often what was sent last.
                    which: (rng.random_range(0.0..1.0_f64).powi(4) * 40.0) as usize,
                    psks: rng.random_range(0..4),
                },
                88..92 => Op::DeliverChanged {
                    which: rng.random_range(0..20),
                    byte: rng.random_range(4..400),
                },
                92..95 => Op::SetPsk {
                    end,
                    psk: rng.random_range(0..3),
                },
                95 => Op::Reset { end },
                96 => Op::Restart { end },
                _ => Op::Age { end },
            }
        })
        .collect()
}

struct End {
    wireguard: Box<dyn WireGuard>,
    tunnel: Box<dyn Tunnel>,
    peer: WgPublicKey,
}

/// Two machines under one implementation, and everything that they ever sent.
struct Pair<F> {
    make: F,
    keys: [WgPrivateKey; 2],
    ends: [End; 2],
    /// To whom, and what.
    sent: Vec<(usize, BytesMut)>,
    origin: Instant,
    now: Duration,
    log: Vec<String>,
}

impl<F: FnMut(&WgPrivateKey, Instant) -> Box<dyn WireGuard>> Pair<F> {
    fn new(mut make: F) -> Self {
        clock::start();
        let origin = Instant::now();
        let keys = [[1; 32], [2; 32]].map(WgPrivateKey::from_bytes);
        let ends = [0, 1].map(|end| start(&mut make, &keys, end, origin));
        let mut pair = Self {
            make,
            keys,
            ends,
            sent: Vec::new(),
            origin,
            now: Duration::ZERO,
            log: Vec::new(),
        };
        for end in 0..2 {
            pair.ends[end].tunnel.set_psk(&[1; 32]);
        }
        pair
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        clock::pass(span);
    }

    fn send(&mut self, from: usize, datagram: BytesMut) -> String {
        let text = format!("type {} of {} B", datagram[0], datagram.len());
        self.sent.push((1 - from, datagram));
        text
    }

    fn send_if(&mut self, from: usize, datagram: Option<BytesMut>) -> String {
        datagram.map_or_else(
            || "nothing".to_owned(),
            |datagram| self.send(from, datagram),
        )
    }

    fn run(&mut self, op: Op) {
        self.pass(STEP);
        let now = self.origin + self.now;
        let observed = match op {
            Op::Initiate { end, force } => {
                let datagram = self.ends[end].tunnel.initiate(force, now);
                self.send_if(end, datagram)
            }
            Op::Seal { end, length } => {
                let packet = BytesMut::from(&vec![7; length][..]);
                match self.ends[end].tunnel.seal(packet, now) {
                    Ok(datagram) => self.send(end, datagram),
                    Err(packet) => format!("no session for {} B", packet.len()),
                }
            }
            Op::Tick { end } => {
                let datagram = self.ends[end].tunnel.tick(now);
                self.send_if(end, datagram)
            }
            Op::Pass(spans) => {
                self.pass(SPAN * spans);
                String::new()
            }
            Op::Deliver { which, psks } => self.deliver(which, psks, None, now),
            Op::DeliverChanged { which, byte } => self.deliver(which, 3, Some(byte), now),
            Op::SetPsk { end, psk } => {
                self.ends[end].tunnel.set_psk(&[psk; 32]);
                String::new()
            }
            Op::Reset { end } => {
                self.ends[end].tunnel.reset();
                self.ends[end].tunnel.set_psk(&[1; 32]);
                String::new()
            }
            Op::Restart { end } => {
                self.ends[end] = start(&mut self.make, &self.keys, end, now);
                self.ends[end].tunnel.set_psk(&[1; 32]);
                String::new()
            }
            Op::Age { end } => {
                // The model's clock is as old as its last look.
                let is_there = self.ends[end].tunnel.session_age().is_some();
                format!("session: {is_there}")
            }
        };
        self.log.push(format!("{:?} {op:?}: {observed}", self.now));
    }

    /// Delivers what was sent so many datagrams ago, perhaps again, perhaps changed.
    fn deliver(
        &mut self,
        which: usize,
        psks: usize,
        change: Option<usize>,
        now: Instant,
    ) -> String {
        let Some(at) = self.sent.len().checked_sub(which + 1) else {
            return "nothing was sent".to_owned();
        };
        let (to, mut datagram) = self.sent[at].clone();
        if let Some(byte) = change {
            let at = 4 + byte % (datagram.len() - 4);
            datagram[at] ^= 1;
        }
        // Another address each time: nobody counts as a flood.
        let from = SocketAddr::from((
            [10, 0, (self.log.len() >> 8) as u8, self.log.len() as u8],
            9,
        ));
        let end = &mut self.ends[to];
        let mut observed = String::new();
        if datagram[0] != 4 {
            match end.wireguard.admit(from, datagram, now) {
                Admission::Pass(passed) => datagram = passed,
                Admission::Reply(_) => return "cookie".to_owned(),
                Admission::Drop => return "not admitted".to_owned(),
            }
        }
        if is_initiation(&datagram) {
            let initiator = end.wireguard.initiator(&datagram);
            observed += &format!("of the peer: {} ", initiator == Some(end.peer));
        }
        let keys = [[0; 32], [1; 32], [2; 32]];
        let mut keys = keys[..psks].iter();
        observed
            + &match end.tunnel.receive(datagram, &mut keys, now) {
                Received::Packet(packet) => format!("packet of {} B", packet.len()),
                Received::Reply {
                    datagram,
                    established,
                } => format!("{}, established: {established}", self.send(to, datagram)),
                Received::Nothing => "nothing".to_owned(),
                Received::Refused => "refused".to_owned(),
            }
    }
}

fn start(
    make: &mut impl FnMut(&WgPrivateKey, Instant) -> Box<dyn WireGuard>,
    keys: &[WgPrivateKey; 2],
    end: usize,
    now: Instant,
) -> End {
    let peer = keys[1 - end].public();
    let mut wireguard = make(&keys[end], now);
    let tunnel = wireguard.tunnel(&peer, now);
    End {
        wireguard,
        tunnel,
        peer,
    }
}

fn observe(
    script: &[Op],
    make: impl FnMut(&WgPrivateKey, Instant) -> Box<dyn WireGuard>,
) -> Vec<String> {
    let mut pair = Pair::new(make);
    for op in script {
        pair.run(*op);
    }
    pair.log
}

fn real(key: &WgPrivateKey, _: Instant) -> Box<dyn WireGuard> {
    Box::new(Gotatun::new(key))
}

/// What was observed, without figures.
fn kind(line: &str) -> String {
    let observed = line.split_once("}: ").map_or("", |(_, observed)| observed);
    observed.split(|c: char| c.is_ascii_digit()).collect()
}

#[test]
fn the_model_does_what_gotatun_does() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..SCRIPTS {
        let script = script(seed);
        let expected = observe(&script, real);
        let mut clock = None;
        let mut starts = 0;
        let found = observe(&script, |key, now| {
            starts += 1;
            let clock: &Clock = clock.get_or_insert_with(|| Clock::new(now));
            Box::new(Model::new(
                key.public(),
                clock.clone(),
                seed * 1_000 + starts,
            ))
        });
        let differs = expected.iter().zip(&found).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let before = expected[..at].join("\n");
            let (gotatun, model) = (&expected[at], &found[at]);
            panic!("script {seed}:\n{before}\ngotatun: {gotatun}\nmodel:   {model}");
        }
        for line in &expected {
            *seen.entry(kind(line)).or_default() += 1;
        }
    }
    // Scripts in which little happens say little.
    for wanted in [
        "of the peer: true type  of  B, established: false",
        "of the peer: true refused",
        "type  of  B, established: true",
        "packet of  B",
        "refused",
        "not admitted",
        "no session for  B",
        "session: true",
        "session: false",
    ] {
        assert!(
            seen.get(wanted).is_some_and(|count| *count > 50),
            "{wanted}: {seen:?}"
        );
    }
}
