//! The control plane: who is who, who may talk to whom, and what each machine's stream is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ztna_netmap::records::{Record, RecordSet};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::{
    ClientMessage, PeerRecord, PeerVolatile, PqMode, Resume, SelfRecord, ServerMessage,
    VolatileReport, VolatileUpdate,
};
use ztna_proto::relay::{CertificatePin, RelayMap, RelayNode, RelayRegion};
use ztna_proto::{KemKeyHash, MachineId, OrgId, RegionId, RuleId, WgPublicKey};

/// Messages, each with the machine that it is for.
pub type Outbox = Vec<(usize, String)>;

struct Member {
    id: MachineId,
    wg_key: WgPublicKey,
    kem_key: KemPublicKey,
    version: u64,
    report: Option<VolatileReport>,
    stream: Option<Stream>,
}

/// One machine's stream: what it has been told.
struct Stream {
    generation: u64,
    records: RecordSet,
    seq: u64,
    loses_next: bool,
}

/// The control plane of one org.
pub struct Control {
    /// Nobody reaches it.
    pub is_down: bool,
    seq: u64,
    members: Vec<Member>,
    allowed: BTreeSet<(usize, usize)>,
    relays: RelayMap,
}

/// A machine's address in the tunnel, IPv4.
#[must_use]
pub fn ipv4(machine: usize) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, u8::try_from(machine + 1).unwrap_or(0))
}

fn ipv6(machine: usize) -> Ipv6Addr {
    let last = u16::try_from(machine + 1).unwrap_or(0);
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

/// The number of a region.
#[must_use]
pub fn region_id(region: usize) -> RegionId {
    RegionId(u32::try_from(region + 1).unwrap_or(0))
}

fn relay_map(regions: usize) -> RelayMap {
    let region = |number| {
        let id = region_id(number);
        let node = RelayNode {
            name: format!("{id}a"),
            host: format!("relay-{id}.test"),
            addresses: vec![],
            derp_port: Some(443),
            stun_port: Some(3478),
            quic_port: None,
            http_port: None,
            certificate: CertificatePin::default(),
        };
        let region = RelayRegion {
            id,
            code: format!("r{id}"),
            name: format!("Region {id}"),
            nodes: vec![node],
        };
        (id, region)
    };
    RelayMap {
        regions: (0..regions).map(region).collect(),
    }
}

impl Control {
    /// A control plane of an org without machines.
    #[must_use]
    pub fn new(regions: usize, allowed: BTreeSet<(usize, usize)>) -> Self {
        Self {
            is_down: false,
            seq: 1,
            members: Vec::new(),
            allowed,
            relays: relay_map(regions),
        }
    }

    /// Adds a machine. The order gives the number.
    pub fn add(&mut self, id: MachineId, wg_key: WgPublicKey, kem_key: KemPublicKey) {
        self.members.push(Member {
            id,
            wg_key,
            kem_key,
            version: 0,
            report: None,
            stream: None,
        });
    }

    /// Whether the first may open connections to the second now.
    #[must_use]
    pub fn allows(&self, from: usize, to: usize) -> bool {
        self.allowed.contains(&(from, to))
    }

    /// Whether two machines are in each other's maps.
    #[must_use]
    pub fn joins(&self, a: usize, b: usize) -> bool {
        self.allows(a, b) || self.allows(b, a)
    }

    /// The key that has this hash.
    #[must_use]
    pub fn kem_key(&self, hash: KemKeyHash) -> Option<&KemPublicKey> {
        let mut keys = self.members.iter().map(|member| &member.kem_key);
        keys.find(|key| KemKeyHash::of(key) == hash)
    }

    /// Changes the policy.
    pub fn allow(&mut self, from: usize, to: usize, is_allowed: bool) -> Outbox {
        let changed = if is_allowed {
            self.allowed.insert((from, to))
        } else {
            self.allowed.remove(&(from, to))
        };
        if changed { self.publish() } else { Vec::new() }
    }

    /// A machine has registered a new key.
    pub fn set_key(&mut self, machine: usize, wg_key: WgPublicKey) -> Outbox {
        self.members[machine].wg_key = wg_key;
        self.publish()
    }

    /// The generation of a machine's stream, if it stands.
    #[must_use]
    pub fn stream(&self, machine: usize) -> Option<u64> {
        let stream = self.members[machine].stream.as_ref();
        stream.map(|stream| stream.generation)
    }

    /// The next change is not told to this machine.
    pub fn lose_next(&mut self, machine: usize) {
        if let Some(stream) = &mut self.members[machine].stream {
            stream.loses_next = true;
        }
    }

    /// A machine connects.
    pub fn connect(&mut self, machine: usize, generation: u64) -> Outbox {
        let records = self.records(machine);
        let full = ServerMessage::Full(records.full(self.seq));
        self.members[machine].stream = Some(Stream {
            generation,
            records,
            seq: self.seq,
            loses_next: false,
        });
        let volatile = self.volatile(machine, |_| true, true);
        let mut outbox = vec![(machine, encode(&full)), (machine, volatile)];
        outbox.extend(self.tell_volatile(machine));
        outbox
    }

    /// A machine's stream is gone.
    pub fn disconnect(&mut self, machine: usize) -> Outbox {
        if self.members[machine].stream.take().is_none() {
            return Vec::new();
        }
        self.tell_volatile(machine)
    }

    /// A message of a machine.
    pub fn handle(&mut self, machine: usize, message: ClientMessage) -> Outbox {
        match message {
            ClientMessage::Report(report) => {
                self.members[machine].report = Some(report);
                self.tell_volatile(machine)
            }
            ClientMessage::Resync => {
                let records = self.records(machine);
                let seq = self.seq;
                let Some(stream) = &mut self.members[machine].stream else {
                    return Vec::new();
                };
                let full = ServerMessage::Full(records.full(seq));
                stream.records = records;
                stream.seq = seq;
                let volatile = self.volatile(machine, |_| true, true);
                vec![(machine, encode(&full)), (machine, volatile)]
            }
            ClientMessage::Hello { .. } | ClientMessage::Unknown => Vec::new(),
        }
    }

    /// Tells a machine where its map should stand.
    pub fn keep_alive(&mut self, machine: usize) -> Outbox {
        let seq = self.seq;
        let Some(stream) = &mut self.members[machine].stream else {
            return Vec::new();
        };
        stream.seq = seq;
        let hash = stream.records.hash();
        let message = ServerMessage::KeepAlive(Resume { seq, hash });
        vec![(machine, encode(&message))]
    }

    /// Tells everybody what changed for them.
    fn publish(&mut self) -> Outbox {
        self.seq += 1;
        let seq = self.seq;
        let mut outbox = Vec::new();
        for machine in 0..self.members.len() {
            let newer = self.records(machine);
            let Some(stream) = &mut self.members[machine].stream else {
                continue;
            };
            let Some(delta) = stream.records.diff(&newer, stream.seq, seq) else {
                continue;
            };
            let known: BTreeSet<MachineId> = stream.records.peers().keys().copied().collect();
            stream.records = newer;
            stream.seq = seq;
            if std::mem::take(&mut stream.loses_next) {
                continue;
            }
            outbox.push((machine, encode(&ServerMessage::Delta(delta))));
            let is_new = |other: usize| !known.contains(&self.members[other].id);
            outbox.push((machine, self.volatile(machine, is_new, false)));
        }
        outbox
    }

    /// Tells everybody who sees a machine where it is now.
    fn tell_volatile(&mut self, of: usize) -> Outbox {
        self.members[of].version += 1;
        let to = (0..self.members.len())
            .filter(|to| self.members[*to].stream.is_some() && self.joins(of, *to));
        to.map(|to| (to, self.volatile(to, |other| other == of, false)))
            .collect()
    }

    fn volatile(&self, to: usize, which: impl Fn(usize) -> bool, whole: bool) -> String {
        let others = (0..self.members.len()).filter(|other| self.joins(to, *other));
        let peers = others
            .filter(|other| which(*other))
            .filter_map(|other| {
                let member = &self.members[other];
                Some(PeerVolatile {
                    id: member.id,
                    version: member.version,
                    online: member.stream.is_some(),
                    last_seen: None,
                    report: member.report.clone()?,
                })
            })
            .collect();
        encode(&ServerMessage::Volatile(VolatileUpdate { whole, peers }))
    }

    #[allow(clippy::expect_used)] // Values of this build's types can be written.
    fn records(&self, of: usize) -> RecordSet {
        let peers: BTreeMap<MachineId, Record> = (0..self.members.len())
            .filter(|other| self.joins(of, *other))
            .map(|other| {
                let record = Record::peer(&self.peer(other)).expect("a record is JSON");
                (self.members[other].id, record)
            })
            .collect();
        let this = Record::this(&self.this(of)).expect("a record is JSON");
        let filter = Record::filter(&self.filter(of)).expect("a filter is JSON");
        let relays = Record::relays(&self.relays).expect("a relay map is JSON");
        RecordSet::new(this, peers, filter, relays)
    }

    fn this(&self, of: usize) -> SelfRecord {
        let member = &self.members[of];
        SelfRecord {
            id: member.id,
            org: OrgId::from_bytes([1; 16]),
            org_name: "Simulation".into(),
            name: format!("m{of}"),
            dns_name: format!("m{of}.test"),
            wg_key: member.wg_key,
            ipv4: ipv4(of),
            ipv6: ipv6(of),
            key_expires_at: None,
            network: Default::default(),
            posture: Vec::new(),
            hold: None,
        }
    }

    fn peer(&self, of: usize) -> PeerRecord {
        let member = &self.members[of];
        PeerRecord {
            id: member.id,
            name: format!("m{of}"),
            dns_name: format!("m{of}.test"),
            wg_key: member.wg_key,
            kem_key: Some(KemKeyHash::of(&member.kem_key)),
            ipv4: ipv4(of),
            ipv6: ipv6(of),
            routes: vec![],
            groups: vec![],
            pq: PqMode::Required,
            os: String::new(),
            user: String::new(),
        }
    }

    fn filter(&self, of: usize) -> PacketFilter {
        let rule = |other: usize, number: u8| FilterRule {
            rule: RuleId::from_bytes([number; 16]),
            action: Action::Allow,
            peers: vec![PeerSelector::Machine(self.members[other].id)],
            networks: vec![],
            protocols: vec![],
            ports: vec![],
        };
        let others = || 0..self.members.len();
        let inbound = others().filter(|other| self.allows(*other, of));
        let outbound = others().filter(|other| self.allows(of, *other));
        PacketFilter {
            inbound: inbound.map(|other| rule(other, 1)).collect(),
            outbound: outbound.map(|other| rule(other, 2)).collect(),
        }
    }
}

#[allow(clippy::expect_used)] // Messages that were built here can be written.
fn encode(message: &ServerMessage) -> String {
    message.encode().expect("a message is JSON")
}
