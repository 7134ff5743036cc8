//! An org as the hub reads it: whole, or what changed since a `seq`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;
use ztna_policy::document::{Attributes, COUNTRY, OS};
use ztna_policy::{Document, Facts};
use ztna_proto::api::Role;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::{KemKeyHash, WgPublicKey};
use ztna_proto::network::DnsSettings;
use ztna_proto::posture::{PostureNotice, PostureResult};
use ztna_proto::relay::RelayMap;
use ztna_proto::static_peers::GatewayDuty;
use ztna_proto::tokens::TokenHash;

use super::nodes::Said;
use super::org::RESUME_LOG;
use super::{Changed, written};
use crate::db::{Db, Tx};
use crate::http::ApiError;
use crate::machines::{self, TAG};
use crate::{network, orgs, policy, posture, relays};

/// A machine that the control plane serves: neither expired nor disabled.
#[derive(Clone)]
pub(super) struct MachineRow {
    pub(super) id: MachineId,
    pub(super) name: String,
    pub(super) os: String,
    pub(super) wg_key: WgPublicKey,
    pub(super) kem_hash: KemKeyHash,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    pub(super) user: String,
    /// The user's role in the org.
    pub(super) role: Option<Role>,
    /// Groups that the org's provider has the user in.
    pub(super) groups: BTreeSet<String>,
    pub(super) key_expires_at: Option<Timestamp>,
    /// The networks that it offers to route.
    pub(super) advertised: Vec<IpNet>,
    /// Those of them that it may.
    pub(super) routes: Vec<IpNet>,
    /// What it carries, if it is a gateway.
    pub(super) gateway: Option<GatewayDuty>,
    /// What rules see of its posture.
    pub(super) attributes: Attributes,
    /// What posture policies say of it.
    pub(super) posture: Vec<PostureNotice>,
    /// As in `tag:web`.
    pub(super) tags: Vec<String>,
    /// Whether it is in the network, and if not, why.
    pub(super) standing: machines::Standing,
    pub(super) token_hash: TokenHash,
    /// As the database holds it. `None`: another node may have written another.
    pub(super) agent_version: Option<String>,
}

/// How a machine of the log stands now.
pub(super) enum Standing {
    Good(MachineRow),
    Expired(MachineId),
    /// With the reason that was given.
    Disabled(MachineId, String),
    Gone(MachineId),
}

/// An org, whole.
pub(super) struct Whole {
    pub(super) seq: i64,
    /// The latest changes, up to `seq`.
    pub(super) log: Vec<Changed>,
    pub(super) name: String,
    pub(super) slug: String,
    pub(super) policy: Arc<Document>,
    pub(super) dns: DnsSettings,
    /// The deployment's regions and the org's own.
    pub(super) relays: RelayMap,
    pub(super) machines: Vec<MachineRow>,
    pub(super) presence: Vec<Said>,
}

/// What the log holds after a `seq`, as it stands now.
pub(super) struct Since {
    pub(super) seq: i64,
    /// One entry for each `seq`.
    pub(super) log: Vec<Changed>,
    /// Set if the rules changed.
    pub(super) policy: Option<Arc<Document>>,
    /// Set if the org's own regions changed.
    pub(super) relays: Option<RelayMap>,
    pub(super) machines: Vec<Standing>,
}

/// What there is to apply.
pub(super) enum Loaded {
    Whole(Whole),
    Since(Since),
}

/// The machines of an org, as [`read_machine`] reads them.
fn select() -> String {
    format!(
        "SELECT m.id, m.name, m.os, m.wg_key, m.kem_hash, m.ipv4, m.ipv6,
                COALESCE(u.email, ''), m.key_expires_at, m.tags, p.role, r.advertised, r.approved,
                COALESCE(h.attributes, '{{}}')
                    || jsonb_strip_nulls(jsonb_build_object('{COUNTRY}', m.country)),
                h.results, p.provider_groups, m.token_hash, m.agent_version, g.duty, {}
         FROM machines m LEFT JOIN users u ON u.id = m.user_id
         LEFT JOIN machine_posture h ON h.org_id = m.org_id AND h.machine_id = m.id
         LEFT JOIN members p ON p.org_id = m.org_id AND p.user_id = m.user_id
         LEFT JOIN (SELECT machine_id, array_agg(prefix::text ORDER BY prefix) AS advertised,
                           array_agg(prefix::text ORDER BY prefix) FILTER (WHERE approved) AS approved
                    FROM machine_routes WHERE org_id = $1 GROUP BY machine_id) r ON r.machine_id = m.id
         LEFT JOIN (SELECT g.machine_id, jsonb_build_object('listen_port', g.listen_port, 'peers',
                           COALESCE(jsonb_agg(jsonb_build_object('id', s.machine_id, 'revision', s.revision)
                                              ORDER BY s.machine_id) FILTER (WHERE s.machine_id IS NOT NULL),
                                    '[]')) AS duty
                    FROM gateways g
                    LEFT JOIN (static_peers s JOIN machines x
                               ON x.org_id = s.org_id AND x.id = s.machine_id AND x.approved)
                        ON s.org_id = g.org_id AND s.gateway_id = g.machine_id
                    WHERE g.org_id = $1 GROUP BY g.machine_id, g.listen_port) g ON g.machine_id = m.id
         WHERE m.org_id = $1",
        machines::Standing::COLUMNS
    )
}

impl MachineRow {
    /// What rules can know of the machine.
    pub(super) fn facts(&self) -> Facts {
        // `linux-x86_64`: the system, and what it runs on.
        let system = self.os.split('-').next().unwrap_or_default();
        let os = (!system.is_empty()).then(|| (OS.to_owned(), system.to_lowercase()));
        let posture = self.attributes.clone().into_iter();
        let tags = self.tags.iter();
        Facts {
            user: (!self.user.is_empty()).then(|| self.user.clone()),
            role: self.role,
            groups: self.groups.clone(),
            tags: tags
                .filter_map(|tag| tag.strip_prefix(TAG))
                .map(str::to_owned)
                .collect(),
            addresses: [self.ipv4.into(), self.ipv6.into()].into(),
            routes: self.routes.iter().copied().collect(),
            attributes: posture.chain(os).collect(),
        }
    }
}

/// What rules can know of the machines in the org's network.
pub(crate) async fn facts(tx: &Tx<'_>, org: OrgId) -> Result<BTreeMap<MachineId, Facts>, ApiError> {
    let rows = good_machines(tx, org).await?;
    let inside = rows.iter().filter(|row| row.standing.is_in());
    Ok(inside.map(|row| (row.id, row.facts())).collect())
}

/// What rules can know of one machine, if there is such a machine.
pub(crate) async fn facts_of(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
) -> Result<Option<Facts>, ApiError> {
    let query = format!("{} AND m.id = $2", select());
    let row = tx.query_opt(&query, &[&org.0, &id.0]).await?;
    Ok(row
        .as_ref()
        .map(read_machine)
        .transpose()?
        .map(|row| row.facts()))
}

/// What rules can know of these machines of the org, whether they are good or not.
pub(crate) async fn facts_among(
    tx: &Tx<'_>,
    org: OrgId,
    ids: &[Uuid],
) -> Result<BTreeMap<MachineId, Facts>, ApiError> {
    let query = format!("{} AND m.id = ANY($2)", select());
    let rows = tx.query(&query, &[&org.0, &ids]).await?;
    let rows = rows
        .iter()
        .map(|row| read_machine(row).map(|row| (row.id, row.facts())));
    rows.collect()
}

/// The names of the org's machines.
pub(crate) async fn names(
    tx: &Tx<'_>,
    org: OrgId,
) -> Result<BTreeMap<MachineId, String>, ApiError> {
    let rows = good_machines(tx, org).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// The machines that the control plane serves.
async fn good_machines(tx: &Tx<'_>, org: OrgId) -> Result<Vec<MachineRow>, ApiError> {
    let query = format!("{} AND NOT m.expired AND m.disabled IS NULL", select());
    let rows = tx.query(&query, &[&org.0]).await?;
    rows.iter().map(read_machine).collect()
}

/// Reads the org: what changed after `held`, or all of it if nothing is held or the log does not
/// reach back so far. One snapshot, so that `seq` and rows belong together.
pub(super) async fn load(db: &Db, org: OrgId, held: Option<i64>) -> Result<Loaded, ApiError> {
    let mut connection = db.connect().await?;
    let tx = connection.org_snapshot(org).await?;
    let row = tx
        .query_one("SELECT seq, name, slug FROM orgs WHERE id = $1", &[&org.0])
        .await?;
    let seq: i64 = row.get(0);
    if let Some(held) = held
        && let Some(since) = read_since(&tx, org, held, seq).await?
    {
        return Ok(Loaded::Since(since));
    }
    let machines = good_machines(&tx, org).await?;
    let presence = written::read(&tx, org).await?;
    let log = read_log(&tx, org, seq - RESUME_LOG as i64).await?;
    Ok(Loaded::Whole(Whole {
        seq,
        // Of another version's entries nothing is known, nor of what was before them.
        log: log.unwrap_or_default(),
        name: row.get(1),
        slug: row.get(2),
        policy: policy::load(&tx, org).await?,
        dns: network::dns(&tx, org).await?,
        relays: relays::load(&tx, org).await?,
        machines,
        presence,
    }))
}

/// `None` if the log does not reach back to `held`.
async fn read_since(
    tx: &Tx<'_>,
    org: OrgId,
    held: i64,
    seq: i64,
) -> Result<Option<Since>, ApiError> {
    // Most streams begin while nothing changes, and each looks whether that is so.
    let log = match seq == held {
        true => Some(Vec::new()),
        false => read_log(tx, org, held).await?,
    };
    let Some(log) = log else {
        return Ok(None);
    };
    // Every seq has its entry, so a shorter list was truncated.
    let is_whole = i64::try_from(log.len()).ok() == Some(seq - held);
    if !is_whole || log.contains(&Changed::Org) {
        return Ok(None);
    }
    let mut ids: BTreeSet<Uuid> = BTreeSet::new();
    ids.extend(log.iter().filter_map(|change| match change {
        Changed::Machine(id) => Some(id.0),
        Changed::Policy | Changed::Relays | Changed::Org => None,
    }));
    let rows = match ids.is_empty() {
        true => Vec::new(),
        false => {
            let list: Vec<Uuid> = ids.iter().copied().collect();
            let query = format!("{} AND m.id = ANY($2)", select());
            tx.query(&query, &[&org.0, &list]).await?
        }
    };
    let mut found = Vec::new();
    for row in &rows {
        let machine = read_machine(row)?;
        ids.remove(&machine.id.0);
        let id = machine.id;
        found.push(match &machine.standing {
            machines::Standing {
                disabled: Some(reason),
                ..
            } => Standing::Disabled(id, reason.clone()),
            machines::Standing { expired: true, .. } => Standing::Expired(id),
            _ => Standing::Good(machine),
        });
    }
    found.extend(ids.into_iter().map(|id| Standing::Gone(MachineId(id))));
    Ok(Some(Since {
        seq,
        policy: match log.contains(&Changed::Policy) {
            true => Some(policy::load(tx, org).await?),
            false => None,
        },
        relays: match log.contains(&Changed::Relays) {
            true => Some(relays::load(tx, org).await?),
            false => None,
        },
        machines: found,
        log,
    }))
}

/// The log after `held`, in order. `None`: it holds what this build does not know.
async fn read_log(tx: &Tx<'_>, org: OrgId, held: i64) -> Result<Option<Vec<Changed>>, ApiError> {
    let rows = tx
        .query(
            "SELECT kind, machine_id FROM changes WHERE org_id = $1 AND seq > $2 ORDER BY seq",
            &[&org.0, &held],
        )
        .await?;
    let changes = rows.iter().map(|row| match (row.get(0), row.get(1)) {
        ("machine", Some(id)) => Some(Changed::Machine(MachineId(id))),
        ("policy", _) => Some(Changed::Policy),
        ("relays", _) => Some(Changed::Relays),
        ("org", _) => Some(Changed::Org),
        _ => None,
    });
    Ok(changes.collect())
}

fn read_machine(row: &Row) -> Result<MachineRow, ApiError> {
    let (Ok(wg_key), Ok(kem_hash), Ok(token_hash), IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (
        row.get::<_, &[u8]>(3).try_into(),
        row.get::<_, &[u8]>(4).try_into(),
        row.get::<_, &[u8]>(16).try_into(),
        row.get(5),
        row.get(6),
    ) else {
        return Err(ApiError::Internal("a stored machine is damaged".to_owned()));
    };
    Ok(MachineRow {
        id: MachineId(row.get(0)),
        name: row.get(1),
        os: row.get(2),
        wg_key: WgPublicKey(wg_key),
        kem_hash: KemKeyHash(kem_hash),
        ipv4,
        ipv6,
        user: row.get(7),
        role: row
            .get::<_, Option<&str>>(10)
            .map(orgs::parse_role)
            .transpose()?,
        groups: row
            .get::<_, Option<Vec<String>>>(15)
            .into_iter()
            .flatten()
            .collect(),
        key_expires_at: row.get(8),
        advertised: read_prefixes(row.get(11))?,
        routes: read_prefixes(row.get(12))?,
        attributes: stored(row, 13)?.unwrap_or_default(),
        posture: posture::notices(&stored::<Vec<PostureResult>>(row, 14)?.unwrap_or_default()),
        tags: row.get(9),
        gateway: stored(row, 18)?,
        standing: machines::Standing::read(row, 19),
        token_hash,
        agent_version: Some(row.get(17)),
    })
}

/// `cidr` values, as text.
fn read_prefixes(texts: Option<Vec<&str>>) -> Result<Vec<IpNet>, ApiError> {
    let damaged = |_| ApiError::Internal("a stored route is damaged".to_owned());
    let texts = texts.unwrap_or_default().into_iter();
    texts.map(|text| text.parse().map_err(damaged)).collect()
}

/// A value that is kept as JSON.
fn stored<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>, ApiError> {
    let value: Result<Option<Json<T>>, _> = row.try_get(column);
    value
        .map(|value| value.map(|Json(value)| value))
        .map_err(|error| {
            ApiError::Internal(format!(
                "what is stored of a machine cannot be read: {error}"
            ))
        })
}
