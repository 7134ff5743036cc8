//! What stands before IPv6: addresses stay as they are, and whoever is inside has to speak first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::nat::Dependence;

/// How a firewall behaves (RFC 6092 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// Who may answer to whom somebody inside has spoken; `None`: everybody may come in.
    pub filtering: Option<Dependence>,
    /// Life of a permission without packets from inside.
    pub expiry: Duration,
}

/// One firewall.
pub struct Firewall {
    /// How it behaves.
    pub config: FirewallConfig,
    /// To whom somebody inside has spoken, and when last.
    permitted: BTreeMap<(SocketAddr, SocketAddr), Duration>,
}

impl Firewall {
    /// A firewall that has seen nothing.
    #[must_use]
    pub fn new(config: FirewallConfig) -> Self {
        Self {
            config,
            permitted: BTreeMap::new(),
        }
    }

    /// A datagram from inside.
    pub fn outbound(&mut self, from: SocketAddr, to: SocketAddr, now: Duration) {
        self.permitted.insert((from, to), now);
    }

    /// Whether a datagram from outside is let in.
    #[must_use]
    pub fn admits(&self, from: SocketAddr, to: SocketAddr, now: Duration) -> bool {
        let Some(filtering) = self.config.filtering else {
            return true;
        };
        let wanted = filtering.key(from);
        self.permitted.iter().any(|((inner, outer), at)| {
            *inner == to && filtering.key(*outer) == wanted && now < *at + self.config.expiry
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whom_it_lets_in_depends_on_what_is_said() {
        let inside = addr("[2001:db8::2]:1");
        let asked = addr("[2001:db8:1::1]:1");
        let (port, host) = (addr("[2001:db8:1::1]:2"), addr("[2001:db8:1::2]:1"));
        for (filtering, admitted) in [
            (None, [true, true, true]),
            (Some(Dependence::Endpoint), [true, true, true]),
            (Some(Dependence::Address), [true, true, false]),
            (Some(Dependence::AddressAndPort), [true, false, false]),
        ] {
            let expiry = Duration::from_secs(30);
            let mut wall = Firewall::new(FirewallConfig { filtering, expiry });
            assert_eq!(
                wall.admits(asked, inside, Duration::ZERO),
                filtering.is_none()
            );
            wall.outbound(inside, asked, Duration::ZERO);
            let found = [asked, port, host].map(|from| wall.admits(from, inside, Duration::ZERO));
            assert_eq!(found, admitted, "{filtering:?}");
            assert!(
                !wall.admits(asked, addr("[2001:db8::3]:1"), Duration::ZERO) || filtering.is_none()
            );
            assert_eq!(wall.admits(asked, inside, expiry), filtering.is_none());
        }
    }
}
