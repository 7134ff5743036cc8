//! A port of the router's own: asked for by PCP, NAT-PMP or UPnP, kept while it is needed, given
//! back at the end. Whatever the router does, it holds nobody up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
    pcp,
};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{PortMappingProtocol, SearchOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use ztna_netcheck::PortMapping;

/// Lease asked for, in seconds (RFC 6886 §3.3 recommends two hours). Half-way it is renewed.
const LEASE: u32 = 7200;
/// A router that offers nothing, or has taken a mapping back, is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// A lease is renewed no more often than this, however short the router makes it.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(30);
/// NAT-PMP and PCP requests: 250 ms, doubled twice (RFC 6886 §3.1), then nobody is there.
const TIMING: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// A UPnP router has to be found in this time …
const UPNP_SEARCH: Duration = Duration::from_secs(2);
/// … and one exchange of whatever kind with it takes no longer.
const EXCHANGE: Duration = Duration::from_secs(5);
/// At the end, the router has this long to take its port back.
const FAREWELL: Duration = Duration::from_millis(500);
/// What routers' lists show.
const DESCRIPTION: &str = "ztna";

/// Keeps a port of the router's.
pub struct PortMapper {
    found: watch::Receiver<PortMapping>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl PortMapper {
    /// Asks `gateway` to send datagrams for a port of its own to `port` here. `None`: there is no
    /// router to ask.
    pub fn start(gateway: Option<Ipv4Addr>, port: u16) -> Self {
        let (sender, found) = watch::channel(PortMapping::default());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            match gateway.zip(NonZeroU16::new(port)) {
                Some((gateway, port)) => keep(gateway, port, sender, stopped).await,
                None => stopped.cancelled().await,
            }
        });
        Self { found, stop, task }
    }

    /// Waits until the router has offered something else than before.
    pub async fn changed(&mut self) -> PortMapping {
        if self.found.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.found.borrow_and_update().clone()
    }

    /// Gives the port back, in bounded time.
    pub async fn close(mut self) {
        self.stop.cancel();
        // A router that takes longer forgets by itself when the lease ends.
        let _ = timeout(FAREWELL, &mut self.task).await;
        self.task.abort();
    }
}

impl Drop for PortMapper {
    fn drop(&mut self) {
        // The task gives the port back, and every step of that is bounded.
        self.stop.cancel();
    }
}

async fn keep(
    gateway: Ipv4Addr,
    port: NonZeroU16,
    found: watch::Sender<PortMapping>,
    stop: CancellationToken,
) {
    loop {
        let (offered, mut lease) = tokio::select! {
            asked = ask(gateway, port) => asked,
            () = stop.cancelled() => return,
        };
        tracing::debug!(?offered, "port mapping");
        found.send_replace(offered);
        while let Some(held) = &mut lease {
            tokio::select! {
                () = sleep(held.renew_in()) => {}
                () = stop.cancelled() => return held.give_back().await,
            }
            if let Err(error) = held.renew().await {
                tracing::debug!(error, "the router does not renew the port");
                lease = None;
            }
            let mapped = lease.as_ref().map(Lease::external);
            found.send_if_modified(|offered| {
                let changed = offered.mapped != mapped;
                offered.mapped = mapped;
                changed
            });
        }
        tokio::select! {
            () = sleep(ASK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Asks by all three protocols at once; PCP's port is preferred, then NAT-PMP's.
async fn ask(gateway: Ipv4Addr, port: NonZeroU16) -> (PortMapping, Option<Lease>) {
    let Some(local) = own_address(gateway) else {
        return (PortMapping::default(), None);
    };
    let (pcp, external, upnp) = tokio::join!(
        ask_pcp(gateway, local, port),
        natpmp::external_address(GatewayAddress::IpV4(gateway), Some(TIMING)),
        find_upnp(gateway, local),
    );
    let mut offered = PortMapping {
        upnp: Some(upnp.is_some()),
        nat_pmp: Some(external.is_ok()),
        pcp: Some(pcp.is_some()),
        mapped: None,
    };
    let mut lease = pcp;
    if let (None, Ok(external)) = (&lease, external) {
        lease = ask_nat_pmp(gateway, external, port).await;
    }
    if let (None, Some(router)) = (&lease, upnp) {
        lease = ask_upnp(router, SocketAddrV4::new(local, port.get())).await;
    }
    let lease = lease.filter(|lease| is_of_use(lease.external().ip()));
    offered.mapped = lease.as_ref().map(Lease::external);
    (offered, lease)
}

/// This machine's address towards the router.
fn own_address(gateway: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((gateway, crab_nat::GATEWAY_PORT)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(local) => Some(local),
        IpAddr::V6(_) => None,
    }
}

/// Routers that are not connected say such things.
fn is_of_use(external: IpAddr) -> bool {
    !(external.is_unspecified() || external.is_loopback() || external.is_multicast())
}

fn options(port: NonZeroU16) -> PortMappingOptions {
    PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: Some(LEASE),
        timeout_config: Some(TIMING),
    }
}

async fn ask_pcp(gateway: Ipv4Addr, local: Ipv4Addr, port: NonZeroU16) -> Option<Lease> {
    let udp = InternetProtocol::Udp;
    let request = pcp::BaseMapRequest::new(GatewayAddress::IpV4(gateway), local.into(), udp, port);
    let mapping = pcp::port_mapping(request, None, None, options(port)).await;
    let mapping = mapping
        .inspect_err(|error| tracing::debug!(%error, "no port by PCP"))
        .ok()?;
    Some(Lease::Nat {
        external: Ipv4Addr::UNSPECIFIED,
        mapping,
    })
}

async fn ask_nat_pmp(gateway: Ipv4Addr, external: Ipv4Addr, port: NonZeroU16) -> Option<Lease> {
    let udp = InternetProtocol::Udp;
    let gateway = GatewayAddress::IpV4(gateway);
    let mapping = natpmp::port_mapping(gateway, udp, port, options(port)).await;
    let mapping = mapping
        .inspect_err(|error| tracing::debug!(%error, "no port by NAT-PMP"))
        .ok()?;
    Some(Lease::Nat { external, mapping })
}

/// Only the router that packets leave by is asked: anybody on the network can answer a search.
async fn find_upnp(gateway: Ipv4Addr, local: Ipv4Addr) -> Option<Gateway<Tokio>> {
    let mut search = SearchOptions::default();
    search.bind_addr = (local, 0).into();
    search.timeout = Some(UPNP_SEARCH);
    search.single_search_timeout = Some(UPNP_SEARCH);
    let found = timeout(EXCHANGE, search_gateway(search)).await.ok()?.ok()?;
    (found.addr.ip() == IpAddr::V4(gateway)).then_some(found)
}

async fn ask_upnp(router: Gateway<Tokio>, local: SocketAddrV4) -> Option<Lease> {
    let udp = PortMappingProtocol::UDP;
    let asked = timeout(EXCHANGE, async {
        let same = router.add_port(udp, local.port(), local.into(), LEASE, DESCRIPTION);
        if same.await.is_ok() {
            let ip = router.get_external_ip().await.map_err(|e| e.to_string())?;
            return Ok(SocketAddr::new(ip, local.port()));
        }
        let any = router.get_any_address(udp, local.into(), LEASE, DESCRIPTION);
        any.await.map_err(|error| error.to_string())
    });
    match asked.await.unwrap_or_else(|_| Err("no answer".to_owned())) {
        Ok(external) => Some(Lease::Upnp {
            router,
            local,
            external,
        }),
        Err(error) => {
            tracing::debug!(error, "no port by UPnP");
            None
        }
    }
}

/// A port that the router has opened.
enum Lease {
    Nat {
        /// The router's address, if NAT-PMP gave the port; PCP tells it with the port.
        external: Ipv4Addr,
        mapping: crab_nat::PortMapping,
    },
    Upnp {
        router: Gateway<Tokio>,
        local: SocketAddrV4,
        external: SocketAddr,
    },
}

impl Lease {
    fn external(&self) -> SocketAddr {
        match self {
            Self::Nat { external, mapping } => {
                let ip = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
                    PortMappingType::NatPmp => IpAddr::V4(*external),
                };
                SocketAddr::new(ip, mapping.external_port().get())
            }
            Self::Upnp { external, .. } => *external,
        }
    }

    fn renew_in(&self) -> Duration {
        let lifetime = match self {
            Self::Nat { mapping, .. } => mapping.lifetime(),
            Self::Upnp { .. } => LEASE,
        };
        Duration::from_secs(u64::from(lifetime) / 2).max(SHORTEST_RENEWAL)
    }

    /// Renews it; the router may give another port or address by that.
    async fn renew(&mut self) -> Result<(), String> {
        match self {
            Self::Nat { external, mapping } => {
                mapping.renew().await.map_err(|error| error.to_string())?;
                if matches!(mapping.mapping_type(), PortMappingType::NatPmp) {
                    *external = natpmp::external_address(mapping.gateway(), Some(TIMING))
                        .await
                        .map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Self::Upnp {
                router,
                local,
                external,
            } => {
                let udp = PortMappingProtocol::UDP;
                let port = external.port();
                let added = router.add_port(udp, port, (*local).into(), LEASE, DESCRIPTION);
                let renewed = timeout(EXCHANGE, async {
                    added.await.map_err(|error| error.to_string())?;
                    router.get_external_ip().await.map_err(|e| e.to_string())
                });
                let ip = renewed.await.map_err(|_| "no answer".to_owned())??;
                external.set_ip(ip);
                Ok(())
            }
        }
    }

    async fn give_back(&self) {
        let given = async {
            match self {
                Self::Nat { mapping, .. } => {
                    // A router that does not answer forgets when the lease ends.
                    let _ = mapping.clone().try_drop().await;
                }
                Self::Upnp {
                    router, external, ..
                } => {
                    let _ = router
                        .remove_port(PortMappingProtocol::UDP, external.port())
                        .await;
                }
            }
        };
        let _ = timeout(EXCHANGE, given).await;
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::net::UdpSocket;

    use super::*;
    use crate::testing::in_new_namespace;

    const PATIENCE: Duration = Duration::from_secs(30);
    const ROUTER: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

    /// A router of NAT-PMP (RFC 6886): opcode 0 asks for its address, 1 for a UDP port. Keeps the
    /// lifetimes that were asked for; 0 gives a port back.
    async fn nat_pmp_router() -> Arc<Mutex<Vec<u32>>> {
        let socket = UdpSocket::bind((ROUTER, crab_nat::GATEWAY_PORT))
            .await
            .unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut request = [0; 1100];
            loop {
                let (length, from) = socket.recv_from(&mut request).await.unwrap();
                let (version, opcode) = (request[0], request[1]);
                // Version, opcode + 128, result, epoch.
                let mut answer = vec![0, opcode | 128, 0, 0, 0, 0, 0, 9];
                match (version, opcode, length) {
                    (0, 0, 2) => answer.extend(EXTERNAL.octets()),
                    (0, 1, 12) => {
                        let lifetime = u32::from_be_bytes(request[8..12].try_into().unwrap());
                        log.lock().unwrap().push(lifetime);
                        answer.extend(&request[4..6]);
                        let port: u16 = if lifetime == 0 { 0 } else { 6000 };
                        answer.extend(port.to_be_bytes());
                        answer.extend(lifetime.to_be_bytes());
                    }
                    // Another version than 0 is not supported (§3.5).
                    _ => answer[3] = 1,
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        asked
    }

    #[test]
    fn a_port_is_asked_for_and_given_back() {
        in_new_namespace(|| async {
            let asked = nat_pmp_router().await;
            let mut mapper = PortMapper::start(Some(ROUTER), 41641);
            let found = timeout(PATIENCE, mapper.changed()).await.unwrap();
            assert_eq!(
                found,
                PortMapping {
                    upnp: Some(false),
                    nat_pmp: Some(true),
                    pcp: Some(false),
                    mapped: Some(SocketAddr::from((EXTERNAL, 6000))),
                }
            );
            assert_eq!(*asked.lock().unwrap(), [LEASE]);
            mapper.close().await;
            assert_eq!(*asked.lock().unwrap(), [LEASE, 0]);
        });
    }

    #[test]
    fn a_router_that_offers_nothing_is_known_for_it() {
        in_new_namespace(|| async {
            // Nobody listens there; and nobody answers here.
            let _silent = UdpSocket::bind((ROUTER, crab_nat::GATEWAY_PORT))
                .await
                .unwrap();
            for gateway in [ROUTER, Ipv4Addr::new(127, 0, 0, 9)] {
                let mut mapper = PortMapper::start(Some(gateway), 41641);
                let found = timeout(PATIENCE, mapper.changed()).await.unwrap();
                assert_eq!((found.nat_pmp, found.pcp), (Some(false), Some(false)));
                assert_eq!(found.mapped, None);
                mapper.close().await;
            }
        });
    }

    #[tokio::test]
    async fn without_a_router_nothing_is_asked() {
        let mut mapper = PortMapper::start(None, 41641);
        let soon = timeout(Duration::from_millis(20), mapper.changed());
        assert!(soon.await.is_err());
        mapper.close().await;
    }
}
