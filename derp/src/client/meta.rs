//! The relay's key as TLS shows it, before DERP begins.

use rustls::{ClientConnection, ProtocolVersion};
use ztna_proto::keys::{KEY_LEN, parse_hex};

use crate::META_NAME;
use crate::key::RelayPublicKey;

/// DER of an attribute "common name" (OID 2.5.4.3), up to its value's type.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// Characters of the name: [`META_NAME`] and the key in hex.
const NAME_LEN: usize = META_NAME.len() + 2 * KEY_LEN;

/// The key in the last certificate that the relay showed. Only under TLS 1.3, where whoever stands
/// between cannot have added it. `None` says nothing against the relay: a proxy may do its TLS.
pub(super) fn relay_key(tls: &ClientConnection) -> Option<RelayPublicKey> {
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    match tls.peer_certificates()? {
        // The first is the relay's own.
        [_, .., last] => key_in(last),
        _ => None,
    }
}

/// The certificate proves nothing (the handshake did), so its name is all that is looked for.
fn key_in(der: &[u8]) -> Option<RelayPublicKey> {
    der.windows(COMMON_NAME.len() + 2 + NAME_LEN)
        .filter_map(|window| {
            let (head, value) = window.split_at(COMMON_NAME.len());
            let [_string_type, len, name @ ..] = value else {
                return None;
            };
            if head != COMMON_NAME || usize::from(*len) != NAME_LEN {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?;
            parse_hex(name.strip_prefix(META_NAME)?).map(RelayPublicKey)
        })
        .next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_is_found_in_its_certificate() {
        let key = crate::key::RelayPrivateKey::from_bytes([9; 32]).public();
        let name = format!("derpkey{key}");
        let mut der = vec![
            0x30, 0x82, 0x01, 0x00, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 1, b'x',
        ];
        der.extend([
            0x06,
            0x03,
            0x55,
            0x04,
            0x03,
            0x0c,
            u8::try_from(name.len()).unwrap(),
        ]);
        der.extend(name.as_bytes());
        assert_eq!(key_in(&der), Some(key));
        der.pop();
        assert_eq!(key_in(&der), None);
    }

    proptest! {
        #[test]
        fn random_bytes_hold_no_key(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(key_in(&bytes), None);
        }
    }
}
