//! Addresses and routes of the TUN device.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use route_manager::{Route, RouteManager};
use tun_rs::AsyncDevice;

use super::tun::Tun;

/// The TUN device as the system's network configuration sees it.
///
/// What is set here disappears with the device: nothing is left behind, not even by a kill.
pub struct Interface {
    device: Arc<AsyncDevice>,
    index: u32,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    routes: BTreeSet<IpNet>,
}

impl Interface {
    /// The configuration of a device.
    ///
    /// # Errors
    /// The device is gone.
    pub fn of(tun: &Tun, _name: &str) -> io::Result<Self> {
        Ok(Self {
            device: tun.device(),
            index: tun.index()?,
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
    /// What the system refused.
    #[allow(clippy::unused_async)] // As elsewhere.
    pub async fn set_addresses(&mut self, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> io::Result<Addresses> {
        if self.ipv4 == Some(ipv4) && self.ipv6 == Some(ipv6) {
            return Ok(Addresses::Both);
        }
        if self.ipv4 != Some(ipv4) {
            // In place of what was there.
            self.device.set_network_address(ipv4, 32_u8, None)?;
            self.ipv4 = Some(ipv4);
        }
        self.device.enabled(true)?;
        if let Some(old) = self.ipv6.take_if(|old| *old != ipv6) {
            self.device.remove_address(old.into())?;
        }
        match self.device.add_address_v6(ipv6, 128_u8) {
            Ok(()) => {
                self.ipv6 = Some(ipv6);
                Ok(Addresses::Both)
            }
            Err(error) => {
                tracing::info!(%error, "no IPv6 address for the tunnel");
                Ok(Addresses::Ipv4Only)
            }
        }
    }

    /// Makes `wanted` the routes through the device: adds what is missing, removes what is left
    /// over. IPv6 routes are left out on a system without IPv6.
    ///
    /// # Errors
    /// What the system refused. The call may be repeated.
    #[allow(clippy::unused_async)] // As elsewhere.
    pub async fn set_routes(&mut self, wanted: &BTreeSet<IpNet>) -> io::Result<()> {
        let mut manager = RouteManager::new()?;
        let obsolete: Vec<IpNet> = self.routes.difference(wanted).copied().collect();
        for route in obsolete {
            match manager.delete(&self.route(route)) {
                // The route went away by itself, or somebody removed it.
                Err(error) if !is_gone(&error) => return Err(error),
                _ => self.routes.remove(&route),
            };
        }
        let missing: Vec<IpNet> = wanted.difference(&self.routes).copied().collect();
        for route in missing {
            if matches!(route, IpNet::V6(_)) && self.ipv6.is_none() {
                continue;
            }
            match manager.add(&self.route(route)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.routes.insert(route),
            };
        }
        Ok(())
    }

    fn route(&self, network: IpNet) -> Route {
        let route = Route::new(network.network(), network.prefix_len()).with_if_index(self.index);
        // macOS wants a next hop on a point-to-point interface; its own address stands for the interface.
        #[cfg(target_os = "macos")]
        let route = match (network, self.ipv4, self.ipv6) {
            (IpNet::V4(_), Some(own), _) => route.with_gateway(own.into()),
            (IpNet::V6(_), _, Some(own)) => route.with_gateway(own.into()),
            _ => route,
        };
        route
    }
}

/// Whether a route was not there: ESRCH on macOS, ERROR_NOT_FOUND on Windows.
fn is_gone(error: &io::Error) -> bool {
    let gone = if cfg!(windows) { 1168 } else { libc::ESRCH };
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(gone)
}

/// Which addresses a device got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4 and IPv6.
    Both,
    /// The system has no IPv6.
    Ipv4Only,
}
