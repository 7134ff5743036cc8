//! Servers that are reached outside the tunnel, whatever is routed into it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::timeout;
use ztna_netmap::Netmap;

use crate::control::Server;

/// Longest wait for the addresses of a name.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Names in the relay map that are looked up; further ones are not.
const MAX_NAMES: usize = 64;

/// Addresses of servers, those of names as they were found last.
#[derive(Default)]
pub struct Outside {
    found: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Those of an earlier process, for as long as a name is not found.
    earlier: BTreeSet<IpAddr>,
}

impl Outside {
    /// Knows what an earlier process found.
    pub fn remember(&mut self, earlier: BTreeSet<IpAddr>) {
        self.earlier = earlier;
    }

    /// The addresses of the control plane and all relays. A name that is not found now keeps the
    /// addresses that it had.
    pub async fn look_up(&mut self, server: &Server, names: &Names) -> BTreeSet<IpAddr> {
        let mut hosts = names.hosts.clone();
        hosts.insert(server.host().to_owned());
        self.found.retain(|host, _| hosts.contains(host));
        let searches = hosts.iter().map(async |host| {
            if let Ok(address) = host.parse::<IpAddr>() {
                return (host.clone(), BTreeSet::from([address]));
            }
            let found = timeout(LOOKUP_TIME, lookup_host((host.as_str(), 443))).await;
            let addresses = found.ok().and_then(Result::ok).into_iter().flatten();
            (
                host.clone(),
                addresses.map(|address| address.ip()).collect(),
            )
        });
        for (host, addresses) in join_all(searches).await {
            if !addresses.is_empty() {
                self.found.insert(host, addresses);
            }
        }
        if self.found.len() == hosts.len() {
            self.earlier.clear();
        }
        let found = self.found.values().flatten().chain(&self.earlier).copied();
        found.chain(names.addresses.iter().copied()).collect()
    }
}

/// What a relay map names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    hosts: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// The hosts, the control plane's too, as they are asked for.
    #[must_use]
    pub fn with(&self, server: &Server) -> BTreeSet<String> {
        let server = server.host().to_owned();
        let hosts = self.hosts.iter().cloned().chain([server]);
        hosts.map(|host| host.to_ascii_lowercase()).collect()
    }

    /// Of this map.
    #[must_use]
    pub fn of(map: &Netmap) -> Self {
        let mut names = Self::default();
        let regions = map.relays().regions.values();
        for node in regions.flat_map(|region| &region.nodes) {
            if !node.addresses.is_empty() {
                names.addresses.extend(&node.addresses);
            } else if names.hosts.len() < MAX_NAMES {
                names.hosts.insert(node.host.clone());
            }
        }
        names
    }
}
