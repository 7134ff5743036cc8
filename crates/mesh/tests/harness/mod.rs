//! A few machines, a relay and a UDP network, in memory, with a clock of their own.
//!
//! gotatun reads the system's clock, so its own rekey timers do not run here, unless [`Net::clock`]
//! moves that too; the epochs of the hybrid handshake, which force WireGuard handshakes, do.

mod packet;

use std::cell::RefCell;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use ztna_handshake::{Handshakes, Identity, KemPrivateKey};
use ztna_mesh::wireguard::Gotatun;
use ztna_mesh::{Mesh, MeshConfig, Output, PeerStatus, SourceFilter};
use ztna_path::Selected;
use ztna_path::mtu::packet_size;
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::{
    Endpoint, EndpointKind, PeerRecord, PeerVolatile, PqMode, SelfRecord, VolatileReport,
};
use ztna_proto::{DiscoPrivateKey, KemKeyHash, MachineId, OrgId, RegionId, RuleId, WgPrivateKey};

use packet::{is_udp, udp_packet};

const REGION: RegionId = RegionId(1);
const DIRECT_DELAY: Duration = Duration::from_millis(5);
const RELAY_DELAY: Duration = Duration::from_millis(20);

struct Machine {
    id: MachineId,
    wg_key: WgPrivateKey,
    kem_seed: [u8; 64],
    kem_public: KemPublicKey,
    addr: SocketAddr,
    mesh: Mesh,
    delivered: VecDeque<Vec<u8>>,
    /// IP packets that came out of the tunnel, other than whole ones of UDP over IPv4.
    packets: Vec<Vec<u8>>,
    /// What the control plane tells others of it.
    report: VolatileReport,
    version: u64,
}

type Passes = dyn FnMut(usize, &[u8]) -> bool;
/// Datagrams that a test keeps.
type Recorded = Rc<RefCell<Vec<Vec<u8>>>>;

enum Arrival {
    Udp(SocketAddr),
    Relay(usize),
}

struct Flying {
    at: Instant,
    order: u64,
    to: usize,
    arrival: Arrival,
    datagram: BytesMut,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Flying {}
impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

pub struct Net {
    machines: Vec<Machine>,
    flying: BinaryHeap<Flying>,
    now: Instant,
    order: u64,
    rng: StdRng,
    source_filter: SourceFilter,
    pub udp_blocked: bool,
    /// Packets to the relay are lost.
    pub relay_down: bool,
    /// Looks at each datagram that is sent, with the machine that sends it; `false`: it is lost.
    pub passes: Box<Passes>,
    /// Datagrams by UDP arrive up to so much later, each by another time.
    pub jitter: Duration,
    /// Packets that went through the relay.
    pub relayed: u64,
    /// Larger IP packets are lost on every direct path.
    pub path_mtu: u16,
    /// Datagrams that were sent in fragments of IP.
    pub fragmented: u64,
    /// Datagrams that all machines sent, by any way.
    pub sent: u64,
    /// How often each machine's timer was due.
    pub wakes: Vec<u64>,
    /// Is told how much time passes.
    pub clock: fn(Duration),
}

impl Net {
    pub fn pair() -> Self {
        Self::pair_with(SourceFilter::On)
    }

    pub fn pair_with(source_filter: SourceFilter) -> Self {
        Self::of(2, source_filter)
    }

    /// So many machines, which all know each other.
    pub fn of(machines: u8, source_filter: SourceFilter) -> Self {
        let mut net = Self {
            machines: Vec::new(),
            flying: BinaryHeap::new(),
            now: Instant::now(),
            order: 0,
            rng: StdRng::seed_from_u64(7),
            source_filter,
            udp_blocked: false,
            relay_down: false,
            passes: Box::new(|_, _| true),
            jitter: Duration::ZERO,
            relayed: 0,
            path_mtu: 1500,
            fragmented: 0,
            sent: 0,
            wakes: vec![0; usize::from(machines)],
            clock: |_| {},
        };
        for number in 1..=machines {
            let wg_key = WgPrivateKey::generate(&mut net.rng);
            let mut kem_seed = [0; 64];
            net.rng.fill_bytes(&mut kem_seed);
            let mesh = net.mesh(&wg_key, kem_seed);
            let addr = SocketAddr::from(([192, 168, 0, number], 41641));
            let report = report(addr, &mesh);
            net.machines.push(Machine {
                id: MachineId::generate(),
                kem_public: KemPrivateKey::from_seed(kem_seed).public(),
                wg_key,
                kem_seed,
                addr,
                mesh,
                delivered: VecDeque::new(),
                packets: Vec::new(),
                report,
                version: 0,
            });
        }
        for of in 0..net.machines.len() {
            net.introduce(of);
        }
        for of in 0..net.machines.len() {
            net.announce(of);
        }
        net
    }

    fn mesh(&mut self, wg_key: &WgPrivateKey, kem_seed: [u8; 64]) -> Mesh {
        let config = MeshConfig {
            source_filter: self.source_filter,
            ..MeshConfig::default()
        };
        let identity = Identity {
            wg: wg_key.clone(),
            kem: KemPrivateKey::from_seed(kem_seed),
        };
        let handshakes = Handshakes::new(
            identity,
            config.handshake.clone(),
            Box::new(StdRng::seed_from_u64(self.rng.next_u64())),
            self.now,
        );
        Mesh::new(
            &config,
            wg_key.public(),
            Box::new(Gotatun::new(wg_key)),
            handshakes,
            DiscoPrivateKey::generate(&mut self.rng),
            Box::new(StdRng::seed_from_u64(self.rng.next_u64())),
        )
    }

    pub fn ipv4(of: usize) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(100, 64, 0, u8::try_from(of + 1).unwrap())
    }

    pub fn ipv6(of: usize) -> std::net::Ipv6Addr {
        std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(of + 1).unwrap())
    }

    /// Gives a machine its own record, its filter and its peers.
    fn introduce(&mut self, of: usize) {
        let filter = self.allow_all();
        let now = self.now;
        let records: Vec<_> = self.others(of).map(|other| self.record(other)).collect();
        let machine = &mut self.machines[of];
        machine.mesh.set_self(&SelfRecord {
            id: machine.id,
            org: OrgId::generate(),
            org_name: "Test".into(),
            name: format!("machine-{of}"),
            dns_name: format!("machine-{of}.test"),
            wg_key: machine.wg_key.public(),
            ipv4: Self::ipv4(of),
            ipv6: Self::ipv6(of),
            key_expires_at: None,
            network: Default::default(),
            posture: Vec::new(),
            hold: None,
        });
        machine.mesh.set_filter(&filter);
        machine.mesh.set_endpoints(vec![machine.addr]);
        for record in records {
            machine.mesh.upsert_peer(&record, now);
        }
    }

    fn others(&self, of: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.machines.len()).filter(move |other| *other != of)
    }

    /// What the control plane says of a machine to others.
    pub fn record(&self, of: usize) -> PeerRecord {
        let machine = &self.machines[of];
        PeerRecord {
            id: machine.id,
            name: format!("machine-{of}"),
            dns_name: format!("machine-{of}.test"),
            wg_key: machine.wg_key.public(),
            kem_key: Some(KemKeyHash::of(&machine.kem_public)),
            ipv4: Self::ipv4(of),
            ipv6: Self::ipv6(of),
            routes: vec![],
            groups: vec!["member".into()],
            pq: PqMode::Required,
            os: String::new(),
            user: String::new(),
        }
    }

    /// Gives a machine a peer's changed record.
    pub fn tell(&mut self, to: usize, record: &PeerRecord) {
        self.machines[to].mesh.upsert_peer(record, self.now);
        self.carry_out(to);
    }

    /// Tells everybody else where a machine is.
    fn announce(&mut self, of: usize) {
        for to in self.others(of) {
            self.announce_to(of, to);
        }
    }

    /// Tells one machine where another is.
    pub fn announce_to(&mut self, of: usize, to: usize) {
        let machine = &mut self.machines[of];
        machine.version += 1;
        let volatile = PeerVolatile {
            id: machine.id,
            version: machine.version,
            online: true,
            last_seen: None,
            report: machine.report.clone(),
        };
        self.machines[to].mesh.set_volatile(&volatile, self.now);
        self.carry_out(to);
    }

    /// The machine tells everybody that another's discovery key is its own.
    pub fn claim_disco_key(&mut self, thief: usize, victim: usize) {
        self.machines[thief].report.disco_key = Some(self.machines[victim].mesh.disco_key());
        self.announce(thief);
    }

    /// The machine moves to another address; nobody is told.
    pub fn roam(&mut self, of: usize) {
        let machine = &mut self.machines[of];
        let port = machine.addr.port() + 1;
        machine.addr.set_port(port);
        machine.mesh.set_endpoints(vec![machine.addr]);
        machine.mesh.network_changed(self.now);
        self.carry_out(of);
    }

    pub fn allow_all(&self) -> PacketFilter {
        let rule = FilterRule {
            rule: RuleId::generate(),
            action: Action::Allow,
            peers: vec![PeerSelector::Group("member".into())],
            networks: vec![],
            protocols: vec![],
            ports: vec![],
        };
        PacketFilter {
            inbound: vec![rule.clone()],
            outbound: vec![rule],
        }
    }

    pub fn set_filter(&mut self, of: usize, filter: &PacketFilter) {
        self.machines[of].mesh.set_filter(filter);
    }

    pub fn forget(&mut self, at: usize, peer: usize) {
        let id = self.machines[peer].id;
        self.machines[at].mesh.remove_peer(id);
    }

    /// The machine's process starts anew: same identity, no session, new discovery key. It is told
    /// of the others; they are told by [`Net::announce_to`].
    pub fn restart(&mut self, of: usize) {
        let (wg_key, seed) = (self.machines[of].wg_key.clone(), self.machines[of].kem_seed);
        let mesh = self.mesh(&wg_key, seed);
        let machine = &mut self.machines[of];
        machine.mesh = mesh;
        machine.report = report(machine.addr, &machine.mesh);
        self.introduce(of);
        for other in self.others(of) {
            self.announce_to(other, of);
        }
    }

    pub fn send(&mut self, from: usize, to: usize, payload: &[u8]) {
        self.send_as(from, Self::ipv4(from), to, payload);
    }

    /// Sends a packet with this source address.
    pub fn send_as(&mut self, from: usize, source: std::net::Ipv4Addr, to: usize, payload: &[u8]) {
        let packet = udp_packet(source, Self::ipv4(to), payload);
        self.machines[from].mesh.handle_tun(packet, self.now);
        self.carry_out(from);
    }

    /// Gives a machine a packet as from its TUN device.
    pub fn send_packet(&mut self, from: usize, packet: &[u8]) {
        let packet = BytesMut::from(packet);
        self.machines[from].mesh.handle_tun(packet, self.now);
        self.carry_out(from);
    }

    /// Packets that came out of the tunnel since the last call, other than whole ones of UDP over IPv4.
    pub fn packets(&mut self, at: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.machines[at].packets)
    }

    /// Payloads that arrived since the last call.
    pub fn delivered(&mut self, at: usize) -> Vec<Vec<u8>> {
        self.machines[at].delivered.drain(..).collect()
    }

    pub fn status(&self, of: usize, peer: usize) -> PeerStatus {
        let id = self.machines[peer].id;
        let all = self.machines[of].mesh.status();
        all.into_iter().find(|status| status.id == id).unwrap()
    }

    pub fn selected(&self, of: usize, peer: usize) -> Selected {
        self.status(of, peer).selected
    }

    pub fn is_direct(&self, of: usize, peer: usize) -> bool {
        matches!(self.selected(of, peer), Selected::Direct { .. })
    }

    pub fn fingerprint(&self, of: usize, peer: usize) -> Option<[u8; 8]> {
        self.status(of, peer).psk.map(|psk| psk.fingerprint)
    }

    pub fn drop_count(&self, at: usize, peer: usize) -> u64 {
        let status = self.status(at, peer);
        status.drops.iter().map(|(_, count)| count).sum()
    }

    pub fn throw_garbage(&mut self, at: usize, datagrams: usize) {
        for _ in 0..datagrams {
            let length = self.rng.next_u32() as usize % 1400;
            let mut datagram = BytesMut::zeroed(length);
            self.rng.fill_bytes(&mut datagram);
            // Half of them look like WireGuard at first sight.
            if self.rng.next_u32() & 1 == 0 && length > 4 {
                datagram[0] = 1 + (datagram[0] & 3);
                datagram[1..4].fill(0);
            }
            self.throw(at, &datagram);
        }
    }

    /// Keeps every WireGuard initiation that is sent from now on.
    pub fn record_initiations(&mut self) -> Recorded {
        let recorded = Recorded::default();
        let keep = Rc::clone(&recorded);
        self.passes = Box::new(move |_, datagram| {
            if datagram.starts_with(&[1, 0, 0, 0]) {
                keep.borrow_mut().push(datagram.to_vec());
            }
            true
        });
        recorded
    }

    /// A datagram from an address that nobody knows.
    pub fn throw(&mut self, at: usize, datagram: &[u8]) {
        let from = SocketAddr::from(([203, 0, 113, 9], 4242));
        self.machines[at]
            .mesh
            .handle_udp(from, BytesMut::from(datagram), self.now);
        self.carry_out(at);
    }

    /// Nobody has a home region any more.
    pub fn without_relay(&mut self) {
        for of in 0..self.machines.len() {
            self.machines[of].report.home_region = None;
            self.announce(of);
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timer = self
                .machines
                .iter()
                .filter_map(|m| m.mesh.poll_timeout())
                .min();
            let arrival = self.flying.peek().map(|flying| flying.at);
            let Some(next) = [timer, arrival].into_iter().flatten().min() else {
                break;
            };
            if next > end {
                break;
            }
            self.pass_until(next);
            while self
                .flying
                .peek()
                .is_some_and(|flying| flying.at <= self.now)
            {
                let Some(flying) = self.flying.pop() else {
                    break;
                };
                self.arrive(flying);
            }
            for of in 0..self.machines.len() {
                if self.machines[of]
                    .mesh
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.wakes[of] += 1;
                    self.machines[of].mesh.handle_timeout(self.now);
                    self.carry_out(of);
                }
            }
        }
        self.pass_until(end);
    }

    fn pass_until(&mut self, at: Instant) {
        let at = self.now.max(at);
        (self.clock)(at - self.now);
        self.now = at;
    }

    /// How long until the machine's timer is due.
    pub fn timer(&self, of: usize) -> Option<Duration> {
        let at = self.machines[of].mesh.poll_timeout()?;
        Some(at.saturating_duration_since(self.now))
    }

    fn arrive(&mut self, flying: Flying) {
        let now = self.now;
        match flying.arrival {
            Arrival::Udp(from) => {
                self.machines[flying.to]
                    .mesh
                    .handle_udp(from, flying.datagram, now);
            }
            Arrival::Relay(from) => {
                let key = self.machines[from].wg_key.public();
                self.machines[flying.to]
                    .mesh
                    .handle_relay(REGION, key, flying.datagram, now);
            }
        }
        self.carry_out(flying.to);
    }

    fn carry_out(&mut self, of: usize) {
        while let Some(output) = self.machines[of].mesh.poll_output() {
            let is_sent = matches!(
                output,
                Output::Udp { .. } | Output::Oversize { .. } | Output::Relay { .. }
            );
            self.sent += u64::from(is_sent);
            match output {
                Output::Oversize {
                    relay: Some((_, peer)),
                    datagram,
                    ..
                } if !self.relay_down => {
                    self.relayed += 1;
                    let target = self.machines.iter().position(|m| m.wg_key.public() == peer);
                    self.launch(target.unwrap(), Arrival::Relay(of), datagram, RELAY_DELAY);
                }
                Output::Oversize { to, datagram, .. } => {
                    self.fragmented += 1;
                    let target = self.machines.iter().position(|machine| machine.addr == to);
                    if let (Some(target), false) = (target, self.udp_blocked) {
                        let arrival = Arrival::Udp(self.machines[of].addr);
                        self.launch(target, arrival, datagram, DIRECT_DELAY);
                    }
                }
                Output::Udp { to, datagram, .. }
                    if packet_size(datagram.len(), &to) > self.path_mtu => {}
                Output::Udp { to, datagram, .. } => {
                    let target = self.machines.iter().position(|machine| machine.addr == to);
                    let lost = self.udp_blocked || !(self.passes)(of, &datagram);
                    if let (Some(target), false) = (target, lost) {
                        let arrival = Arrival::Udp(self.machines[of].addr);
                        let later = self.jitter.mul_f64(self.rng.random());
                        self.launch(target, arrival, datagram, DIRECT_DELAY + later);
                    }
                }
                Output::Relay { peer, datagram, .. } => {
                    self.relayed += 1;
                    let lost = self.relay_down || !(self.passes)(of, &datagram);
                    let target = self.machines.iter().position(|m| m.wg_key.public() == peer);
                    if let (Some(target), false) = (target, lost) {
                        self.launch(target, Arrival::Relay(of), datagram, RELAY_DELAY);
                    }
                }
                Output::Tun(packet) => {
                    let machine = &mut self.machines[of];
                    if is_udp(&packet) {
                        machine.delivered.push_back(packet[28..].to_vec());
                    } else {
                        machine.packets.push(packet.to_vec());
                    }
                }
                Output::NeedKemKey(hash) => {
                    let key = self
                        .machines
                        .iter()
                        .map(|machine| &machine.kem_public)
                        .find(|key| KemKeyHash::of(key) == hash)
                        .cloned()
                        .unwrap();
                    self.machines[of].mesh.provide_kem_key(&key, self.now);
                }
                Output::Event(_) | Output::Lan(_) => {}
            }
        }
    }

    fn launch(&mut self, to: usize, arrival: Arrival, datagram: BytesMut, delay: Duration) {
        self.order += 1;
        let at = self.now + delay;
        self.flying.push(Flying {
            at,
            order: self.order,
            to,
            arrival,
            datagram,
        });
    }
}

fn report(addr: SocketAddr, mesh: &Mesh) -> VolatileReport {
    VolatileReport {
        endpoints: vec![Endpoint {
            addr,
            kind: EndpointKind::Local,
        }],
        home_region: Some(REGION),
        disco_key: Some(mesh.disco_key()),
    }
}
