//! Which of two addresses that answered is better.
//!
//! Points for being faster, in per cent of the slower one, plus points for the kind of address: the
//! rules of Tailscale's magicsock (`betterAddr`), with speed below [`GOOD_ENOUGH`] levelled, so that
//! measuring noise on a fast network does not outweigh the kind.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::GOOD_ENOUGH;

/// Points of a loopback address: nothing is nearer.
pub const LOOPBACK_POINTS: i32 = 50;
/// Points of a link-local address: surely on the same link.
pub const LINK_LOCAL_POINTS: i32 = 30;
/// Points of a private address (RFC 1918, RFC 4193): the same site, and nobody bills for its traffic.
pub const PRIVATE_POINTS: i32 = 20;
/// Points of IPv6: mostly no NAT whose mapping may go.
pub const IPV6_POINTS: i32 = 10;
/// Points of an address at the end of another tunnel: whatever goes there is sealed twice and has less
/// room, so it has to be more than twice as fast as a private address, and is before the relay.
pub const TUNNEL_POINTS: i32 = -60;
/// Points by which a newcomer has to lead, so that two equal paths do not take turns.
pub const STICKY_POINTS: i32 = 5;

/// An address that answers.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// Where the peer is.
    pub addr: SocketAddr,
    /// Round-trip time.
    pub latency: Duration,
    /// Whether it is at the end of another tunnel.
    pub in_tunnel: bool,
}

/// Whether to move from `current` to `new`.
#[must_use]
pub fn better(new: Contender, current: Contender) -> bool {
    lead_over(new, current) > STICKY_POINTS
}

/// By how many points `new` leads `current`; negative: it is behind.
#[must_use]
pub fn lead_over(new: Contender, current: Contender) -> i32 {
    let (new_latency, current_latency) = (level(new.latency), level(current.latency));
    let new_points = points(&new.addr, new.in_tunnel) + lead(new_latency, current_latency);
    let current_points =
        points(&current.addr, current.in_tunnel) + lead(current_latency, new_latency);
    new_points - current_points
}

/// Points that an address has for its kind.
#[must_use]
pub fn points(addr: &SocketAddr, in_tunnel: bool) -> i32 {
    if in_tunnel {
        return TUNNEL_POINTS;
    }
    let ip = addr.ip();
    let (link_local, private, family) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_private(), 0),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.is_unique_local(),
            IPV6_POINTS,
        ),
    };
    let near = if ip.is_loopback() {
        LOOPBACK_POINTS
    } else if link_local {
        LINK_LOCAL_POINTS
    } else if private {
        PRIVATE_POINTS
    } else {
        0
    };
    near + family
}

fn level(latency: Duration) -> u128 {
    latency.max(GOOD_ENOUGH).as_micros()
}

/// By how many per cent of `slow` is `fast` the faster.
fn lead(fast: u128, slow: u128) -> i32 {
    if fast >= slow {
        return 0;
    }
    i32::try_from(100 - fast * 100 / slow).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(addr: &str, millis: u64) -> Contender {
        Contender {
            addr: addr.parse().unwrap(),
            latency: Duration::from_millis(millis),
            in_tunnel: false,
        }
    }

    fn tunnel(addr: &str, millis: u64) -> Contender {
        Contender {
            in_tunnel: true,
            ..path(addr, millis)
        }
    }

    #[test]
    fn rules() {
        let public = "192.0.2.1:1";
        let other = "198.51.100.1:1";
        let lan = "192.168.1.2:1";
        let link = "169.254.1.1:1";
        let v6 = "[2001:db8::1]:1";
        let table = [
            // new, current, better, why
            (path(public, 50), path(other, 100), true, "half the latency"),
            (
                path(public, 100),
                path(other, 50),
                false,
                "twice the latency",
            ),
            (
                path(public, 97),
                path(other, 100),
                false,
                "3 per cent are noise",
            ),
            (
                path(public, 100),
                path(other, 97),
                false,
                "and the other way round",
            ),
            (
                path(lan, 4),
                path(public, 1),
                true,
                "below 5 ms speed does not count",
            ),
            (
                path(public, 1),
                path(lan, 4),
                false,
                "nor for the other one",
            ),
            (
                path(lan, 40),
                path(public, 20),
                false,
                "a slow private address is another site",
            ),
            (
                path(link, 1),
                path(lan, 1),
                true,
                "link-local before private",
            ),
            (
                path("[::1]:1", 1),
                path(link, 1),
                true,
                "loopback before link-local",
            ),
            (
                path(v6, 20),
                path(public, 20),
                true,
                "IPv6 at the same speed",
            ),
            (
                path(v6, 30),
                path(public, 20),
                false,
                "but not a third slower",
            ),
            (
                path(public, 20),
                path(v6, 20),
                false,
                "no way back at the same speed",
            ),
            (
                path(public, 4),
                tunnel(lan, 1),
                true,
                "a tunnel's private address is no private network",
            ),
            (
                tunnel(lan, 6),
                path(lan, 12),
                false,
                "twice as fast is not enough for a tunnel",
            ),
            (
                tunnel(lan, 6),
                path(public, 30),
                true,
                "five times as fast is",
            ),
        ];
        for (new, current, expected, why) in table {
            assert_eq!(
                better(new, current),
                expected,
                "{why}: {new:?} for {current:?}"
            );
        }
    }

    #[test]
    fn no_two_paths_take_turns() {
        let addrs = [
            "192.0.2.1:1",
            "10.0.0.1:1",
            "[2001:db8::1]:1",
            "[fd00::1]:1",
            "169.254.1.1:1",
        ];
        for (a, b) in addrs.iter().flat_map(|a| addrs.iter().map(move |b| (a, b))) {
            for (x, y) in [(0, 0), (1, 4), (20, 21), (20, 25), (20, 30), (10, 200)] {
                let kinds = [(path(a, x), path(b, y)), (tunnel(a, x), path(b, y))];
                for (a, b) in kinds {
                    assert!(!(better(a, b) && better(b, a)), "{a:?} and {b:?}");
                }
            }
        }
    }
}
