//! Two machines make keys with each other over a wire that somebody else holds.
//!
//! Input: flags, then what happens, an operation after the other, until the input or [`MAX_OPS`]
//! ends.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, hmac};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;
use ztna_handshake::{
    Config, Destination, Handshakes, Identity, KemPrivateKey, Output, PeerConfig, Source, fragments,
};
use ztna_proto::keys::{KEY_LEN, KemPublicKey};
use ztna_proto::netmap::PqMode;
use ztna_proto::{KemKeyHash, RegionId, WgPrivateKey, WgPublicKey};

const MAX_OPS: usize = 48;
/// Messages under way at once; what comes on top is lost.
const MAX_FLIGHT: usize = 64;
/// Bytes that the input puts on the wire at once.
const MAX_INJECTED: usize = 255;
/// Of mac1 (`schedule.rs` of the crate).
const MAC1_LABEL: &[u8] = b"ztna-handshake v1 mac1";
const MAC_LEN: usize = 16;

/// Flag: datagrams, fragmented; else whole messages through a relay.
const DIRECT: u8 = 1;
/// Flag: after all, the wire is left alone, and the two must come to agree.
const PEACE: u8 = 2;
/// How long that may take them: an epoch has to grow old, an attempt that was spoilt to end.
const PEACE_STEPS: u32 = 40;
const PEACE_STEP: Duration = Duration::from_secs(5);

struct Known {
    name: WgPublicKey,
    kem: KemPublicKey,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static KNOWN: LazyLock<[Known; 2]> = LazyLock::new(|| {
    [0, 1].map(|index| {
        let identity = identity(index);
        Known {
            name: identity.wg.public(),
            kem: identity.kem.public(),
        }
    })
});

fn identity(index: u8) -> Identity {
    Identity {
        wg: WgPrivateKey::from_bytes([index + 1; KEY_LEN]),
        kem: KemPrivateKey::from_seed([index + 1; 64]),
    }
}

fn source(index: usize, direct: bool) -> Source {
    if direct {
        let port = if index == 0 { 41641 } else { 41642 };
        Source::Direct(([192, 0, 2, 1], port).into())
    } else {
        Source::Relay {
            region: RegionId(1),
            peer: KNOWN[index].name,
        }
    }
}

/// Gives a changed message a valid mac1 again, as anyone can who knows the receiver's public key
/// (SPEC.md beside the crate).
fn remac(message: &mut [u8], receiver: &WgPublicKey) {
    let tail = match message.get(4) {
        Some(1) => 2 * MAC_LEN,
        Some(2..=4) => MAC_LEN,
        _ => return,
    };
    let Some(at) = message.len().checked_sub(tail) else {
        return;
    };
    let label = [MAC1_LABEL, receiver.as_bytes()].concat();
    let key = digest::digest(&digest::SHA256, &label);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    let mac = hmac::sign(&key, &message[..at]);
    message[at..at + MAC_LEN].copy_from_slice(&mac.as_ref()[..MAC_LEN]);
}

struct World {
    now: Instant,
    direct: bool,
    engines: [Handshakes; 2],
    /// Receiver and message.
    wire: Vec<(usize, Vec<u8>)>,
    /// Epoch and key, of either machine.
    installed: [Vec<(u64, [u8; 32])>; 2],
}

impl World {
    fn new(direct: bool) -> Self {
        let engines = [0, 1].map(|index: u8| {
            let rng = Box::new(StdRng::seed_from_u64(index.into()));
            let mut engine = Handshakes::new(identity(index), Config::default(), rng, *START);
            let other = &KNOWN[1 - usize::from(index)];
            let config = PeerConfig {
                kem_key: KemKeyHash::of(&other.kem),
                pq: PqMode::Required,
            };
            engine.upsert_peer(other.name, config);
            engine
        });
        Self {
            now: *START,
            direct,
            engines,
            wire: Vec::new(),
            installed: Default::default(),
        }
    }

    fn collect(&mut self, index: usize) {
        while let Some(output) = self.engines[index].poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    if let Destination::Reply(to) = to {
                        assert_eq!(to, source(1 - index, self.direct), "sent to a stranger");
                    }
                    let pieces = if self.direct {
                        fragments(&bytes)
                    } else {
                        vec![bytes]
                    };
                    let room = MAX_FLIGHT.saturating_sub(self.wire.len());
                    let pieces = pieces.into_iter().map(|piece| (1 - index, piece));
                    self.wire.extend(pieces.take(room));
                }
                Output::NeedKemKey { .. } => {
                    self.engines[index].provide_kem_key(&KNOWN[1 - index].kem, self.now);
                }
                Output::Install { epoch, psk, .. } => {
                    self.installed[index].push((epoch, *psk.expose()));
                }
                Output::Expired { .. } => {}
            }
        }
    }

    fn deliver(&mut self, to: usize, message: &[u8]) {
        let from = source(1 - to, self.direct);
        self.engines[to].handle(from, message, self.now);
        self.collect(to);
    }

    fn want(&mut self, index: usize) {
        self.engines[index].want_epoch(&KNOWN[1 - index].name, self.now);
        self.collect(index);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for index in [0, 1] {
            self.engines[index].handle_timeout(self.now);
            self.collect(index);
        }
    }

    /// Takes a message off the wire.
    fn take(&mut self, place: u8) -> Option<(usize, Vec<u8>)> {
        let place = usize::from(place).checked_rem(self.wire.len())?;
        Some(self.wire.remove(place))
    }

    /// One thing that happens. `None`: the input ends.
    fn step(&mut self, input: &mut impl Iterator<Item = u8>) -> Option<()> {
        match input.next()? % 7 {
            0 => self.want(usize::from(input.next()? & 1)),
            1 => {
                if let Some((to, message)) = self.take(0) {
                    self.deliver(to, &message);
                }
            }
            2 => {
                if let Some((to, message)) = self.take(input.next()?) {
                    self.deliver(to, &message);
                }
            }
            // Lost, or repeated.
            3 => {
                if let Some((to, message)) = self.take(input.next()?)
                    && input.next()? & 1 == 1
                {
                    self.deliver(to, &message);
                    self.wire.push((to, message));
                }
            }
            // Changed, with a mac1 that is right or not.
            4 => {
                let (place, how) = (input.next()?, input.next()?);
                let at = u16::from_le_bytes([input.next()?, input.next()?]);
                let change = input.next()?;
                if let Some((to, mut message)) = self.take(place)
                    && let Some(at) = usize::from(at).checked_rem(message.len())
                {
                    message[at] ^= change;
                    if how & 2 != 0 {
                        message.truncate(at);
                    }
                    if how & 1 != 0 {
                        remac(&mut message, &KNOWN[to].name);
                    }
                    self.deliver(to, &message);
                }
            }
            5 => {
                let time = Duration::from_millis(100) * u32::from(input.next()?);
                self.pass(time);
            }
            _ => {
                let (to, length) = (usize::from(input.next()? & 1), input.next()?);
                let message: Vec<u8> = input.take(usize::from(length).min(MAX_INJECTED)).collect();
                self.deliver(to, &message);
            }
        }
        Some(())
    }

    /// Whatever happened, no epoch number stands for two keys.
    fn check(&self) {
        for (epoch, key) in &self.installed[0] {
            for (other_epoch, other_key) in &self.installed[1] {
                assert_eq!(epoch == other_epoch, key == other_key, "epoch {epoch}");
            }
        }
    }

    /// Left alone, the two must come to a new key that both have.
    fn agree(&mut self) {
        let began = self.now;
        for _ in 0..PEACE_STEPS {
            self.want(0);
            self.want(1);
            while let Some((to, message)) = self.take(0) {
                self.deliver(to, &message);
            }
            let [a, b] = [0, 1].map(|index| self.engines[index].epoch(&KNOWN[1 - index].name));
            if let (Some(a), Some(b)) = (a, b)
                && a.epoch == b.epoch
                && a.installed_at >= began
            {
                return;
            }
            self.pass(PEACE_STEP);
        }
        panic!("no new key, though nobody disturbs any more");
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = data.iter().copied();
    let Some(flags) = input.next() else {
        return;
    };
    let mut world = World::new(flags & DIRECT != 0);
    for _ in 0..MAX_OPS {
        if world.step(&mut input).is_none() {
            break;
        }
        world.check();
    }
    if flags & PEACE != 0 {
        world.agree();
        world.check();
    }
});
