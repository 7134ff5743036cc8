//! What becomes of traffic between two machines, network by network.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail it"
)]

mod net;

use std::time::Duration;

use net::{Nat, Net, RELAY, most_in, ms};
use ztna_path::{Selected, Via};

const A: &str = "192.168.1.10:41641";
const B: &str = "192.168.2.20:41641";
const A_PUBLIC: &str = "198.51.100.10:41641";
const B_PUBLIC: &str = "198.51.100.20:41641";
const EVERY: Option<Duration> = Some(Duration::from_millis(10));

fn behind(a: Nat, b: Nat) -> Net {
    Net::new([(A, Some(0)), (B, Some(1))], &[a, b])
}

fn public() -> Net {
    Net::new([(A_PUBLIC, None), (B_PUBLIC, None)], &[])
}

/// Both on one LAN, behind one router that sends packets for its own address back in, and is not
/// slower than the LAN.
fn one_lan() -> Net {
    Net::new(
        [(A, Some(0)), ("192.168.1.11:41642", Some(0))],
        &[Nat::Cone],
    )
}

#[test]
fn every_network_gets_the_path_it_allows_and_loses_nothing() {
    let blocked = {
        let mut net = behind(Nat::Cone, Nat::Cone);
        net.hosts[1].udp_blocked = true;
        net.publish(1);
        net
    };
    let table: [(&str, Net, Option<u64>); 9] = [
        // name, network, direct within milliseconds
        ("public and public", public(), Some(60)),
        ("one LAN", one_lan(), Some(60)),
        ("cone and cone", behind(Nat::Cone, Nat::Cone), Some(300)),
        (
            "cone and public",
            Net::new([(A, Some(0)), (B_PUBLIC, None)], &[Nat::Cone]),
            Some(300),
        ),
        (
            "hard and public",
            Net::new([(A, Some(0)), (B_PUBLIC, None)], &[Nat::Hard]),
            Some(300),
        ),
        (
            "public and hard",
            Net::new([(A_PUBLIC, None), (B, Some(0))], &[Nat::Hard]),
            Some(300),
        ),
        ("cone and hard", behind(Nat::Cone, Nat::Hard), None),
        ("hard and hard", behind(Nat::Hard, Nat::Hard), None),
        ("UDP blocked", blocked, None),
    ];
    for (name, mut net, within) in table {
        let found = net.time_to_direct(Duration::from_secs(5), ms(10));
        match within {
            Some(within) => {
                let found = found.unwrap_or_else(|| panic!("{name}: no direct path"));
                assert!(found <= ms(within), "{name}: direct only after {found:?}");
            }
            None => assert!(net.is_relayed(0) && net.is_relayed(1), "{name}: {found:?}"),
        }
        net.run(Duration::from_secs(10), EVERY);
        let sent = net.elapsed() - ms(100);
        for host in 0..2 {
            assert_eq!(
                net.lost(host, Duration::ZERO, sent),
                0,
                "{name}: host {host} lost packets"
            );
            assert!(
                most_in(Duration::from_secs(1), &net.hosts[host].pings) <= 60,
                "{name}"
            );
        }
    }
}

#[test]
fn one_lan_settles_on_its_own_addresses() {
    // However many of the first packets on the LAN get lost, and though the router is the faster way.
    for losses in [0, 1, 2, 3, 5] {
        let mut net = one_lan();
        net.lan_losses = losses;
        net.run(Duration::from_secs(5), EVERY);
        for host in 0..2 {
            let addr = net.hosts[1 - host].addr;
            assert_eq!(
                net.direct_addr(host),
                Some(addr),
                "host {host}, {losses} lost"
            );
        }
    }
}

#[test]
fn a_dead_path_falls_back_within_three_seconds_and_is_found_again() {
    for cut in [[true, true], [true, false], [false, true]] {
        let mut net = behind(Nat::Cone, Nat::Cone);
        net.run(Duration::from_secs(10), EVERY);
        assert!(net.is_direct(0) && net.is_direct(1));
        let died = net.elapsed();
        net.direct_cut = cut;
        net.run(Duration::from_secs(20), EVERY);
        for host in 0..2 {
            let gap = net.longest_gap(host, died);
            assert!(gap <= ms(2_400), "{cut:?}: nothing arrived for {gap:?}");
            assert_eq!(
                net.lost(host, died + ms(2_400), net.elapsed() - ms(100)),
                0,
                "{cut:?}"
            );
            assert!(net.is_relayed(host), "{cut:?}: the dead path is given up");
        }
        net.direct_cut = [false; 2];
        assert!(
            net.time_to_direct(Duration::from_secs(35), ms(10))
                .is_some(),
            "{cut:?}"
        );
    }
}

#[test]
fn one_lost_ping_does_not_shake_a_path() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(10), EVERY);
    let changes = net.hosts[0].changes.len();
    for _ in 0..20 {
        net.direct_cut = [true; 2];
        net.run(ms(300), EVERY);
        net.direct_cut = [false; 2];
        net.run(ms(1_700), EVERY);
    }
    assert_eq!(net.hosts[0].changes.len(), changes);
    assert!(net.is_direct(0) && net.is_direct(1));
}

#[test]
fn a_peer_that_moves_is_followed_within_three_seconds() {
    // To another NAT, to a public address, into our own LAN.
    for (addr, router) in [
        ("10.9.9.9:41641", Some(2)),
        (B_PUBLIC, None),
        ("192.168.1.77:41641", Some(0)),
    ] {
        let mut net = Net::new(
            [(A, Some(0)), (B, Some(1))],
            &[Nat::Cone, Nat::Cone, Nat::Cone],
        );
        net.run(Duration::from_secs(10), EVERY);
        let moved = net.elapsed();
        net.moves(1, addr, router);
        net.run(ms(500), EVERY);
        net.publish(1);
        net.run(Duration::from_secs(10), EVERY);
        for host in 0..2 {
            let gap = net.longest_gap(host, moved);
            assert!(gap <= Duration::from_secs(3), "{addr}: nothing for {gap:?}");
            assert!(net.is_direct(host), "{addr}");
        }
    }
}

#[test]
fn a_rebound_nat_costs_less_than_doubt_does() {
    let mut net = Net::new([(A_PUBLIC, None), (B, Some(0))], &[Nat::Cone]);
    net.run(Duration::from_secs(10), EVERY);
    let rebound = net.elapsed();
    net.rebinds(0);
    net.run(Duration::from_secs(10), EVERY);
    for host in 0..2 {
        // What still went to the old mapping is lost; the first packet from the new one tells.
        let gap = net.longest_gap(host, rebound);
        assert!(gap <= ms(200), "host {host}: nothing for {gap:?}");
        assert!(net.is_direct(host));
    }
}

#[test]
fn a_restarted_peer_is_found_again() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(10), EVERY);
    net.restarts(1);
    assert!(
        net.is_relayed(0),
        "nothing that the old process proved holds"
    );
    let found = net.time_to_direct(Duration::from_secs(2), ms(10)).unwrap();
    assert!(found <= ms(400), "{found:?}");
}

#[test]
fn without_traffic_nothing_is_sent() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(60), None);
    assert!(
        net.hosts
            .iter()
            .all(|host| host.pings.is_empty() && host.calls.is_empty())
    );
    net.run(Duration::from_secs(10), EVERY);
    net.run(Duration::from_secs(50), None);
    let count = |net: &Net| {
        net.hosts
            .iter()
            .map(|host| (host.pings.len(), host.calls.len()))
            .collect::<Vec<_>>()
    };
    let before = count(&net);
    assert!(
        net.hosts
            .iter()
            .all(|host| host.agent.poll_timeout().is_none())
    );
    net.run(Duration::from_secs(3600), None);
    assert_eq!(count(&net), before);
    // The first packet after it is not lost, whatever became of the path.
    net.direct_cut = [true; 2];
    let number = net.send(0);
    net.run(ms(100), None);
    assert!(net.hosts[1].received.contains_key(&number));
}

#[test]
fn a_tunnel_that_renews_its_keys_wakes_nobody() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(10), EVERY);
    net.run(Duration::from_secs(50), None);
    let count = |net: &Net| net.hosts.iter().map(|host| host.pings.len()).sum::<usize>();
    let before = count(&net);
    let from = Via::Direct(net.direct_addr(0).unwrap());
    net.hosts[0].agent.heard(from, net.now);
    net.run(Duration::from_secs(60), None);
    assert_eq!(count(&net), before);
}

#[test]
fn a_quiet_path_is_kept_with_few_pings() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(10), EVERY);
    let before = net.hosts[0].pings.len();
    net.run(Duration::from_secs(60), Some(Duration::from_secs(30)));
    assert!(net.is_direct(0));
    let pings = net.hosts[0].pings.len() - before;
    assert!((15..=30).contains(&pings), "{pings} pings in a minute");
}

#[test]
fn a_search_in_vain_slows_down() {
    let mut net = behind(Nat::Hard, Nat::Hard);
    net.run(Duration::from_secs(60), EVERY);
    let (pings, calls) = (net.hosts[0].pings.len(), net.hosts[0].calls.len());
    net.run(Duration::from_secs(600), EVERY);
    let pings = net.hosts[0].pings.len() - pings;
    let calls = net.hosts[0].calls.len() - calls;
    assert!((20..=28).contains(&calls), "{calls} calls in ten minutes");
    assert!(pings <= 450, "{pings} pings in ten minutes");
    assert_eq!(net.lost(0, Duration::ZERO, net.elapsed() - ms(100)), 0);
}

#[test]
fn a_path_that_opens_later_is_found_by_the_slow_rounds() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.direct_cut = [true; 2];
    net.run(Duration::from_secs(120), EVERY);
    assert!(net.is_relayed(0) && net.is_relayed(1));
    net.direct_cut = [false; 2];
    let found = net.time_to_direct(Duration::from_secs(40), ms(10)).unwrap();
    assert!(found <= Duration::from_secs(30), "{found:?}");
    assert_eq!(net.lost(0, Duration::ZERO, net.elapsed() - ms(100)), 0);
}

#[test]
fn a_lan_that_two_relayed_peers_come_to_share_is_used_at_once() {
    let mut net = Net::new([(A, Some(0)), (B, Some(1))], &[Nat::Hard, Nat::Hard]);
    net.run(Duration::from_secs(100), EVERY);
    assert!(net.is_relayed(0));
    net.moves(1, "192.168.1.11:41641", Some(0));
    net.publish(1);
    let found = net.time_to_direct(Duration::from_secs(5), ms(10)).unwrap();
    assert!(found <= Duration::from_secs(1), "{found:?}");
}

#[test]
fn neighbours_who_both_moved_find_each_other_by_multicast_alone() {
    for blocked in [false, true] {
        let mut net = one_lan();
        net.multicast_blocked = blocked;
        net.run(Duration::from_secs(10), EVERY);
        net.relay_cut = true;
        for host in &mut net.hosts {
            host.agent.set_relay(None, net.now);
        }
        // At the same moment: no ping finds the other where it was.
        net.hosts[1].addr = "192.168.1.111:41641".parse().unwrap();
        net.moves(0, "192.168.1.110:41641", Some(0));
        net.moves(1, "192.168.1.111:41641", Some(0));
        let moved = net.elapsed();
        net.run(Duration::from_secs(10), EVERY);
        for host in 0..2 {
            let found = net.direct_addr(host) == Some(net.hosts[1 - host].addr);
            assert_eq!(found, !blocked, "host {host}");
            if !blocked {
                let gap = net.longest_gap(host, moved);
                assert!(gap <= ms(500), "host {host}: nothing for {gap:?}");
            }
        }
    }
}

#[test]
fn a_path_on_our_own_network_asks_nobody_else_there() {
    let mut net = one_lan();
    net.multicast_blocked = false;
    net.run(Duration::from_secs(10), EVERY);
    let before = net.hosts[0].lan_pings.len();
    assert!(before <= 5, "{before}");
    net.run(Duration::from_secs(300), EVERY);
    assert_eq!(net.hosts[0].lan_pings.len(), before);

    let mut net = behind(Nat::Hard, Nat::Hard);
    net.run(Duration::from_secs(60), EVERY);
    let before = net.hosts[0].lan_pings.len();
    net.run(Duration::from_secs(600), EVERY);
    let slow = net.hosts[0].lan_pings.len() - before;
    assert!((20..=28).contains(&slow), "{slow} in ten minutes");
    net.run(Duration::from_secs(50), None);
    let idle = net.hosts[0].lan_pings.len();
    net.run(Duration::from_secs(600), None);
    assert_eq!(net.hosts[0].lan_pings.len(), idle);
}

#[test]
fn without_a_relay_the_direct_path_is_kept() {
    let mut net = public();
    net.relay_cut = true;
    for host in &mut net.hosts {
        host.agent.set_relay(None, net.now);
    }
    net.run(Duration::from_secs(2), EVERY);
    assert!(net.is_direct(0) && net.is_direct(1));
    net.direct_cut = [true; 2];
    net.run(Duration::from_secs(15), EVERY);
    for host in &net.hosts {
        let route = host.agent.route(net.now);
        assert!(route.direct.is_some() && route.relay.is_none(), "{route:?}");
    }
    net.direct_cut = [false; 2];
    net.run(Duration::from_secs(2), EVERY);
    assert_eq!(
        net.lost(0, net.elapsed() - ms(1_000), net.elapsed() - ms(100)),
        0
    );
}

#[test]
fn changes_are_told_once_each() {
    let mut net = behind(Nat::Cone, Nat::Cone);
    net.run(Duration::from_secs(20), EVERY);
    let told: Vec<Selected> = net.hosts[0]
        .changes
        .iter()
        .map(|(_, selected)| *selected)
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], Selected::Relay(RELAY));
    let Selected::Direct { latency, .. } = told[1] else {
        panic!("{told:?}")
    };
    assert!((ms(40)..ms(60)).contains(&latency), "{latency:?}");
}
