use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::split::Unusable;
use super::*;

const ROOM: usize = 16;
const ALL: Joins = Joins {
    tcp: true,
    udp: true,
};
/// Length of TCP's and IPv4's headers here.
const HEADERS: usize = 20 + 32;

/// A frame as the kernel hands it over: a TCP segment over IPv4, or UDP over IPv6, with the pseudo
/// header's sum in place of its checksum.
fn frame(protocol: u8, version: u8, segment: usize, payload: &[u8]) -> Vec<u8> {
    let transport = if version == 4 { 20 } else { 40 };
    let header = transport + if protocol == TCP { 32 } else { 8 };
    let mut packet = vec![0; header];
    packet[0] = version << 4 | if version == 4 { 5 } else { 0 };
    packet[if version == 4 { 9 } else { 6 }] = protocol;
    packet[transport - 8..transport].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    packet[transport..transport + 4].copy_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(payload);
    let length = packet.len();
    set_ip_length(&mut packet, transport, length);
    let length = length - transport;
    let (kind, checksum) = if protocol == TCP {
        put_u32(&mut packet, transport + 4, u32::MAX - 5_000);
        packet[transport + 12] = 8 << 4;
        packet[transport + 13] = ACK | PSH;
        packet[transport + 20..transport + 32].fill(7);
        let kind = if version == 4 { GSO_TCPV4 } else { GSO_TCPV6 };
        (kind, TCP_CHECKSUM)
    } else {
        put_u16(&mut packet, transport + 4, u16::try_from(length).unwrap());
        (GSO_UDP_L4, UDP_CHECKSUM)
    };
    let sum = checksum::fold(pseudo_header(&packet, protocol, length));
    packet[transport + checksum..transport + checksum + 2].copy_from_slice(&sum);
    let mut frame = vec![NEEDS_CSUM, kind];
    for field in [header, segment, transport, checksum] {
        frame.extend_from_slice(&u16::try_from(field).unwrap().to_ne_bytes());
    }
    frame.extend_from_slice(&packet);
    frame
}

fn cut(frame: &[u8]) -> Vec<BytesMut> {
    let mut packets = Vec::new();
    split(frame, ROOM, &mut BytesMut::new(), &mut packets).unwrap();
    packets
}

fn joined(packets: impl IntoIterator<Item = BytesMut>) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new(ALL);
    packets
        .into_iter()
        .for_each(|packet| coalescer.push(packet));
    coalescer
        .finish()
        .iter()
        .map(|frame| {
            let mut slices = Vec::new();
            frame.slices(&mut slices);
            slices.iter().flat_map(|slice| slice.to_vec()).collect()
        })
        .collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(length as u64).fill_bytes(&mut bytes);
    bytes
}

/// What is cut and joined again is what it was, to the last bit.
#[test]
fn cutting_and_joining_are_inverse() {
    for protocol in [TCP, UDP] {
        for version in [4, 6] {
            for length in [1_201, 2_400, 12_345, 60_000] {
                let whole = frame(protocol, version, 1_200, &noise(length));
                let packets = cut(&whole);
                assert_eq!(packets.len(), length.div_ceil(1_200));
                let frames = joined(packets);
                assert!(frames == [whole], "{protocol} {version} {length}");
            }
        }
    }
}

/// An independent sum, word by word, over each packet that was cut.
#[test]
fn packets_have_right_checksums_and_room() {
    for packet in cut(&frame(TCP, 4, 999, &noise(10_001))) {
        assert!(packet.capacity() >= packet.len() + ROOM);
        let words = |bytes: &[u8]| -> u64 {
            bytes
                .chunks(2)
                .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
                .sum()
        };
        assert_eq!(words(&packet[..20]) % 0xffff, 0);
        let pseudo = words(&packet[12..20]) + 6 + (packet.len() as u64 - 20);
        assert_eq!((pseudo + words(&packet[20..])) % 0xffff, 0);
    }
}

#[test]
fn a_single_packet_gets_its_checksum() {
    let mut whole = frame(UDP, 4, 0, &noise(101));
    whole[1] = GSO_NONE;
    let [packet] = &cut(&whole)[..] else {
        panic!("one packet");
    };
    let pseudo = pseudo_header(packet, UDP, packet.len() - 20);
    let sum = checksum::add(pseudo, &packet[20..]);
    assert_eq!(checksum::finish(sum), [0, 0]);
}

#[test]
fn flows_are_kept_apart_and_in_order() {
    let first = frame(TCP, 4, 1_000, &noise(3_000));
    let mut second = first.clone();
    second[VNET_HEADER + 20] = 9; // Another port; the sum that is to be completed is the pseudo header's.
    let (first_packets, second_packets) = (cut(&first), cut(&second));
    let mixed = first_packets.into_iter().zip(second_packets);
    let frames = joined(mixed.flat_map(|(a, b)| [a, b]));
    assert!(frames == [first, second]);
}

#[test]
fn what_does_not_follow_stays_apart() {
    let packets = || cut(&frame(TCP, 4, 1_000, &noise(3_000)));
    // Out of order.
    let mut swapped = packets();
    swapped.swap(0, 1);
    assert_eq!(joined(swapped).len(), 3);
    // Lost between.
    let mut holed = packets();
    holed.remove(1);
    assert_eq!(joined(holed).len(), 2);
    // Damaged.
    let mut damaged = packets();
    damaged[1][HEADERS + 7] ^= 1;
    let lengths: Vec<_> = joined(damaged.clone()).iter().map(Vec::len).collect();
    assert_eq!(lengths, [VNET_HEADER + HEADERS + 1_000; 3]);
    // Pushed, or closed by a short one: nothing may follow.
    let mut pushed = cut(&frame(TCP, 4, 1_000, &noise(1_500)));
    pushed.extend(packets().into_iter().skip(2));
    assert_eq!(joined(pushed).len(), 2);
}

#[test]
fn joined_packets_are_not_longer_than_ip_can_say() {
    let mut packets = cut(&frame(UDP, 4, 1_000, &noise(60_000)));
    packets.extend(cut(&frame(UDP, 4, 1_000, &noise(60_000))));
    let lengths: Vec<_> = joined(packets).iter().map(Vec::len).collect();
    assert_eq!(
        lengths,
        [VNET_HEADER + 28 + 64_000, VNET_HEADER + 28 + 56_000]
    );
}

#[test]
fn without_udp_offload_udp_stays_as_it_is() {
    let mut coalescer = Coalescer::new(Joins { udp: false, ..ALL });
    for packet in cut(&frame(UDP, 4, 1_000, &noise(3_000))) {
        coalescer.push(packet);
    }
    assert_eq!(coalescer.finish().len(), 3);
}

#[test]
fn what_the_kernel_refused_is_joined_no_more() {
    let mut coalescer = Coalescer::new(ALL);
    let whole = frame(TCP, 4, 1_000, &noise(3_000));
    cut(&whole)
        .into_iter()
        .for_each(|packet| coalescer.push(packet));
    let [joined] = coalescer.finish() else {
        panic!("one frame");
    };
    let refused = joined.joins();
    assert_eq!(refused, Joins { udp: false, ..ALL });
    coalescer.clear();
    coalescer.set_joins(Joins { tcp: false, ..ALL });
    cut(&whole)
        .into_iter()
        .for_each(|packet| coalescer.push(packet));
    let frames = coalescer.finish();
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| frame.joins() == Joins::default()));
}

/// Whatever a frame says, it is cut or refused.
#[test]
fn hostile_frames_do_no_harm() {
    let mut rng = StdRng::seed_from_u64(7);
    let good = frame(TCP, 6, 500, &noise(2_000));
    for _ in 0..4_000 {
        let mut bad = good.clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..VNET_HEADER + 80);
            bad[at] = rng.random();
        }
        bad.truncate(rng.random_range(0..=bad.len()));
        let mut packets = Vec::new();
        if split(&bad, ROOM, &mut BytesMut::new(), &mut packets).is_ok() {
            joined(packets);
        }
    }
    assert_eq!(
        split(&[0; VNET_HEADER], 0, &mut BytesMut::new(), &mut Vec::new()),
        Err(Unusable)
    );
}
