//! Addresses of one side of a tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Reason;

/// The addresses from which a machine may send, and at which it is sent to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    /// The machine's own: the first single address of each family.
    own: [Option<IpAddr>; 2],
    /// First and last address of everything else, in order; no two touch each other.
    routed: Box<[(IpAddr, IpAddr)]>,
}

impl Networks {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let single = |network: &&IpNet| network.prefix_len() == network.max_prefix_len();
        let first = |v4: bool| {
            let mut singles = networks.iter().filter(single).map(IpNet::addr);
            singles.find(|address| address.is_ipv4() == v4)
        };
        let own = [first(true), first(false)];
        let mut ranges: Vec<_> = networks
            .iter()
            .map(|network| (network.network(), network.broadcast()))
            .filter(|(from, to)| from != to || !own.contains(&Some(*from)))
            .collect();
        // Of two networks one holds the other, or they have nothing in common: the larger one first.
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        ranges.dedup_by(|next, kept| next.1 <= kept.1);
        Self {
            own,
            routed: ranges.into(),
        }
    }

    /// Whether the side may send from the address and be sent to at it.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.is_own(address) || {
            let after = self.routed.partition_point(|(from, _)| *from <= address);
            let last = after.checked_sub(1).and_then(|last| self.routed.get(last));
            last.is_some_and(|(_, to)| address <= *to)
        }
    }

    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&Some(address))
    }
}

/// Whether each address is of the side that it should be.
pub(crate) fn check_addresses(
    src: (IpAddr, &Networks),
    dst: (IpAddr, &Networks),
) -> Result<(), Reason> {
    if !src.1.contain(src.0) {
        return Err(Reason::WrongSource);
    }
    if !dst.1.contain(dst.0) {
        return Err(Reason::WrongDestination);
    }
    Ok(())
}
