//! Which peers may be at an address.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ztna_proto::MachineId;

/// Peers by the addresses at which their paths know them. Several may claim one.
#[derive(Default)]
pub struct Addresses(BTreeSet<(SocketAddr, MachineId)>);

impl Addresses {
    /// Takes back what was said of a peer, and says that it may be at these.
    pub fn replace(&mut self, peer: MachineId, old: &[SocketAddr], new: &[SocketAddr]) {
        for addr in old {
            self.0.remove(&(*addr, peer));
        }
        self.0.extend(new.iter().map(|addr| (*addr, peer)));
    }

    /// Who may be at an address.
    pub fn peers(&self, at: SocketAddr) -> impl Iterator<Item = MachineId> + '_ {
        let first = (at, MachineId::from_bytes([0; 16]));
        let from_here = self.0.range(first..);
        from_here
            .take_while(move |(addr, _)| *addr == at)
            .map(|(_, peer)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_those_who_claim_it_and_nobody_else() {
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let [a, b] = [1, 2].map(|byte| MachineId::from_bytes([byte; 16]));
        let mut all = Addresses::default();
        let of = |all: &Addresses, port| all.peers(at(port)).collect::<Vec<_>>();
        all.replace(a, &[], &[at(1), at(2)]);
        all.replace(b, &[], &[at(2), at(4)]);
        assert_eq!(of(&all, 1), [a]);
        assert_eq!(of(&all, 2), [a, b]);
        assert_eq!(of(&all, 3), []);
        all.replace(a, &[at(1), at(2)], &[at(3)]);
        assert_eq!(of(&all, 1), []);
        assert_eq!(of(&all, 2), [b]);
        assert_eq!(of(&all, 3), [a]);
        all.replace(b, &[at(2), at(4)], &[]);
        all.replace(a, &[at(3)], &[]);
        assert!(all.0.is_empty());
    }
}
