//! Datagrams and relayed packets on their way.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use rand::RngExt;
use ztna_path::mtu::packet_size;
use ztna_proto::WgPublicKey;

use super::{Event, Payload, World};
use crate::machine::{Connection, PORT, Pause, Waiting};
use crate::model::Place;
use crate::scenario::Weather;
use crate::topology::{Hop, INTERNET, Occupant};

/// One-way delay within a site.
const LAN_DELAY: Duration = Duration::from_micros(300);
/// Datagrams that the system keeps for a process that does not run.
const SOCKET_BUFFER: usize = 128;
/// Packets that wait for a connection to a relay.
const MAX_WAITING: usize = 128;
/// Old datagrams that somebody keeps of each machine.
const MAX_OVERHEARD: usize = 64;
/// Round trips until a connection to a relay stands.
const RELAY_ROUND_TRIPS: u32 = 3;

impl World {
    /// Finds addresses for a machine at a site, and puts it there.
    pub(super) fn settle_at(&mut self, machine: usize, site: usize) -> Place {
        let network = self.sites[site].0;
        let description = &self.scenario.sites[site];
        let (has_v4, has_v6) = (description.has_v4, description.v6.is_some());
        let occupant = Occupant::Machine(machine);
        let v4 = has_v4.then(|| {
            let addr = self.v4_at(site);
            self.topology.place(network, addr, occupant);
            SocketAddr::new(addr, PORT)
        });
        let v6 = has_v6.then(|| {
            let addr = self.topology.public_v6();
            self.topology.place_v6(network, addr, occupant);
            SocketAddr::new(addr, PORT)
        });
        Place {
            machine,
            network,
            v4,
            v6,
        }
    }

    /// A free address of IPv4 at a site.
    fn v4_at(&mut self, site: usize) -> IpAddr {
        if self.sites[site].0 == INTERNET {
            return self.topology.public_address();
        }
        let subnet = self.scenario.sites[site].subnet;
        let taken = |addr: IpAddr| {
            let mut here = self.machines.iter().filter(|m| m.site == site);
            here.any(|machine| machine.place.v4.is_some_and(|own| own.ip() == addr))
        };
        let mut addrs = (2..=u8::MAX).map(|last| IpAddr::from([192, 168, subnet, last]));
        addrs
            .find(|addr| !taken(*addr))
            .unwrap_or_else(|| [192, 168, subnet, 2].into())
    }

    /// How far a site is from the middle of the internet, and from another site.
    pub(super) fn distance(&self, site: usize) -> Duration {
        self.scenario.sites[site].distance
    }

    fn weather(&self, site: usize) -> Weather {
        if self.is_quiet {
            let jitter = self.scenario.sites[site].weather.jitter;
            return Weather {
                loss: 0.0,
                duplication: 0.01,
                jitter,
            };
        }
        self.scenario.sites[site].weather
    }

    /// The site of whoever answers in this hop's network, as far as its delay matters.
    fn site_at(&self, hop: &Hop) -> Option<usize> {
        // An address of IPv6 is only one machine's, wherever the datagram is.
        let is_here = |place: &Place| hop.to.is_ipv6() || place.network == hop.network;
        let has = |place: &Place| place.addrs().any(|own| own.ip() == hop.to.ip());
        let by_machine = self
            .machines
            .iter()
            .find(|m| is_here(&m.place) && has(&m.place))
            .map(|m| m.site);
        by_machine.or_else(|| {
            let outer = |nat: &Option<usize>| {
                nat.is_some_and(|nat| self.topology.is_outer(nat, hop.network, hop.to.ip()))
            };
            self.sites.iter().position(|(_, nat)| outer(nat))
        })
    }

    pub(super) fn send_datagram(&mut self, machine: usize, to: SocketAddr, payload: Payload) {
        if self.trace.has_datagrams() {
            let what = describe(&payload);
            self.note(machine, format_args!("→ {to} {what}"));
        }
        let (site, place) = (self.machines[machine].site, self.machines[machine].place);
        let Some(from) = place.source_to(to) else {
            return;
        };
        let hop = Hop {
            network: place.network,
            from,
            to,
        };
        let Some(hop) = self.topology.leave(hop, self.now) else {
            return;
        };
        self.launch(site, hop, payload);
    }

    /// Sends a datagram through the network where its destination is.
    pub(super) fn launch(&mut self, site: usize, hop: Hop, payload: Payload) {
        let target = self.site_at(&hop);
        if target == Some(site) || hop.network == self.sites[site].0 && hop.network != INTERNET {
            return self.after(LAN_DELAY, Event::Datagram(site, hop, payload));
        }
        let (distance, far_mtu) = match target {
            Some(target) => (self.distance(target), self.scenario.sites[target].mtu),
            None => (Duration::ZERO, u16::MAX),
        };
        let carries = self.scenario.sites[site].mtu.min(far_mtu);
        if let Payload::Mesh(datagram) = &payload
            && packet_size(datagram.len(), &hop.to) > carries
        {
            self.too_large += 1;
            return;
        }
        let weather = self.weather(site);
        if self.rng.random_bool(weather.loss) {
            return;
        }
        let base = self.distance(site) + distance;
        let copies = 1 + usize::from(self.rng.random_bool(weather.duplication));
        for _ in 0..copies {
            let late = self.rng.random_range(Duration::ZERO..=weather.jitter);
            let copy = match &payload {
                Payload::Mesh(datagram) => Payload::Mesh(datagram.clone()),
                Payload::Fragments(datagram) => Payload::Fragments(datagram.clone()),
                Payload::StunRequest => Payload::StunRequest,
                Payload::StunResponse(region, seen) => Payload::StunResponse(*region, *seen),
            };
            self.after(base + late, Event::Datagram(site, hop, copy));
        }
    }

    /// Whether UDP passes from one site to another.
    fn is_open(&self, from: usize, to: usize) -> bool {
        let is_shut = |site| self.cut.contains(&site) || self.udp_blocked.contains(&site);
        let pair = (from.min(to), from.max(to));
        from == to || !(is_shut(from) || is_shut(to) || self.pair_cut.contains(&pair))
    }

    pub(super) fn datagram_arrives(&mut self, from: usize, hop: Hop, payload: Payload) {
        let Some((occupant, hop)) = self.topology.enter(hop, self.now) else {
            return;
        };
        match occupant {
            Occupant::Stun(region) => {
                let is_shut = self.cut.contains(&from) || self.udp_blocked.contains(&from);
                if is_shut || self.regions[region].is_down {
                    return;
                }
                let answer = Hop {
                    network: hop.network,
                    from: hop.to,
                    to: hop.from,
                };
                let delay = self.regions[region].distance + self.distance(from);
                let answer_is = Payload::StunResponse(region, hop.from);
                self.after(delay, Event::Datagram(from, answer, answer_is));
            }
            Occupant::Machine(machine) => {
                if self.machines[machine].place.has(hop.to)
                    && self.is_open(from, self.machines[machine].site)
                {
                    self.datagram_for(machine, hop.from, payload);
                }
            }
            Occupant::Nat(_) | Occupant::Firewall(_) => {}
        }
    }

    fn datagram_for(&mut self, machine: usize, from: SocketAddr, payload: Payload) {
        let datagram = match payload {
            Payload::Mesh(datagram) | Payload::Fragments(datagram) => datagram,
            Payload::StunResponse(region, seen) => {
                if self.machines[machine].pause.is_none() {
                    self.machines[machine].seen_by(region, seen, self.now);
                    self.report(machine);
                }
                return;
            }
            Payload::StunRequest => return,
        };
        let overheard = &mut self.machines[machine].overheard;
        overheard.push_back((from, datagram.clone()));
        if overheard.len() > MAX_OVERHEARD {
            overheard.pop_front();
        }
        if self.hold(machine, Waiting::Udp(from, datagram.clone())) {
            return;
        }
        self.take(machine, Waiting::Udp(from, datagram));
    }

    /// Keeps what comes for a machine that does not run. `false`: it runs.
    fn hold(&mut self, machine: usize, waiting: Waiting) -> bool {
        let machine = &mut self.machines[machine];
        match machine.pause {
            None => false,
            Some(Pause::Asleep(_)) => true,
            Some(Pause::Stopped) => {
                let is_stream = matches!(waiting, Waiting::Control(..));
                if is_stream || machine.inbox.len() < SOCKET_BUFFER {
                    machine.inbox.push_back(waiting);
                }
                true
            }
        }
    }

    /// Gives a machine what has come for it.
    pub(super) fn take(&mut self, machine: usize, waiting: Waiting) {
        let now = self.machines[machine].instant(self.now);
        match waiting {
            Waiting::Udp(from, datagram) => {
                self.machines[machine].mesh.handle_udp(from, datagram, now);
            }
            Waiting::Relay(region, from, packet) => {
                let region = crate::control::region_id(region);
                self.machines[machine]
                    .mesh
                    .handle_relay(region, from, packet, now);
            }
            Waiting::Control(generation, text) => {
                return self.message_from_control(machine, generation, &text);
            }
        }
        self.carry_out(machine);
    }

    /// Whether the machine's site reaches this region's relay.
    pub(super) fn reaches_relay(&self, machine: usize, region: usize) -> bool {
        !self.regions[region].is_down && !self.cut.contains(&self.machines[machine].site)
    }

    /// Whether a region's relay takes what the machine sends.
    pub(super) fn has_relay(&self, machine: usize, region: usize) -> bool {
        let connection = self.machines[machine].connections.get(&region);
        connection.is_some_and(|connection| connection.is_up) && self.reaches_relay(machine, region)
    }

    pub(super) fn relay_delay(&self, machine: usize, region: usize) -> Duration {
        self.distance(self.machines[machine].site) + self.regions[region].distance
    }

    /// Begins a connection to a region's relay, unless there is one.
    pub(super) fn connect_relay(&mut self, machine: usize, region: usize) {
        if self.machines[machine].connections.contains_key(&region) {
            return;
        }
        self.generations += 1;
        let generation = self.generations;
        let connection = Connection {
            generation,
            is_up: false,
            queue: VecDeque::new(),
            used: self.now,
            silent_since: None,
        };
        self.machines[machine]
            .connections
            .insert(region, connection);
        let delay = self.relay_delay(machine, region) * 2 * RELAY_ROUND_TRIPS;
        self.after(delay, Event::RelayUp(machine, region, generation));
    }

    pub(super) fn relay_up(&mut self, machine: usize, region: usize, generation: u64) {
        let is_reached = self.reaches_relay(machine, region);
        let connections = &mut self.machines[machine].connections;
        let Some(connection) = connections
            .get_mut(&region)
            .filter(|connection| connection.generation == generation)
        else {
            return;
        };
        if !is_reached {
            connections.remove(&region);
            return;
        }
        connection.is_up = true;
        let queue = std::mem::take(&mut connection.queue);
        for (peer, packet) in queue {
            self.send_by_relay(machine, region, peer, packet);
        }
    }

    pub(super) fn send_by_relay(
        &mut self,
        machine: usize,
        region: usize,
        to: WgPublicKey,
        packet: BytesMut,
    ) {
        self.connect_relay(machine, region);
        if self.trace.has_datagrams() {
            let what = describe_bytes(&packet);
            let id = crate::control::region_id(region);
            self.note(machine, format_args!("→ relay {id} {what}"));
        }
        let now = self.now;
        let from = self.machines[machine].key();
        let Some(connection) = self.machines[machine].connections.get_mut(&region) else {
            return;
        };
        connection.used = now;
        if !connection.is_up {
            if connection.queue.len() < MAX_WAITING {
                connection.queue.push_back((to, packet));
            }
            return;
        }
        if self.reaches_relay(machine, region) {
            let delay = self.relay_delay(machine, region);
            self.after(delay, Event::ToRelay(region, from, to, packet));
        }
    }

    pub(super) fn relay(
        &mut self,
        region: usize,
        from: WgPublicKey,
        to: WgPublicKey,
        packet: BytesMut,
    ) {
        let receiver = self.machines.iter().find_map(|machine| {
            let connection = machine.connections.get(&region)?;
            let is_it = machine.key() == to && connection.is_up;
            is_it.then_some((machine.number, connection.generation))
        });
        let Some((machine, generation)) = receiver else {
            return;
        };
        if self.reaches_relay(machine, region) {
            let delay = self.relay_delay(machine, region);
            self.after(
                delay,
                Event::FromRelay(machine, region, generation, from, packet),
            );
        }
    }

    pub(super) fn packet_from_relay(
        &mut self,
        machine: usize,
        region: usize,
        generation: u64,
        from: WgPublicKey,
        packet: BytesMut,
    ) {
        let now = self.now;
        let connection = self.machines[machine].connections.get_mut(&region);
        let Some(connection) = connection.filter(|c| c.generation == generation) else {
            return;
        };
        connection.used = now;
        if self.hold(machine, Waiting::Relay(region, from, packet.clone())) {
            return;
        }
        self.take(machine, Waiting::Relay(region, from, packet));
    }
}

fn describe(payload: &Payload) -> String {
    match payload {
        Payload::Mesh(datagram) => describe_bytes(datagram),
        Payload::Fragments(datagram) => format!("{}, in fragments", describe_bytes(datagram)),
        Payload::StunRequest => "STUN request".to_owned(),
        Payload::StunResponse(region, seen) => format!("STUN {region}: {seen}"),
    }
}

/// Kind, length and a fingerprint.
fn describe_bytes(datagram: &[u8]) -> String {
    let kind = ztna_mesh::demux::classify(datagram);
    let sum = datagram
        .iter()
        .fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    format!("{kind:?} {} B {sum:08x}", datagram.len())
}
