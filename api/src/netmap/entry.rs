//! A machine's records: as it sees itself, and as its peers see it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use ztna_netmap::records::Record;
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{KemKeyHash, WgPublicKey};
use ztna_proto::netmap::{PeerRecord, PqMode, SelfRecord};
use ztna_proto::network::{DnsSettings, SelfNetwork};

use super::load::MachineRow;
use super::org::Issued;

/// What the records say of the org.
pub(super) struct Org<'a> {
    pub(super) id: OrgId,
    pub(super) name: &'a str,
    pub(super) slug: &'a str,
    pub(super) dns_suffix: &'a str,
    pub(super) dns: &'a DnsSettings,
}

/// A machine with its records.
pub(super) struct Entry {
    pub(super) row: MachineRow,
    /// Those of the peers' record.
    pub(super) groups: Vec<String>,
    pub(super) this: Record,
    /// With all of its routes.
    pub(super) peer: Record,
    /// As who may reach none of its routes sees it. `None`: it has no routes.
    unrouted: Option<Record>,
    pub(super) wg_key: WgPublicKey,
    pub(super) kem_hash: KemKeyHash,
    /// The last ticket that heartbeats were answered with.
    pub(super) ticket: Option<Issued>,
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
            network: SelfNetwork {
                advertised: machine.advertised.clone(),
                routes: forwarded(&machine.routes),
                dns: org.dns.clone(),
                // Who is out of the network carries nobody.
                gateway: machine.gateway.clone().filter(|_| machine.standing.is_in()),
            },
            posture: machine.posture.clone(),
            hold: machine.standing.hold(org.name),
        };
        let mut peer = PeerRecord {
            id: machine.id,
            name: machine.name.clone(),
            dns_name,
            wg_key: machine.wg_key,
            kem_key: Some(machine.kem_hash),
            ipv4: machine.ipv4,
            ipv6: machine.ipv6,
            routes: machine.routes.clone(),
            groups: groups.clone(),
            pq: PqMode::Required,
            os: machine.os.clone(),
            user: machine.user.clone(),
        };
        let routed = Record::peer(&peer)?;
        let unrouted = match std::mem::take(&mut peer.routes).is_empty() {
            true => None,
            false => Some(Record::peer(&peer)?),
        };
        Ok(Self {
            this: Record::this(&this)?,
            peer: routed,
            unrouted,
            wg_key: machine.wg_key,
            kem_hash: machine.kem_hash,
            groups,
            row: machine,
            ticket: None,
        })
    }

    /// The machine as a peer sees it that may reach these of its routes. Made anew only where they
    /// are some and not all.
    pub(super) fn seen_with(&self, routes: &BTreeSet<IpNet>) -> serde_json::Result<Record> {
        if routes.len() == self.row.routes.len() {
            return Ok(self.peer.clone());
        }
        match &self.unrouted {
            Some(unrouted) if routes.is_empty() => Ok(unrouted.clone()),
            _ => {
                let mut peer: PeerRecord = serde_json::from_str(self.peer.raw().get())?;
                peer.routes.retain(|route| routes.contains(route));
                Record::peer(&peer)
            }
        }
    }
}

/// What a machine with these approved routes lets pass: an exit node what is public, for its own
/// private networks are routes of their own.
fn forwarded(routes: &[IpNet]) -> Vec<IpNet> {
    let subnets = routes.iter().filter(|route| route.prefix_len() > 0);
    let public = ztna_policy::internet().iter();
    let public = public.filter(|public| {
        let mut exits = routes.iter().filter(|route| route.prefix_len() == 0);
        exits.any(|exit| exit.contains(*public))
    });
    subnets.chain(public).copied().collect()
}
