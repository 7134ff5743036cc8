//! What goes over the wire is as large as SPEC.md says, and no larger than a datagram may be.

use std::time::Duration;

use super::*;
use crate::wire::{
    ACK_LEN, CONF_LEN, COOKIE_LEN, FRAGMENT_HEAD, INIT_FULL_LEN, INIT_LIGHT_LEN, RESP_FULL_LEN,
    RESP_LIGHT_LEN,
};
use crate::{MAX_DATAGRAM, is_handshake};

fn sizes(world: &World) -> Vec<(u8, u8, usize)> {
    world
        .sent
        .iter()
        .map(|packet| (packet.bytes[4], packet.bytes[6], packet.bytes.len()))
        .collect()
}

#[test]
fn full_and_light_have_the_sizes_of_the_specification() {
    let mut world = World::connected(20);
    assert_eq!(
        sizes(&world),
        [(1, 1, 2424), (2, 1, 2368), (3, 0, 152), (4, 0, 48)]
    );
    assert_eq!((INIT_FULL_LEN, RESP_FULL_LEN), (2424, 2368));
    world.sent.clear();
    world.run(world.config.rotation);
    world.want(A);
    world.run(Duration::from_secs(1));
    assert_eq!(
        sizes(&world),
        [(1, 2, 1304), (2, 2, 1280), (3, 0, 152), (4, 0, 48)]
    );
    assert_eq!((INIT_LIGHT_LEN, RESP_LIGHT_LEN), (1304, 1280));
    assert_eq!((CONF_LEN, ACK_LEN, COOKIE_LEN), (152, 48, 64));
    assert!(world.sent.iter().all(|packet| is_handshake(&packet.bytes)));
}

#[test]
fn every_message_starts_as_neither_wireguard_nor_stun_does() {
    for packet in &World::connected(21).sent {
        assert_eq!(packet.bytes[..4], *b"zHS1");
        assert!(packet.bytes[0] >= 0x40);
    }
    for other in [&[1, 0, 0, 0][..], &[4, 0, 0, 0], &[0, 1, 0, 0], b"zHS", b""] {
        assert!(!is_handshake(other));
    }
}

#[test]
fn fragments_are_two_halves_and_only_of_what_does_not_fit() {
    for length in [1, 48, MAX_DATAGRAM] {
        assert_eq!(fragments(&vec![7; length]), [vec![7; length]]);
    }
    for length in [MAX_DATAGRAM + 1, RESP_FULL_LEN, INIT_FULL_LEN] {
        let pieces = fragments(&vec![7; length]);
        assert_eq!(pieces.len(), 2);
        let data: usize = pieces.iter().map(|piece| piece.len() - FRAGMENT_HEAD).sum();
        assert_eq!(data, length);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_DATAGRAM));
        assert!(pieces.iter().all(|piece| is_handshake(piece)));
    }
}
