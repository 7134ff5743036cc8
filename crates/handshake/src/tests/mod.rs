//! Two engines over a simulated wire, with virtual time and seeded randomness.

mod adversary;
mod load;
mod ml_kem;
mod sessions;
mod sizes;
mod vectors;

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::PqMode;
use ztna_proto::{KemKeyHash, RegionId, WgPrivateKey, WgPublicKey};

use crate::wire::{MAC_LEN, mac, mac1_key};
use crate::{
    Config, Destination, Handshakes, Identity, KemPrivateKey, Output, PeerConfig, Role, Source,
    fragments,
};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// One-way delay of the simulated wire.
pub(super) const DELAY: Duration = Duration::from_millis(20);

pub(super) struct Installed {
    pub epoch: u64,
    pub psk: [u8; 32],
    pub fingerprint: [u8; 8],
    pub role: Role,
    pub full: bool,
    pub at: Instant,
}

pub(super) struct Machine {
    pub name: WgPublicKey,
    pub kem: KemPublicKey,
    pub engine: Handshakes,
    pub installs: Vec<Installed>,
    pub expired: Vec<Instant>,
    pub asked: Vec<Instant>,
}

/// A datagram under way.
#[derive(Clone)]
pub(super) struct Packet {
    pub at: Instant,
    pub from: usize,
    pub to: usize,
    pub bytes: Vec<u8>,
}

/// What the wire does with a packet: nothing, or anything else in its place.
pub(super) type Meddler = Box<dyn FnMut(Packet) -> Vec<Packet>>;

pub(super) struct World {
    pub now: Instant,
    pub start: Instant,
    pub machines: [Machine; 2],
    pub wire: Vec<Packet>,
    pub meddler: Meddler,
    /// Direct datagrams, fragmented; else whole messages through a relay.
    pub direct: bool,
    /// Whether the machines get the ML-KEM keys that they ask for, 10 ms later.
    pub keys_come: bool,
    /// Everything ever put on the wire, before the meddler saw it.
    pub sent: Vec<Packet>,
    keys_due: Vec<(Instant, usize)>,
    pub config: Config,
    pub seed: u64,
}

/// The static keys of machine `index`; A's WireGuard key is the smaller one.
pub(super) fn identity(index: usize) -> Identity {
    let mut keys: Vec<Identity> = (0..2)
        .map(|n| {
            let mut rng = StdRng::seed_from_u64(1000 + n);
            Identity {
                wg: WgPrivateKey::generate(&mut rng),
                kem: KemPrivateKey::generate(&mut rng),
            }
        })
        .collect();
    keys.sort_by_key(|identity| identity.wg.public());
    keys.swap_remove(index)
}

pub(super) fn peer_config(identity: &Identity) -> PeerConfig {
    PeerConfig {
        kem_key: KemKeyHash::of(&identity.kem.public()),
        pq: PqMode::Required,
    }
}

pub(super) fn source(of: WgPublicKey, index: usize, direct: bool) -> Source {
    if direct {
        let port = u16::try_from(index).unwrap() + 41641;
        Source::Direct(([192, 0, 2, 1], port).into())
    } else {
        let region = RegionId(1);
        Source::Relay { region, peer: of }
    }
}

/// Gives a changed message a valid mac1 again, as anyone can who knows the receiver's public key.
pub(super) fn remac(bytes: &mut [u8], receiver: &WgPublicKey) {
    let tail = match bytes.get(4) {
        Some(1) => 2 * MAC_LEN,
        Some(2..=4) => MAC_LEN,
        _ => return,
    };
    if bytes.len() < tail {
        return;
    }
    let at = bytes.len() - tail;
    let fresh = mac(&mac1_key(receiver), &bytes[..at]);
    bytes[at..at + MAC_LEN].copy_from_slice(&fresh);
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_config(seed, Config::default())
    }

    pub(super) fn with_config(seed: u64, config: Config) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            machines: [A, B].map(|index| machine(index, seed, &config, now)),
            wire: Vec::new(),
            meddler: Box::new(|packet| vec![packet]),
            direct: false,
            keys_come: true,
            sent: Vec::new(),
            keys_due: Vec::new(),
            config,
            seed,
        };
        world.introduce(A);
        world.introduce(B);
        world
    }

    /// Tells machine `index` of the other one.
    fn introduce(&mut self, index: usize) {
        let other = identity(1 - index);
        let name = other.wg.public();
        self.machines[index]
            .engine
            .upsert_peer(name, peer_config(&other));
    }

    /// The machine loses all but its static keys.
    pub(super) fn restart(&mut self, index: usize) {
        self.seed += 1;
        let fresh = machine(index, self.seed, &self.config, self.now);
        self.machines[index].engine = fresh.engine;
        self.introduce(index);
    }

    pub(super) fn want(&mut self, index: usize) {
        let peer = self.machines[1 - index].name;
        let now = self.now;
        self.machines[index].engine.want_epoch(&peer, now);
        self.collect(index);
    }

    /// Lets `machine` handle bytes as if they came from the other one.
    pub(super) fn inject(&mut self, to: usize, bytes: &[u8]) {
        let from = source(self.machines[1 - to].name, 1 - to, self.direct);
        let now = self.now;
        self.machines[to].engine.handle(from, bytes, now);
        self.collect(to);
    }

    fn collect(&mut self, index: usize) {
        let now = self.now;
        while let Some(output) = self.machines[index].engine.poll_output() {
            let machine = &mut self.machines[index];
            match output {
                Output::Send { to, bytes } => {
                    let to = match to {
                        Destination::Peer(peer)
                        | Destination::Reply(Source::Relay { peer, .. }) => {
                            usize::from(peer == self.machines[B].name)
                        }
                        Destination::Reply(Source::Direct(address)) => {
                            usize::from(address.port() - 41641)
                        }
                    };
                    let pieces = if self.direct {
                        fragments(&bytes)
                    } else {
                        vec![bytes]
                    };
                    for bytes in pieces {
                        let packet = Packet {
                            at: now + DELAY,
                            from: index,
                            to,
                            bytes,
                        };
                        self.sent.push(packet.clone());
                        self.wire.extend((self.meddler)(packet));
                    }
                }
                Output::NeedKemKey { hash, .. } => {
                    assert_eq!(hash, peer_config(&identity(1 - index)).kem_key);
                    machine.asked.push(now);
                    if self.keys_come {
                        self.keys_due.push((now + Duration::from_millis(10), index));
                    }
                }
                Output::Install {
                    epoch,
                    psk,
                    role,
                    full,
                    ..
                } => machine.installs.push(Installed {
                    epoch,
                    psk: *psk.expose(),
                    fingerprint: psk.fingerprint(),
                    role,
                    full,
                    at: now,
                }),
                Output::Expired { .. } => machine.expired.push(now),
            }
        }
    }

    /// Runs until nothing is due before `self.now + span`, and arrives there.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "the engines do not come to rest");
            let timers = self
                .machines
                .iter()
                .filter_map(|machine| machine.engine.poll_timeout());
            let flights = self.wire.iter().map(|packet| packet.at);
            let keys = self.keys_due.iter().map(|(at, _)| *at);
            let Some(next) = timers.chain(flights).chain(keys).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        let mut later = Vec::new();
        for (at, index) in std::mem::take(&mut self.keys_due) {
            if at > now {
                later.push((at, index));
                continue;
            }
            let key = self.machines[1 - index].kem.clone();
            self.machines[index].engine.provide_kem_key(&key, now);
            self.collect(index);
        }
        self.keys_due.extend(later);
        let (mut due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.wire)
            .into_iter()
            .partition(|packet| packet.at <= now);
        self.wire = rest;
        due.sort_by_key(|packet| packet.at);
        for packet in due {
            let from = source(self.machines[packet.from].name, packet.from, self.direct);
            self.machines[packet.to]
                .engine
                .handle(from, &packet.bytes, now);
            self.collect(packet.to);
        }
        for index in [A, B] {
            self.machines[index].engine.handle_timeout(now);
            self.collect(index);
        }
    }

    /// Runs while both ends carry traffic: `want` every second.
    pub(super) fn run_busy(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.want(A);
            self.want(B);
            self.run(Duration::from_secs(1));
        }
    }

    /// Both ends hold the same newest key.
    pub(super) fn assert_agreed(&self) {
        let [a, b] = [A, B].map(|index| self.machines[index].installs.last());
        let (Some(a), Some(b)) = (a, b) else {
            panic!("an end has no key at all");
        };
        assert_eq!(a.epoch, b.epoch, "epochs differ");
        assert_eq!(a.psk, b.psk, "keys differ");
        assert_eq!(a.fingerprint, b.fingerprint);
        assert_eq!(a.full, b.full);
        assert_ne!(a.role, b.role);
    }

    /// Whatever happened, no epoch number ever stood for two keys.
    pub(super) fn assert_never_differ(&self) {
        for a in &self.machines[A].installs {
            for b in &self.machines[B].installs {
                assert_eq!(a.epoch == b.epoch, a.psk == b.psk, "epoch {}", a.epoch);
            }
        }
    }

    /// A fresh world in which A has made one FULL epoch with B.
    pub(super) fn connected(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.want(A);
        world.run(Duration::from_secs(1));
        world.assert_agreed();
        world
    }

    /// As [`Self::connected`], and a moment before A starts a LIGHT epoch.
    pub(super) fn before_light(seed: u64) -> Self {
        let mut world = Self::connected(seed);
        let rotation = world.config.rotation;
        world.run(rotation);
        world
    }

    pub(super) fn installs(&self, index: usize) -> usize {
        self.machines[index].installs.len()
    }
}

fn machine(index: usize, seed: u64, config: &Config, now: Instant) -> Machine {
    let identity = identity(index);
    let rng = StdRng::seed_from_u64(seed.wrapping_mul(2) + index as u64);
    Machine {
        name: identity.wg.public(),
        kem: identity.kem.public(),
        engine: Handshakes::new(identity, config.clone(), Box::new(rng), now),
        installs: Vec::new(),
        expired: Vec::new(),
        asked: Vec::new(),
    }
}
