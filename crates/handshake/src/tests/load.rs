//! Floods: cookies, buckets, half messages.

use std::time::Duration;

use super::*;
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

#[test]
fn under_load_a_cookie_is_asked_for_and_opens_the_door() {
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
        let expected: &[u8] = if direct {
            &[5, 3, 4]
        } else {
            &[1, 5, 1, 2, 3, 4]
        };
        assert_eq!(answers, expected);
        let cookie = world.sent.iter().find(|packet| packet.bytes[4] == 5);
        assert_eq!(cookie.unwrap().bytes.len(), 64);
    }
}

#[test]
fn a_cookie_holds_for_its_source_only_and_for_its_time_only() {
    let config = Config {
        free_inits: 0,
        ..Config::with_rotation(Duration::from_secs(60))
    };
    let mut world = World::with_config(31, config);
    world.direct = true;
    world.want(A);
    world.run(Duration::from_secs(1));
    world.assert_agreed();
    // The next Init carries a mac2: A's cookie is younger than 120 s.
    world.run(Duration::from_secs(60));
    world.meddler = Box::new(|_| Vec::new());
    world.sent.clear();
    world.want(A);
    let now = world.now;
    let init = world.sent[0].bytes.clone();
    assert_eq!(init.len(), INIT_LIGHT_LEN);

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
    let relayed = Source::Relay {
        region: RegionId(1),
        peer: identity(A).wg.public(),
    };
    assert_eq!(answer(relayed, now), refused, "another way");
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
    let init = first_init(&mut world);
    let resps = |world: &World| kinds(world).iter().filter(|kind| **kind == 2).count();
    world.machines[B]
        .engine
        .provide_kem_key(&identity(A).kem.public(), world.now);
    for _ in 0..100 {
        world.inject(B, &init);
    }
    assert_eq!(resps(&world), 10, "the rest is asked for a cookie");
    let cookie = world
        .sent
        .iter()
        .rfind(|packet| packet.bytes[4] == 5)
        .unwrap();
    let cookie = cookie.bytes.clone();
    world.inject(A, &cookie);
    let with_mac2 = world.sent.last().unwrap().bytes.clone();
    assert_eq!(with_mac2[4], 1);
    for _ in 0..100 {
        world.inject(B, &with_mac2);
    }
    let limit = usize::try_from(10 + Config::default().source_inits).unwrap();
    assert_eq!(resps(&world), limit, "a source's share, cookie or not");
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
