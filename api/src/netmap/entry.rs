//! A machine's records: as it sees itself, and as all its peers see it.

use ztna_netmap::records::Record;
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{KemKeyHash, WgPublicKey};
use ztna_proto::netmap::{PeerRecord, PqMode, SelfRecord};

use super::load::MachineRow;

/// What the records say of the org.
pub(super) struct Org<'a> {
    pub(super) id: OrgId,
    pub(super) name: &'a str,
    pub(super) slug: &'a str,
    pub(super) dns_suffix: &'a str,
}

/// A machine with its records.
pub(super) struct Entry {
    pub(super) row: MachineRow,
    /// Those of the peers' record.
    pub(super) groups: Vec<String>,
    pub(super) this: Record,
    pub(super) peer: Record,
    pub(super) wg_key: WgPublicKey,
    pub(super) kem_hash: KemKeyHash,
}

impl Entry {
    pub(super) fn new(
        org: &Org<'_>,
        machine: MachineRow,
        groups: Vec<String>,
    ) -> serde_json::Result<Self> {
        let dns_name = crate::app::dns_name(&machine.name, org.slug, org.dns_suffix);
        let this = SelfRecord {
            id: machine.id,
            org: org.id,
            org_name: org.name.to_owned(),
            name: machine.name.clone(),
            dns_name: dns_name.clone(),
            wg_key: machine.wg_key,
            ipv4: machine.ipv4,
            ipv6: machine.ipv6,
            key_expires_at: machine.key_expires_at,
        };
        let peer = PeerRecord {
            id: machine.id,
            name: machine.name.clone(),
            dns_name,
            wg_key: machine.wg_key,
            kem_key: Some(machine.kem_hash),
            ipv4: machine.ipv4,
            ipv6: machine.ipv6,
            routes: Vec::new(),
            groups: groups.clone(),
            pq: PqMode::Required,
            os: machine.os.clone(),
            user: machine.user.clone(),
        };
        Ok(Self {
            this: Record::this(&this)?,
            peer: Record::peer(&peer)?,
            wg_key: machine.wg_key,
            kem_hash: machine.kem_hash,
            groups,
            row: machine,
        })
    }
}
