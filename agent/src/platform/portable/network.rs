//! The machine's own addresses, and when they change.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use getifaddrs::{InterfaceFlags, getifaddrs};
use route_manager::{AsyncRouteListener, RouteManager};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::platform::LocalAddress;

/// Changes come in bursts (link, address, routes). One is told after this much silence …
const SETTLE: Duration = Duration::from_millis(250);
/// … or after this long in an unquiet network.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);

/// Tells the addresses at which this machine may be reached on its own networks, and when they or
/// the default routes change: no address comes or goes without a route.
pub struct NetworkMonitor {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    addresses: BTreeSet<LocalAddress>,
    /// Outgoing interface and gateway of each default route: another one is another NAT, even if
    /// the addresses are the same.
    defaults: BTreeSet<(u32, Option<IpAddr>)>,
}

impl NetworkMonitor {
    /// Starts watching. The interface with index `except` (our own) does not count.
    ///
    /// # Errors
    /// The system does not tell of routes.
    #[allow(clippy::unused_async)] // As elsewhere.
    pub async fn start(except: u32) -> io::Result<Self> {
        let mut changes = AsyncRouteListener::new()?;
        let (sender, state) = watch::channel(read(except)?);
        let task = tokio::spawn(async move {
            while changes.listen().await.is_ok() {
                let latest = Instant::now() + SETTLE_AT_MOST;
                loop {
                    let settled = latest.min(Instant::now() + SETTLE);
                    match timeout_at(settled, changes.listen()).await {
                        Ok(Ok(_)) if Instant::now() < latest => {}
                        _ => break,
                    }
                }
                let state = match read(except) {
                    Ok(state) => state,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read this machine's addresses");
                        continue;
                    }
                };
                sender.send_if_modified(|old| {
                    let changed = *old != state;
                    *old = state;
                    changed
                });
            }
        });
        Ok(Self { state, task })
    }

    /// The addresses now, without loopback, link-local ones and our own tunnel's.
    #[must_use]
    pub fn addresses(&self) -> Vec<LocalAddress> {
        self.state.borrow().addresses.iter().copied().collect()
    }

    /// The router that IPv4 packets leave by.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let state = self.state.borrow();
        let mut gateways = state.defaults.iter().filter_map(|(_, gateway)| *gateway);
        gateways.find_map(|gateway| match gateway {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        })
    }

    /// Waits until addresses or default routes change. Dropping the future loses no change.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The system tells nothing any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for NetworkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(except: u32) -> io::Result<State> {
    let mut state = State::default();
    let mut up = BTreeSet::new();
    for interface in getifaddrs()? {
        let Some(index) = interface.index.filter(|index| *index != except) else {
            continue;
        };
        let flags = interface.flags;
        if !flags.contains(InterfaceFlags::UP) || flags.contains(InterfaceFlags::LOOPBACK) {
            continue;
        }
        let in_tunnel = flags.contains(InterfaceFlags::POINTTOPOINT);
        up.insert(index);
        let ip = interface.address.ip_addr().filter(|ip| reachable(*ip));
        state
            .addresses
            .extend(ip.map(|ip| LocalAddress { ip, in_tunnel }));
    }
    for route in RouteManager::new()?.list()? {
        if let (0, Some(index)) = (route.prefix(), route.if_index())
            && up.contains(&index)
        {
            // A default route without a router names the unspecified address on Windows.
            let gateway = route.gateway().filter(|gateway| !gateway.is_unspecified());
            state.defaults.insert((index, gateway));
        }
    }
    Ok(state)
}

fn reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback() || address.is_link_local() || address.is_unspecified())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_read_and_none_is_only_this_machine_s() {
        let monitor = NetworkMonitor::start(u32::MAX).await.unwrap();
        for LocalAddress { ip, .. } in monitor.addresses() {
            assert!(reachable(ip), "{ip}");
        }
    }
}
