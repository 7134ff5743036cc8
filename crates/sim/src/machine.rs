//! One machine: the mesh and the netmap client, and what the agent does around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ztna_handshake::{Handshakes, Identity, KemPrivateKey};
use ztna_mesh::{Mesh, MeshConfig, SourceFilter};
use ztna_netmap::{Netmap, Update};
use ztna_proto::netmap::{Endpoint, EndpointKind, VolatileReport};
use ztna_proto::{DiscoPrivateKey, KemKeyHash, MachineId, WgPrivateKey, WgPublicKey};

use crate::control::region_id;
use crate::model::Place;
use crate::wireguard::{Clock, Model};

/// UDP port of every machine.
pub const PORT: u16 = 41_641;

/// What a STUN service saw is believed for so long, as the agent does.
const STUN_MEMORY: Duration = Duration::from_secs(90);
/// A service that saw another address so shortly before tells that the NAT changed its mind.
const SAME_MAPPING: Duration = Duration::from_secs(30);
/// Paths are doubted so long after that …
const REBIND_SETTLE: Duration = Duration::from_millis(500);
/// … and this often at most.
const REBIND_PAUSE: Duration = Duration::from_secs(5);

/// Something that waits for a machine that does not run.
pub enum Waiting {
    /// A datagram, with where it came from.
    Udp(SocketAddr, BytesMut),
    /// A packet of a relay.
    Relay(usize, WgPublicKey, BytesMut),
    /// A message of the control plane.
    Control(u64, String),
}

/// How a machine does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Its process is stopped.
    Stopped,
    /// It sleeps since then.
    Asleep(Duration),
}

/// A connection to a region's relay.
pub struct Connection {
    /// Tells it from earlier ones to the same region.
    pub generation: u64,
    /// Whether it stands.
    pub is_up: bool,
    /// Packets that wait until it does.
    pub queue: VecDeque<(WgPublicKey, BytesMut)>,
    /// When it carried something last.
    pub used: Duration,
    /// Since when nothing comes through.
    pub silent_since: Option<Duration>,
}

/// One machine.
pub struct Machine {
    /// Its number.
    pub number: usize,
    /// Its id.
    pub id: MachineId,
    /// Its site.
    pub site: usize,
    /// Its network, and its addresses there.
    pub place: Place,
    /// What runs on it.
    pub mesh: Mesh,
    /// What it knows of its org.
    pub netmap: Netmap,
    /// What is on its disk.
    pub saved: Option<String>,
    /// Whether it runs.
    pub pause: Option<Pause>,
    /// What came while it did not.
    pub inbox: VecDeque<Waiting>,
    /// Connections to relays, by region.
    pub connections: BTreeMap<usize, Connection>,
    /// The region that it calls home.
    pub home: Option<usize>,
    /// Generation of the stream to the control plane, if there is one.
    pub stream: Option<u64>,
    /// When it is tried again.
    pub retry_at: Duration,
    /// When the control plane was asked for a full map last.
    pub resynced: Option<Duration>,
    /// Since when the control plane is not to be reached.
    pub silent_since: Option<Duration>,
    /// When the STUN services are asked next.
    pub stun_at: Duration,
    /// When paths are to be doubted because the NAT changed.
    pub rebound_at: Option<Duration>,
    /// ML-KEM keys that are wanted.
    pub wanted: BTreeSet<KemKeyHash>,
    /// What was told to the control plane last.
    pub reported: Option<VolatileReport>,
    /// Datagrams that somebody could send again, with where they came from.
    pub overheard: VecDeque<(SocketAddr, BytesMut)>,
    rebound: Option<Duration>,
    /// By which region's service it was seen where, by each family, and when.
    seen: BTreeMap<(usize, bool), (SocketAddr, Duration)>,
    origin: Instant,
    slept: Duration,
    clock: Clock,
    wg_key: WgPrivateKey,
    /// Of `wg_key`: asked for with every packet, and not free to make.
    public_key: WgPublicKey,
    kem_seed: [u8; 64],
    source_filter: SourceFilter,
    rng: StdRng,
}

impl Machine {
    /// A machine that has just been started for the first time.
    pub fn new(
        site: usize,
        place: Place,
        source_filter: SourceFilter,
        origin: Instant,
        seed: u64,
    ) -> Self {
        let number = place.machine;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let wg_key = WgPrivateKey::generate(&mut rng);
        let mut kem_seed = [0; 64];
        rng.fill_bytes(&mut kem_seed);
        let clock = Clock::new(origin);
        let mesh = mesh(&wg_key, kem_seed, source_filter, &clock, origin, &mut rng);
        Self {
            number,
            id: MachineId::from_bytes(id),
            site,
            place,
            mesh,
            netmap: Netmap::default(),
            saved: None,
            pause: None,
            inbox: VecDeque::new(),
            connections: BTreeMap::new(),
            home: None,
            stream: None,
            retry_at: Duration::ZERO,
            resynced: None,
            silent_since: None,
            stun_at: Duration::ZERO,
            rebound_at: None,
            wanted: BTreeSet::new(),
            reported: None,
            overheard: VecDeque::new(),
            rebound: None,
            seen: BTreeMap::new(),
            origin,
            slept: Duration::ZERO,
            clock,
            public_key: wg_key.public(),
            wg_key,
            kem_seed,
            source_filter,
            rng,
        }
    }

    /// The time as the machine's monotonic clock tells it.
    pub fn instant(&self, now: Duration) -> Instant {
        self.origin + now.saturating_sub(self.slept)
    }

    /// When the mesh wants to be called.
    pub fn timer(&self) -> Option<Duration> {
        if self.pause.is_some() {
            return None;
        }
        let at = self.mesh.poll_timeout()?;
        Some(at.saturating_duration_since(self.origin) + self.slept)
    }

    /// Its WireGuard key.
    pub fn key(&self) -> WgPublicKey {
        self.public_key
    }

    /// Its ML-KEM key.
    pub fn kem_key(&self) -> ztna_proto::keys::KemPublicKey {
        KemPrivateKey::from_seed(self.kem_seed).public()
    }

    /// It slept; its monotonic clock stood still.
    pub fn slept(&mut self, span: Duration) {
        self.slept += span;
        self.clock.sleep(span);
    }

    /// Its process starts anew, with the netmap on its disk or without.
    pub fn restart(&mut self, keeps_netmap: bool, now: Duration) {
        let instant = self.instant(now);
        self.mesh = mesh(
            &self.wg_key,
            self.kem_seed,
            self.source_filter,
            &self.clock,
            instant,
            &mut self.rng,
        );
        let saved = self.saved.take().filter(|_| keeps_netmap);
        self.netmap = saved
            .and_then(|text| Netmap::load(&text).ok())
            .unwrap_or_default();
        self.pause = None;
        self.inbox.clear();
        self.connections.clear();
        self.home = None;
        self.stream = None;
        self.retry_at = now;
        self.resynced = None;
        self.stun_at = now;
        self.rebound_at = None;
        self.wanted.clear();
        self.reported = None;
        self.seen.clear();
        self.apply(&Update::Full, now);
    }

    /// A new WireGuard key; its process has to start anew.
    pub fn new_key(&mut self, now: Duration) {
        self.wg_key = WgPrivateKey::generate(&mut self.rng);
        self.public_key = self.wg_key.public();
        self.restart(false, now);
    }

    /// It is somewhere else now.
    pub fn moved(&mut self, site: usize, place: Place, now: Duration) {
        self.site = site;
        self.place = place;
        self.network_changed(now);
    }

    /// The system says that addresses or routes changed.
    pub fn network_changed(&mut self, now: Duration) {
        self.seen.clear();
        self.stun_at = now;
        self.mesh.network_changed(self.instant(now));
    }

    /// A STUN service saw this machine.
    pub fn seen_by(&mut self, region: usize, addr: SocketAddr, now: Duration) {
        if let Some((before, at)) = self.seen.insert((region, addr.is_ipv6()), (addr, now))
            && before != addr
            && now < at + SAME_MAPPING
        {
            let earliest = self.rebound.map_or(now, |last| last + REBIND_PAUSE);
            let due = (now + REBIND_SETTLE).max(earliest);
            self.rebound_at.get_or_insert(due);
        }
    }

    /// Doubts all paths, if the NAT was seen to have changed.
    pub fn rebind_if_due(&mut self, now: Duration) {
        if self.rebound_at.take_if(|at| *at <= now).is_some() {
            self.rebound = Some(now);
            self.mesh.network_changed(self.instant(now));
        }
    }

    /// Where the machine may be reached. `None`: as it was told already.
    pub fn report(&mut self, now: Duration) -> Option<VolatileReport> {
        let local = self.place.addrs().map(|addr| Endpoint {
            addr,
            kind: EndpointKind::Local,
        });
        let fresh = self.seen.values().filter(|(_, at)| now < *at + STUN_MEMORY);
        let seen: BTreeSet<SocketAddr> = fresh.map(|(addr, _)| *addr).collect();
        let seen = seen.into_iter().filter(|addr| !self.place.has(*addr));
        let stun = seen.map(|addr| Endpoint {
            addr,
            kind: EndpointKind::Stun,
        });
        let report = VolatileReport {
            endpoints: local.chain(stun).collect(),
            home_region: self.home.map(region_id),
            disco_key: Some(self.mesh.disco_key()),
        };
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        let addrs = report.endpoints.iter().map(|endpoint| endpoint.addr);
        self.mesh.set_endpoints(addrs.collect());
        let had = self.reported.replace(report.clone());
        if had.is_some_and(|had| had.endpoints != report.endpoints) {
            self.mesh.endpoints_changed(self.instant(now));
        }
        Some(report)
    }

    /// Brings the mesh to what the netmap says, as the agent's engine does.
    pub fn apply(&mut self, update: &Update, now: Duration) {
        let now = self.instant(now);
        match update {
            Update::Volatile(peers) => {
                for peer in peers.iter().filter_map(|id| self.netmap.volatile(id)) {
                    self.mesh.set_volatile(peer, now);
                }
            }
            Update::Full | Update::Delta(_) => {
                if let Some(this) = self.netmap.this() {
                    self.mesh.set_self(this);
                }
                let peers = self.netmap.peers();
                let touched: BTreeSet<MachineId> = match update {
                    Update::Delta(changes) => &changes.peers_changed | &changes.peers_removed,
                    _ => self.mesh.peer_ids().chain(peers.keys().copied()).collect(),
                };
                for id in touched.iter().filter(|id| !peers.contains_key(id)) {
                    self.mesh.remove_peer(*id);
                }
                for (id, record) in touched.iter().filter_map(|id| peers.get_key_value(id)) {
                    if self.mesh.upsert_peer(record, now)
                        && let Some(volatile) = self.netmap.volatile(id)
                    {
                        self.mesh.set_volatile(volatile, now);
                    }
                }
                self.mesh.set_filter(self.netmap.filter());
                self.saved = Some(self.netmap.save());
            }
            Update::Ticket(_) | Update::InSync | Update::Ended(_) | Update::Ignored => {}
        }
    }
}

fn mesh(
    wg_key: &WgPrivateKey,
    kem_seed: [u8; 64],
    source_filter: SourceFilter,
    clock: &Clock,
    now: Instant,
    rng: &mut StdRng,
) -> Mesh {
    let config = MeshConfig {
        source_filter,
        ..MeshConfig::default()
    };
    let identity = Identity {
        wg: wg_key.clone(),
        kem: KemPrivateKey::from_seed(kem_seed),
    };
    let handshakes = Handshakes::new(
        identity,
        config.handshake.clone(),
        Box::new(StdRng::seed_from_u64(rng.next_u64())),
        now,
    );
    Mesh::new(
        &config,
        wg_key.public(),
        Box::new(Model::new(wg_key.public(), clock.clone(), rng.next_u64())),
        handshakes,
        DiscoPrivateKey::generate(rng),
        Box::new(StdRng::seed_from_u64(rng.next_u64())),
    )
}
