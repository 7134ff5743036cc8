//! The client's half: a request, and what its answer says.

use std::net::{IpAddr, SocketAddr};

use webrtc_stun::addr::MappedAddress;
use webrtc_stun::attributes::{
    ATTR_FINGERPRINT, ATTR_MAPPED_ADDRESS, ATTR_XORMAPPED_ADDRESS, AttrType,
};
use webrtc_stun::fingerprint::FINGERPRINT;
use webrtc_stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, Getter, MAGIC_COOKIE, MESSAGE_HEADER_SIZE, Message, Setter,
    TransactionId as WireId,
};
use webrtc_stun::xoraddr::XorMappedAddress;

/// Joins an answer to its request (RFC 8489 §5). Make it of random bytes: it is what keeps others
/// from answering in the server's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// Value of an IPv4 and an IPv6 address attribute, families 1 and 2 (RFC 8489 §14.1).
const ADDRESS_LENGTHS: [usize; 2] = [8, 20];

/// Whether a datagram is STUN by its first bytes: two zero bits and the magic cookie (RFC 8489 §5).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= MESSAGE_HEADER_SIZE
        && datagram[0] < 0x40
        && datagram[4..8] == MAGIC_COOKIE.to_be_bytes()
}

/// A binding request: 28 bytes, with nothing but a FINGERPRINT.
#[must_use]
pub fn request(transaction: TransactionId) -> Vec<u8> {
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.transaction_id = WireId(transaction.0);
    message.write_header();
    // Writing four bytes that were just computed cannot fail.
    let _ = FINGERPRINT.add_to(&mut message);
    message.raw
}

/// Reads a binding success: which request it answers, and where that came from. `None`: it is
/// something else, or damaged.
#[must_use]
pub fn parse_response(datagram: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    if !is_stun(datagram) {
        return None;
    }
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if message.typ != BINDING_SUCCESS {
        return None;
    }
    if message.contains(ATTR_FINGERPRINT) && FINGERPRINT.check(&message).is_err() {
        return None;
    }
    let (ip, port) = xor_mapped(&message).or_else(|| mapped(&message))?;
    let transaction = TransactionId(message.transaction_id.0);
    Some((transaction, SocketAddr::new(ip.to_canonical(), port)))
}

fn xor_mapped(message: &Message) -> Option<(IpAddr, u16)> {
    whole_address(message, ATTR_XORMAPPED_ADDRESS)?;
    let mut address = XorMappedAddress::default();
    address.get_from(message).ok()?;
    Some((address.ip, address.port))
}

/// What servers of RFC 3489 say.
fn mapped(message: &Message) -> Option<(IpAddr, u16)> {
    whole_address(message, ATTR_MAPPED_ADDRESS)?;
    let mut address = MappedAddress::default();
    address.get_from(message).ok()?;
    Some((address.ip, address.port))
}

/// The codec fills a short address up with zeros; here it is none.
fn whole_address(message: &Message, kind: AttrType) -> Option<()> {
    let value = message.get(kind).ok()?;
    let family = usize::from(*value.get(1)?);
    let expected = ADDRESS_LENGTHS.get(family.checked_sub(1)?)?;
    (value.len() == *expected).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769 §2.2: sample IPv4 response.
    const IPV4_RESPONSE: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3,
        0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00,
        0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];

    /// RFC 5769 §2.3: sample IPv6 response.
    const IPV6_RESPONSE: [u8; 92] = [
        0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01,
        0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        0x00, 0x08, 0x00, 0x14, 0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9,
        0x7c, 0x82, 0x92, 0xc2, 0x75, 0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb,
        0x0b, 0x4c,
    ];

    const TRANSACTION: TransactionId = TransactionId([
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ]);

    #[test]
    fn rfc_5769_responses_read() {
        assert_eq!(
            parse_response(&IPV4_RESPONSE),
            Some((TRANSACTION, "192.0.2.1:32853".parse().unwrap()))
        );
        assert_eq!(
            parse_response(&IPV6_RESPONSE),
            Some((
                TRANSACTION,
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
                    .parse()
                    .unwrap()
            ))
        );
    }

    #[test]
    fn damage_is_noticed() {
        // With another type in these two bytes there is no FINGERPRINT to check by.
        let fingerprint_type = 72..74;
        for at in (0..IPV4_RESPONSE.len()).filter(|at| !fingerprint_type.contains(at)) {
            let mut damaged = IPV4_RESPONSE;
            damaged[at] ^= 1;
            assert_eq!(parse_response(&damaged), None, "byte {at}");
        }
    }

    fn response(attribute: u16, value: &[u8]) -> Vec<u8> {
        let mut message = Message::new();
        message.set_type(BINDING_SUCCESS);
        message.transaction_id.0 = TRANSACTION.0;
        message.write_header();
        message.add(AttrType(attribute), value);
        message.raw
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        let expected = "192.0.2.1:32853".parse().unwrap();
        let plain = [0, 1, 0x80, 0x55, 192, 0, 2, 1];
        let xored = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let mut mapped_into_v6 = vec![0, 2, 0x80, 0x55];
        mapped_into_v6.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        let table: [(&str, u16, &[u8]); 4] = [
            ("XOR-MAPPED-ADDRESS", 0x0020, &xored),
            ("its number in old drafts", 0x8020, &xored),
            ("MAPPED-ADDRESS", 0x0001, &plain),
            ("IPv4 mapped into IPv6", 0x0001, &mapped_into_v6),
        ];
        for (name, attribute, value) in table {
            let read = parse_response(&response(attribute, value));
            assert_eq!(read, Some((TRANSACTION, expected)), "{name}");
        }
    }

    #[test]
    fn what_holds_no_whole_address_is_refused() {
        let table: [(&str, u16, &[u8]); 4] = [
            ("a cut address", 0x0020, &[0, 1, 0xa1, 0x47, 0xe1]),
            (
                "IPv6 of four bytes",
                0x0001,
                &[0, 2, 0xa1, 0x47, 1, 2, 3, 4],
            ),
            ("an unknown family", 0x0020, &[0, 3, 0xa1, 0x47, 1, 2, 3, 4]),
            ("no address", 0x8022, b"name"),
        ];
        for (name, attribute, value) in table {
            assert_eq!(parse_response(&response(attribute, value)), None, "{name}");
        }
        let mut not_stun = IPV4_RESPONSE;
        not_stun[0] |= 0x80;
        assert_eq!(parse_response(&not_stun), None);
    }

    #[test]
    fn a_request_is_bare() {
        let request = request(TRANSACTION);
        assert_eq!(request.len(), 28);
        assert_eq!(request[..8], [0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(request[8..20], TRANSACTION.0);
        assert_eq!(parse_response(&request), None);
    }

    proptest! {
        #[test]
        fn random_bytes_are_harmless(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            framed in any::<bool>(),
        ) {
            if framed && bytes.len() >= 20 {
                let length = u16::try_from(bytes.len() - 20).unwrap();
                bytes[..2].copy_from_slice(&[1, 1]);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
            let _ = parse_response(&bytes);
        }
    }
}
