//! Floods: cookies, buckets, half messages.

use std::time::Duration;

use super::*;
use crate::cost::{self, Cost};
use crate::fragment::Reassembly;
use crate::wire::{INIT_LIGHT_LEN, Message, Reject};

/// A world whose machines want a cookie for every Init but the first `free` per second.
fn loaded(seed: u64, free: u32) -> World {
    World::with_config(
        seed,
        Config {
            free_inits: free,
            ..Config::default()
        },
    )
}

fn kinds(world: &World) -> Vec<u8> {
    world.sent.iter().map(|packet| packet.bytes[4]).collect()
}

/// A's first Init, taken from the wire.
fn first_init(world: &mut World) -> Vec<u8> {
    world.meddler = Box::new(|_| Vec::new());
    world.want(A);
    world.run(Duration::from_millis(100));
    world.sent[0].bytes.clone()
}

/// A's FULL Init from its address, with a mac2 that B's cookie made; B has A's ML-KEM key.
fn init_with_mac2(world: &mut World) -> Vec<u8> {
    world.direct = true;
    let init = first_init_whole(world);
    world.machines[B]
        .engine
        .provide_kem_key(&identity(A).kem.public(), world.now);
    world.inject(B, &init);
    let cookie = world.sent.iter().rfind(|packet| packet.bytes[4] == 5);
    let cookie = cookie.unwrap().bytes.clone();
    let sent = world.sent.len();
    world.inject(A, &cookie);
    let pieces: Vec<_> = world.sent[sent..]
        .iter()
        .map(|packet| &packet.bytes[16..])
        .collect();
    let with_mac2 = pieces.concat();
    assert_eq!(with_mac2[4], 1);
    assert_ne!(with_mac2[with_mac2.len() - MAC_LEN..], [0; MAC_LEN]);
    with_mac2
}

/// A's first Init, put together again if it went in fragments.
fn first_init_whole(world: &mut World) -> Vec<u8> {
    let first = first_init(world);
    if first[4] == 1 {
        return first;
    }
    let pieces: Vec<_> = world.sent[..2]
        .iter()
        .map(|packet| &packet.bytes[16..])
        .collect();
    pieces.concat()
}

#[test]
fn under_load_strangers_are_asked_for_a_cookie_and_peers_of_a_relay_are_not() {
    for direct in [false, true] {
        let mut world = loaded(30, 0);
        world.direct = direct;
        world.want(A);
        world.run(Duration::from_secs(1));
        world.assert_agreed();
        let answers: Vec<u8> = kinds(&world)
            .into_iter()
            .filter(|kind| *kind != 6)
            .collect();
        let expected: &[u8] = if direct { &[5, 3, 4] } else { &[1, 2, 3, 4] };
        assert_eq!(answers, expected);
        let cookie = world.sent.iter().find(|packet| packet.bytes[4] == 5);
        assert_eq!(
            cookie.map(|packet| packet.bytes.len()),
            direct.then_some(64)
        );
    }
}

#[test]
fn a_cookie_holds_for_its_source_only_and_for_its_time_only() {
    let mut world = loaded(31, 0);
    let init = init_with_mac2(&mut world);
    let now = world.now;
    let engine = &mut world.machines[B].engine;
    let mut answer = |from: Source, at| {
        let verdict = engine.receive(from, &init, at);
        let mut kinds = Vec::new();
        while let Some(output) = engine.poll_output() {
            if let Output::Send { bytes, .. } = output {
                kinds.push(bytes[4]);
            }
        }
        (verdict, kinds)
    };
    let at = |text: &str| Source::Direct(text.parse().unwrap());
    assert_eq!(answer(at("192.0.2.1:41641"), now), (Ok(()), vec![2]));
    let refused = (Err(Reject::Load), vec![5]);
    assert_eq!(answer(at("192.0.2.1:41643"), now), refused, "another port");
    assert_eq!(
        answer(at("192.0.2.2:41641"), now),
        refused,
        "another address"
    );
    let late = now + 2 * Config::default().cookie;
    assert_eq!(answer(at("192.0.2.1:41641"), late), refused, "too late");
}

#[test]
fn a_cookie_reply_cannot_be_forged_by_who_did_not_see_the_init_nor_multiply_inits() {
    let mut world = loaded(32, 0);
    let init = first_init(&mut world);
    let Ok(Message::Init(parsed)) = Message::parse(&init) else {
        panic!("an Init expected");
    };
    let b = world.machines[B].name;
    let blind = crate::cookie::seal(&[1; 16], &[2; 16], &b, parsed.session, &[3; 16]);
    let sent = world.sent.len();
    world.inject(A, &blind);
    assert_eq!(world.sent.len(), sent);
    // Whoever saw the Init can make replies, but not more than one calls forth another Init.
    for salt in 0..50 {
        let seen = crate::cookie::seal(&[1; 16], &[salt; 16], &b, parsed.session, parsed.mac1);
        world.inject(A, &seen);
    }
    assert_eq!(world.sent.len(), sent + 1);
    // A false cookie costs nothing but that: the true one replaces it.
    world.meddler = Box::new(|packet| vec![packet]);
    world.run(Duration::from_secs(10));
    world.assert_agreed();
}

#[test]
fn answers_are_limited_in_total_and_per_source() {
    let mut world = loaded(33, 10);
    let resps = |world: &World| kinds(world).iter().filter(|kind| **kind == 2).count();
    world.direct = true;
    let init = first_init_whole(&mut world);
    world.machines[B]
        .engine
        .provide_kem_key(&identity(A).kem.public(), world.now);
    // A FULL Resp goes in two fragments.
    let answered = |world: &World| kinds(world).iter().filter(|kind| **kind == 6).count() / 2 - 1;
    for _ in 0..100 {
        world.inject(B, &init);
    }
    assert_eq!(resps(&world), 0);
    assert_eq!(answered(&world), 10, "the rest is asked for a cookie");
    let cookie = world.sent.iter().rfind(|packet| packet.bytes[4] == 5);
    let cookie = cookie.unwrap().bytes.clone();
    let sent = world.sent.len();
    world.inject(A, &cookie);
    let pieces: Vec<_> = world.sent[sent..]
        .iter()
        .map(|packet| &packet.bytes[16..])
        .collect();
    let with_mac2 = pieces.concat();
    let before = answered(&world);
    for _ in 0..100 {
        world.inject(B, &with_mac2);
    }
    let share = usize::try_from(Config::default().source_inits).unwrap();
    assert_eq!(
        answered(&world) - before,
        share,
        "a source's share, cookie or not"
    );
}

/// What each of `count` messages costs at most, sent to B in one moment.
fn cost_of_each(world: &mut World, count: u16, message: impl Fn(u16) -> (Source, Vec<u8>)) -> Cost {
    let now = world.now;
    let engine = &mut world.machines[B].engine;
    let mut most = Cost::default();
    for number in 0..count {
        let (from, bytes) = message(number);
        let cost = cost::of(|| engine.handle(from, &bytes, now));
        most.macs = most.macs.max(cost.macs);
        most.agreements = most.agreements.max(cost.agreements);
        while engine.poll_output().is_some() {}
    }
    most
}

fn from_port(port: u16) -> Source {
    Source::Direct(([203, 0, 113, 1], port).into())
}

#[test]
fn a_flood_costs_no_key_agreement_and_hardly_a_mac() {
    const FLOOD: u16 = 10_000;
    let mut world = loaded(35, 0);
    let init = init_with_mac2(&mut world);
    let real = source(world.machines[A].name, A, true);
    let tail = init.len() - MAC_LEN;
    let without = [&init[..tail], &[0; MAC_LEN]].concat();
    let mut foreign = without.clone();
    foreign[tail - 1] ^= 1;

    // Not made for this machine.
    let cost = cost_of_each(&mut world, FLOOD, |n| (from_port(n), foreign.clone()));
    let (macs, agreements) = (1, 0);
    assert_eq!(cost, Cost { macs, agreements });
    // From addresses that are not the sender's: mac1, and the cookie that goes there.
    let cost = cost_of_each(&mut world, FLOOD, |n| (from_port(n), without.clone()));
    let (macs, agreements) = (2, 0);
    assert_eq!(cost, Cost { macs, agreements });
    // With a cookie of another: mac1, the cookie, mac2, and a new cookie.
    let cost = cost_of_each(&mut world, FLOOD, |n| (from_port(n), init.clone()));
    let (macs, agreements) = (4, 0);
    assert_eq!(cost, Cost { macs, agreements });

    // From the address that the cookie was sent to: its share is answered, the rest costs nothing.
    let share = u16::try_from(Config::default().source_inits).unwrap();
    let cost = cost_of_each(&mut world, share, |_| (real, init.clone()));
    assert!(cost.agreements > 0, "the source's share was used up before");
    let cost = cost_of_each(&mut world, FLOOD, |_| (real, init.clone()));
    assert_eq!(cost, Cost::default());
}

/// Floods B from `count` ports, now; what it answers is lost.
fn flood(world: &mut World, count: u16, init: &[u8]) {
    let now = world.now;
    let engine = &mut world.machines[B].engine;
    for port in 1..=count {
        engine.handle(from_port(port), init, now);
        while engine.poll_output().is_some() {}
    }
}

#[test]
fn a_flood_does_not_hold_up_peers() {
    // A stranger's: A's ephemeral key is exchanged.
    let mut stranger = first_init(&mut World::new(37));
    stranger[16] ^= 1;
    remac(&mut stranger, &identity(B).wg.public());
    // By relay, by a chain, and by neither: then with a cookie.
    for (relayed, chained) in [(true, false), (false, true), (false, false)] {
        let mut world = if chained {
            World::before_light(36)
        } else {
            World::new(36)
        };
        world.direct = !relayed;
        let before = world.installs(A);
        let begin = world.now;
        world.want(A);
        while world.installs(A) == before {
            // 100,000 a second.
            flood(&mut world, 100, &stranger);
            world.run(Duration::from_millis(1));
            let took = world.now - begin;
            assert!(took < Duration::from_millis(250), "{relayed} {chained}");
        }
        world.assert_agreed();
    }
}

/// Whoever saw a LIGHT Init can send it again and use up what its handle is granted; its peer then comes
/// by cookie.
#[test]
fn repeated_light_inits_leave_their_peer_the_way_by_cookie() {
    let mut world = loaded(38, 0);
    world.want(A);
    world.run(Duration::from_secs(1));
    world.assert_agreed();
    world.run(world.config.rotation);
    world.direct = true;
    world.sent.clear();
    let begin = world.now;
    world.want(A);
    let seen = world.sent[0].bytes.clone();
    assert_eq!(seen.len(), INIT_LIGHT_LEN);
    while world.installs(A) == 1 {
        flood(&mut world, 50, &seen);
        world.run(Duration::from_millis(1));
        assert!(world.now - begin < Duration::from_millis(250));
    }
    world.assert_agreed();
    assert!(kinds(&world).contains(&5), "A was asked for a cookie");
}

#[test]
fn a_light_init_of_an_unknown_handle_costs_nothing() {
    let mut world = World::before_light(34);
    world.restart(B);
    world.meddler = Box::new(|_| Vec::new());
    world.sent.clear();
    world.want(A);
    let init = world.sent[0].bytes.clone();
    for _ in 0..1000 {
        world.inject(B, &init);
    }
    assert_eq!(world.sent.len(), 1, "no answer of any kind");
    world.meddler = Box::new(|packet| vec![packet]);
    world.sent.clear();
    world.run(Duration::from_secs(6));
    world.assert_agreed();
    assert!(!kinds(&world).contains(&5), "the free bucket is untouched");
}

#[test]
fn half_messages_are_bounded_in_number_per_origin_and_in_time() {
    let lifetime = Config::default().reassembly;
    let mut reassembly = Reassembly::new(lifetime);
    let now = Instant::now();
    let take = |reassembly: &mut Reassembly, from: u16, message: &[u8], index: usize, now| {
        let ip = std::net::Ipv4Addr::from(0xc000_0200 | u32::from(from >> 4));
        let from = Source::Direct((ip, 1000 + (from & 15)).into());
        let pieces = fragments(message);
        let Ok(Message::Fragment(piece)) = Message::parse(&pieces[index]) else {
            panic!("a fragment expected");
        };
        reassembly.insert(from, &piece, now)
    };
    let message = |n: u16| [n.to_be_bytes().to_vec(), vec![0; 2400]].concat();
    // 16 ports of one address share its four places; the newest stay.
    for n in 0..16 {
        assert!(take(&mut reassembly, n, &message(n), 0, now).is_err());
    }
    assert_eq!(reassembly.len(), 4);
    assert_eq!(
        take(&mut reassembly, 15, &message(15), 1, now),
        Ok(message(15))
    );
    // Many addresses: 128 places in all.
    for n in 16..4000 {
        let _ = take(&mut reassembly, n, &message(n), 0, now);
    }
    assert_eq!(reassembly.len(), 128);
    // Time erases the rest.
    assert_eq!(reassembly.poll_timeout(), Some(now + lifetime));
    reassembly.expire(now + lifetime);
    assert_eq!(reassembly.len(), 0);
    // Halves of two messages do not make one, whatever name they carry.
    let mut pieces = fragments(&message(1));
    pieces[1][20] ^= 1;
    for piece in &pieces {
        let Ok(Message::Fragment(piece)) = Message::parse(piece) else {
            panic!("a fragment expected");
        };
        let from = Source::Direct(([192, 0, 2, 1], 1).into());
        assert!(reassembly.insert(from, &piece, now).is_err());
    }
    assert_eq!(reassembly.len(), 0);
}
