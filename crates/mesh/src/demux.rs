//! Tells the protocols on one UDP socket apart by their first bytes.

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// STUN (RFC 8489 §5: two zero bits, and the magic cookie at offset 4). Not for the mesh.
    Stun,
    /// A discovery message.
    Disco,
    /// A message of the hybrid handshake, or a fragment of one.
    Handshake,
    /// A WireGuard message: type 1 to 4, three zero bytes (whitepaper §5.4).
    WireGuard,
    /// None of these; dropped.
    Unknown,
}

/// STUN magic cookie (RFC 8489 §5).
const STUN_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
/// Bytes of a STUN header (RFC 8489 §5).
const STUN_HEADER: usize = 20;

/// What the datagram is, by its first bytes alone.
#[must_use]
pub fn classify(datagram: &[u8]) -> Kind {
    if ztna_disco::is_disco(datagram) {
        return Kind::Disco;
    }
    if ztna_handshake::is_handshake(datagram) {
        return Kind::Handshake;
    }
    match datagram {
        [1..=4, 0, 0, 0, ..] => Kind::WireGuard,
        [0..=0x3f, _, _, _, cookie @ ..]
            if datagram.len() >= STUN_HEADER && cookie.starts_with(&STUN_COOKIE) =>
        {
            Kind::Stun
        }
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(classify(&[4, 0, 0, 0, 1, 2, 3, 4]), Kind::WireGuard);
        assert_eq!(classify(&[]), Kind::Unknown);
        assert_eq!(classify(&[5, 0, 0, 0]), Kind::Unknown);
        let mut stun = [0; 20];
        stun[..8].copy_from_slice(&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(classify(&stun), Kind::Stun);
        assert_eq!(classify(&stun[..19]), Kind::Unknown);
        // A WireGuard message whose index happens to read as the cookie stays WireGuard.
        assert_eq!(
            classify(&[4, 0, 0, 0, 0x21, 0x12, 0xa4, 0x42]),
            Kind::WireGuard
        );
    }
}
