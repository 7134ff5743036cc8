//! The machine's own addresses, and when they change, by its routing socket.

use std::collections::BTreeSet;
use std::io;

use getifaddrs::{InterfaceFlags, getifaddrs};
use route_manager::{AsyncRouteListener, RouteManager};

use crate::platform::monitor::{Source, State, reachable};
use crate::platform::{LocalAddress, NetworkMonitor};

/// What the system tells of its routes: no address comes or goes without one.
struct Routes {
    changes: AsyncRouteListener,
    except: u32,
}

impl NetworkMonitor {
    /// Starts watching. The interface with index `except` (our own) does not count.
    ///
    /// # Errors
    /// The system does not tell of routes.
    pub async fn start(except: u32) -> io::Result<Self> {
        let changes = AsyncRouteListener::new()?;
        Self::of(Routes { changes, except }).await
    }
}

impl Source for Routes {
    async fn news(&mut self) -> bool {
        self.changes.listen().await.is_ok()
    }

    async fn read(&mut self) -> io::Result<State> {
        read(self.except)
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
