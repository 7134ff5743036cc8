//! The machine's own addresses, and when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::interface::{into_io, usable};
use crate::platform::LocalAddress;

/// Changes come in bursts (link, address, routes). One is told after this much silence …
const SETTLE: Duration = Duration::from_millis(250);
/// … or after this long in an unquiet network.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);

/// Tells the addresses at which this machine may be reached on its own networks, and when they or
/// the default routes change.
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
    /// Route netlink is not available.
    pub async fn start(except: u32) -> io::Result<Self> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        let connection = tokio::spawn(connection);
        let (sender, state) = watch::channel(read(&handle, except).await?);
        let task = tokio::spawn(async move {
            let _connection = AbortOnDrop(connection);
            while messages.next().await.is_some() {
                let latest = Instant::now() + SETTLE_AT_MOST;
                loop {
                    let settled = latest.min(Instant::now() + SETTLE);
                    match timeout_at(settled, messages.next()).await {
                        Ok(Some(_)) if Instant::now() < latest => {}
                        _ => break,
                    }
                }
                let state = match read(&handle, except).await {
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
            // Netlink ended, and with it every news.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for NetworkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(handle: &Handle, except: u32) -> io::Result<State> {
    let mut up = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(into_io)? {
        if link.header.index != except && usable(link.header.flags) {
            up.insert(link.header.index, is_tunnel(&link));
        }
    }

    let mut state = State::default();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(into_io)? {
        if let Some(in_tunnel) = up.get(&message.header.index).copied() {
            let ip = endpoint(&message);
            state
                .addresses
                .extend(ip.map(|ip| LocalAddress { ip, in_tunnel }));
        }
    }
    for version in [IpVersion::V4, IpVersion::V6] {
        let filter = match version {
            IpVersion::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            IpVersion::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        let mut routes = handle.route().get(filter).execute();
        while let Some(route) = routes.try_next().await.map_err(into_io)? {
            if route.header.destination_prefix_length != 0 {
                continue;
            }
            let (mut interface, mut gateway) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => interface = Some(*index),
                    RouteAttribute::Gateway(address) => gateway = address_of(address),
                    _ => {}
                }
            }
            if let Some(interface) = interface.filter(|index| up.contains_key(index)) {
                state.defaults.insert((interface, gateway));
            }
        }
    }
    Ok(state)
}

/// Whether what goes through the interface is put into other packets by this machine.
fn is_tunnel(link: &LinkMessage) -> bool {
    let infos = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
    infos.flatten().any(|info| match info {
        LinkInfo::Kind(kind) => matches!(
            kind,
            InfoKind::Tun
                | InfoKind::Wireguard
                | InfoKind::IpIp
                | InfoKind::Ip6Tnl
                | InfoKind::SitTun
                | InfoKind::GreTun
                | InfoKind::GreTun6
                | InfoKind::Vti
                | InfoKind::Vti6
                | InfoKind::Xfrm
        ),
        _ => false,
    })
}

fn address_of(address: &rtnetlink::packet_route::route::RouteAddress) -> Option<IpAddr> {
    use rtnetlink::packet_route::route::RouteAddress;
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The address, if a peer could send to it and it is to stay for a while.
fn endpoint(message: &AddressMessage) -> Option<IpAddr> {
    let fleeting = AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed
        | AddressHeaderFlags::Deprecated;
    if message.header.flags.intersects(fleeting) {
        return None;
    }
    // On a point-to-point interface `Address` is the other end and `Local` is ours (linux/if_addr.h).
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => {
                found = Some(*address);
                break;
            }
            AddressAttribute::Address(address) => found = Some(*address),
            _ => {}
        }
    }
    found.filter(|address| reachable(*address))
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
