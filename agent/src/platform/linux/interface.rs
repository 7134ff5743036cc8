//! Addresses and routes of the TUN device, by route netlink.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::tun::Tun;

/// Marks our routes for people who read `ip route`: above the kernel's reserved numbers
/// (linux/rtnetlink.h, `RTPROT_STATIC` is 4), not taken in `/etc/iproute2/rt_protos`.
pub(super) const ROUTE_PROTOCOL: u8 = 141;

/// A new IPv6 address is in force after one turn of a kernel work queue; looked for this often,
const IN_FORCE_TRIES: u32 = 500;
/// at this distance.
const IN_FORCE_PAUSE: Duration = Duration::from_millis(2);

/// The TUN device as the system's network configuration sees it.
///
/// What is set here disappears with the device: nothing is left behind, not even by a kill.
pub struct Interface {
    handle: Handle,
    connection: JoinHandle<()>,
    name: String,
    index: u32,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    routes: BTreeSet<IpNet>,
}

impl Interface {
    /// The configuration of a device that was made as `name`.
    ///
    /// # Errors
    /// The device is gone, or netlink is not available.
    pub fn of(tun: &Tun, name: &str) -> io::Result<Self> {
        let index = tun.index()?;
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
            name: name.to_owned(),
            index,
            ipv4: None,
            ipv6: None,
            routes: BTreeSet::new(),
        })
    }

    /// Gives the device its addresses, in place of those before, and brings it up.
    ///
    /// A system without IPv6 gets the IPv4 address alone; the result says so.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn set_addresses(&mut self, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> io::Result<Addresses> {
        if self.ipv4 == Some(ipv4) && self.ipv6 == Some(ipv6) {
            return Ok(Addresses::Both);
        }
        self.quiet();
        if let Some(old) = self.ipv4.take_if(|old| *old != ipv4) {
            self.remove_address(old.into()).await?;
        }
        if let Some(old) = self.ipv6.take_if(|old| *old != ipv6) {
            self.remove_address(old.into()).await?;
        }
        self.handle
            .address()
            .add(self.index, ipv4.into(), 32)
            .replace()
            .execute()
            .await
            .map_err(into_io)?;
        self.ipv4 = Some(ipv4);
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(self.index).up().build())
            .execute()
            .await
            .map_err(into_io)?;

        let mut add = self
            .handle
            .address()
            .add(self.index, ipv6.into(), 128)
            .replace();
        // The control plane made it unique: there is nobody to ask, and a tentative address
        // cannot be bound to.
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        match add.execute().await.map_err(into_io) {
            Ok(()) => {
                self.ipv6 = Some(ipv6);
                self.in_force(ipv6).await?;
                Ok(Addresses::Both)
            }
            Err(error) if no_ipv6(&error) => Ok(Addresses::Ipv4Only),
            Err(error) => Err(error),
        }
    }

    /// Waits until packets to an own address are taken in: the kernel says yes to an IPv6 address
    /// before it has made the route for it.
    async fn in_force(&self, own: Ipv6Addr) -> io::Result<()> {
        for _ in 0..IN_FORCE_TRIES {
            let message = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(own, 128)
                .build();
            let answer = self.handle.route().get(message).execute().try_next().await;
            // An error: no route at all yet.
            if answer.is_ok_and(|route| route.is_some_and(|r| r.header.kind == RouteType::Local)) {
                return Ok(());
            }
            tokio::time::sleep(IN_FORCE_PAUSE).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the kernel does not put the address {own} into force"),
        ))
    }

    /// Makes `wanted` the routes through the device: adds what is missing, removes what is left
    /// over. IPv6 routes are left out on a system without IPv6.
    ///
    /// # Errors
    /// What the kernel refused. The call may be repeated.
    pub async fn set_routes(&mut self, wanted: &BTreeSet<IpNet>) -> io::Result<()> {
        let obsolete: Vec<IpNet> = self.routes.difference(wanted).copied().collect();
        for route in obsolete {
            let deleted = self.handle.route().del(self.message(route)).execute().await;
            match deleted.map_err(into_io) {
                // The route went away by itself, or somebody removed it.
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => self.routes.remove(&route),
            };
        }
        let missing: Vec<IpNet> = wanted.difference(&self.routes).copied().collect();
        for route in missing {
            if matches!(route, IpNet::V6(_)) && self.ipv6.is_none() {
                continue;
            }
            self.handle
                .route()
                .add(self.message(route))
                .replace()
                .execute()
                .await
                .map_err(into_io)?;
            self.routes.insert(route);
        }
        Ok(())
    }

    fn message(&self, route: IpNet) -> RouteMessage {
        match route {
            IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(self.index)
                .scope(RouteScope::Link)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
            IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(self.index)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
        }
    }

    async fn remove_address(&self, address: std::net::IpAddr) -> io::Result<()> {
        let message = match address {
            std::net::IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.index)
                .address(address, 32)
                .build(),
            std::net::IpAddr::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(self.index)
                .address(address, 128)
                .build(),
        };
        self.handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(into_io)
    }

    /// Keeps the kernel from giving the device a link-local address, whose router solicitations
    /// and multicast reports would only be dropped. Where that is not possible, they are dropped.
    fn quiet(&self) {
        let path = format!("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", self.name);
        let _ = std::fs::write(path, "1");
    }
}

/// Gives a device the address of a service for this machine alone. It is no source of packets to
/// others (scope host), and goes with the device.
///
/// # Errors
/// What the kernel refused.
pub async fn add_service_address(index: u32, address: Ipv4Addr) -> io::Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut add = handle.address().add(index, address.into(), 32).replace();
    add.message_mut().header.scope = AddressScope::Host;
    let added = add.execute().await.map_err(into_io);
    connection.abort();
    added
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Which addresses a device got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4 and IPv6.
    Both,
    /// The system has no IPv6.
    Ipv4Only,
}

/// IPv6 is switched off, for the whole system or for this interface, or not in the kernel.
pub(super) fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
    )
}

pub(super) fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Whether an interface is up and carries more than this machine's own talk.
pub(super) fn usable(flags: LinkFlags) -> bool {
    flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Loopback)
}
