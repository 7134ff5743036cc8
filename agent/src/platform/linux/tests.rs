//! The real kernel, in a namespace of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{RouteAttribute, RouteProtocol, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Addresses, Interface, Tun};
use crate::platform::LocalAddress;
use crate::platform::NetworkMonitor;
use crate::testing::{LOOPBACK, in_new_namespace, netlink};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const OWN4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 1);

async fn device(name: &str) -> (Tun, Interface) {
    let tun = Tun::create(name).unwrap();
    let mut interface = Interface::of(&tun, name).unwrap();
    let addresses = interface.set_addresses(OWN4, OWN6).await.unwrap();
    assert_eq!(addresses, Addresses::Both);
    (tun, interface)
}

fn routes(texts: &[&str]) -> BTreeSet<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Destinations of the IPv4 routes through an interface.
async fn routes_through(index: u32) -> Vec<u8> {
    let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let all: Vec<_> = netlink()
        .route()
        .get(filter)
        .execute()
        .try_collect()
        .await
        .unwrap();
    let mut prefixes: Vec<u8> = all
        .iter()
        .filter(|route| route.attributes.contains(&RouteAttribute::Oif(index)))
        // Not the kernel's own for the address itself (table local, 255).
        .filter(|route| route.header.table != 255)
        .map(|route| route.header.destination_prefix_length)
        .collect();
    prefixes.sort_unstable();
    prefixes
}

#[test]
fn packets_go_through_the_device_both_ways() {
    in_new_namespace(|| async {
        let (tun, mut interface) = device("zt0").await;
        interface
            .set_routes(&routes(&["100.64.0.0/10", "fd00:1:2::/48"]))
            .await
            .unwrap();
        let (mut reader, mut writer) = tun.split();
        for (own, peer) in [
            (IpAddr::from(OWN4), "100.64.0.9:7".parse().unwrap()),
            (
                IpAddr::from(OWN6),
                "[fd00:1:2::9]:7".parse::<SocketAddr>().unwrap(),
            ),
        ] {
            let socket = UdpSocket::bind((own, 4711)).await.unwrap();
            socket.send_to(b"hello", peer).await.unwrap();
            let reply = timeout(PATIENCE, async {
                loop {
                    let mut packets = Vec::new();
                    reader.recv(0, &mut packets).await.unwrap();
                    if let Some(packet) = packets.iter().find(|packet| packet.ends_with(b"hello")) {
                        return answer_to(packet);
                    }
                }
            })
            .await
            .unwrap();
            // Three in one batch: joined on the way, apart again at the socket.
            let batch = [(); 3].map(|()| BytesMut::from(&reply[..]));
            writer.send(batch).await.unwrap();
            for _ in 0..3 {
                let mut buffer = [0; 64];
                let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
                let (length, from) = received.unwrap().unwrap();
                assert_eq!((&buffer[..length], from), (&b"hello"[..], peer));
            }
        }
    });
}

/// The same packet on its way back: addresses and ports change places, which leaves the sums of
/// IPv4 and UDP as they are.
fn answer_to(packet: &[u8]) -> Vec<u8> {
    let mut reply = packet.to_vec();
    let (addresses, length, ports) = match packet[0] >> 4 {
        4 => (12, 4, 20),
        _ => (8, 16, 40),
    };
    let (source, destination) = reply[addresses..].split_at_mut(length);
    source.swap_with_slice(&mut destination[..length]);
    reply.swap(ports, ports + 2);
    reply.swap(ports + 1, ports + 3);
    reply
}

#[test]
fn routes_follow_what_is_wanted_and_go_with_the_device() {
    in_new_namespace(|| async {
        let (tun, mut interface) = device("zt0").await;
        let index = tun.index().unwrap();
        interface
            .set_routes(&routes(&["100.64.0.0/10", "10.9.0.3/32"]))
            .await
            .unwrap();
        assert_eq!(routes_through(index).await, [10, 32]);
        let only = routes(&["10.0.0.0/8", "fd00:1:2::/48"]);
        interface.set_routes(&only).await.unwrap();
        assert_eq!(routes_through(index).await, [8]);
        // Somebody else removed it meanwhile: wanted or not, that is no error.
        let filter = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(10, 0, 0, 0), 8)
            .output_interface(index)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Unspec)
            .build();
        netlink().route().del(filter).execute().await.unwrap();
        interface.set_routes(&BTreeSet::new()).await.unwrap();
        assert!(routes_through(index).await.is_empty());

        let moved = Ipv4Addr::new(100, 64, 0, 2);
        interface.set_addresses(moved, OWN6).await.unwrap();
        UdpSocket::bind((moved, 0)).await.unwrap();
        assert!(
            UdpSocket::bind((OWN4, 0)).await.is_err(),
            "the old address stays"
        );

        drop(tun);
        let gone = timeout(PATIENCE, async {
            while UdpSocket::bind((moved, 0)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        gone.await.unwrap();
    });
}

#[test]
fn a_name_in_use_is_an_error() {
    in_new_namespace(|| async {
        let _first = Tun::create("zt0").unwrap();
        assert!(Tun::create("zt0").is_err());
    });
}

#[test]
fn a_system_without_ipv6_gets_its_ipv4_address() {
    in_new_namespace(|| async {
        let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        std::fs::write(path, "1").unwrap();
        std::fs::write(path.replace("all", "default"), "1").unwrap();
        let tun = Tun::create("zt0").unwrap();
        let mut interface = Interface::of(&tun, "zt0").unwrap();
        let addresses = interface.set_addresses(OWN4, OWN6).await.unwrap();
        assert_eq!(addresses, Addresses::Ipv4Only);
        interface
            .set_routes(&routes(&["100.64.0.0/10", "fd00:1:2::/48"]))
            .await
            .unwrap();
        assert_eq!(routes_through(tun.index().unwrap()).await, [10]);
    });
}

#[test]
fn changes_of_the_network_are_told_and_our_own_are_not() {
    in_new_namespace(|| async {
        let (tun, mut interface) = device("zt0").await;
        let mut monitor = NetworkMonitor::start(tun.index().unwrap()).await.unwrap();
        assert!(monitor.addresses().is_empty(), "{:?}", monitor.addresses());

        let handle = netlink();
        // Kernels without dummy interfaces exist; another TUN device is as good a network.
        let network = Tun::create("lan0").unwrap();
        let lan = network.index().unwrap();
        let up = LinkUnspec::new_with_index(lan).up().build();
        handle.link().set(up).execute().await.unwrap();
        for address in ["192.0.2.7", "169.254.3.4", "2001:db8::7"] {
            let address: IpAddr = address.parse().unwrap();
            let prefix = if address.is_ipv4() { 24 } else { 64 };
            let add = handle.address().add(lan, address, prefix);
            add.execute().await.unwrap();
        }
        handle
            .address()
            .add(LOOPBACK, Ipv4Addr::new(192, 0, 2, 99).into(), 32)
            .execute()
            .await
            .unwrap();
        let both = ["192.0.2.7", "2001:db8::7"].map(|ip| LocalAddress {
            ip: ip.parse().unwrap(),
            in_tunnel: true,
        });
        timeout(PATIENCE, async {
            while monitor.addresses() != both {
                monitor.changed().await;
            }
        })
        .await
        .unwrap();

        let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(Ipv4Addr::new(192, 0, 2, 1))
            .build();
        handle.route().add(gateway).execute().await.unwrap();
        timeout(PATIENCE, monitor.changed()).await.unwrap();

        interface
            .set_routes(&routes(&["100.64.0.0/10"]))
            .await
            .unwrap();
        interface
            .set_addresses(Ipv4Addr::new(100, 64, 0, 2), OWN6)
            .await
            .unwrap();
        let down = LinkUnspec::new_with_index(lan).down().build();
        handle.link().set(down).execute().await.unwrap();
        timeout(PATIENCE, monitor.changed()).await.unwrap();
        assert!(
            monitor.addresses().is_empty(),
            "only the last change is told"
        );
    });
}
