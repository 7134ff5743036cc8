//! The real kernel, in a namespace of its own: which way packets leave, and who forwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::timeout;

use super::forward::{masquerade, remove, switch_on};
use super::on_link::on_link;
use super::steer::{BYPASS_MARK, Steer};
use super::{Interface, Tun, TunReader, TunWriter};
use crate::platform::{Behind, Families, Steering};
use crate::testing::in_new_namespace;

const TAILNET4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const TAILNET6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 1);
const UPLINK4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);

/// The address that a datagram to `to` leaves from, which tells the device that it leaves by.
fn source(to: &str, mark: u32) -> IpAddr {
    try_source(to, mark).unwrap()
}

fn try_source(to: &str, mark: u32) -> std::io::Result<IpAddr> {
    let to = std::net::SocketAddr::new(to.parse().unwrap(), 9);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
    socket.set_mark(mark).unwrap();
    socket.connect(&SockAddr::from(to))?;
    let own = socket.local_addr()?.as_socket().unwrap();
    Ok(own.ip())
}

fn steering(routes: &[&str], outside: &[&str]) -> Steering {
    Steering {
        routes: routes.iter().map(|text| text.parse().unwrap()).collect(),
        outside: outside.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn what_is_meant_for_peers_enters_the_tunnel_and_its_own_packets_do_not() {
    in_new_namespace(|| async {
        let tun = Tun::create("zt0").unwrap();
        let mut tailnet = Interface::of(&tun, "zt0").unwrap();
        tailnet.set_addresses(TAILNET4, TAILNET6).await.unwrap();
        let uplink = Tun::create("up0").unwrap();
        let mut wan = Interface::of(&uplink, "up0").unwrap();
        wan.set_addresses(UPLINK4, UPLINK6).await.unwrap();
        let own = ["0.0.0.0/0", "::/0", "10.7.9.0/24"].map(|text| text.parse().unwrap());
        wan.set_routes(&own.into()).await.unwrap();
        let (inside, outside) = (IpAddr::from(TAILNET4), IpAddr::from(UPLINK4));
        let (inside6, outside6) = (IpAddr::from(TAILNET6), IpAddr::from(UPLINK6));
        assert_eq!(source("10.7.0.1", 0), outside);

        let index = tun.index().unwrap();
        let mut steer = Steer::new(index).await.unwrap();
        let subnet = steering(&["10.7.0.0/16"], &["10.7.0.53"]);
        steer.set(&subnet).await.unwrap();
        steer.set(&subnet).await.unwrap();
        assert_eq!(source("10.7.0.1", 0), inside);
        assert_eq!(source("10.7.0.1", BYPASS_MARK), outside);
        assert_eq!(source("10.7.0.53", 0), outside, "a server of ours");
        assert_eq!(source("10.7.9.1", 0), outside, "its own route");
        assert_eq!(source("198.51.100.7", 0), outside);
        assert_eq!(source("2001:db8:1::7", 0), outside6);

        let exit = steering(&["0.0.0.0/0", "::/0"], &["198.51.100.1", "2001:db8:1::1"]);
        steer.set(&exit).await.unwrap();
        for (to, from) in [
            ("198.51.100.7", inside),
            ("10.7.0.1", inside),
            ("10.7.9.1", outside),
            ("198.51.100.1", outside),
            ("2001:db8:1::7", inside6),
            ("2001:db8:1::1", outside6),
        ] {
            assert_eq!(source(to, 0), from, "{to}");
        }
        assert_eq!(source("198.51.100.7", BYPASS_MARK), outside);
        assert_eq!(source("2001:db8:1::7", BYPASS_MARK), outside6);

        // Two routes that stand for a default route are no more than one: DHCP can set them.
        let halves = ["0.0.0.0/1", "128.0.0.0/1", "8000::/1"].map(|text| text.parse().unwrap());
        let all = own.into_iter().chain(halves).collect();
        wan.set_routes(&all).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), inside);
        assert_eq!(source("8001::7", 0), inside6);
        wan.set_routes(&own.into()).await.unwrap();

        // A process that was killed leaves its rules, and nothing leaves another way; the next one takes
        // over.
        drop((steer, tailnet, tun));
        for to in ["198.51.100.7", "2001:db8:1::7"] {
            assert!(closes(to).await, "{to} leaves another way");
            assert!(try_source(to, BYPASS_MARK).is_ok());
        }
        assert_eq!(source("198.51.100.1", 0), outside);
        let tun = Tun::create("zt0").unwrap();
        let mut tailnet = Interface::of(&tun, "zt0").unwrap();
        tailnet.set_addresses(TAILNET4, TAILNET6).await.unwrap();
        let mut next = Steer::new(tun.index().unwrap()).await.unwrap();
        assert_eq!(next.outside(), exit.outside);
        assert!(try_source("198.51.100.7", 0).is_err());
        next.set(&exit).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), inside);
        next.set(&Steering::default()).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), outside);
        assert_eq!(source("2001:db8:1::7", 0), outside6);
    });
}

/// Waits until nothing leaves for `to` any more: the kernel takes a moment to remove a device.
async fn closes(to: &str) -> bool {
    let closed = timeout(PATIENCE, async {
        loop {
            match try_source(to, 0) {
                Err(_) => return true,
                Ok(from) if [IpAddr::from(UPLINK4), UPLINK6.into()].contains(&from) => {
                    return false;
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    closed.await.unwrap()
}

async fn tables() -> String {
    let mut nft = tokio::process::Command::new("nft");
    let listed = nft.args(["list", "tables"]).output().await.unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn a_router_has_one_table_and_says_what_it_switches_on() {
    in_new_namespace(|| async {
        masquerade("zt-0", &Behind::default()).await.unwrap();
        masquerade("zt-0", &Behind::default()).await.unwrap();
        assert!(tables().await.contains("inet ztna_zt_0"));
        remove("zt-0").await.unwrap();
        remove("zt-0").await.unwrap();
        assert!(!tables().await.contains("ztna"));
        assert!(masquerade("zt\"0", &Behind::default()).await.is_err());

        let off = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(off, "0").unwrap();
        let families = Families { v4: true, v6: true };
        let told = switch_on(families).unwrap();
        assert!(told[0].contains("net.ipv4.ip_forward"), "{told:?}");
        assert_eq!(std::fs::read_to_string(off).unwrap().trim(), "1");
        assert!(switch_on(families).unwrap().is_empty(), "it is on");
    });
}

/// A UDP datagram without a checksum, from port 4711 to port 9.
fn datagram(from: Ipv4Addr, to: Ipv4Addr, text: &[u8]) -> BytesMut {
    let length = u16::try_from(28 + text.len()).unwrap();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(from.octets().into_iter().chain(to.octets()));
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(
        4711_u16
            .to_be_bytes()
            .into_iter()
            .chain(9_u16.to_be_bytes()),
    );
    packet.extend((length - 20).to_be_bytes().into_iter().chain([0, 0]));
    packet.extend(text);
    BytesMut::from(&packet[..])
}

/// The next packet with one of these texts.
async fn next(reader: &mut TunReader, texts: &[&[u8]]) -> BytesMut {
    let found = timeout(PATIENCE, async {
        loop {
            let mut packets = Vec::new();
            reader.recv(0, &mut packets).await.unwrap();
            let is_it = |packet: &BytesMut| texts.iter().any(|text| packet.ends_with(text));
            if let Some(packet) = packets.into_iter().find(is_it) {
                return packet;
            }
        }
    });
    found.await.unwrap()
}

/// A device with this machine's address on it, and a network behind it.
async fn device(name: &str, own: Ipv4Addr, route: &str) -> (TunReader, TunWriter, Interface, u32) {
    let tun = Tun::create(name).unwrap();
    let index = tun.index().unwrap();
    let mut interface = Interface::of(&tun, name).unwrap();
    interface.set_addresses(own, TAILNET6).await.unwrap();
    let routes = [route.parse().unwrap()].into();
    interface.set_routes(&routes).await.unwrap();
    let (reader, writer) = tun.split();
    (reader, writer, interface, index)
}

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const PEER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);

#[test]
fn hosts_behind_a_router_answer_peers_and_do_not_enter_the_tunnel_by_themselves() {
    in_new_namespace(|| async {
        let (mut tunnel, mut to_us, _tailnet, _) = device("zt0", TAILNET4, "100.64.0.0/10").await;
        let (mut lan, mut from_lan, _lan, _) = device("lan0", ROUTER, "192.0.2.0/24").await;
        let families = Families {
            v4: true,
            v6: false,
        };
        switch_on(families).unwrap();
        let behind = Behind {
            approved: ["192.0.2.0/24".parse().unwrap()].into(),
            ..Behind::default()
        };
        masquerade("zt0", &behind).await.unwrap();

        to_us
            .send([datagram(PEER, HOST, b"question")])
            .await
            .unwrap();
        let asked = next(&mut lan, &[b"question"]).await;
        assert_eq!(asked[12..16], ROUTER.octets(), "this machine's own address");
        let port = u16::from_be_bytes([asked[20], asked[21]]);
        assert_eq!(port, 4711, "it is free");

        // What the host sends by itself comes first, and would be first in the tunnel.
        let by_itself = datagram(HOST, PEER, b"intruder");
        let mut answer = datagram(HOST, ROUTER, b"answer");
        answer[20..24].copy_from_slice(&[0, 9, 0x12, 0x67]);
        from_lan.send([by_itself]).await.unwrap();
        from_lan.send([answer]).await.unwrap();
        let arrived = next(&mut tunnel, &[b"intruder", b"answer"]).await;
        assert!(
            arrived.ends_with(b"answer"),
            "a host of the LAN is in the tunnel"
        );
        assert_eq!(arrived[12..16], HOST.octets());
        assert_eq!(arrived[16..20], PEER.octets());
    });
}

#[test]
fn an_exit_node_opens_neither_itself_nor_its_links_unless_they_are_approved() {
    in_new_namespace(|| async {
        let (_, mut to_us, _tailnet, index) = device("zt0", TAILNET4, "100.64.0.0/10").await;
        let (mut lan, _, mut wan, _) = device("lan0", ROUTER, "192.0.2.0/24").await;
        let routes = ["192.0.2.0/24", "0.0.0.0/0", "128.0.0.0/1"];
        let routes = routes.map(|text| text.parse().unwrap()).into();
        wan.set_routes(&routes).await.unwrap();
        switch_on(Families {
            v4: true,
            v6: false,
        })
        .unwrap();
        let links = on_link(index).await.unwrap();
        let v4: Vec<_> = links.iter().filter(|net| net.addr().is_ipv4()).collect();
        assert_eq!(v4, [&"192.0.2.0/24".parse().unwrap()]);
        let own = std::net::UdpSocket::bind((ROUTER, 9)).unwrap();
        own.set_nonblocking(true).unwrap();
        let inner = tokio::net::UdpSocket::bind((TAILNET4, 9)).await.unwrap();
        let far = Ipv4Addr::new(198, 51, 100, 7);

        for is_approved in [false, true] {
            let behind = Behind {
                approved: match is_approved {
                    true => ["192.0.2.0/24".parse().unwrap()].into(),
                    false => Default::default(),
                },
                on_link: links.clone(),
            };
            masquerade("zt0", &behind).await.unwrap();
            to_us.send([datagram(PEER, ROUTER, b"self")]).await.unwrap();
            to_us.send([datagram(PEER, HOST, b"link")]).await.unwrap();
            to_us.send([datagram(PEER, far, b"far")]).await.unwrap();
            let arrived = next(&mut lan, &[b"link", b"far"]).await;
            assert_eq!(arrived.ends_with(b"link"), is_approved);
            // What is this machine's own in the tailnet stays open, and arrives after the other.
            to_us
                .send([datagram(PEER, TAILNET4, b"inner")])
                .await
                .unwrap();
            let mut buffer = [0; 64];
            timeout(PATIENCE, inner.recv(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(own.recv(&mut buffer).is_ok(), is_approved);
        }
    });
}
