//! The machine's own addresses, and when they change, by route netlink.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::interface::{into_io, usable};
use crate::platform::monitor::{Source, State, reachable};
use crate::platform::{LocalAddress, NetworkMonitor};

/// What route netlink tells.
struct Netlink<M> {
    connection: JoinHandle<()>,
    messages: M,
    handle: Handle,
    except: u32,
}

impl NetworkMonitor {
    /// Starts watching. The interface with index `except` (our own) does not count.
    ///
    /// # Errors
    /// Route netlink is not available.
    pub async fn start(except: u32) -> io::Result<Self> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        Self::of(Netlink {
            connection: tokio::spawn(connection),
            messages,
            handle,
            except,
        })
        .await
    }
}

impl<M: Stream + Unpin + Send + 'static> Source for Netlink<M> {
    async fn news(&mut self) -> bool {
        self.messages.next().await.is_some()
    }

    async fn read(&mut self) -> io::Result<State> {
        read(&self.handle, self.except).await
    }
}

impl<M> Drop for Netlink<M> {
    fn drop(&mut self) {
        self.connection.abort();
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
