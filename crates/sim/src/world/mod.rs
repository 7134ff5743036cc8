//! A run: all machines, the network between them, and one clock.

mod agent;
mod check;
mod faults;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use ztna_mesh::{Event as MeshEvent, Output, SourceFilter};
use ztna_path::Selected;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::ClientMessage;
use ztna_proto::{RegionId, WgPublicKey};

use crate::control::Control;
use crate::ledger::{Ledger, TooBig, payload};
use crate::machine::Machine;
use crate::scenario::{PROOF, SETTLE, Scenario, Stream, pairs};
use crate::topology::{Hop, INTERNET, Occupant, Topology};
use crate::trace::Trace;

/// Turns that a machine may want at one instant before it counts as spinning.
const MAX_TURNS: u32 = 1_000;
/// Pause between two looks of an agent at its surroundings.
const TICK: Duration = Duration::from_millis(500);
/// Pause between two packets of the proof.
const PROOF_PERIOD: Duration = Duration::from_millis(500);
/// The control plane tells each machine this often where its map should stand.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Pause between two looks at how far the paths have settled.
const SAMPLE: Duration = Duration::from_secs(1);
/// Longest payload of the traffic: more than some paths carry.
const MAX_PAYLOAD: usize = 1_420;
/// UDP port of the STUN services.
const STUN_PORT: u16 = 3478;

/// What a datagram carries.
enum Payload {
    Mesh(BytesMut),
    /// One that is larger than its path, in fragments of IP.
    Fragments(BytesMut),
    /// Where does this come from?
    StunRequest,
    /// From there, says the service of a region.
    StunResponse(usize, SocketAddr),
}

enum Event {
    /// A datagram comes to the network of its destination, from a site.
    Datagram(usize, Hop, Payload),
    /// A packet comes to a region's relay.
    ToRelay(usize, WgPublicKey, WgPublicKey, BytesMut),
    /// A packet comes from a region's relay, over the connection of this generation.
    FromRelay(usize, usize, u64, WgPublicKey, BytesMut),
    /// A machine's connection to a region stands.
    RelayUp(usize, usize, u64),
    /// A machine's stream stands.
    StreamUp(usize, u64),
    /// A message to a machine, over the stream of this generation.
    FromControl(usize, u64, String),
    /// A message of a machine.
    ToControl(usize, u64, ClientMessage),
    KemKey(usize, KemPublicKey),
    KeepAlive,
    /// A machine's agent looks around.
    Look(usize),
    /// The next packet of a stream.
    Packet(Stream),
    /// The next fault of the scenario.
    Fault(usize),
    /// Everything is mended.
    Quiet,
    /// How far has it settled?
    Sample,
    /// From now on everything has to work.
    Proof,
}

/// A relay region with its STUN service.
struct Region {
    is_down: bool,
    /// Its STUN service, by IPv4 and by IPv6.
    stun: [SocketAddr; 2],
    distance: Duration,
}

/// A running simulation.
pub struct World {
    scenario: Scenario,
    origin: Instant,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    rng: StdRng,
    topology: Topology,
    /// Network and NAT of each site.
    sites: Vec<(usize, Option<usize>)>,
    machines: Vec<Machine>,
    regions: Vec<Region>,
    control: Control,
    ledger: Ledger,
    trace: Trace,
    violations: Vec<String>,
    /// Sites without a connection, sites without UDP, pairs of sites that do not reach each other.
    cut: BTreeSet<usize>,
    udp_blocked: BTreeSet<usize>,
    pair_cut: BTreeSet<(usize, usize)>,
    is_quiet: bool,
    /// Pairs of which the policy ever let the first open connections to the second.
    ever_allowed: BTreeSet<(usize, usize)>,
    /// When the last message of each stream of the control plane arrives: it keeps their order.
    control_busy: BTreeMap<(usize, bool), Duration>,
    generations: u64,
    turns: (Duration, u32),
    /// Datagrams that a link was too small for.
    too_large: usize,
    /// What senders were told that packets to another machine may have, in bytes.
    limits: BTreeMap<(usize, usize), usize>,
    /// Packets of data that went by relay since the proof began, by sender and receiver.
    relayed: BTreeMap<(usize, usize), u64>,
    /// Whether each pair has to become direct, from when everything is mended.
    expected: BTreeMap<(usize, usize), bool>,
    /// How long after that some pair still went another way.
    settled: Duration,
}

/// What came of a run.
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What should not have happened. Empty: the run is clean.
    pub violations: Vec<String>,
    /// The timeline.
    pub timeline: String,
    /// Packets that were sent and that arrived, faults included.
    pub packets: (usize, usize),
    /// Ordered pairs that had to be direct, and that had to be relayed.
    pub paths: (usize, usize),
    /// Of those that are direct, how many by IPv6.
    pub paths_v6: usize,
    /// Datagrams that were lost because a link on their way was too small for them.
    pub too_large: usize,
    /// Packets whose senders were told that they are too large.
    pub refused: usize,
    /// How long after the last fault some pair still went another way than it should, looked at each
    /// second.
    pub settled: Duration,
    /// How long after the last fault a packet was sent that never arrived.
    pub recovered: Duration,
    /// Virtual time that it took.
    pub span: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        f.write_str(&self.timeline)?;
        for violation in &self.violations {
            writeln!(f, "seed {}: {violation}", self.seed)?;
        }
        Ok(())
    }
}

/// Runs a scenario to its end, or to the first thing that should not have happened.
#[must_use]
pub fn run(scenario: Scenario, trace: Trace) -> Outcome {
    let mut world = World::new(scenario, trace);
    world.run();
    world.outcome()
}

impl World {
    fn new(scenario: Scenario, trace: Trace) -> Self {
        let mut rng = StdRng::seed_from_u64(scenario.seed ^ 0x5eed);
        let origin = Instant::now();
        let mut topology = Topology::default();
        let regions = scenario
            .regions
            .iter()
            .enumerate()
            .map(|(number, distance)| {
                let stun = [topology.public_address(), topology.public_v6()].map(|addr| {
                    topology.place(INTERNET, addr, Occupant::Stun(number));
                    SocketAddr::new(addr, STUN_PORT)
                });
                Region {
                    is_down: false,
                    stun,
                    distance: *distance,
                }
            });
        let regions: Vec<Region> = regions.collect();
        let sites = lay_out(&scenario, &mut topology, &mut rng);
        let control = Control::new(regions.len(), scenario.allowed.clone());
        let mut world = Self {
            origin,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            next_event: 0,
            topology,
            sites,
            machines: Vec::new(),
            regions,
            control,
            ledger: Ledger::default(),
            trace,
            violations: Vec::new(),
            cut: BTreeSet::new(),
            udp_blocked: BTreeSet::new(),
            pair_cut: BTreeSet::new(),
            is_quiet: false,
            ever_allowed: scenario.allowed.clone(),
            control_busy: BTreeMap::new(),
            generations: 0,
            turns: (Duration::ZERO, 0),
            too_large: 0,
            limits: BTreeMap::new(),
            relayed: BTreeMap::new(),
            expected: BTreeMap::new(),
            settled: Duration::ZERO,
            rng,
            scenario,
        };
        world.add_machines();
        world.plan();
        world
    }

    fn add_machines(&mut self) {
        for (number, site) in self.scenario.machines.clone().into_iter().enumerate() {
            let place = self.settle_at(number, site);
            let seed = self.rng.next_u64();
            let source_filter = if self.scenario.unfiltered.contains(&number) {
                SourceFilter::Off
            } else {
                SourceFilter::On
            };
            let machine = Machine::new(site, place, source_filter, self.origin, seed);
            self.control
                .add(machine.id, machine.key(), machine.kem_key());
            self.machines.push(machine);
            let at = self.rng.random_range(Duration::ZERO..TICK);
            self.at(at, Event::Look(number));
        }
    }

    fn plan(&mut self) {
        for stream in self.scenario.streams.clone() {
            self.at(stream.start, Event::Packet(stream));
        }
        for number in 0..self.scenario.faults.len() {
            self.at(self.scenario.faults[number].0, Event::Fault(number));
        }
        self.at(KEEP_ALIVE, Event::KeepAlive);
        self.at(self.scenario.quiet_at, Event::Quiet);
        self.at(self.scenario.quiet_at + SETTLE, Event::Proof);
        let end = self.scenario.quiet_at + SETTLE + PROOF;
        for (from, to) in pairs(self.machines.len()) {
            let spread = self.rng.random_range(Duration::ZERO..PROOF_PERIOD);
            let start = self.scenario.quiet_at + spread;
            let stream = Stream {
                from,
                to,
                period: PROOF_PERIOD,
                start,
                end,
            };
            self.at(start, Event::Packet(stream));
        }
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn note(&mut self, machine: usize, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, format_args!("m{machine}"), what);
    }

    fn violate(&mut self, what: String) {
        self.trace.note(self.now, "!", format_args!("{what}"));
        self.violations.push(what);
    }

    fn run(&mut self) {
        let end = self.scenario.end();
        while self.violations.is_empty() {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timer = self
                .machines
                .iter()
                .filter_map(|machine| Some((machine.timer()?, machine.number)))
                .min();
            let next = event.min(timer.map(|(at, _)| at).or(event)).or(event);
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            match timer.filter(|(at, _)| event.is_none_or(|event| *at <= event)) {
                Some((_, machine)) => self.turn(machine),
                None => {
                    if let Some((_, event)) = self.events.pop_first() {
                        self.handle(event);
                    }
                }
            }
        }
        self.check_the_end();
    }

    /// A machine's timer is due.
    fn turn(&mut self, machine: usize) {
        self.turns = match self.turns {
            (at, turns) if at == self.now => (at, turns + 1),
            _ => (self.now, 0),
        };
        if self.turns.1 > MAX_TURNS {
            return self.violate(format!("m{machine} spins: its timer stays due"));
        }
        let now = self.machines[machine].instant(self.now);
        self.machines[machine].mesh.handle_timeout(now);
        self.carry_out(machine);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Datagram(from, hop, payload) => self.datagram_arrives(from, hop, payload),
            Event::ToRelay(region, from, to, packet) => self.relay(region, from, to, packet),
            Event::FromRelay(machine, region, generation, from, packet) => {
                self.packet_from_relay(machine, region, generation, from, packet);
            }
            Event::RelayUp(machine, region, generation) => {
                self.relay_up(machine, region, generation);
            }
            Event::StreamUp(machine, generation) => self.stream_up(machine, generation),
            Event::FromControl(machine, generation, text) => {
                self.message_from_control(machine, generation, &text);
            }
            Event::ToControl(machine, generation, message) => {
                if self.control.stream(machine) == Some(generation) {
                    let outbox = self.control.handle(machine, message);
                    self.tell(outbox);
                }
            }
            Event::KemKey(machine, key) => {
                let now = self.machines[machine].instant(self.now);
                let hash = ztna_proto::KemKeyHash::of(&key);
                if self.machines[machine].wanted.remove(&hash) {
                    self.machines[machine].mesh.provide_kem_key(&key, now);
                    self.carry_out(machine);
                }
            }
            Event::KeepAlive => {
                for machine in 0..self.machines.len() {
                    let outbox = self.control.keep_alive(machine);
                    self.tell(outbox);
                }
                self.after(KEEP_ALIVE, Event::KeepAlive);
            }
            Event::Look(machine) => {
                self.look(machine);
                self.after(TICK, Event::Look(machine));
            }
            Event::Packet(stream) => self.send_packet(stream),
            Event::Fault(number) => {
                let (_, fault) = self.scenario.faults[number];
                self.strike(fault);
            }
            Event::Quiet => {
                self.calm_down();
                self.expect_paths();
                self.after(SAMPLE, Event::Sample);
            }
            Event::Sample => {
                self.sample();
                self.after(SAMPLE, Event::Sample);
            }
            Event::Proof => self.check_paths(),
        }
    }

    fn send_packet(&mut self, stream: Stream) {
        if self.now >= stream.end {
            return;
        }
        self.after(stream.period, Event::Packet(stream));
        if self.machines[stream.from].pause.is_some() {
            return;
        }
        let told = self.limits.get(&(stream.from, stream.to)).copied();
        let most = told.map_or(MAX_PAYLOAD, |limit| payload(limit).min(MAX_PAYLOAD));
        let length = self.rng.random_range(8..=most);
        let packet = self.ledger.send(stream.from, stream.to, length, self.now);
        let now = self.machines[stream.from].instant(self.now);
        self.machines[stream.from].mesh.handle_tun(packet, now);
        self.carry_out(stream.from);
    }

    /// Does what a machine's mesh wants done.
    fn carry_out(&mut self, machine: usize) {
        while let Some(output) = self.machines[machine].mesh.poll_output() {
            match output {
                Output::Udp { to, peer, datagram } => {
                    if self.machines[machine].place.source_to(to).is_some() {
                        self.send_datagram(machine, to, Payload::Mesh(datagram));
                    } else if let Some(peer) = peer {
                        let now = self.machines[machine].instant(self.now);
                        self.machines[machine].mesh.send_failed(peer, to, now);
                    }
                }
                Output::Oversize {
                    to,
                    relay,
                    datagram,
                } => self.send_oversize(machine, to, relay, datagram),
                Output::Relay {
                    region,
                    peer,
                    datagram,
                } => {
                    if let Some(region) = self.region(region) {
                        self.count_relayed(machine, region, &peer, &datagram);
                        self.send_by_relay(machine, region, peer, datagram);
                    }
                }
                // The network in memory has no multicast.
                Output::Lan(_) => {}
                Output::Tun(packet) => self.deliver(machine, &packet),
                Output::NeedKemKey(hash) => {
                    self.machines[machine].wanted.insert(hash);
                    self.fetch_key(machine, hash);
                }
                Output::Event(event) => self.note_event(machine, &event),
            }
        }
    }

    fn region(&self, id: RegionId) -> Option<usize> {
        let region = (id.0 as usize).checked_sub(1);
        region.filter(|region| *region < self.regions.len())
    }

    fn count_relayed(&mut self, from: usize, region: usize, to: &WgPublicKey, datagram: &[u8]) {
        let receiver = self.machines.iter().find(|other| other.key() == *to);
        let Some(receiver) = receiver.filter(|_| datagram.first() == Some(&4)) else {
            return;
        };
        if self.has_relay(from, region) {
            *self.relayed.entry((from, receiver.number)).or_default() += 1;
        }
    }

    /// What the direct path does not carry whole goes by relay, or in fragments where none is connected.
    fn send_oversize(
        &mut self,
        machine: usize,
        to: SocketAddr,
        relay: Option<(RegionId, WgPublicKey)>,
        datagram: BytesMut,
    ) {
        let relay = relay.and_then(|(id, peer)| Some((self.region(id)?, peer)));
        if let Some((region, peer)) = relay {
            let stands = self.has_relay(machine, region);
            self.send_by_relay(machine, region, peer, datagram.clone());
            if stands {
                return;
            }
        }
        self.send_datagram(machine, to, Payload::Fragments(datagram));
    }

    /// The mesh tells a sender on this machine that its packet is too large.
    fn told_too_big(&mut self, machine: usize, told: &TooBig) {
        let (to, limit) = (told.to, told.limit);
        self.limits.insert((machine, to), limit);
        if self.trace.has_datagrams() {
            self.note(machine, format_args!("packets to m{to}: {limit} B at most"));
        }
    }

    fn deliver(&mut self, machine: usize, packet: &[u8]) {
        match self.ledger.too_big(machine, packet) {
            Ok(Some(told)) => return self.told_too_big(machine, &told),
            Ok(None) => {}
            Err(violation) => return self.violate(violation),
        }
        let delivery = match self.ledger.deliver(machine, packet, self.now) {
            Ok(delivery) => delivery,
            Err(violation) => return self.violate(violation),
        };
        let from = delivery.from;
        if !self.ever_allowed.contains(&(from, machine)) {
            return self.violate(format!(
                "m{machine} got a packet of m{from}, which the policy never allowed"
            ));
        }
        if self.trace.has_datagrams() {
            let delay = delivery.delay;
            self.note(machine, format_args!("packet of m{from} after {delay:?}"));
        }
    }

    fn note_event(&mut self, machine: usize, event: &MeshEvent) {
        let name = |id| {
            let number = self.machines.iter().position(|machine| machine.id == id);
            number.map_or_else(|| "?".to_owned(), |number| format!("m{number}"))
        };
        let text = match event {
            MeshEvent::Path { peer, selected } => {
                let way = match selected {
                    Selected::None => "none".to_owned(),
                    Selected::Relay(region) => format!("relay {region}"),
                    Selected::Direct { addr, latency } => format!("direct {addr} ({latency:?})"),
                };
                format!("path to {}: {way}", name(*peer))
            }
            MeshEvent::Psk { peer, epoch } => format!("key with {}: epoch {epoch}", name(*peer)),
            MeshEvent::PskExpired { peer } => format!("key with {}: gone", name(*peer)),
        };
        self.note(machine, format_args!("{text}"));
    }
}

/// Makes networks and NATs of a scenario's sites.
fn lay_out(
    scenario: &Scenario,
    topology: &mut Topology,
    rng: &mut StdRng,
) -> Vec<(usize, Option<usize>)> {
    let mut sites: Vec<(usize, Option<usize>)> = Vec::new();
    for (number, site) in scenario.sites.iter().enumerate() {
        let Some(config) = site.nat else {
            sites.push((INTERNET, None));
            continue;
        };
        let number = u8::try_from(number).unwrap_or(0);
        let (outside, outer) = match site.behind {
            Some(carrier) => (sites[carrier].0, [10, 64, 0, 2 + number].into()),
            None => (INTERNET, topology.public_address()),
        };
        let (nat, inside) = topology.add_nat(outside, outer, config, rng.next_u64());
        if let Some(config) = site.v6 {
            topology.add_firewall(inside, config);
        }
        sites.push((inside, Some(nat)));
    }
    sites
}
