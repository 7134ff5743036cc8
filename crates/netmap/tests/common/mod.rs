//! Records to build states of.
#![allow(dead_code)] // Not every test uses all of it.

use std::collections::BTreeMap;

use uuid::Uuid;
use ztna_netmap::records::{Record, RecordSet};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::ids::{MachineId, OrgId, RegionId, RuleId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::netmap::{PeerRecord, PeerVolatile, PqMode, SelfRecord, VolatileReport};
use ztna_proto::relay::{RelayMap, RelayRegion};

pub fn id(n: u8) -> MachineId {
    MachineId(Uuid::from_u128(n.into()))
}

pub fn this(name: &str) -> SelfRecord {
    SelfRecord {
        id: id(255),
        org: OrgId(Uuid::from_u128(1)),
        org_name: "acme".into(),
        name: name.into(),
        dns_name: format!("{name}.acme.ztna.internal"),
        wg_key: WgPublicKey([255; 32]),
        ipv4: [100, 64, 0, 255].into(),
        ipv6: "fd00::ff".parse().unwrap(),
        key_expires_at: None,
        network: Default::default(),
        posture: Vec::new(),
        hold: None,
    }
}

pub fn peer(n: u8, name: &str) -> PeerRecord {
    PeerRecord {
        id: id(n),
        name: name.into(),
        dns_name: format!("{name}.acme.ztna.internal"),
        wg_key: WgPublicKey([n; 32]),
        kem_key: None,
        ipv4: [100, 64, 0, n].into(),
        ipv6: format!("fd00::{n:x}").parse().unwrap(),
        routes: vec![],
        groups: vec!["member".into()],
        pq: PqMode::Required,
        os: String::new(),
        user: String::new(),
    }
}

pub fn filter(rules: u8) -> PacketFilter {
    let rule = |n: u8| FilterRule {
        rule: RuleId(Uuid::from_u128(n.into())),
        action: Action::Allow,
        peers: vec![PeerSelector::Any],
        networks: vec![],
        protocols: vec![],
        ports: vec![],
    };
    PacketFilter {
        inbound: (0..rules).map(rule).collect(),
        outbound: vec![],
    }
}

pub fn relays(regions: u8) -> RelayMap {
    let region = |n: u8| {
        let id = RegionId(n.into());
        let region = RelayRegion {
            id,
            code: format!("r{n}"),
            name: format!("Region {n}"),
            nodes: vec![],
        };
        (id, region)
    };
    RelayMap {
        regions: (0..regions).map(region).collect(),
    }
}

/// A state of a machine, as the control plane knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub name: u8,
    pub peers: BTreeMap<u8, u8>,
    pub rules: u8,
    pub regions: u8,
}

impl State {
    pub fn this(&self) -> SelfRecord {
        this(&format!("name{}", self.name))
    }

    pub fn peers(&self) -> BTreeMap<MachineId, PeerRecord> {
        let peers = self.peers.iter();
        peers
            .map(|(n, version)| (id(*n), peer(*n, &format!("p{version}"))))
            .collect()
    }

    pub fn records(&self) -> RecordSet {
        let peers = self.peers();
        let peers = peers
            .iter()
            .map(|(id, peer)| (*id, Record::peer(peer).unwrap()));
        RecordSet::new(
            Record::this(&self.this()).unwrap(),
            peers.collect(),
            Record::filter(&filter(self.rules)).unwrap(),
            Record::relays(&relays(self.regions)).unwrap(),
        )
    }
}

pub fn volatile(n: u8, version: u64, online: bool) -> PeerVolatile {
    PeerVolatile {
        id: id(n),
        version,
        online,
        last_seen: None,
        report: VolatileReport::default(),
    }
}
