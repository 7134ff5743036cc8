//! The mesh: what a peer weighs, and what a peer more or a packet costs, by the number of peers.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ztna_bench_record::{Bar, Better, Record};
use ztna_handshake::{Handshakes, Identity, KemPrivateKey};
use ztna_mesh::wireguard::Gotatun;
use ztna_mesh::{Mesh, MeshConfig, Output};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::netmap::{
    Endpoint, EndpointKind, PeerRecord, PeerVolatile, PqMode, SelfRecord, VolatileReport,
};
use ztna_proto::{
    DiscoPrivateKey, KemKeyHash, MachineId, OrgId, RegionId, RuleId, WgPrivateKey, WgPublicKey,
};

use crate::timing::{Weighed, nanoseconds, sample, weigh, weigh_elsewhere};

/// Numbers of peers. The larger comes first: it is what the bars are for.
const SIZES: [u32; 2] = [10_000, 100];
/// Peers of the machine that is weighed.
const WEIGHED: usize = 1_000;
/// Peers that come and go, packets that are sent: so many each time.
const REPEATS: u32 = 64;

/// Runs all.
pub fn run(runs: usize) -> Result<Vec<Record>> {
    let mut records = memory(runs)?;
    let mut worlds = Vec::new();
    for size in SIZES {
        worlds.push(World::new(size)?);
    }
    let mut figure = |name: &str, what: &str, of: fn(&mut World) -> Result<f64>| -> Result<()> {
        let mut samples = Vec::new();
        for world in &mut worlds {
            let peers = format!("{} peers", world.size);
            samples.push(sample(&peers, runs, || Ok(of(world)? / 1e3))?);
        }
        records.push(Record::compare(
            (name, what, "µs"),
            (Better::Less, Bar::Absolute(100.0)),
            samples,
            &[],
        ));
        Ok(())
    };
    figure(
        "mesh_add",
        "mesh: adding a peer, and where it is",
        World::add,
    )?;
    figure("mesh_remove", "mesh: removing a peer", World::remove)?;
    figure(
        "mesh_send",
        "mesh: a packet to a peer: route, filter, seal, path",
        World::send,
    )?;
    figure(
        "mesh_wait",
        "mesh: a packet that waits for a peer's first session",
        World::wait,
    )?;
    figure("mesh_timers", "mesh: looking at what is due", World::timers)?;
    Ok(records)
}

fn memory(runs: usize) -> Result<Vec<Record>> {
    let mut all: Vec<Weighed> = Vec::new();
    let per_peer = sample("ztna", runs, || {
        let weighed = weigh_elsewhere("peers", WEIGHED)?;
        all.push(weighed);
        Ok(weighed.gained / WEIGHED as f64 / 1e3)
    })?;
    let mut totals = all.iter();
    let total = sample("ztna", runs, || {
        Ok(totals
            .next()
            .map_or(f64::NAN, |weighed| weighed.total / 1e6))
    })?;
    Ok(vec![
        Record::compare(
            ("mesh_peer", "mesh: memory of one of 1,000 peers", "kB"),
            (Better::Less, Bar::Absolute(20.0)),
            vec![per_peer],
            &[],
        ),
        Record::compare(
            (
                "mesh_rss",
                "mesh: a process with a mesh of 1,000 peers",
                "MB",
            ),
            (Better::Less, Bar::Absolute(40.0)),
            vec![total],
            &[],
        ),
    ])
}

/// Makes a mesh with so many peers in this process.
pub fn weigh_peers(count: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(7);
    let peers = u32::try_from(count)?;
    weigh(|| {
        let now = Instant::now();
        let mut machine = Machine::new(&mut rng, 0, now);
        for n in 1..=peers {
            machine.meet(&record(n), now);
        }
        Ok(machine)
    })
}

/// One machine, and what it sends.
struct Machine {
    mesh: Mesh,
    record: PeerRecord,
    kem: KemPrivateKey,
    addr: SocketAddr,
    tun: usize,
}

impl Machine {
    fn new(rng: &mut StdRng, n: u32, now: Instant) -> Self {
        let wg = WgPrivateKey::generate(rng);
        let mut seed = [0; 64];
        rng.fill_bytes(&mut seed);
        let kem = || KemPrivateKey::from_seed(seed);
        let config = MeshConfig::default();
        let mut random = || Box::new(StdRng::seed_from_u64(rng.next_u64()));
        let identity = Identity {
            wg: wg.clone(),
            kem: kem(),
        };
        let handshakes = Handshakes::new(identity, config.handshake.clone(), random(), now);
        let mut mesh = Mesh::new(
            &config,
            wg.public(),
            Box::new(Gotatun::new(&wg)),
            handshakes,
            DiscoPrivateKey::generate(&mut *random()),
            random(),
        );
        let record = PeerRecord {
            wg_key: wg.public(),
            kem_key: Some(KemKeyHash::of(&kem().public())),
            ..record(n)
        };
        mesh.set_self(&SelfRecord {
            id: record.id,
            org: OrgId(uuid::Uuid::from_u128(1)),
            org_name: "Bench".to_owned(),
            name: record.name.clone(),
            dns_name: record.dns_name.clone(),
            wg_key: record.wg_key,
            ipv4: record.ipv4,
            ipv6: record.ipv6,
            key_expires_at: None,
            network: Default::default(),
            posture: Vec::new(),
            hold: None,
        });
        mesh.set_filter(&allow_members());
        let addr = endpoint(n);
        mesh.set_endpoints(vec![addr]);
        Self {
            mesh,
            record,
            kem: kem(),
            addr,
            tun: 0,
        }
    }

    /// Learns of a peer, and where it is.
    fn meet(&mut self, peer: &PeerRecord, now: Instant) {
        self.mesh.upsert_peer(peer, now);
        let report = VolatileReport {
            endpoints: vec![
                Endpoint {
                    addr: endpoint(number(peer)),
                    kind: EndpointKind::Local,
                },
                Endpoint {
                    addr: SocketAddr::from((peer.ipv6, 41_641)),
                    kind: EndpointKind::Local,
                },
            ],
            home_region: Some(RegionId(1)),
            disco_key: Some(ztna_proto::DiscoPublicKey(peer.wg_key.0)),
        };
        self.place(peer.id, report, now);
    }

    fn place(&mut self, id: MachineId, report: VolatileReport, now: Instant) {
        let volatile = PeerVolatile {
            id,
            version: 1,
            online: true,
            last_seen: None,
            report,
        };
        self.mesh.set_volatile(&volatile, now);
        self.drain();
    }

    fn drain(&mut self) {
        while self.mesh.poll_output().is_some() {}
    }
}

/// A machine with many peers, of which one is there and has a session with it.
struct World {
    size: u32,
    now: Instant,
    hub: Machine,
    peer: Machine,
    /// The number of the next peer that nobody has met.
    next: u32,
}

impl World {
    fn new(size: u32) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(7);
        let now = Instant::now();
        let mut world = Self {
            size,
            now,
            hub: Machine::new(&mut rng, 0, now),
            peer: Machine::new(&mut rng, 1, now),
            next: 2,
        };
        for n in 2..=size {
            world.hub.meet(&record(n), now);
        }
        world.next = size + 1;
        world.join()?;
        Ok(world)
    }

    /// Hub and peer meet, and make a session.
    fn join(&mut self) -> Result<()> {
        let report = |machine: &Machine| VolatileReport {
            endpoints: vec![Endpoint {
                addr: machine.addr,
                kind: EndpointKind::Local,
            }],
            home_region: Some(RegionId(1)),
            disco_key: Some(machine.mesh.disco_key()),
        };
        let (of_hub, of_peer) = (report(&self.hub), report(&self.peer));
        self.hub.mesh.upsert_peer(&self.peer.record, self.now);
        self.peer.mesh.upsert_peer(&self.hub.record, self.now);
        self.hub.place(self.peer.record.id, of_peer, self.now);
        self.peer.place(self.hub.record.id, of_hub, self.now);
        for _ in 0..100 {
            self.send_one(self.peer.record.ipv4);
            self.carry();
            self.now += Duration::from_millis(20);
            self.hub.mesh.handle_timeout(self.now);
            self.peer.mesh.handle_timeout(self.now);
            self.carry();
        }
        ensure!(self.peer.tun > 50, "the two have no session");
        Ok(())
    }

    fn send_one(&mut self, to: Ipv4Addr) {
        let packet = datagram(self.hub.record.ipv4, to);
        self.hub.mesh.handle_tun(packet, self.now);
    }

    /// Brings each what the other sends it, until nobody sends any more.
    fn carry(&mut self) {
        let now = self.now;
        loop {
            let to_peer = carry(&mut self.hub, &mut self.peer, now);
            let to_hub = carry(&mut self.peer, &mut self.hub, now);
            if !to_peer && !to_hub {
                return;
            }
        }
    }

    fn add(&mut self) -> Result<f64> {
        let records: Vec<_> = (0..REPEATS).map(|n| record(self.next + n)).collect();
        let (hub, now) = (&mut self.hub, self.now);
        let time = nanoseconds(records.len(), || {
            for record in &records {
                hub.meet(record, now);
            }
        });
        for record in &records {
            hub.mesh.remove_peer(record.id);
        }
        Ok(time)
    }

    fn remove(&mut self) -> Result<f64> {
        // From all over the map, and then back.
        let step = self.size / REPEATS;
        let records: Vec<_> = (0..REPEATS).map(|n| record(2 + n * step)).collect();
        let hub = &mut self.hub;
        let time = nanoseconds(records.len(), || {
            for record in &records {
                hub.mesh.remove_peer(record.id);
            }
        });
        for record in &records {
            hub.meet(record, self.now);
        }
        Ok(time)
    }

    fn send(&mut self) -> Result<f64> {
        let (from, to) = (self.hub.record.ipv4, self.peer.record.ipv4);
        let packets: Vec<_> = (0..REPEATS).map(|_| datagram(from, to)).collect();
        let before = self.peer.tun;
        let (hub, now) = (&mut self.hub, self.now);
        let mut sent = VecDeque::new();
        let time = nanoseconds(packets.len(), || {
            for packet in packets {
                hub.mesh.handle_tun(packet, now);
                sent.extend(hub.mesh.poll_output());
            }
        });
        for output in sent {
            deliver(output, &self.hub, &mut self.peer, now);
        }
        self.peer.drain_tun();
        let came = self.peer.tun - before;
        ensure!(came == REPEATS as usize, "{came} of {REPEATS} packets came");
        Ok(time)
    }

    fn wait(&mut self) -> Result<f64> {
        let step = self.size / REPEATS;
        let from = self.hub.record.ipv4;
        let targets = (0..REPEATS).map(|n| record(2 + n * step).ipv4);
        let packets: Vec<_> = targets.map(|to| datagram(from, to)).collect();
        let (hub, now) = (&mut self.hub, self.now);
        Ok(nanoseconds(packets.len(), || {
            for packet in packets {
                hub.mesh.handle_tun(packet, now);
                hub.drain();
            }
        }))
    }

    /// As the daemon does after whatever happens.
    fn timers(&mut self) -> Result<f64> {
        let (hub, now) = (&mut self.hub, self.now);
        let mut due = 0;
        let time = nanoseconds(REPEATS as usize, || {
            for _ in 0..REPEATS {
                due += usize::from(hub.mesh.poll_timeout().is_some_and(|at| at <= now));
                hub.mesh.handle_timeout(now);
                hub.drain();
            }
        });
        ensure!(due <= 1, "what was due is due again");
        Ok(time)
    }
}

impl Machine {
    fn drain_tun(&mut self) {
        while let Some(output) = self.mesh.poll_output() {
            self.tun += usize::from(matches!(output, Output::Tun(_)));
        }
    }
}

/// Brings one machine what another sends it. Says whether there was anything.
fn carry(from: &mut Machine, to: &mut Machine, now: Instant) -> bool {
    let mut any = false;
    while let Some(output) = from.mesh.poll_output() {
        any = true;
        match output {
            Output::Tun(_) => from.tun += 1,
            Output::NeedKemKey(hash) => {
                let key = to.kem.public();
                if KemKeyHash::of(&key) == hash {
                    from.mesh.provide_kem_key(&key, now);
                }
            }
            output => deliver(output, from, to, now),
        }
    }
    any
}

fn deliver(output: Output, from: &Machine, to: &mut Machine, now: Instant) {
    match output {
        Output::Udp {
            to: addr, datagram, ..
        } if addr == to.addr => to.mesh.handle_udp(from.addr, datagram, now),
        Output::Relay {
            peer,
            datagram,
            region,
        } if peer == to.record.wg_key => {
            to.mesh
                .handle_relay(region, from.record.wg_key, datagram, now);
        }
        _ => {}
    }
}

/// Peers that are not there have keys and addresses that follow from their numbers.
fn record(n: u32) -> PeerRecord {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PeerRecord {
        id: MachineId(uuid::Uuid::from_u128(u128::from(n) + 1)),
        name: format!("machine-{n}"),
        dns_name: format!("machine-{n}.bench.ztna.internal"),
        wg_key: WgPublicKey(key),
        kem_key: Some(KemKeyHash(key)),
        ipv4: Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + n),
        ipv6: Ipv6Addr::from((0xfd00 << 112) + u128::from(n) + 1),
        routes: vec![],
        groups: vec!["member".to_owned(), "tag:server".to_owned()],
        pq: PqMode::Required,
        os: "linux".to_owned(),
        user: "someone@bench.example".to_owned(),
    }
}

fn number(record: &PeerRecord) -> u32 {
    u32::from(record.ipv4) - u32::from(Ipv4Addr::new(100, 64, 0, 1))
}

fn endpoint(n: u32) -> SocketAddr {
    let address = u32::from(Ipv4Addr::new(192, 168, 0, 0)) + n;
    SocketAddr::from((Ipv4Addr::from(address), 41_641))
}

fn allow_members() -> PacketFilter {
    let rule = FilterRule {
        rule: RuleId(uuid::Uuid::from_u128(1)),
        action: Action::Allow,
        peers: vec![PeerSelector::Group("member".to_owned())],
        networks: vec![],
        protocols: vec![],
        ports: vec![],
    };
    PacketFilter {
        inbound: vec![rule.clone()],
        outbound: vec![rule],
    }
}

/// 1,200 bytes of UDP, in a buffer with room for what WireGuard adds.
fn datagram(from: Ipv4Addr, to: Ipv4Addr) -> BytesMut {
    const LENGTH: u16 = 1_228;
    let mut packet = BytesMut::with_capacity(usize::from(LENGTH) + 64);
    packet.resize(LENGTH.into(), 0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&LENGTH.to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet[21] = 9;
    packet[23] = 9;
    packet[24..26].copy_from_slice(&(LENGTH - 20).to_be_bytes());
    packet
}
