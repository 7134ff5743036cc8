//! How large a packet may be on its way through a tunnel, and what is done with one that is larger.
//!
//! A packet that its path does not carry sealed is cut here if IPv4 lets routers do that; else its
//! sender is told ([`icmp`]), so that the next one fits. TCP is told before that, by the segment size that
//! its ends agree on ([`mss`]).

pub mod fragment;
pub mod icmp;
pub mod mss;

use ztna_path::PathMtu;

/// Bytes that WireGuard puts around a packet: header and tag (whitepaper §5.4.6).
const SEALED: usize = 16 + 16;

/// WireGuard pads what it carries to multiples of this (§5.4.6).
const PADDING: usize = 16;

/// Least MTU that IPv6 allows (RFC 8200 §5).
pub const IPV6_MIN: usize = 1280;

/// What TCP is held to while the path's size is not known: what the least of IPv6 carries sealed, on
/// either family.
pub const UNKNOWN: usize = IPV6_MIN - 80;

/// The largest packet that the path carries sealed and padded, in bytes.
#[must_use]
pub fn inner(mtu: &PathMtu) -> usize {
    mtu.payload().saturating_sub(SEALED) / PADDING * PADDING
}

/// What TCP is held to on this path, if there is one.
#[must_use]
pub fn for_tcp(mtu: Option<&PathMtu>) -> usize {
    match mtu {
        Some(mtu) if mtu.is_settled => inner(mtu),
        Some(mtu) => inner(mtu).min(UNKNOWN),
        None => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_packet_fits_and_one_more_byte_does_not() {
        for (to, overhead) in [("192.0.2.1:1", 60), ("[2001:db8::1]:1", 80)] {
            for size in 576..=9000 {
                let mtu = PathMtu {
                    to: to.parse().unwrap(),
                    size,
                    is_settled: true,
                };
                let fits = |packet: usize| {
                    packet.next_multiple_of(PADDING) + overhead <= usize::from(size)
                };
                assert!(fits(inner(&mtu)) && !fits(inner(&mtu) + 1), "{to} {size}");
            }
        }
    }

    #[test]
    fn an_unknown_path_holds_tcp_to_the_least() {
        let mut mtu = PathMtu {
            to: "192.0.2.1:1".parse().unwrap(),
            size: 1500,
            is_settled: false,
        };
        assert_eq!(for_tcp(None), 1200);
        assert_eq!(for_tcp(Some(&mtu)), 1200);
        mtu.is_settled = true;
        assert_eq!(for_tcp(Some(&mtu)), 1440);
    }
}
