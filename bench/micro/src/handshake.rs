//! The hybrid handshake: what each side spends on one, what a flood of first messages costs, and how
//! much flood it takes until a peer waits for a second.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use ztna_bench_record::{Bar, Better, Record};
use ztna_handshake::{
    Config, Destination, Handshakes, Identity, KemPrivateKey, Output, PeerConfig, Source,
};
use ztna_proto::netmap::PqMode;
use ztna_proto::{KemKeyHash, RegionId, WgPrivateKey, WgPublicKey};

use crate::timing::{nanoseconds, on_cpu, sample};

/// Handshakes of a run.
const HANDSHAKES: u32 = 200;
/// Messages of a flood that a receiver takes at once, at most: as many as the agent reads from its socket.
const BURST: usize = 16;
/// Messages of a flood whose cost is measured.
const FLOOD: u16 = 20_000;
/// Bytes that the agent's socket holds (`RECEIVE_BUFFER` of its UDP port), and what an Init takes of them:
/// its page-sized buffer and the kernel's own data.
const SOCKET: usize = 7 << 20;
const INIT_IN_SOCKET: usize = 4_608;
/// A legitimate handshake must not take longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Floods are tried from this rate, in messages a second, and each is so many times the one before.
const SLOWEST_FLOOD: f64 = 20_000.0;
const STEP: f64 = 1.25;
/// Floods that are tried at most: up to 1.7 million a second.
const STEPS: i32 = 20;
/// One way between the two peers.
const DELAY: Duration = Duration::from_millis(10);

const A: usize = 0;
const B: usize = 1;

/// Runs all.
pub fn run(runs: usize) -> Result<Vec<Record>> {
    let per_core = |full: bool, side: usize| move || per_second(full, side);
    let mut records = Vec::new();
    for (name, full) in [("full", true), ("light", false)] {
        records.push(Record::compare(
            (
                &format!("handshake_{name}"),
                &format!("{} handshakes a core answers", name.to_uppercase()),
                "handshakes/s",
            ),
            (Better::More, Bar::Absolute(500.0)),
            vec![
                sample("responder", runs, per_core(full, B))?,
                sample("initiator", runs, per_core(full, A))?,
            ],
            &[],
        ));
    }
    let flood = |kind: Flood| move || flood_cost(kind);
    records.push(Record::compare(
        (
            "handshake_flood",
            "an Init of a flood, under load",
            "ns/message",
        ),
        (Better::Less, Bar::Absolute(50_000.0)),
        vec![
            sample(
                "from anywhere, without a cookie",
                runs,
                flood(Flood::NoCookie),
            )?,
            sample(
                "from anywhere, with another's cookie",
                runs,
                flood(Flood::ForeignCookie),
            )?,
            sample(
                "from its own address, beyond its share",
                runs,
                flood(Flood::OwnCookie),
            )?,
            sample("not made for this machine", runs, flood(Flood::ForeignMac))?,
        ],
        &[],
    ));
    let limit = |way: Way| move || flood_limit(way);
    records.push(Record::compare(
        (
            "handshake_flood_limit",
            "flood at which a peer's handshake takes more than 1 s, the handshake's own CPU time only",
            "messages/s",
        ),
        (Better::More, Bar::Absolute(20_000.0)),
        vec![
            sample("FULL, by relay", runs, limit(Way::Relay))?,
            sample("LIGHT, direct", runs, limit(Way::Chain))?,
            sample("FULL, direct, with a cookie", runs, limit(Way::Cookie))?,
        ],
        &[],
    ));
    Ok(records)
}

/// Two machines, and what each has spent.
struct Pair {
    names: [WgPublicKey; 2],
    engines: [Handshakes; 2],
    kems: [KemPrivateKey; 2],
    spent: [Duration; 2],
    installs: [u32; 2],
    relayed: bool,
    /// Messages on their way: to whom, and what.
    wire: VecDeque<(usize, Vec<u8>)>,
}

impl Pair {
    fn new(config: &Config, now: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let mut machines = [(); 2].map(|()| {
            let wg = WgPrivateKey::generate(&mut rng);
            let kem = KemPrivateKey::generate(&mut rng);
            (wg, kem)
        });
        machines.sort_by_key(|(wg, _)| wg.public());
        let names = [A, B].map(|side| machines[side].0.public());
        let kems = [A, B].map(|side| machines[side].1.clone());
        let engines = [A, B].map(|side| {
            let (wg, kem) = machines[side].clone();
            let rng = StdRng::seed_from_u64(2 + side as u64);
            let identity = Identity { wg, kem };
            Handshakes::new(identity, config.clone(), Box::new(rng), now)
        });
        let mut pair = Self {
            names,
            engines,
            kems,
            spent: [Duration::ZERO; 2],
            installs: [0; 2],
            relayed: true,
            wire: VecDeque::new(),
        };
        for (own, other) in [(A, B), (B, A)] {
            let public = pair.kems[other].public();
            let config = PeerConfig {
                kem_key: KemKeyHash::of(&public),
                pq: PqMode::Required,
            };
            pair.engines[own].upsert_peer(pair.names[other], config);
            pair.engines[own].provide_kem_key(&public, now);
        }
        pair
    }

    fn source(&self, of: usize) -> Source {
        if self.relayed {
            Source::Relay {
                region: RegionId(1),
                peer: self.names[of],
            }
        } else {
            Source::Direct(address(of))
        }
    }

    /// Has a machine do something, counts its time, and puts what it sends on the wire.
    fn act(&mut self, side: usize, work: impl FnOnce(&mut Handshakes)) -> Duration {
        let began = on_cpu();
        work(&mut self.engines[side]);
        let took = on_cpu() - began;
        self.spent[side] += took;
        while let Some(output) = self.engines[side].poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    if self.is_peer(1 - side, to) {
                        self.wire.push_back((1 - side, bytes));
                    }
                }
                Output::Install { .. } => self.installs[side] += 1,
                Output::NeedKemKey { .. } | Output::Expired { .. } => {}
            }
        }
        took
    }

    /// Whether something goes to the peer, and not to where a flood came from.
    fn is_peer(&self, side: usize, to: Destination) -> bool {
        match to {
            Destination::Peer(_) => true,
            Destination::Reply(source) => source == self.source(side),
        }
    }

    fn want(&mut self, now: Instant) {
        let peer = self.names[B];
        self.act(A, |engine| engine.want_epoch(&peer, now));
    }

    /// Carries messages until there are none.
    fn settle(&mut self, now: Instant) {
        while let Some((to, bytes)) = self.wire.pop_front() {
            let from = self.source(1 - to);
            self.act(to, |engine| engine.handle(from, &bytes, now));
        }
    }

    fn connect(&mut self, now: Instant) -> Result<()> {
        let before = self.installs[A];
        self.want(now);
        self.settle(now);
        ensure!(self.installs[A] > before, "a handshake does not come about");
        Ok(())
    }
}

fn address(of: usize) -> SocketAddr {
    ([192, 0, 2, if of == A { 1 } else { 2 }], 41641).into()
}

/// Handshakes that a core does on one side.
fn per_second(full: bool, side: usize) -> Result<f64> {
    let config = Config::default();
    let mut now = Instant::now();
    let mut pair = Pair::new(&config, now);
    let mut spent = Duration::ZERO;
    for _ in 0..HANDSHAKES {
        if full {
            pair = Pair::new(&config, now);
        } else if pair.installs[A] == 0 {
            pair.connect(now)?;
        }
        now += config.rotation;
        pair.spent = [Duration::ZERO; 2];
        pair.connect(now)?;
        spent += pair.spent[side];
    }
    Ok(f64::from(HANDSHAKES) / spent.as_secs_f64())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    NoCookie,
    ForeignCookie,
    OwnCookie,
    ForeignMac,
}

fn stranger(port: u16) -> Source {
    Source::Direct(([203, 0, 113, 1], port).into())
}

/// A FULL Init of A's from its own address, before and after B's cookie. B is under load from the first.
fn inits(pair: &mut Pair, now: Instant) -> Result<[Vec<u8>; 2]> {
    pair.relayed = false;
    pair.want(now);
    let (_, without) = pair.wire.pop_front().context("no Init")?;
    let from = pair.source(A);
    pair.act(B, |engine| engine.handle(from, &without, now));
    let (_, cookie) = pair.wire.pop_front().context("no cookie")?;
    let from = pair.source(B);
    pair.act(A, |engine| engine.handle(from, &cookie, now));
    let (_, with) = pair.wire.pop_front().context("no second Init")?;
    ensure!(with != without, "the second Init shows no cookie");
    Ok([without, with])
}

fn loaded() -> Config {
    Config {
        free_inits: 0,
        ..Config::default()
    }
}

/// Nanoseconds per message.
fn flood_cost(kind: Flood) -> Result<f64> {
    let now = Instant::now();
    let mut pair = Pair::new(&loaded(), now);
    let [without, with] = inits(&mut pair, now)?;
    let own = pair.source(A);
    let message = match kind {
        Flood::NoCookie => without,
        Flood::ForeignCookie | Flood::OwnCookie => with,
        Flood::ForeignMac => {
            let mut message = without;
            // The last byte of mac1; mac2 comes behind it.
            let at = message.len() - 17;
            message[at] ^= 1;
            message
        }
    };
    let mut receive = |port: u16| {
        let from = if kind == Flood::OwnCookie {
            own
        } else {
            stranger(port)
        };
        pair.engines[B].handle(from, &message, now);
        while pair.engines[B].poll_output().is_some() {}
    };
    // What is within the source's share is answered, and not counted.
    let share = loaded().source_inits as u16;
    (0..share).for_each(&mut receive);
    let counted = usize::from(FLOOD - share);
    Ok(nanoseconds(counted, || (share..FLOOD).for_each(receive)))
}

/// How a peer's handshake comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Relay,
    Chain,
    Cookie,
}

/// The first flood, in messages a second, that holds a handshake up for longer than [`PATIENCE`].
fn flood_limit(way: Way) -> Result<f64> {
    for step in 0..STEPS {
        let rate = SLOWEST_FLOOD * STEP.powi(step);
        if !Trial::new(way, rate)?.finishes()? {
            return Ok(rate);
        }
    }
    Ok(SLOWEST_FLOOD * STEP.powi(STEPS))
}

/// One handshake during a flood. Time is the receiver's: it passes by what the receiver spends on each
/// message; what comes meanwhile waits in the socket or finds it full.
struct Trial {
    pair: Pair,
    flood: Vec<u8>,
    gap: Duration,
    begin: Instant,
    /// When B is free again.
    now: Instant,
    next_flood: Instant,
    port: u16,
    /// Messages that wait for B, in order. `None`: one of the flood's.
    socket: VecDeque<Option<Vec<u8>>>,
    /// To B, and from B: when each message is there.
    to_b: VecDeque<(Instant, Vec<u8>)>,
    to_a: VecDeque<(Instant, Vec<u8>)>,
}

impl Trial {
    fn new(way: Way, rate: f64) -> Result<Self> {
        let config = loaded();
        let mut now = Instant::now();
        let mut other = Pair::new(&config, now);
        let [flood, _] = inits(&mut other, now)?;
        let mut pair = Pair::new(&config, now);
        if way == Way::Chain {
            pair.connect(now)?;
            now += config.rotation;
        }
        pair.relayed = way == Way::Relay;
        Ok(Self {
            pair,
            flood,
            gap: Duration::from_secs_f64(1.0 / rate),
            begin: now,
            now,
            next_flood: now,
            port: 0,
            socket: VecDeque::new(),
            to_b: VecDeque::new(),
            to_a: VecDeque::new(),
        })
    }

    fn finishes(mut self) -> Result<bool> {
        let before = self.pair.installs[A];
        let end = self.begin + PATIENCE;
        self.pair.want(self.begin);
        self.carry(self.begin);
        while self.pair.installs[A] == before && self.now < end {
            self.arrive();
            match self.socket.pop_front() {
                Some(Some(message)) => self.receive(&message),
                Some(None) => self.receive_flood(),
                // B waits for what comes next.
                None => self.now = self.next_flood,
            }
            self.answers();
        }
        Ok(self.pair.installs[A] > before)
    }

    /// Takes what has come by now into the socket, the flood's and the peer's in their order.
    fn arrive(&mut self) {
        let room = SOCKET / INIT_IN_SOCKET;
        loop {
            let peers = self.to_b.front().map(|(at, _)| *at);
            let peer_first = peers.is_some_and(|at| at <= self.next_flood);
            if peer_first && peers.is_some_and(|at| at <= self.now) {
                if let Some((_, bytes)) = self.to_b.pop_front()
                    && self.socket.len() < room
                {
                    self.socket.push_back(Some(bytes));
                }
            } else if self.next_flood <= self.now {
                self.next_flood += self.gap;
                if self.socket.len() < room {
                    self.socket.push_back(None);
                }
            } else {
                return;
            }
        }
    }

    fn receive(&mut self, message: &[u8]) {
        let (from, now) = (self.pair.source(A), self.now);
        self.now += self.pair.act(B, |engine| engine.handle(from, message, now));
        self.carry(self.now);
    }

    /// The flood's message that was taken from the socket, and those behind it, up to a burst.
    fn receive_flood(&mut self) {
        let behind = self.socket.iter().take(BURST - 1);
        let behind = behind.take_while(|message| message.is_none()).count();
        self.socket.drain(..behind);
        let began = on_cpu();
        for _ in 0..=behind {
            self.port = self.port % 60_000 + 1;
            self.pair.engines[B].handle(stranger(self.port), &self.flood, self.now);
            while self.pair.engines[B].poll_output().is_some() {}
        }
        self.now += on_cpu() - began;
    }

    /// A's side: what has reached it, and its timers. Its own time is not B's.
    fn answers(&mut self) {
        while self.to_a.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((at, bytes)) = self.to_a.pop_front() else {
                return;
            };
            let from = self.pair.source(B);
            self.pair.act(A, |engine| engine.handle(from, &bytes, at));
            self.carry(at);
        }
        let now = self.now;
        if self.pair.engines[A]
            .poll_timeout()
            .is_some_and(|at| at <= now)
        {
            self.pair.act(A, |engine| engine.handle_timeout(now));
            self.carry(now);
        }
    }

    /// Puts what was sent at `at` on its way.
    fn carry(&mut self, at: Instant) {
        for (to, bytes) in self.pair.wire.drain(..) {
            let way = if to == A {
                &mut self.to_a
            } else {
                &mut self.to_b
            };
            way.push_back((at + DELAY, bytes));
        }
    }
}
