use std::net::SocketAddr;

use proptest::prelude::*;
use webrtc_stun::attributes::{ATTR_FINGERPRINT, AttrType};
use webrtc_stun::fingerprint::FINGERPRINT;
use webrtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, Getter, Message, Setter};
use webrtc_stun::xoraddr::XorMappedAddress;

use super::*;
use crate::client::{TransactionId, parse_response, request};
use crate::discovery::{CORNERS, Corners};

/// RFC 5769 §2.1: sample request, with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME,
/// MESSAGE-INTEGRITY and FINGERPRINT.
const SAMPLE_REQUEST: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
    0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
    0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
    0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

/// RFC 5769 §2.4: sample request with long-term authentication.
const LONG_TERM_REQUEST: [u8; 116] = [
    0x00, 0x01, 0x00, 0x60, 0x21, 0x12, 0xa4, 0x42, 0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0,
    0x29, 0xda, 0x41, 0x2e, 0x00, 0x06, 0x00, 0x12, 0xe3, 0x83, 0x9e, 0xe3, 0x83, 0x88, 0xe3, 0x83,
    0xaa, 0xe3, 0x83, 0x83, 0xe3, 0x82, 0xaf, 0xe3, 0x82, 0xb9, 0x00, 0x00, 0x00, 0x15, 0x00, 0x1c,
    0x66, 0x2f, 0x2f, 0x34, 0x39, 0x39, 0x6b, 0x39, 0x35, 0x34, 0x64, 0x36, 0x4f, 0x4c, 0x33, 0x34,
    0x6f, 0x4c, 0x39, 0x46, 0x53, 0x54, 0x76, 0x79, 0x36, 0x34, 0x73, 0x41, 0x00, 0x14, 0x00, 0x0b,
    0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x2e, 0x6f, 0x72, 0x67, 0x00, 0x00, 0x08, 0x00, 0x14,
    0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6, 0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2,
    0x8c, 0xa8, 0x96, 0x66,
];

fn v4() -> SocketAddr {
    "198.51.100.7:40000".parse().unwrap()
}

fn v6() -> SocketAddr {
    "[2001:db8::7]:40000".parse().unwrap()
}

fn corners() -> Corners {
    let addresses = ["192.0.2.1:3478", "192.0.2.2:3479"].map(|text| text.parse().unwrap());
    Corners::new(addresses[0], addresses[1]).unwrap()
}

fn v6_corners() -> Corners {
    let addresses = ["[2001:db8::1]:3478", "[2001:db8::2]:3479"].map(|text| text.parse().unwrap());
    Corners::new(addresses[0], addresses[1]).unwrap()
}

/// A bare request, with and without the magic cookie.
fn bare() -> Vec<u8> {
    let mut bare = request(TransactionId([5; 12]));
    bare.truncate(20);
    bare[3] = 0;
    bare
}

fn classic(mut message: Vec<u8>) -> Vec<u8> {
    message[4..8].copy_from_slice(&[9, 8, 7, 6]);
    message
}

fn with_attributes(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.transaction_id.0 = [5; 12];
    message.write_header();
    for (kind, value) in attributes {
        message.add(AttrType(*kind), value);
    }
    message.raw
}

fn fingerprinted(message: &[u8]) -> Vec<u8> {
    let mut message = read(message);
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

fn tailnode() -> Vec<u8> {
    fingerprinted(&with_attributes(&[(0x8022, b"tailnode")]))
}

fn read(bytes: &[u8]) -> Message {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).unwrap();
    message
}

fn limit(message: &[u8]) -> usize {
    match message.len() {
        20 => 64,
        length => 2 * length,
    }
}

/// The answer's bytes and the corner that it leaves from.
fn answer_at(message: &[u8], from: SocketAddr, vantage: Option<Vantage<'_>>) -> (Vec<u8>, usize) {
    let mut memory = [0xee; MAX_ANSWER];
    match respond(message, from, vantage, &mut memory) {
        Answer::Success { length, corner, .. } => (memory[..length].to_vec(), corner),
        other => panic!("{other:?} to {message:02x?}"),
    }
}

fn answer(message: &[u8], from: SocketAddr) -> Vec<u8> {
    answer_at(message, from, None).0
}

fn refusal_of(message: &[u8], vantage: Option<Vantage<'_>>) -> Vec<u8> {
    let mut memory = [0xee; MAX_ANSWER];
    match respond(message, v4(), vantage, &mut memory) {
        Answer::UnknownAttribute { length } => memory[..length].to_vec(),
        other => panic!("{other:?} to {message:02x?}"),
    }
}

fn is_silent(message: &[u8]) -> bool {
    respond(message, v4(), None, &mut [0; MAX_ANSWER]) == Answer::Silence
}

/// Kinds and values, by a reader of our own that knows no magic cookie.
fn attributes(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    assert_eq!(
        usize::from(bytes[2]) << 8 | usize::from(bytes[3]),
        bytes.len() - 20
    );
    let mut rest = &bytes[20..];
    let mut found = vec![];
    while let [k0, k1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        found.push((u16::from_be_bytes([*k0, *k1]), tail[..length].to_vec()));
        rest = &tail[length.next_multiple_of(4)..];
    }
    assert!(rest.is_empty());
    found
}

fn kinds(bytes: &[u8]) -> Vec<u16> {
    attributes(bytes)
        .into_iter()
        .map(|(kind, _)| kind)
        .collect()
}

#[test]
fn requests_of_every_kind_are_answered() {
    for request in [
        bare(),
        request(TransactionId([5; 12])),
        tailnode(),
        SAMPLE_REQUEST.into(),
        LONG_TERM_REQUEST.into(),
        with_attributes(&[(0xfff0, b"whatever")]),
        with_attributes(&[(0xfff0, b"")]),
        with_attributes(&[(0x0003, &[0; 4])]),
    ] {
        for from in [v4(), v6()] {
            let answer = answer(&request, from);
            let (transaction, seen) = parse_response(&answer).unwrap();
            assert_eq!(transaction.0, request[8..20]);
            assert_eq!(seen, from);
            assert!(
                answer.len() <= limit(&request),
                "{} to {}",
                answer.len(),
                request.len()
            );
        }
    }
}

/// Each answer byte for byte in its order: what a peer's parser may come to rely on.
#[test]
fn answers_hold_what_the_request_has_room_for() {
    const XOR: u16 = 0x0020;
    const SOFTWARE: u16 = 0x8022;
    const PRINT: u16 = 0x8028;
    const OTHER: u16 = 0x802c;
    const ORIGIN: u16 = 0x802b;
    let print = request(TransactionId([5; 12]));
    let change = with_attributes(&[(0x0003, &[0; 4])]);
    let long = with_attributes(&[(0xfff0, &[0; 60])]);
    let (v4_corners, v6_corners) = (corners(), v6_corners());
    type Row<'a> = (&'a str, &'a [u8], SocketAddr, bool, usize, &'a [u16]);
    let table: [Row<'_>; 14] = [
        ("bare", &bare(), v4(), false, 40, &[XOR, SOFTWARE]),
        ("bare", &bare(), v6(), false, 52, &[XOR, SOFTWARE]),
        (
            "bare",
            &bare(),
            v4(),
            true,
            64,
            &[XOR, OTHER, ORIGIN, SOFTWARE],
        ),
        ("bare", &bare(), v6(), true, 52, &[XOR, SOFTWARE]),
        (
            "fingerprint",
            &print,
            v4(),
            false,
            48,
            &[XOR, SOFTWARE, PRINT],
        ),
        ("fingerprint", &print, v6(), false, 52, &[XOR, PRINT]),
        ("fingerprint", &print, v4(), true, 52, &[XOR, OTHER, PRINT]),
        ("tailnode", &tailnode(), v4(), false, 32, &[XOR]),
        ("tailnode", &tailnode(), v6(), false, 44, &[XOR]),
        ("tailnode", &tailnode(), v4(), true, 32, &[XOR]),
        ("change", &change, v4(), true, 56, &[XOR, OTHER, ORIGIN]),
        ("change", &change, v6(), true, 52, &[XOR, SOFTWARE]),
        (
            "long",
            &long,
            v6(),
            true,
            100,
            &[XOR, OTHER, ORIGIN, SOFTWARE],
        ),
        (
            "sample",
            &SAMPLE_REQUEST,
            v6(),
            true,
            108,
            &[XOR, OTHER, ORIGIN, SOFTWARE, PRINT],
        ),
    ];
    for (name, message, from, discovers, length, expected) in table {
        let corners = if from.is_ipv4() {
            &v4_corners
        } else {
            &v6_corners
        };
        let vantage = discovers.then_some(Vantage { corners, at: 0 });
        let (answer, _) = answer_at(message, from, vantage);
        let context = format!("{name} from {from}, discovery {discovers}");
        assert_eq!(kinds(&answer), expected, "{context}");
        assert_eq!(answer.len(), length, "{context}");
    }
}

/// The codec that we did not write reads what we write.
#[test]
fn answers_are_read_by_another_codec() {
    for from in [v4(), v6()] {
        let answer = read(&answer(&SAMPLE_REQUEST, from));
        FINGERPRINT.check(&answer).unwrap();
        let mut seen = XorMappedAddress::default();
        seen.get_from(&answer).unwrap();
        assert_eq!(SocketAddr::new(seen.ip, seen.port), from);
    }
}

#[test]
fn mapped_addresses_are_told_as_ipv4() {
    let mapped: SocketAddr = "[::ffff:198.51.100.7]:40000".parse().unwrap();
    assert_eq!(answer(&bare(), mapped), answer(&bare(), v4()));
}

#[test]
fn rfc_3489_is_answered_in_its_words() {
    let request = classic(bare());
    let answered = answer(&request, v4());
    assert_eq!(answered[4..20], request[4..20]);
    let mapped = vec![0, 1, 0x9c, 0x40, 198, 51, 100, 7];
    assert_eq!(attributes(&answered), [(0x0001, mapped.clone())]);
    // What its clients always send.
    let request = classic(with_attributes(&[(0x0003, &[0, 0, 0, 4])]));
    let corners = corners();
    let vantage = Vantage {
        corners: &corners,
        at: 0,
    };
    let (answered, corner) = answer_at(&request, v4(), Some(vantage));
    assert_eq!(corner, 2);
    let changed = vec![0, 1, 0x0d, 0x97, 192, 0, 2, 2];
    let source = vec![0, 1, 0x0d, 0x96, 192, 0, 2, 2];
    assert_eq!(
        attributes(&answered),
        [(0x0001, mapped), (0x0005, changed), (0x0004, source)]
    );
}

#[test]
fn answers_leave_from_the_corner_that_was_asked_for() {
    let corners = corners();
    for at in 0..CORNERS {
        let vantage = Vantage {
            corners: &corners,
            at,
        };
        for (flags, to) in [(0, at), (2, at ^ 1), (4, at ^ 2), (6, at ^ 3)] {
            let request = with_attributes(&[(0x0003, &[0, 0, 0, flags])]);
            let (answer, corner) = answer_at(&request, v4(), Some(vantage));
            assert_eq!(corner, to);
            let told = |kind: u16| {
                let all = attributes(&answer);
                let (_, value) = all.into_iter().find(|(of, _)| *of == kind).unwrap();
                let port = u16::from_be_bytes([value[2], value[3]]);
                SocketAddr::from(([value[4], value[5], value[6], value[7]], port))
            };
            assert_eq!(told(0x802b), corners.addresses()[to]);
            assert_eq!(told(0x802c), corners.addresses()[at ^ 3]);
        }
    }
}

#[test]
fn answers_go_to_the_port_that_was_asked_for() {
    let corners = corners();
    let vantage = Vantage {
        corners: &corners,
        at: 0,
    };
    let ask = |value: &[u8]| {
        let message = with_attributes(&[(0x0027, value)]);
        respond(&message, v4(), Some(vantage), &mut [0; MAX_ANSWER])
    };
    for value in [&[0x9c, 0x41, 0, 0][..], &[0x9c, 0x41]] {
        assert!(matches!(
            ask(value),
            Answer::Success {
                port: Some(40001),
                ..
            }
        ));
    }
    for value in [&[0, 0, 0, 0][..], &[1], &[]] {
        assert_eq!(ask(value), Answer::Silence);
    }
}

#[test]
fn unknown_required_attributes_are_named() {
    let table: [(&str, Vec<u8>, &[u8]); 6] = [
        ("one", with_attributes(&[(0x7ff0, &[1; 40])]), &[0x7f, 0xf0]),
        (
            "a small one",
            with_attributes(&[(0x7ff0, &[])]),
            &[0x7f, 0xf0],
        ),
        (
            "two, and an optional one",
            with_attributes(&[(0x7ff0, &[]), (0x9000, &[]), (0x7ff1, &[])]),
            &[0x7f, 0xf0, 0x7f, 0xf1],
        ),
        (
            "RESPONSE-PORT without another address",
            with_attributes(&[(0x0027, &[9; 4])]),
            &[0, 0x27],
        ),
        (
            "PADDING",
            with_attributes(&[(0x0026, &[0; 64])]),
            &[0, 0x26],
        ),
        (
            "CHANGE-REQUEST without another address",
            with_attributes(&[(0x0003, &[0, 0, 0, 2])]),
            &[0, 3],
        ),
    ];
    for (name, request, expected) in table {
        for request in [request.clone(), fingerprinted(&request)] {
            let answer = refusal_of(&request, None);
            let message = read(&answer);
            assert_eq!(message.typ, BINDING_ERROR, "{name}");
            assert_eq!(message.transaction_id.0, [5; 12]);
            let code = message.get(AttrType(0x0009)).unwrap();
            assert_eq!(code[..4], [0, 0, 4, 20], "{name}");
            assert_eq!(message.get(AttrType(0x000a)).unwrap(), expected, "{name}");
            let printed = message.contains(ATTR_FINGERPRINT);
            assert_eq!(printed, read(&request).contains(ATTR_FINGERPRINT), "{name}");
            assert!(!printed || FINGERPRINT.check(&message).is_ok(), "{name}");
            assert!(answer.len() <= limit(&request), "{name}");
        }
    }
}

#[test]
fn rfc_3489_is_refused_in_its_words() {
    // An answer to another address would be a tool to flood it.
    let response_address = classic(with_attributes(&[(0x0002, &[0, 1, 0, 80, 192, 0, 2, 9])]));
    let answer = refusal_of(&response_address, None);
    let unknown = attributes(&answer).pop().unwrap();
    assert_eq!(unknown, (0x000a, vec![0, 2, 0, 2]));
    let two = classic(with_attributes(&[(0x0002, &[]), (0x7ff0, &[])]));
    let unknown = attributes(&refusal_of(&two, None)).pop().unwrap();
    assert_eq!(unknown, (0x000a, vec![0, 2, 0x7f, 0xf0]));
}

#[test]
fn a_long_list_of_unknown_attributes_is_cut() {
    let many: Vec<(u16, &[u8])> = (0..300).map(|n| (0x7000 + n, &[][..])).collect();
    let request = fingerprinted(&with_attributes(&many));
    let answer = refusal_of(&request, None);
    let message = read(&answer);
    assert_eq!(
        message.get(AttrType(0x000a)).unwrap().len(),
        2 * MAX_UNKNOWN
    );
    FINGERPRINT.check(&message).unwrap();
}

#[test]
fn what_follows_a_signature_does_not_count() {
    let signed = with_attributes(&[(0x0008, &[0; 20]), (0x7ff0, &[])]);
    assert_eq!(kinds(&answer(&signed, v4()))[0], 0x0020);
}

#[test]
fn everything_else_meets_silence() {
    let change = |bytes: &[u8], at: usize, to: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = to;
        bytes
    };
    let mut trailing = bare();
    trailing.push(0);
    let mut after_fingerprint = fingerprinted(&bare());
    after_fingerprint.extend([0x80, 0x22, 0, 0]);
    after_fingerprint[3] += 4;
    for (name, message) in [
        ("nothing", vec![]),
        ("text", b"hello".to_vec()),
        ("a cut header", bare()[..19].to_vec()),
        ("an indication", change(&bare(), 1, 0x11)),
        ("a response", answer(&bare(), v4())),
        (
            "an error",
            refusal_of(&with_attributes(&[(0x7ff0, &[])]), None),
        ),
        ("another method", change(&bare(), 1, 0x03)),
        (
            "a wrong FINGERPRINT",
            change(&SAMPLE_REQUEST, 107, SAMPLE_REQUEST[107] ^ 1),
        ),
        ("a wrong length", change(&bare(), 3, 4)),
        (
            "an odd length",
            change(&SAMPLE_REQUEST, 3, SAMPLE_REQUEST[3] - 1),
        ),
        ("something after the end", trailing),
        ("something after the FINGERPRINT", after_fingerprint),
        (
            "an attribute longer than the rest",
            change(&tailnode(), 23, 200),
        ),
        (
            "a short CHANGE-REQUEST",
            with_attributes(&[(0x0003, &[0, 0])]),
        ),
        ("too much", vec![0; MAX_REQUEST + 1]),
    ] {
        assert!(is_silent(&message), "{name}");
    }
}

proptest! {
    /// Whatever comes: no panic, and no more bytes back than the bounds say.
    #[test]
    fn no_answer_amplifies(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..1600),
        kinds in proptest::collection::vec((any::<u16>(), 0..40_usize), 0..40),
        cookie: bool,
        from_v6: bool,
        at in proptest::option::of(0..CORNERS),
    ) {
        let raw = bytes.clone();
        if let (Ok(length), true) = (u16::try_from(bytes.len().saturating_sub(20)), bytes.len() >= 20) {
            bytes[..2].copy_from_slice(&[0, 1]);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            if cookie {
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
        }
        let values: Vec<_> = kinds.iter().map(|(kind, length)| (*kind, vec![7; *length])).collect();
        let whole: Vec<_> = values.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let whole = with_attributes(&whole);
        let printed = fingerprinted(&whole);
        let corners = if from_v6 { v6_corners() } else { corners() };
        let vantage = at.map(|at| Vantage { corners: &corners, at });
        let from = if from_v6 { v6() } else { v4() };
        for message in [raw, bytes, classic(whole.clone()), whole, printed] {
            let mut memory = [0; MAX_ANSWER];
            match respond(&message, from, vantage, &mut memory) {
                Answer::Success { length, corner, .. } => {
                    prop_assert!(length <= limit(&message) && corner < CORNERS);
                    attributes(&memory[..length]);
                }
                Answer::UnknownAttribute { length } => {
                    prop_assert!(length <= limit(&message));
                    attributes(&memory[..length]);
                }
                Answer::Silence => {}
            }
        }
    }

    /// Every request that is whole has an answer.
    #[test]
    fn whole_requests_are_answered(
        kinds in proptest::collection::vec((any::<u16>(), 0..40_usize), 0..20),
        is_classic: bool,
    ) {
        let values: Vec<_> = kinds
            .iter()
            .filter(|(kind, _)| ![0x0003, 0x8028].contains(kind))
            .map(|(kind, length)| (*kind, vec![7; *length]))
            .collect();
        let whole: Vec<_> = values.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let mut message = with_attributes(&whole);
        if is_classic {
            message = classic(message);
        }
        prop_assert!(!is_silent(&message));
        if !is_classic {
            prop_assert!(!is_silent(&fingerprinted(&message)));
        }
    }
}
