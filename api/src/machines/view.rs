//! Machines as people see them.

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_postgres::Row;
use ztna_proto::api::{Machine, OFFLINE_AFTER_SECONDS};
use ztna_proto::ids::{AuthKeyId, MachineId, OrgId, RegionId, UserId};
use ztna_proto::machines::MachineLife;

use super::authenticate::wg_key;
use super::standing::Standing;
use crate::app::State;
use crate::db::Tx;
use crate::http::ApiError;

/// Machines of an org by name: one or all, of one person or everybody.
pub(super) async fn read_machines(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<MachineId>,
    of: Option<UserId>,
) -> Result<Vec<Machine>, ApiError> {
    let query = format!(
        "SELECT m.id, m.name, m.os, m.agent_version, m.wg_key, m.ipv4, m.ipv6, u.email,
                p.last_seen, m.created_at, m.key_expires_at, o.slug,
                m.tags, m.ephemeral, m.key_expiry, m.auth_key_id, {}, p.online,
                p.report ->> 'home_region'
         FROM machines m
         JOIN orgs o ON o.id = m.org_id
         LEFT JOIN users u ON u.id = m.user_id
         LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
         WHERE m.org_id = $1 AND m.id = COALESCE($2, m.id)
           AND ($3::uuid IS NULL OR m.user_id = $3)
         ORDER BY m.name",
        Standing::COLUMNS
    );
    let rows = tx
        .query(
            &query,
            &[&org.0, &only.map(|id| id.0), &of.map(|user| user.0)],
        )
        .await?;
    let live = state.hub.presence(org);
    let homes = state.hub.homes(org);
    // The hub knows sooner than the database; without it, what nodes have written down counts.
    rows.iter()
        .map(|row| {
            let id = MachineId(row.get(0));
            let live = live.get(&id).copied();
            read(state, row, live, homes.get(&id).copied())
        })
        .collect()
}

fn read(
    state: &State,
    row: &Row,
    live: Option<(bool, Option<Timestamp>)>,
    home: Option<RegionId>,
) -> Result<Machine, ApiError> {
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(5), row.get(6)) else {
        return Err(ApiError::Internal("a machine has no addresses".to_owned()));
    };
    let name: String = row.get(1);
    let written: Option<Timestamp> = row.get(8);
    let (online, last_seen) = match live {
        Some((online, heard)) => (online, written.max(heard)),
        None => {
            let was_there: Option<bool> = row.get(25);
            let there = was_there.unwrap_or_default() && written.is_some_and(is_recent);
            (there, written)
        }
    };
    let standing = Standing::read(row, 16);
    let tags: Vec<String> = row.get(12);
    Ok(Machine {
        id: MachineId(row.get(0)),
        dns_name: state.dns_name(&name, row.get(11)),
        name,
        os: row.get(2),
        agent_version: row.get(3),
        wg_key: wg_key(row.get(4))?,
        ipv4,
        ipv6,
        user: row.get(7),
        life: MachineLife {
            state: standing.state(online),
            reason: standing.reason().map(str::to_owned),
            ephemeral: row.get(13),
            key_expiry: row.get::<_, bool>(14) && tags.is_empty(),
            tags,
            auth_key: row.get::<_, Option<_>>(15).map(AuthKeyId),
            wipe: standing.wipe,
        },
        online,
        last_seen,
        home_region: home.or_else(|| {
            let written: Option<&str> = row.get(26);
            written?.parse().ok().map(RegionId)
        }),
        created_at: row.get(9),
        key_expires_at: row.get(10),
    })
}

fn is_recent(at: Timestamp) -> bool {
    let silence = Timestamp::now().duration_since(at).as_secs();
    silence.unsigned_abs() <= OFFLINE_AFTER_SECONDS
}
