//! Finds a peer by what a person calls it.

use std::net::IpAddr;

use ztna_local::{Failure, FailureKind};
use ztna_netmap::Netmap;
use ztna_proto::netmap::PeerRecord;

/// The peer of that name, DNS name, tailnet address or id; for an address also which one was meant.
///
/// # Errors
/// There is none; the message says what to do.
pub fn find(map: &Netmap, wanted: &str) -> Result<(PeerRecord, IpAddr), Failure> {
    let name = wanted.trim_end_matches('.');
    let address: Option<IpAddr> = wanted.parse().ok();
    for peer in map.peers().values() {
        if let Some(address) = address {
            if peer.addresses().contains(&address) {
                return Ok((peer.clone(), address));
            }
        } else if peer.name.eq_ignore_ascii_case(name)
            || peer.dns_name.eq_ignore_ascii_case(name)
            || peer.id.to_string() == name
        {
            return Ok((peer.clone(), peer.ipv4.into()));
        }
    }
    Err(Failure::new(
        FailureKind::NotFound,
        format!(
            "no peer is called {wanted:?}; `ztna peers` lists those that the policy lets this \
             machine see"
        ),
    ))
}
