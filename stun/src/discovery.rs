//! Behaviour discovery (RFC 5780): a server of two addresses and two ports lets a client see how
//! the NATs before it map and filter.
//!
//! The server has a socket at each of the four corners that two addresses and two ports make. A
//! client may ask for the answer from another corner than the one it asked at, and is told which
//! corner lies opposite.

use std::net::SocketAddr;

/// Sockets of a server with two addresses and two ports.
pub const CORNERS: usize = 4;

/// Flags of CHANGE-REQUEST (RFC 5780 §7.2).
const CHANGE_IP: u32 = 0x04;
const CHANGE_PORT: u32 = 0x02;

/// What is to differ between where the request went and where the answer comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Another IP address.
    pub ip: bool,
    /// Another port.
    pub port: bool,
}

impl Change {
    pub(crate) fn from_flags(flags: u32) -> Self {
        Self {
            ip: flags & CHANGE_IP != 0,
            port: flags & CHANGE_PORT != 0,
        }
    }

    /// Whether anything is to differ.
    #[must_use]
    pub fn any(self) -> bool {
        self.ip || self.port
    }
}

/// Why two addresses do not make four corners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CornersError {
    /// 0.0.0.0 or `::`: clients could not be told where the other corner is.
    #[error("{0} names no address: behaviour discovery needs two that clients can reach")]
    Unspecified(SocketAddr),
    /// An IPv4 and an IPv6 address.
    #[error("{0} and {1} are of different families")]
    Families(SocketAddr, SocketAddr),
    /// The same IP address or the same port twice.
    #[error("{0} and {1} must differ in address and in port")]
    Same(SocketAddr, SocketAddr),
}

/// The four addresses that a server of two addresses and two ports answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corners([SocketAddr; CORNERS]);

impl Corners {
    /// Primary and alternate address and port, crossed.
    ///
    /// # Errors
    /// They are not two addresses of one family with two ports.
    pub fn new(primary: SocketAddr, alternate: SocketAddr) -> Result<Self, CornersError> {
        for address in [primary, alternate] {
            if address.ip().is_unspecified() {
                return Err(CornersError::Unspecified(address));
            }
        }
        if primary.is_ipv4() != alternate.is_ipv4() {
            return Err(CornersError::Families(primary, alternate));
        }
        if primary.ip() == alternate.ip() || primary.port() == alternate.port() {
            return Err(CornersError::Same(primary, alternate));
        }
        Ok(Self([
            primary,
            SocketAddr::new(primary.ip(), alternate.port()),
            SocketAddr::new(alternate.ip(), primary.port()),
            alternate,
        ]))
    }

    /// All four: the primary first, the alternate last.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr; CORNERS] {
        &self.0
    }
}

/// The corner that a request came to.
#[derive(Clone, Copy, Debug)]
pub struct Vantage<'a> {
    /// All corners.
    pub corners: &'a Corners,
    /// Its place in [`Corners::addresses`].
    pub at: usize,
}

impl Vantage<'_> {
    /// The place of the corner that differs as asked: one bit of it is the address, the other the
    /// port.
    #[must_use]
    pub fn changed(&self, change: Change) -> usize {
        (self.at ^ (usize::from(change.ip) << 1) ^ usize::from(change.port)) % CORNERS
    }

    pub(crate) fn address(&self, change: Change) -> SocketAddr {
        self.corners.0[self.changed(change)]
    }

    /// The corner that differs in both.
    pub(crate) fn opposite(&self) -> SocketAddr {
        let (ip, port) = (true, true);
        self.address(Change { ip, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_corner_reaches_every_other() {
        let corners = Corners::new(addr("192.0.2.1:3478"), addr("192.0.2.2:3479")).unwrap();
        for at in 0..CORNERS {
            let vantage = Vantage {
                corners: &corners,
                at,
            };
            let here = corners.addresses()[at];
            for flags in [0, CHANGE_IP, CHANGE_PORT, CHANGE_IP | CHANGE_PORT] {
                let change = Change::from_flags(flags);
                let there = vantage.address(change);
                assert_eq!(here.ip() != there.ip(), change.ip, "{here} {there}");
                assert_eq!(here.port() != there.port(), change.port, "{here} {there}");
            }
            assert_ne!(vantage.opposite().ip(), here.ip());
            assert_ne!(vantage.opposite().port(), here.port());
        }
    }

    #[test]
    fn what_makes_no_corners_is_refused() {
        for (primary, alternate) in [
            ("0.0.0.0:3478", "192.0.2.2:3479"),
            ("192.0.2.1:3478", "0.0.0.0:3479"),
            ("192.0.2.1:3478", "[2001:db8::1]:3479"),
            ("192.0.2.1:3478", "192.0.2.1:3479"),
            ("192.0.2.1:3478", "192.0.2.2:3478"),
        ] {
            let made = Corners::new(addr(primary), addr(alternate));
            assert!(made.is_err(), "{primary} {alternate}");
        }
    }
}
