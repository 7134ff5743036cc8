//! The real kernel, in a namespace of its own: which way packets leave, and who forwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, SockAddr, Socket, Type};

use super::forward::{Families, masquerade, remove, switch_on};
use super::steer::{BYPASS_MARK, Steer, Steering};
use super::{Interface, Tun};
use crate::testing::in_new_namespace;

const TAILNET4: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const TAILNET6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 2, 0, 0, 0, 0, 1);
const UPLINK4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);

/// The address that a datagram to `to` leaves from, which tells the device that it leaves by.
fn source(to: &str, mark: u32) -> IpAddr {
    let to = std::net::SocketAddr::new(to.parse().unwrap(), 9);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
    socket.set_mark(mark).unwrap();
    socket.connect(&SockAddr::from(to)).unwrap();
    let own = socket.local_addr().unwrap().as_socket().unwrap();
    own.ip()
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

        // A process that was killed leaves its rules; the next one removes them.
        let mut next = Steer::new(index).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), outside);
        next.set(&exit).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), inside);
        next.set(&Steering::default()).await.unwrap();
        assert_eq!(source("198.51.100.7", 0), outside);
        assert_eq!(source("2001:db8:1::7", 0), outside6);
    });
}

async fn tables() -> String {
    let mut nft = tokio::process::Command::new("nft");
    let listed = nft.args(["list", "tables"]).output().await.unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn a_router_has_one_table_and_says_what_it_switches_on() {
    in_new_namespace(|| async {
        masquerade("zt-0").await.unwrap();
        masquerade("zt-0").await.unwrap();
        assert!(tables().await.contains("inet ztna_zt_0"));
        remove("zt-0").await.unwrap();
        remove("zt-0").await.unwrap();
        assert!(!tables().await.contains("ztna"));
        assert!(masquerade("zt\"0").await.is_err());

        let off = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(off, "0").unwrap();
        let families = Families { v4: true, v6: true };
        let told = switch_on(families).unwrap();
        assert!(told[0].contains("net.ipv4.ip_forward"), "{told:?}");
        assert_eq!(std::fs::read_to_string(off).unwrap().trim(), "1");
        assert!(switch_on(families).unwrap().is_empty(), "it is on");
    });
}
