//! Which of two addresses is better.
//!
//! Each address gets points: up to 100 for being faster (per cent of the slower one's round trip),
//! and a bonus for what it is: 50 for loopback, 30 for link-local, 20 for a private network, 10 more
//! for IPv6. More points win. A difference of a point or less does not move traffic.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const LOOPBACK: u32 = 50;
const LINK_LOCAL: u32 = 30;
const PRIVATE: u32 = 20;
const IPV6: u32 = 10;
/// An advantage that is not worth a move.
const STICKY: u32 = 1;

/// Whether traffic should move from `present` to `other`. Each is an address and its round trip.
#[must_use]
pub fn is_better(other: (SocketAddr, Duration), present: (SocketAddr, Duration)) -> bool {
    let points = |a: (SocketAddr, Duration), b: (SocketAddr, Duration)| {
        let faster = if a.1 < b.1 {
            let (a, b) = (a.1.as_nanos(), b.1.as_nanos());
            u32::try_from((b - a) * 100 / b).unwrap_or(0)
        } else {
            0
        };
        faster + bonus(a.0.ip())
    };
    points(other, present) > points(present, other) + STICKY
}

fn bonus(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() => LOOPBACK,
        IpAddr::V4(v4) if v4.is_link_local() => LINK_LOCAL,
        IpAddr::V4(v4) if v4.is_private() => PRIVATE,
        IpAddr::V4(_) => 0,
        IpAddr::V6(v6) if v6.is_loopback() => LOOPBACK + IPV6,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => LINK_LOCAL + IPV6,
        IpAddr::V6(v6) if v6.is_unique_local() => PRIVATE + IPV6,
        IpAddr::V6(_) => IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faster_nearer_and_newer_addresses_win() {
        let at = |addr: &str, ms| (addr.parse().unwrap(), Duration::from_millis(ms));
        let table = [
            // other, present, better?
            (at("192.168.1.2:1", 10), at("198.51.100.2:1", 10), true),
            (at("198.51.100.2:1", 10), at("192.168.1.2:1", 10), false),
            (at("198.51.100.2:1", 5), at("192.168.1.2:1", 10), true),
            (at("198.51.100.2:1", 9), at("192.168.1.2:1", 10), false),
            (at("[2001:db8::1]:1", 10), at("198.51.100.2:1", 10), true),
            (at("198.51.100.3:1", 100), at("198.51.100.2:1", 101), false),
            (at("198.51.100.3:1", 80), at("198.51.100.2:1", 100), true),
            (at("127.0.0.1:1", 1), at("192.168.1.2:1", 1), true),
            (at("10.0.0.1:1", 0), at("10.0.0.2:1", 0), false),
        ];
        for (other, present, expected) in table {
            assert_eq!(
                is_better(other, present),
                expected,
                "{other:?} over {present:?}"
            );
        }
    }
}
