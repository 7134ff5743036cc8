//! What size of packets an agent finds on its paths.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail it"
)]

mod net;

use std::time::Duration;

use net::{Nat, Net, ms};
use ztna_path::mtu::{BASE_MTU, COMMON_SIZES, CONFIRM_EVERY, RAISE_AFTER};

const A: &str = "192.168.1.10:41641";
const B: &str = "192.168.2.20:41641";
const B_ELSEWHERE: &str = "198.51.100.77:41641";
const EVERY: Option<Duration> = Some(Duration::from_millis(10));

fn found(net: &Net, host: usize) -> Option<(u16, bool)> {
    let mtu = net.hosts[host].agent.mtu()?;
    Some((mtu.size, mtu.is_settled))
}

fn probes_sent(net: &Net) -> usize {
    net.hosts.iter().map(|host| host.probes.len()).sum()
}

fn pair() -> Net {
    Net::new([(A, Some(0)), (B, Some(1))], &[Nat::Cone, Nat::Cone])
}

#[test]
fn each_end_finds_what_its_path_carries() {
    for size in COMMON_SIZES {
        let mut net = pair();
        net.path_mtu = size;
        assert_eq!(found(&net, 0), None);
        net.run(Duration::from_secs(8), EVERY);
        for host in 0..2 {
            assert_eq!(found(&net, host), Some((size, true)), "host {host}");
            let probes = net.hosts[host].probes.len();
            assert!(probes <= 60, "{probes} probes");
        }
    }
}

#[test]
fn what_the_own_network_refuses_is_not_tried_again() {
    let mut net = pair();
    net.own_mtu = 1500;
    net.run(Duration::from_secs(8), EVERY);
    assert_eq!(found(&net, 0), Some((1500, true)));
    let refused = net.hosts[0].probes.iter().filter(|(_, size)| *size > 1500);
    let mut sizes: Vec<u16> = refused.map(|(_, size)| *size).collect();
    let tried = sizes.len();
    sizes.sort_unstable();
    sizes.dedup();
    assert_eq!(sizes.len(), tried);
}

#[test]
fn a_size_belongs_to_its_path_and_to_the_network_it_was_found_on() {
    let mut net = pair();
    net.run(Duration::from_secs(8), EVERY);
    assert_eq!(found(&net, 0), Some((1500, true)));
    net.path_mtu = 1420;
    net.moves(1, B_ELSEWHERE, None);
    assert_eq!(found(&net, 1), Some((BASE_MTU, false)));
    net.publish(1);
    net.run(Duration::from_secs(8), EVERY);
    for host in 0..2 {
        assert_eq!(found(&net, host), Some((1420, true)), "host {host}");
    }
    assert_eq!(net.direct_addr(0), Some(B_ELSEWHERE.parse().unwrap()));
}

#[test]
fn a_path_that_shrinks_or_grows_is_noticed() {
    let mut net = pair();
    net.run(Duration::from_secs(8), EVERY);
    net.path_mtu = 1300;
    net.run(CONFIRM_EVERY + ms(2_000), EVERY);
    let (size, _) = found(&net, 0).unwrap();
    assert!(size <= 1300, "{size}");
    net.run(Duration::from_secs(5), EVERY);
    let (size, is_settled) = found(&net, 0).unwrap();
    assert!((1285..=1300).contains(&size) && is_settled, "{size}");
    net.path_mtu = 9000;
    net.run(RAISE_AFTER + Duration::from_secs(5), EVERY);
    assert_eq!(found(&net, 0), Some((9000, true)));
}

#[test]
fn a_path_that_was_dead_for_a_while_is_measured_again() {
    let mut net = pair();
    net.run(Duration::from_secs(8), EVERY);
    net.direct_cut = [true; 2];
    net.run(Duration::from_secs(4), EVERY);
    net.direct_cut = [false; 2];
    net.run(Duration::from_secs(8), EVERY);
    for host in 0..2 {
        assert_eq!(found(&net, host), Some((1500, true)), "host {host}");
    }
}

#[test]
fn without_traffic_no_probe_is_sent() {
    let mut net = pair();
    net.run(Duration::from_secs(8), EVERY);
    net.run(Duration::from_secs(60), None);
    let probes = probes_sent(&net);
    net.run(RAISE_AFTER * 3, None);
    assert_eq!(probes_sent(&net), probes);
}
