//! The server's half: what to answer to a datagram.
//!
//! Any binding request of RFC 5389 or 8489 is answered, Tailscale's included, with
//! XOR-MAPPED-ADDRESS; with SOFTWARE and FINGERPRINT where the size allows. The answer to a bare
//! request has at most [`MAX_BARE_ANSWER`] bytes, any other at most twice the request's, so the
//! service is of no use to amplify a flood; optional attributes go first.

use std::net::SocketAddr;

use webrtc_stun::attributes::{
    ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, ATTR_MESSAGE_INTEGRITY_SHA256, ATTR_NONCE,
    ATTR_PRIORITY, ATTR_REALM, ATTR_SOFTWARE, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use webrtc_stun::error_code::CODE_UNKNOWN_ATTRIBUTE;
use webrtc_stun::fingerprint::FINGERPRINT;
use webrtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MESSAGE_HEADER_SIZE, Message, MessageType,
    Setter, is_stun_message,
};
use webrtc_stun::textattrs::TextAttribute;
use webrtc_stun::uattrs::UnknownAttributes;
use webrtc_stun::xoraddr::XorMappedAddress;

/// Largest answer to a request without attributes.
pub const MAX_BARE_ANSWER: usize = 64;
/// An answer to a larger request has at most this many times its size.
pub const MAX_AMPLIFICATION: usize = 2;
/// Largest datagram that is looked at: no binding request is near it.
pub const MAX_REQUEST: usize = 1500;

const SOFTWARE: &str = "ztna";

/// Attributes that may be there and need nothing done: credentials are not asked for, and so not
/// checked (RFC 8489 §9.1.3), and ICE agents send theirs to any server.
const UNDERSTOOD: [AttrType; 7] = [
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_MESSAGE_INTEGRITY_SHA256,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_PRIORITY,
    ATTR_USE_CANDIDATE,
];

/// What came of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where the request came from.
    Success(Vec<u8>),
    /// 420: the request needs something that this server does not know.
    UnknownAttribute(Vec<u8>),
    /// Nothing: no binding request, or damaged.
    Silence,
}

/// What to answer to a datagram from `from`.
#[must_use]
pub fn respond(datagram: &[u8], from: SocketAddr) -> Answer {
    if datagram.len() > MAX_REQUEST || !is_stun_message(datagram) {
        return Answer::Silence;
    }
    let mut request = Message::new();
    if request.unmarshal_binary(datagram).is_err() || request.typ != BINDING_REQUEST {
        return Answer::Silence;
    }
    if request.contains(ATTR_FINGERPRINT) && FINGERPRINT.check(&request).is_err() {
        return Answer::Silence;
    }
    let limit = match datagram.len() {
        MESSAGE_HEADER_SIZE => MAX_BARE_ANSWER,
        length => length * MAX_AMPLIFICATION,
    };
    let unknown: Vec<AttrType> = request
        .attributes
        .0
        .iter()
        .map(|attribute| attribute.typ)
        .filter(|kind| kind.required() && !UNDERSTOOD.contains(kind))
        .collect();
    if unknown.is_empty() {
        let seen = XorMappedAddress {
            ip: from.ip().to_canonical(),
            port: from.port(),
        };
        build(&request, BINDING_SUCCESS, &[&seen], limit).map_or(Answer::Silence, Answer::Success)
    } else {
        let unknown = UnknownAttributes(unknown);
        build(
            &request,
            BINDING_ERROR,
            &[&CODE_UNKNOWN_ATTRIBUTE, &unknown],
            limit,
        )
        .map_or(Answer::Silence, Answer::UnknownAttribute)
    }
}

/// Builds an answer with what must be in it, and what else the size allows.
fn build(
    request: &Message,
    kind: MessageType,
    required: &[&dyn Setter],
    limit: usize,
) -> Option<Vec<u8>> {
    let software = TextAttribute::new(ATTR_SOFTWARE, SOFTWARE.to_owned());
    let optional: [&[&dyn Setter]; 3] = [&[&software, &FINGERPRINT], &[&FINGERPRINT], &[]];
    optional.into_iter().find_map(|optional| {
        let mut answer = Message::new();
        answer.set_type(kind);
        answer.transaction_id = request.transaction_id;
        answer.write_header();
        for attribute in required.iter().chain(optional) {
            attribute.add_to(&mut answer).ok()?;
        }
        (answer.raw.len() <= limit).then_some(answer.raw)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::{TransactionId, parse_response, request};

    /// RFC 5769 §2.1: sample request, with MESSAGE-INTEGRITY and FINGERPRINT.
    const SAMPLE_REQUEST: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74,
        0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e,
        0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
        0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20,
        0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
        0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5,
        0x7a, 0x3b, 0xcf,
    ];

    fn from() -> SocketAddr {
        "198.51.100.7:40000".parse().unwrap()
    }

    fn bare() -> Vec<u8> {
        let mut bare = request(TransactionId([5; 12]));
        bare.truncate(20);
        bare[3] = 0;
        bare
    }

    fn with_attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.write_header();
        message.add(AttrType(kind), value);
        message.raw
    }

    #[test]
    fn requests_of_every_kind_are_answered() {
        let tailnode = {
            let mut message = Message::new();
            message.set_type(BINDING_REQUEST);
            message.write_header();
            message.add(ATTR_SOFTWARE, b"tailnode");
            FINGERPRINT.add_to(&mut message).unwrap();
            message.raw
        };
        assert_eq!(tailnode.len(), 40);
        let v6: SocketAddr = "[2001:db8::7]:40000".parse().unwrap();
        for request in [
            bare(),
            request(TransactionId([5; 12])),
            tailnode,
            SAMPLE_REQUEST.into(),
        ] {
            for from in [from(), v6] {
                let Answer::Success(answer) = respond(&request, from) else {
                    panic!("no answer to {request:?}");
                };
                let (transaction, seen) = parse_response(&answer).unwrap();
                assert_eq!(transaction.0, request[8..20]);
                assert_eq!(seen, from);
                let limit = if request.len() == 20 {
                    64
                } else {
                    2 * request.len()
                };
                assert!(
                    answer.len() <= limit,
                    "{} to {}",
                    answer.len(),
                    request.len()
                );
            }
        }
    }

    #[test]
    fn mapped_addresses_are_told_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:198.51.100.7]:40000".parse().unwrap();
        let Answer::Success(answer) = respond(&bare(), mapped) else {
            panic!("no answer")
        };
        assert_eq!(parse_response(&answer).unwrap().1, from());
    }

    #[test]
    fn unknown_required_attributes_are_named() {
        let Answer::UnknownAttribute(answer) = respond(&with_attribute(0x7ff0, &[1; 40]), from())
        else {
            panic!("not refused");
        };
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        assert_eq!(message.typ, BINDING_ERROR);
        let unknown = message
            .get(webrtc_stun::attributes::ATTR_UNKNOWN_ATTRIBUTES)
            .unwrap();
        assert_eq!(unknown, 0x7ff0_u16.to_be_bytes());
        let optional = respond(&with_attribute(0xfff0, b"whatever"), from());
        assert!(matches!(optional, Answer::Success(_)));
    }

    #[test]
    fn everything_else_meets_silence() {
        let mut indication = bare();
        indication[1] = 0x11;
        let answer = {
            let Answer::Success(answer) = respond(&bare(), from()) else {
                panic!("no answer")
            };
            answer
        };
        let mut damaged = SAMPLE_REQUEST.to_vec();
        damaged[107] ^= 1;
        for datagram in [
            vec![],
            b"hello".to_vec(),
            indication,
            answer,
            damaged,
            vec![0; 1501],
        ] {
            assert_eq!(respond(&datagram, from()), Answer::Silence);
        }
    }

    proptest! {
        #[test]
        fn no_answer_amplifies(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..300),
            kinds in proptest::collection::vec(any::<u16>(), 0..20),
        ) {
            let length = u16::try_from(bytes.len() - 20).unwrap();
            bytes[..2].copy_from_slice(&[0, 1]);
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            let mut attributes = Message::new();
            attributes.set_type(BINDING_REQUEST);
            attributes.write_header();
            for kind in kinds {
                attributes.add(AttrType(kind), &[]);
            }
            for datagram in [bytes, attributes.raw] {
                let limit = if datagram.len() == 20 { 64 } else { 2 * datagram.len() };
                match respond(&datagram, from()) {
                    Answer::Success(answer) | Answer::UnknownAttribute(answer) => {
                        prop_assert!(answer.len() <= limit);
                    }
                    Answer::Silence => {}
                }
            }
        }
    }
}
