//! Two agents on a simulated network: routers with NAT, LANs, a relay, and virtual time.
//!
//! A host stands behind a router or has a public address. A router keeps one mapping per inner address
//! (*cone*) or per inner address and destination (*hard*), and lets in only what answers something that
//! was sent, from the same address and port: the strictest filter of RFC 4787.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ztna_disco::TxId;
use ztna_path::{Output, PathAgent, Selected, Via};
use ztna_proto::RegionId;
use ztna_proto::netmap::{Endpoint, EndpointKind};

pub const RELAY: RegionId = RegionId(1);
const LAN_DELAY: Duration = Duration::from_micros(300);
const WAN_DELAY: Duration = Duration::from_millis(20);
const RELAY_DELAY: Duration = Duration::from_millis(30);
/// More calls of one agent at one instant mean that it spins.
const MAX_CALLS_AT_ONCE: usize = 20;

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    Cone,
    Hard,
}

struct Router {
    public: Ipv4Addr,
    nat: Nat,
    hairpin: bool,
    /// Outer port by inner address, and destination if the NAT is hard.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    /// Outer ports, and who may send to them.
    open: BTreeSet<(u16, SocketAddr)>,
    next_port: u16,
}

impl Router {
    fn out(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (from, (self.nat == Nat::Hard).then_some(to));
        let port = match (self.mappings.get(&key), self.nat) {
            (Some(port), _) => *port,
            (None, Nat::Cone) if !self.is_taken(from.port()) => from.port(),
            (None, _) => {
                self.next_port += 1;
                self.next_port
            }
        };
        self.mappings.insert(key, port);
        self.open.insert((port, to));
        SocketAddr::new(self.public.into(), port)
    }

    fn is_taken(&self, port: u16) -> bool {
        self.mappings.values().any(|taken| *taken == port)
    }

    fn inner(&self, port: u16, from: SocketAddr) -> Option<SocketAddr> {
        if !self.open.contains(&(port, from)) {
            return None;
        }
        let mapping = self.mappings.iter().find(|(_, outer)| **outer == port)?;
        Some(mapping.0.0)
    }
}

#[derive(Clone, Debug)]
enum Body {
    Ping(TxId),
    Pong(TxId),
    Call(Vec<SocketAddr>),
    Data(u64),
}

struct Datagram {
    to: usize,
    via: Via,
    body: Body,
}

pub struct Host {
    pub agent: PathAgent,
    pub addr: SocketAddr,
    router: Option<usize>,
    pub udp_blocked: bool,
    pub pings: Vec<Instant>,
    pub lan_pings: Vec<Instant>,
    /// Probes of the path's size.
    pub probes: Vec<(Instant, u16)>,
    pub calls: Vec<Instant>,
    pub changes: Vec<(Instant, Selected)>,
    pub received: BTreeMap<u64, Instant>,
    pub sent: BTreeMap<u64, Instant>,
    handled: (Option<Instant>, usize),
}

pub struct Net {
    pub now: Instant,
    pub start: Instant,
    pub hosts: Vec<Host>,
    routers: Vec<Router>,
    flying: BTreeMap<(Instant, u64), Datagram>,
    serial: u64,
    /// Larger packets vanish on every direct path.
    pub path_mtu: u16,
    /// Larger packets are refused by the hosts themselves.
    pub own_mtu: u16,
    /// Direct packets from this host to the other vanish.
    pub direct_cut: [bool; 2],
    pub relay_cut: bool,
    /// Direct packets between private addresses that are lost before one passes.
    pub lan_losses: usize,
    /// The LAN carries no multicast, as many wireless ones do.
    pub multicast_blocked: bool,
}

impl Net {
    /// Two hosts at these addresses; private ones behind a router of that index.
    pub fn new(hosts: [(&str, Option<usize>); 2], routers: &[Nat]) -> Self {
        let start = Instant::now();
        let routers = routers.iter().zip(1..).map(|(nat, n)| Router {
            public: Ipv4Addr::new(203, 0, 113, n),
            nat: *nat,
            hairpin: true,
            mappings: BTreeMap::new(),
            open: BTreeSet::new(),
            next_port: 20_000 + u16::from(n) * 1_000,
        });
        let hosts = hosts.iter().zip(1..).map(|((addr, router), seed)| Host {
            agent: PathAgent::new(seed, start),
            addr: addr.parse().unwrap(),
            router: *router,
            udp_blocked: false,
            pings: Vec::new(),
            lan_pings: Vec::new(),
            probes: Vec::new(),
            calls: Vec::new(),
            changes: Vec::new(),
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
            handled: (None, 0),
        });
        let mut net = Self {
            now: start,
            start,
            routers: routers.collect(),
            hosts: hosts.collect(),
            flying: BTreeMap::new(),
            serial: 0,
            path_mtu: 1500,
            own_mtu: 9000,
            direct_cut: [false; 2],
            relay_cut: false,
            lan_losses: 0,
            multicast_blocked: true,
        };
        net.publish(0);
        net.publish(1);
        net
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// What a host reports: its own address, and what STUN tells it.
    pub fn endpoints(&mut self, host: usize) -> Vec<SocketAddr> {
        let (addr, router) = (self.hosts[host].addr, self.hosts[host].router);
        let mut endpoints = vec![addr];
        if let Some(router) = router
            && !self.hosts[host].udp_blocked
        {
            let stun: SocketAddr = "198.51.100.1:3478".parse().unwrap();
            endpoints.push(self.routers[router].out(addr, stun));
        }
        endpoints
    }

    /// The control plane tells the other host of this one's endpoints and home region.
    pub fn publish(&mut self, host: usize) {
        let endpoints: Vec<Endpoint> = self
            .endpoints(host)
            .iter()
            .zip([EndpointKind::Local, EndpointKind::Stun])
            .map(|(addr, kind)| Endpoint { addr: *addr, kind })
            .collect();
        let now = self.now;
        let other = &mut self.hosts[1 - host].agent;
        other.set_relay(Some(RELAY), now);
        other.set_candidates(&endpoints, now);
        self.drain(1 - host);
    }

    /// The host gets another address, and knows it.
    pub fn moves(&mut self, host: usize, addr: &str, router: Option<usize>) {
        self.hosts[host].addr = addr.parse().unwrap();
        self.hosts[host].router = router;
        let now = self.now;
        self.hosts[host].agent.network_changed(now);
        self.drain(host);
    }

    /// The host's process is a new one.
    pub fn restarts(&mut self, host: usize) {
        let now = self.now;
        self.hosts[host].agent = PathAgent::new(99, now);
        self.hosts[1 - host].agent.reset(now);
        self.drain(1 - host);
        self.publish(0);
        self.publish(1);
    }

    /// The router forgets its mappings, and makes other ones.
    pub fn rebinds(&mut self, router: usize) {
        let router = &mut self.routers[router];
        router.mappings.clear();
        router.open.clear();
        router.nat = Nat::Hard;
    }

    pub fn send(&mut self, host: usize) -> u64 {
        let now = self.now;
        self.serial += 1;
        let number = self.serial;
        self.hosts[host].sent.insert(number, now);
        self.hosts[host].agent.data_sent(now);
        self.drain(host);
        let route = self.hosts[host].agent.route(now);
        if let Some(to) = route.direct {
            self.post(host, Via::Direct(to), Body::Data(number));
        }
        if let Some(region) = route.relay {
            self.post(host, Via::Relay(region), Body::Data(number));
        }
        number
    }

    /// Lets time pass; both hosts send a packet every so often, if at all.
    pub fn run(&mut self, time: Duration, every: Option<Duration>) {
        let end = self.now + time;
        let mut tick = every.map(|_| self.now);
        loop {
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let timers = self
                .hosts
                .iter()
                .filter_map(|host| host.agent.poll_timeout());
            let next = timers
                .chain(arrival)
                .chain(tick)
                .min()
                .unwrap_or(end)
                .max(self.now);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            if arrival.is_some_and(|at| at <= next) {
                self.arrive();
                continue;
            }
            if let (Some(at), Some(every)) = (tick, every)
                && at <= next
            {
                tick = Some(at + every);
                self.send(0);
                self.send(1);
                continue;
            }
            for host in 0..2 {
                self.wake(host);
            }
        }
    }

    fn wake(&mut self, host: usize) {
        let now = self.now;
        let this = &mut self.hosts[host];
        if this.agent.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let calls = if this.handled.0 == Some(now) {
            this.handled.1 + 1
        } else {
            0
        };
        assert!(
            calls < MAX_CALLS_AT_ONCE,
            "host {host} spins at {:?}",
            self.now - self.start
        );
        this.handled = (Some(now), calls);
        this.agent.handle_timeout(now);
        self.drain(host);
    }

    fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].agent.poll_output() {
            let now = self.now;
            match output {
                Output::Ping { to, tx } => {
                    assert!(matches!(to, Via::Direct(_)), "pings go directly");
                    self.hosts[host].pings.push(now);
                    self.post(host, to, Body::Ping(tx));
                }
                Output::PingLan { tx } => self.post_on_lan(host, tx),
                Output::Probe { to, tx, size } => {
                    self.hosts[host].probes.push((now, size));
                    if size > self.own_mtu {
                        let payload = ztna_path::mtu::payload(size, &to);
                        self.hosts[host].agent.send_too_big(to, payload, now);
                    } else if size <= self.path_mtu {
                        self.post(host, Via::Direct(to), Body::Ping(tx));
                    }
                }
                Output::Pong { to, tx, .. } => self.post(host, to, Body::Pong(tx)),
                Output::CallMeMaybe => {
                    self.hosts[host].calls.push(now);
                    let endpoints = self.endpoints(host);
                    self.post(host, Via::Relay(RELAY), Body::Call(endpoints));
                }
                Output::Changed(selected) => self.hosts[host].changes.push((now, selected)),
            }
        }
    }

    fn post(&mut self, host: usize, via: Via, body: Body) {
        let (from, delay) = match via {
            Via::Relay(_) if self.relay_cut => return,
            Via::Relay(region) => (Via::Relay(region), RELAY_DELAY),
            Via::Direct(to) => match self.carry(host, to) {
                Some((from, delay)) => (Via::Direct(from), delay),
                None => return,
            },
        };
        self.serial += 1;
        let datagram = Datagram {
            to: 1 - host,
            via: from,
            body,
        };
        self.flying
            .insert((self.now + delay, self.serial), datagram);
    }

    /// A ping to the multicast group, which the other host gets if it is on the same LAN.
    fn post_on_lan(&mut self, host: usize, tx: TxId) {
        self.hosts[host].lan_pings.push(self.now);
        let other = self.hosts[1 - host].addr;
        let (mine, theirs) = (self.hosts[host].router, self.hosts[1 - host].router);
        if mine.is_some() && mine == theirs && !self.multicast_blocked {
            self.post(host, Via::Direct(other), Body::Ping(tx));
        }
    }

    /// The source that the other host sees, and the delay; `None` if the packet does not reach it.
    fn carry(&mut self, host: usize, to: SocketAddr) -> Option<(SocketAddr, Duration)> {
        let from = self.hosts[host].addr;
        let (mine, theirs) = (self.hosts[host].router, self.hosts[1 - host].router);
        let other = self.hosts[1 - host].addr;
        if self.direct_cut[host] || self.hosts[host].udp_blocked || self.hosts[1 - host].udp_blocked
        {
            return None;
        }
        if mine == theirs && to == other {
            if self.lan_losses > 0 {
                self.lan_losses -= 1;
                return None;
            }
            return Some((from, LAN_DELAY));
        }
        if is_private(to.ip()) {
            return None;
        }
        let seen = match mine {
            Some(router) => self.routers[router].out(from, to),
            None => from,
        };
        let Some(theirs) = theirs else {
            return (to == other).then_some((seen, WAN_DELAY));
        };
        let router = &self.routers[theirs];
        if to.ip() != IpAddr::V4(router.public) || router.inner(to.port(), seen)? != other {
            return None;
        }
        if mine == Some(theirs) {
            return router.hairpin.then_some((seen, LAN_DELAY / 2));
        }
        Some((seen, WAN_DELAY))
    }

    fn arrive(&mut self) {
        let Some((_, Datagram { to, via, body })) = self.flying.pop_first() else {
            return;
        };
        let now = self.now;
        let host = &mut self.hosts[to];
        match body {
            Body::Ping(tx) => host.agent.handle_ping(tx, via, now),
            Body::Pong(tx) => host.agent.handle_pong(tx, via, now),
            Body::Call(endpoints) => host.agent.handle_call_me_maybe(&endpoints, now),
            Body::Data(number) => {
                host.received.entry(number).or_insert(now);
                host.agent.data_received(via, now);
            }
        }
        self.drain(to);
    }

    /// Packets that the host sent in this part of the run and the other never got.
    pub fn lost(&self, host: usize, from: Duration, to: Duration) -> usize {
        let (from, to) = (self.start + from, self.start + to);
        let received = &self.hosts[1 - host].received;
        let sent = self.hosts[host].sent.iter();
        sent.filter(|(number, at)| **at >= from && **at < to && !received.contains_key(number))
            .count()
    }

    /// The longest time in which nothing that the host sent arrived.
    pub fn longest_gap(&self, host: usize, from: Duration) -> Duration {
        let mut arrivals: Vec<Instant> = self.hosts[1 - host].received.values().copied().collect();
        arrivals.retain(|at| *at >= self.start + from);
        arrivals.sort();
        arrivals.push(self.now);
        let before = std::iter::once(self.start + from).chain(arrivals.iter().copied());
        before
            .zip(&arrivals)
            .map(|(a, b)| *b - a)
            .max()
            .unwrap_or_default()
    }

    pub fn is_direct(&self, host: usize) -> bool {
        let route = self.hosts[host].agent.route(self.now);
        route.direct.is_some() && route.relay.is_none()
    }

    pub fn is_relayed(&self, host: usize) -> bool {
        let route = self.hosts[host].agent.route(self.now);
        route.direct.is_none() && route.relay == Some(RELAY)
    }

    pub fn direct_addr(&self, host: usize) -> Option<SocketAddr> {
        match self.hosts[host].agent.selected() {
            Selected::Direct { addr, .. } => Some(addr),
            _ => None,
        }
    }

    /// Runs with traffic until both hosts send directly alone, and tells how long it took.
    pub fn time_to_direct(&mut self, limit: Duration, every: Duration) -> Option<Duration> {
        let begun = self.now;
        while self.now - begun < limit {
            self.run(ms(5), Some(every));
            if self.is_direct(0) && self.is_direct(1) {
                return Some(self.now - begun);
            }
        }
        None
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(_) => false,
    }
}

/// The most events in any span of this length; they are in order.
pub fn most_in(span: Duration, events: &[Instant]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in events.iter().enumerate() {
        while *at - events[first] >= span {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}
