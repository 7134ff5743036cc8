//! Checks in a made-up network and virtual time.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ztna_netcheck::{
    Answer, FULL_EVERY, Netcheck, Output, PortMapping, Region, STUN_PHASE, TransactionId,
    WHOLE_CHECK,
};
use ztna_proto::RegionId;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn service(region: u32, node: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, region as u8, node], 3478))
}

fn service6(region: u32) -> SocketAddr {
    SocketAddr::new(format!("2001:db8::{region}").parse().unwrap(), 3478)
}

/// Regions of one node each, reached by both families.
fn regions(count: u32) -> Vec<Region> {
    (1..=count)
        .map(|id| Region {
            id: RegionId(id),
            relay: true,
            resolving: false,
            v4: vec![service(id, 1)],
            v6: vec![service6(id)],
        })
        .collect()
}

/// A machine with a network check, and the network around it.
struct World {
    now: Instant,
    netcheck: Netcheck,
    /// Round trip to each service; those that are not in it do not answer.
    latency: BTreeMap<SocketAddr, Duration>,
    /// Round trip by HTTPS.
    https: BTreeMap<RegionId, Duration>,
    portal: Option<bool>,
    /// Whether the NAT maps each destination apart.
    hard: bool,
    on_the_way: Vec<(Instant, SocketAddr, TransactionId)>,
    /// Everything that was asked for, with the time.
    asked: Vec<(Instant, Output)>,
    home: Option<RegionId>,
    moves: u32,
}

impl World {
    fn new(latencies: &[u64]) -> Self {
        let mut world = Self {
            now: Instant::now(),
            netcheck: Netcheck::new([7; 32]),
            latency: BTreeMap::new(),
            https: BTreeMap::new(),
            portal: None,
            hard: false,
            on_the_way: Vec::new(),
            asked: Vec::new(),
            home: None,
            moves: 0,
        };
        for (latency, id) in latencies.iter().zip(1..) {
            world.set_latency(id, *latency);
        }
        let count = u32::try_from(latencies.len()).unwrap();
        world.netcheck.set_regions(regions(count), true, world.now);
        world
    }

    fn set_latency(&mut self, region: u32, latency: u64) {
        self.latency.insert(service(region, 1), ms(latency));
    }

    fn kill(&mut self, region: u32) {
        self.latency.remove(&service(region, 1));
        self.https.remove(&RegionId(region));
    }

    fn seen_by(&self, to: SocketAddr) -> SocketAddr {
        let port = if self.hard {
            to.port() + u16::from(to.ip().to_string().as_bytes()[6])
        } else {
            1
        };
        let ip: IpAddr = match to {
            SocketAddr::V4(_) => [203, 0, 113, 9].into(),
            SocketAddr::V6(_) => "2001:db8:9::9".parse().unwrap(),
        };
        SocketAddr::new(ip, port)
    }

    /// Carries out what is wanted; says when the next thing happens.
    fn step(&mut self) {
        while let Some(output) = self.netcheck.poll_output() {
            self.asked.push((self.now, output.clone()));
            match output {
                Output::Stun { to, id } => {
                    if let Some(latency) = self.latency.get(&to) {
                        self.on_the_way.push((self.now + *latency, to, id));
                    }
                }
                Output::Https(region) => {
                    let answer = self.https.get(&region).map(|latency| Answer {
                        latency: *latency,
                        tls_group: Some("X25519MLKEM768".to_owned()),
                    });
                    self.netcheck.handle_https(region, answer, self.now);
                }
                Output::Portal => {
                    if self.portal.is_some() {
                        self.netcheck.handle_portal(self.portal, self.now);
                    }
                }
                Output::Measured | Output::Done { .. } => self.choose(),
            }
        }
    }

    fn choose(&mut self) {
        let fit: Vec<RegionId> = regions(9).into_iter().map(|region| region.id).collect();
        let ranked = self.netcheck.rank(self.home, None, &fit, self.now);
        let next = ranked.first().copied();
        self.moves += u32::from(self.home.is_some() && self.home != next);
        self.home = next;
        self.netcheck.set_home(next);
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.step();
            let arrival = self.on_the_way.iter().map(|(at, ..)| *at).min();
            let next = arrival
                .into_iter()
                .chain(self.netcheck.poll_timeout())
                .min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let (arrived, rest) = self.on_the_way.drain(..).partition(|(at, ..)| *at <= next);
            self.on_the_way = rest;
            let arrived: Vec<_> = arrived;
            for (_, from, id) in arrived {
                let seen = self.seen_by(from);
                self.netcheck.handle_stun(from, id, seen, self.now);
            }
            self.netcheck.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Runs until the check at hand is over; how long that took.
    fn finish(&mut self) -> Duration {
        let start = self.now;
        let done = self.count(|output| matches!(output, Output::Done { .. }));
        while self.count(|output| matches!(output, Output::Done { .. })) == done {
            assert!(self.now < start + WHOLE_CHECK + ms(100), "it does not end");
            self.run_for(ms(1));
        }
        self.now - start
    }

    fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.asked
            .iter()
            .filter(|(_, output)| wanted(output))
            .count()
    }

    fn requests_to(&self, region: u32) -> usize {
        let wanted = [service(region, 1), service6(region)];
        self.count(|output| matches!(output, Output::Stun { to, .. } if wanted.contains(to)))
    }
}

fn is_stun(output: &Output) -> bool {
    matches!(output, Output::Stun { .. })
}

#[test]
fn a_full_check_finds_addresses_mapping_and_distances() {
    let mut world = World::new(&[40, 10, 90]);
    world.portal = Some(false);
    world.finish();
    let report = world.netcheck.last().unwrap();
    assert!(report.udp && report.ipv4 && !report.ipv6);
    assert_eq!(report.global_v4, Some("203.0.113.9:1".parse().unwrap()));
    assert_eq!(report.global_v6, None);
    assert_eq!(report.mapping_varies, Some(false));
    assert_eq!(report.captive_portal, Some(false));
    assert_eq!(report.preferred, Some(RegionId(2)));
    let order: Vec<u32> = report
        .by_latency()
        .iter()
        .map(|(region, _)| region.0)
        .collect();
    assert_eq!(order, [2, 1, 3]);
    assert_eq!(report.regions[&RegionId(1)].v4, Some(ms(40)));
    assert_eq!(world.count(|output| matches!(output, Output::Https(_))), 0);
}

#[test]
fn both_families_are_measured_apart() {
    let mut world = World::new(&[40]);
    world.latency.insert(service6(1), ms(25));
    assert!(world.finish() < ms(4_000));
    let report = world.netcheck.last().unwrap();
    assert!(report.ipv4 && report.ipv6);
    let region = &report.regions[&RegionId(1)];
    assert_eq!((region.v4, region.v6), (Some(ms(40)), Some(ms(25))));
    assert_eq!(report.global_v6, Some("[2001:db8:9::9]:1".parse().unwrap()));
}

#[test]
fn a_hard_nat_shows_by_two_services_and_one_tells_nothing() {
    let mut world = World::new(&[10, 20]);
    world.hard = true;
    world.finish();
    assert_eq!(world.netcheck.last().unwrap().mapping_varies, Some(true));
    let mut alone = World::new(&[10]);
    alone.hard = true;
    alone.finish();
    assert_eq!(alone.netcheck.last().unwrap().mapping_varies, None);
}

#[test]
fn a_regions_second_node_tells_of_the_mapping() {
    let mut world = World::new(&[]);
    world.latency.insert(service(1, 1), ms(5));
    world.latency.insert(service(1, 2), ms(5));
    let mut region = regions(1).remove(0);
    region.v4 = vec![service(1, 1), service(1, 2)];
    region.v6.clear();
    world.netcheck.set_regions(vec![region], false, world.now);
    assert!(world.finish() < ms(300));
    assert_eq!(world.netcheck.last().unwrap().mapping_varies, Some(false));
}

#[test]
fn a_check_ends_soon_after_enough_regions_answered() {
    let mut world = World::new(&[10, 20, 30, 2_000]);
    world.portal = Some(false);
    let took = world.finish();
    assert!(took < ms(400), "{took:?}");
    let mut silent = World::new(&[10, 20]);
    silent.portal = Some(false);
    silent.kill(2);
    let took = silent.finish();
    assert!(took >= STUN_PHASE && took < STUN_PHASE + ms(50), "{took:?}");
}

#[test]
fn a_portal_check_that_hangs_delays_the_report_and_not_the_home() {
    let mut world = World::new(&[10, 20, 30]);
    world.run_for(ms(500));
    assert_eq!(world.home, Some(RegionId(1)));
    assert!(world.netcheck.last().is_none());
    world.run_for(ms(3_000));
    assert_eq!(world.netcheck.last().unwrap().captive_portal, None);
}

#[test]
fn without_udp_the_regions_are_measured_by_https() {
    let mut world = World::new(&[10, 20]);
    world.latency.clear();
    world.https = [(RegionId(1), ms(80)), (RegionId(2), ms(30))].into();
    world.portal = Some(true);
    assert!(world.finish() <= WHOLE_CHECK);
    let report = world.netcheck.last().unwrap().clone();
    assert!(!report.udp && report.captive_portal == Some(true));
    assert_eq!(report.preferred, Some(RegionId(2)));
    assert_eq!(world.home, Some(RegionId(2)));

    // Until the next full check, UDP is tried and HTTPS is not.
    let asked = world.count(|output| matches!(output, Output::Https(_)));
    world.run_for(ms(60_000));
    assert_eq!(
        world.count(|output| matches!(output, Output::Https(_))),
        asked
    );
    let later = world.netcheck.last().unwrap();
    assert_eq!(later.by_latency(), report.by_latency());
    assert_eq!(later.captive_portal, Some(true));
    world.run_for(FULL_EVERY);
    assert!(world.count(|output| matches!(output, Output::Https(_))) > asked);
}

#[test]
fn udp_that_stops_passing_has_the_regions_measured_by_https_at_once() {
    let mut world = World::new(&[10, 20]);
    world.https = [(RegionId(1), ms(80)), (RegionId(2), ms(30))].into();
    world.finish();
    world.latency.clear();
    world.run_for(ms(26_000 + 3_000 + 5_000));
    let report = world.netcheck.last().unwrap();
    assert!(!report.udp);
    assert_eq!(report.by_latency().len(), 2);
}

#[test]
fn checks_between_full_ones_ask_few_and_often() {
    let mut world = World::new(&[10, 20, 30, 40, 50]);
    world.portal = Some(false);
    world.finish();
    let first = world.asked.len();
    world.run_for(ms(120_000));
    let rounds = world.asked[first..]
        .iter()
        .filter(|(_, output)| matches!(output, Output::Done { .. }))
        .count();
    assert!((4..=6).contains(&rounds), "{rounds} in two minutes");
    let to = |region: u32| {
        let wanted = service(region, 1);
        let late = &world.asked[first..];
        late.iter()
            .filter(|(_, output)| matches!(output, Output::Stun { to, .. } if *to == wanted))
            .count()
    };
    assert_eq!((to(4), to(5)), (0, 0));
    assert_eq!(
        (to(1), to(3)),
        (rounds, rounds),
        "an answered try is not repeated"
    );
    // What was not asked is known all the same.
    assert_eq!(world.netcheck.last().unwrap().by_latency().len(), 5);
}

#[test]
fn a_dead_home_is_left_within_a_round() {
    let mut world = World::new(&[10, 200]);
    world.run_for(ms(60_000));
    assert_eq!(world.home, Some(RegionId(1)));
    world.kill(1);
    world.run_for(ms(26_000) + WHOLE_CHECK);
    assert_eq!((world.home, world.moves), (Some(RegionId(2)), 1));
    world.set_latency(1, 10);
    world.run_for(FULL_EVERY + ms(30_000));
    assert_eq!(
        world.home,
        Some(RegionId(1)),
        "and taken again when it is back"
    );
}

#[test]
fn one_lost_request_does_not_move_home() {
    let mut world = World::new(&[10, 12]);
    world.run_for(ms(10_000));
    for _ in 0..40 {
        // The first try of a round is lost.
        let asked = world.requests_to(1);
        world.kill(1);
        while world.requests_to(1) == asked {
            world.run_for(ms(1));
        }
        world.set_latency(1, 10);
        world.run_for(ms(5_000));
    }
    assert_eq!((world.home, world.moves), (Some(RegionId(1)), 0));
}

#[test]
fn a_persons_request_is_answered_by_a_thorough_check_that_asks_the_nearest_relay() {
    let mut world = World::new(&[10, 20]);
    world.https = [(RegionId(1), ms(80)), (RegionId(2), ms(30))].into();
    world.run_for(ms(10_000));
    let asked = world.asked.len();
    world.netcheck.request(world.now);
    world.netcheck.request(world.now);
    // A change of network on the way does not lose it.
    world.netcheck.network_changed(world.now);
    world.finish();
    let late: Vec<&Output> = world.asked[asked..]
        .iter()
        .map(|(_, output)| output)
        .collect();
    let https: Vec<_> = late
        .iter()
        .filter(|output| matches!(output, Output::Https(_)))
        .collect();
    assert_eq!(https, [&&Output::Https(RegionId(1))]);
    let done: Vec<_> = late
        .iter()
        .filter(|output| matches!(output, Output::Done { .. }))
        .collect();
    assert_eq!(done, [&&Output::Done { thorough: true }]);
    let region = &world.netcheck.last().unwrap().regions[&RegionId(1)];
    assert_eq!(region.tls_group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(region.latency(), Some(ms(10)), "UDP is what counts");
}

#[test]
fn names_that_are_looked_up_join_the_check_at_hand() {
    let mut world = World::new(&[]);
    world.latency.insert(service(1, 1), ms(10));
    let mut region = regions(1).remove(0);
    (region.v4, region.v6, region.resolving) = (Vec::new(), Vec::new(), true);
    world.netcheck.set_regions(vec![region], false, world.now);
    world.run_for(ms(700));
    assert!(world.netcheck.last().is_none(), "it waits for the name");
    assert!(world.netcheck.is_settled(world.now), "and a home does not");
    world
        .netcheck
        .add_services(RegionId(1), &[service(1, 1)], false, world.now);
    let took = world.finish();
    assert!(took < ms(500), "{took:?}");
    assert!(world.netcheck.last().unwrap().udp);
    assert_eq!(
        world.count(|output| matches!(output, Output::Done { .. })),
        1
    );
}

#[test]
fn answers_that_nobody_asked_for_count_for_nothing() {
    let mut world = World::new(&[]);
    world.netcheck.set_regions(regions(1), false, world.now);
    let mut id = None;
    while let Some(output) = world.netcheck.poll_output() {
        match output {
            Output::Stun { to, id: asked } if to == service(1, 1) => id = Some(asked),
            _ => {}
        }
    }
    let (id, seen) = (id.unwrap(), "203.0.113.9:1".parse().unwrap());
    let mut answer = |from, id| {
        world
            .netcheck
            .handle_stun(from, id, seen, world.now)
            .is_some()
    };
    assert!(!answer(service(9, 9), id), "another host answers");
    assert!(
        !answer(service(1, 1), TransactionId([0; 12])),
        "to another request"
    );
    assert!(answer(service(1, 1), id));
    assert!(!answer(service(1, 1), id), "twice");
}

#[test]
fn what_the_router_offers_is_in_the_report() {
    let mut world = World::new(&[10]);
    let offered = PortMapping {
        pcp: Some(true),
        mapped: Some("203.0.113.9:41641".parse().unwrap()),
        ..PortMapping::default()
    };
    world.netcheck.set_port_mapping(offered.clone());
    world.finish();
    assert_eq!(world.netcheck.last().unwrap().port_mapping, offered);
    world.netcheck.set_port_mapping(PortMapping::default());
    assert_eq!(
        world.netcheck.last().unwrap().port_mapping,
        PortMapping::default()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever answers and whatever does not: checks end in time and stay within their budget, and
    /// a machine has a home.
    #[test]
    fn any_network_is_measured_in_bounded_time_with_bounded_requests(
        latencies in proptest::collection::vec(proptest::option::of(0_u64..4_000), 1..12),
        https in proptest::collection::vec(proptest::option::of(0_u64..4_000), 12),
        portal in proptest::option::of(any::<bool>()),
        seconds in 30_u64..700,
    ) {
        let mut world = World::new(&vec![0; latencies.len()]);
        world.latency.clear();
        for ((latency, https), id) in latencies.iter().zip(https).zip(1..) {
            if let Some(latency) = latency {
                world.set_latency(id, *latency);
            }
            if let Some(https) = https {
                world.https.insert(RegionId(id), ms(https));
            }
        }
        world.portal = portal;
        world.finish();
        world.run_for(Duration::from_secs(seconds));
        prop_assert!(world.home.is_some());
        let full = 6 * latencies.len();
        let rounds = seconds as usize / 20 + 2;
        let sent = world.count(is_stun);
        prop_assert!(sent <= full * rounds, "{sent} requests in {seconds} s");
        let done = world.count(|output| matches!(output, Output::Done { .. }));
        prop_assert!(done >= seconds as usize / 32, "{done} checks in {seconds} s");
    }

    /// Round trips that change by less than a third leave home where it is.
    #[test]
    fn home_stays_while_latencies_flutter(
        flutter in proptest::collection::vec((0_u64..30, 0_u64..30, 0_u64..30), 20..40),
    ) {
        let mut world = World::new(&[100, 100, 100]);
        world.portal = Some(false);
        for (a, b, c) in flutter {
            for (id, extra) in [(1, a), (2, b), (3, c)] {
                world.set_latency(id, 100 + extra);
            }
            world.run_for(Duration::from_secs(23));
        }
        prop_assert_eq!(world.moves, 0);
    }
}
