//! What somebody on the path may do: change, drop, repeat, reorder, delay, replay, invent.

use std::time::Duration;

use rand::{Rng, RngExt};
use ztna_proto::netmap::PqMode;

use super::*;
use crate::wire::{Message, Reject};

const SECOND: Duration = Duration::from_secs(1);

fn unlimited() -> Config {
    Config {
        free_inits: 1_000_000,
        total_inits: 1_000_000,
        ..Config::default()
    }
}

/// The four messages of a handshake under way, stopped before each: (message, receiver).
/// Everything up to message `upto` (1 to 4) has been delivered but that one.
fn stopped_before(upto: u8, light: bool, seed: u64) -> (World, Vec<u8>, usize) {
    let mut world = World::with_config(seed, unlimited());
    if light {
        world.want(A);
        world.run(SECOND);
        world.run(world.config.rotation);
    }
    world.sent.clear();
    world.meddler = Box::new(move |packet| {
        if packet.bytes[4] == upto {
            Vec::new()
        } else {
            vec![packet]
        }
    });
    world.want(A);
    world.run(Duration::from_millis(300));
    let packet = world
        .sent
        .iter()
        .find(|packet| packet.bytes[4] == upto)
        .unwrap();
    let (bytes, to) = (packet.bytes.clone(), packet.to);
    world.meddler = Box::new(|packet| vec![packet]);
    (world, bytes, to)
}

/// Bytes that no seal or transcript covers: mac2 of an Init, which only matters under load.
fn covered(message: &[u8]) -> usize {
    if message[4] == 1 {
        message.len() - 16
    } else {
        message.len()
    }
}

#[test]
fn every_byte_changed_of_every_message_is_refused_and_disturbs_nothing() {
    let mut rng = StdRng::seed_from_u64(40);
    for light in [false, true] {
        for kind in 1..=4 {
            let (mut world, message, to) = stopped_before(kind, light, 41);
            let from = source(world.machines[1 - to].name, 1 - to, false);
            let receiver = world.machines[to].name;
            let now = world.now;
            let installs = world.installs(to);
            // Wrong Resps are counted; every byte of them is tried without an engine below.
            let step = if kind == 2 { message.len() / 15 } else { 1 };
            for at in (0..covered(&message)).step_by(step) {
                for fresh_mac in [false, true] {
                    let mut changed = message.clone();
                    changed[at] ^= rng.random_range(1..=255u8);
                    if fresh_mac {
                        remac(&mut changed, &receiver);
                        if changed == message {
                            continue;
                        }
                    }
                    let verdict = world.machines[to].engine.receive(from, &changed, now);
                    assert!(verdict.is_err(), "kind {kind}, byte {at}");
                    let output = world.machines[to].engine.poll_output();
                    assert!(output.is_none(), "kind {kind}, byte {at}");
                }
            }
            assert_eq!(world.installs(to), installs);
            world.inject(to, &message);
            world.run(SECOND);
            world.assert_agreed();
        }
    }
}

#[test]
fn every_byte_changed_of_a_resp_fails_its_seal() {
    use crate::biscuit::BISCUIT_LEN;
    use crate::exchange::{self, Answer, InitAuth, InitRandom, Local, Remote, RespRandom};

    let mut rng = StdRng::seed_from_u64(42);
    let [a, b] = [A, B].map(|index| Local::new(&identity(index)));
    let [to_a, to_b] = [A, B].map(|index| Remote {
        wg: identity(index).wg.public(),
        kem_hash: peer_config(&identity(index)).kem_key,
        pq: PqMode::Required,
    });
    let [key_a, key_b] = [A, B].map(|index| identity(index).kem.public());
    let chain = crate::schedule::ChainKey([5; 32]);
    for full in [true, false] {
        let auth = if full {
            InitAuth::Full(&key_b)
        } else {
            InitAuth::Light(&chain)
        };
        let random = InitRandom::draw(&mut rng);
        let (bytes, offer) = exchange::init(&a, &to_b, &auth, 1, &random).unwrap();
        let Ok(Message::Init(init)) = Message::parse(&bytes) else {
            panic!("an Init expected");
        };
        let (mut transcript, _) = exchange::open_init(&b, &init).unwrap();
        let chain = (!full).then_some(&chain);
        exchange::authenticate_init(&b, &to_a, chain, &mut transcript, &init).unwrap();
        let answer = Answer {
            remote: &to_a,
            kem_key: full.then_some(&key_a),
            epoch: 1,
            random: &RespRandom::draw(&mut rng),
        };
        let resp = answer
            .resp(transcript, &init, |_| [7; BISCUIT_LEN])
            .unwrap();
        let open = |bytes: &[u8]| match Message::parse(bytes) {
            Ok(Message::Resp(resp)) => exchange::open_resp(&a, &offer, &resp).is_ok(),
            _ => false,
        };
        assert!(open(&resp));
        for at in 0..resp.len() - 16 {
            let mut changed = resp.clone();
            changed[at] ^= rng.random_range(1..=255u8);
            assert!(!open(&changed), "byte {at}");
        }
    }
}

#[test]
fn every_pattern_of_loss_among_the_first_eight_packets_is_survived() {
    for both in [false, true] {
        for light in [false, true] {
            for pattern in 0..=255u32 {
                let mut world = if light {
                    World::before_light(50)
                } else {
                    World::new(50)
                };
                let mut count = 0;
                world.meddler = Box::new(move |packet| {
                    count += 1;
                    if count <= 8 && pattern & (1 << (count - 1)) != 0 {
                        Vec::new()
                    } else {
                        vec![packet]
                    }
                });
                world.want(A);
                if both {
                    world.want(B);
                }
                world.run(Duration::from_secs(30));
                world.assert_agreed();
                world.assert_never_differ();
            }
        }
    }
}

#[test]
fn every_message_repeated_and_replayed_later_changes_nothing() {
    for light in [false, true] {
        let mut world = if light {
            World::before_light(60)
        } else {
            World::new(60)
        };
        let before = world.installs(A);
        world.meddler = Box::new(|packet| {
            let again = Packet {
                at: packet.at + Duration::from_millis(7),
                ..packet.clone()
            };
            vec![packet.clone(), packet, again]
        });
        world.want(A);
        world.run(SECOND);
        world.assert_agreed();
        assert_eq!(world.installs(A), before + 1);
        assert_eq!(world.installs(B), before + 1);

        // All of it once more, in both directions and in any order, at several later moments.
        let recorded = world.sent.clone();
        let [name_a, name_b] = [A, B].map(|index| world.machines[index].name);
        for wait in [1, 30, 90] {
            world.run(Duration::from_secs(wait));
            for packet in recorded.iter().chain(recorded.iter().rev()) {
                for to in [A, B] {
                    world.inject(to, &packet.bytes);
                }
            }
            world.run(SECOND);
            assert_eq!(world.installs(A), before + 1);
            assert_eq!(world.installs(B), before + 1);
        }
        assert!(world.machines[A].engine.pending_psk(&name_b).is_none());
        assert!(world.machines[B].engine.pending_psk(&name_a).is_none());
    }
}

#[test]
fn replayed_inits_do_not_hold_up_an_honest_handshake() {
    for starter in [A, B] {
        let mut world = World::before_light(61);
        world.run(world.config.responder_lag);
        let recorded = world.sent.clone();
        world.want(starter);
        for _ in 0..20 {
            for packet in &recorded {
                world.inject(packet.to, &packet.bytes);
            }
            world.run(Duration::from_millis(10));
        }
        world.run(SECOND);
        world.assert_agreed();
        assert_eq!(world.installs(A), 2);
    }
}

#[test]
fn a_wire_that_loses_repeats_delays_and_changes_never_makes_the_ends_differ() {
    for seed in 0..40 {
        let config = Config::with_rotation(Duration::from_secs(12));
        let mut world = World::with_config(seed, config);
        world.direct = seed % 2 == 0;
        let mut rng = StdRng::seed_from_u64(7000 + seed);
        world.meddler = Box::new(move |packet| {
            let mut out = Vec::new();
            let copies = [0, 0, 1, 1, 1, 1, 2, 3][rng.random_range(0..8usize)];
            for _ in 0..copies {
                let mut copy = packet.clone();
                copy.at += Duration::from_millis(rng.random_range(0..400));
                if rng.random_range(0..20) == 0 {
                    copy.at += Duration::from_secs(rng.random_range(0..30));
                }
                if rng.random_range(0..10) == 0 {
                    let at = rng.random_range(0..copy.bytes.len());
                    copy.bytes[at] ^= rng.random_range(1..=255u8);
                }
                out.push(copy);
            }
            out
        });
        world.run_busy(120);
        world.assert_never_differ();
        assert!(world.installs(A) >= 4, "seed {seed}");
        world.meddler = Box::new(|packet| vec![packet]);
        world.run_busy(40);
        world.run(Duration::from_secs(60));
        world.assert_agreed();
        world.assert_never_differ();
    }
}

#[test]
fn pq_modes_that_differ_make_no_key() {
    let mut world = World::new(70);
    let a = identity(A);
    let preferred = PeerConfig {
        pq: PqMode::Preferred,
        ..peer_config(&a)
    };
    world.machines[B]
        .engine
        .upsert_peer(a.wg.public(), preferred);
    world.run_busy(30);
    assert_eq!((world.installs(A), world.installs(B)), (0, 0));
    let b = identity(B);
    let preferred = PeerConfig {
        pq: PqMode::Preferred,
        ..peer_config(&b)
    };
    world.machines[A]
        .engine
        .upsert_peer(b.wg.public(), preferred);
    world.run_busy(2);
    world.assert_agreed();
}

#[test]
fn a_wrong_idea_of_the_others_kem_key_makes_no_key() {
    let stranger = KemPrivateKey::generate(&mut StdRng::seed_from_u64(71)).public();
    for deceived in [A, B] {
        let mut world = World::new(72);
        let other = identity(1 - deceived).wg.public();
        let now = world.now;
        let engine = &mut world.machines[deceived].engine;
        engine.upsert_peer(
            other,
            PeerConfig {
                kem_key: KemKeyHash::of(&stranger),
                pq: PqMode::Required,
            },
        );
        engine.provide_kem_key(&stranger, now);
        world.run_busy(30);
        assert_eq!((world.installs(A), world.installs(B)), (0, 0));
    }
}

#[test]
fn a_machine_with_the_peers_wireguard_key_but_not_its_kem_key_makes_no_key() {
    for impostor in [A, B] {
        let mut world = World::new(73);
        let mut rng = StdRng::seed_from_u64(74);
        let stolen = Identity {
            wg: identity(impostor).wg.clone(),
            kem: KemPrivateKey::generate(&mut rng),
        };
        let config = world.config.clone();
        let now = world.now;
        let mut engine = Handshakes::new(stolen, config, Box::new(rng), now);
        let other = identity(1 - impostor);
        engine.upsert_peer(other.wg.public(), peer_config(&other));
        world.machines[impostor].engine = engine;
        world.run_busy(30);
        assert_eq!((world.installs(A), world.installs(B)), (0, 0));
    }
}

#[test]
fn a_stranger_and_a_false_witness_are_refused() {
    let (mut world, init, _) = stopped_before(1, false, 75);
    let now = world.now;
    let stranger = WgPublicKey([9; 32]);
    let from = |peer| Source::Relay {
        region: RegionId(1),
        peer,
    };
    let engine = &mut world.machines[B].engine;
    assert_eq!(
        engine.receive(from(stranger), &init, now),
        Err(Reject::UnknownPeer)
    );
    let third = identity(A);
    engine.upsert_peer(stranger, peer_config(&third));
    assert_eq!(
        engine.receive(from(stranger), &init, now),
        Err(Reject::WrongSource)
    );
    engine.remove_peer(&third.wg.public());
    let direct = source(third.wg.public(), A, true);
    assert_eq!(engine.receive(direct, &init, now), Err(Reject::UnknownPeer));
}

#[test]
fn messages_reflected_to_their_sender_are_refused() {
    for light in [false, true] {
        for kind in 1..=4 {
            let (mut world, mut message, to) = stopped_before(kind, light, 76);
            let back = 1 - to;
            let name = world.machines[back].name;
            remac(&mut message, &name);
            let installs = world.installs(back);
            let from = source(world.machines[to].name, to, false);
            let now = world.now;
            let verdict = world.machines[back].engine.receive(from, &message, now);
            assert!(verdict.is_err(), "kind {kind}");
            assert_eq!(world.installs(back), installs);
        }
    }
}

#[test]
fn a_biscuit_is_good_for_its_own_attempt_and_its_own_time() {
    let (mut world, conf, _) = stopped_before(3, false, 77);
    let receiver = world.machines[B].name;
    let from = source(world.machines[A].name, A, false);
    let mut other_session = conf.clone();
    other_session[8] ^= 1;
    remac(&mut other_session, &receiver);
    let now = world.now;
    let engine = &mut world.machines[B].engine;
    assert_eq!(
        engine.receive(from, &other_session, now),
        Err(Reject::Biscuit)
    );
    let late = now + 2 * Config::default().biscuit_key;
    assert_eq!(engine.receive(from, &conf, late), Err(Reject::Biscuit));
    assert_eq!(
        engine.poll_timeout(),
        None,
        "its key is erased, nothing else was kept"
    );
}

#[test]
fn a_biscuit_dies_with_the_peers_entry() {
    let (mut world, conf, _) = stopped_before(3, false, 78);
    let a = identity(A);
    let engine = &mut world.machines[B].engine;
    engine.remove_peer(&a.wg.public());
    engine.upsert_peer(a.wg.public(), peer_config(&a));
    let from = source(a.wg.public(), A, false);
    let now = world.now;
    assert_eq!(engine.receive(from, &conf, now), Err(Reject::Replay));
}

#[test]
fn keys_of_low_order_are_refused() {
    let (mut world, init, _) = stopped_before(1, false, 79);
    let receiver = world.machines[B].name;
    let mut changed = init;
    changed[16..48].fill(0);
    remac(&mut changed, &receiver);
    let from = source(world.machines[A].name, A, false);
    let now = world.now;
    assert_eq!(
        world.machines[B].engine.receive(from, &changed, now),
        Err(Reject::LowOrder)
    );

    let (mut world, mut resp, _) = stopped_before(2, false, 79);
    resp[16..48].fill(0);
    resp[16] = 1;
    let receiver = world.machines[A].name;
    remac(&mut resp, &receiver);
    let from = source(world.machines[B].name, B, false);
    let now = world.now;
    assert_eq!(
        world.machines[A].engine.receive(from, &resp, now),
        Err(Reject::LowOrder)
    );

    let mut world = World::new(80);
    let weak = WgPublicKey([0; 32]);
    let b = identity(B);
    let now = world.now;
    let engine = &mut world.machines[A].engine;
    engine.upsert_peer(weak, peer_config(&b));
    engine.provide_kem_key(&b.kem.public(), now);
    engine.want_epoch(&weak, now);
    assert!(engine.poll_output().is_none());
    engine.handle_timeout(now + Duration::from_secs(61));
    assert_eq!(engine.poll_timeout(), None);
}

#[test]
fn a_kem_key_that_does_not_decode_is_not_used() {
    // Coefficients of 4095 fail the modulus check of FIPS 203 §7.2.
    let bad = KemPublicKey::try_from([255u8; 1184].as_slice()).unwrap();
    let mut world = World::new(81);
    let b = world.machines[B].name;
    let now = world.now;
    let engine = &mut world.machines[A].engine;
    engine.upsert_peer(
        b,
        PeerConfig {
            kem_key: KemKeyHash::of(&bad),
            pq: PqMode::Required,
        },
    );
    engine.provide_kem_key(&bad, now);
    engine.want_epoch(&b, now);
    assert!(matches!(
        engine.poll_output(),
        Some(Output::NeedKemKey { .. })
    ));
}

#[test]
fn wrong_answers_are_limited_between_retransmissions() {
    let (mut world, resp, _) = stopped_before(2, false, 82);
    let receiver = world.machines[A].name;
    let from = source(world.machines[B].name, B, false);
    let mut changed = resp.clone();
    changed[100] ^= 1;
    remac(&mut changed, &receiver);
    let now = world.now;
    let engine = &mut world.machines[A].engine;
    for _ in 0..16 {
        assert_eq!(engine.receive(from, &changed, now), Err(Reject::Seal));
    }
    assert_eq!(
        engine.receive(from, &resp, now),
        Err(Reject::TooManyAnswers)
    );
    world.run(5 * SECOND);
    world.assert_agreed();
}

#[test]
fn random_bytes_never_panic_nor_get_an_answer() {
    let mut rng = StdRng::seed_from_u64(90);
    let mut world = World::before_light(91);
    world.want(A);
    world.run(Duration::from_millis(25));
    let seen = world.sent.clone();
    let installs = [world.installs(A), world.installs(B)];
    world.sent.clear();
    for round in 0..30_000 {
        let mut bytes = vec![0; rng.random_range(1..2600)];
        rng.fill_bytes(&mut bytes);
        let to = round % 2;
        match round % 5 {
            0 => {}
            1 if bytes.len() >= 8 => {
                bytes[..4].copy_from_slice(b"zHS1");
                bytes[4] = rng.random_range(0..8);
                bytes[5] = 1;
                bytes[6] = rng.random_range(0..3);
                bytes[7] = 0;
            }
            // A real message with its end cut off, or drawn out.
            2 | 3 => {
                let real = &seen[rng.random_range(0..seen.len())].bytes;
                let keep = rng.random_range(0..real.len());
                let mut cut = real[..keep].to_vec();
                if round % 5 == 3 {
                    cut = [real.as_slice(), &bytes].concat();
                }
                bytes = cut;
            }
            _ => {
                let real = &seen[rng.random_range(0..seen.len())].bytes;
                bytes = vec![0; real.len()];
                rng.fill_bytes(&mut bytes);
                bytes[..8].copy_from_slice(&real[..8]);
                let name = world.machines[to].name;
                remac(&mut bytes, &name);
            }
        }
        world.inject(to, &bytes);
    }
    let answered = world.sent.iter().any(|packet| packet.bytes[4] != 5);
    assert!(!answered, "only cookies are sent on an unproved word");
    assert_eq!([world.installs(A), world.installs(B)], installs);
}
