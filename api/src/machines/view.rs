//! Machines as people see them.

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use ztna_proto::api::{Machine, OFFLINE_AFTER_SECONDS};
use ztna_proto::ids::{AuthKeyId, MachineId, OrgId, RegionId, UserId};
use ztna_proto::machines::MachineLife;

use super::authenticate::wg_key;
use super::search::InDatabase;
use super::standing::Standing;
use crate::app::State;
use crate::db::Tx;
use crate::http::ApiError;

/// Columns of a [`Machine`], in [`read`]'s order, and what they are of.
fn select() -> String {
    format!(
        "SELECT m.id, m.name, m.os, m.agent_version, m.wg_key, m.ipv4, m.ipv6, u.email,
                p.last_seen, m.created_at, m.key_expires_at, o.slug,
                m.tags, m.ephemeral, m.key_expiry, m.auth_key_id, {}, p.online,
                p.report ->> 'home_region', h.reported_at,
                CASE WHEN jsonb_array_length(h.results) > 0
                     THEN jsonb_path_exists(h.results, '$[*].failing_since ? (@ != null)') END
         FROM machines m
         JOIN orgs o ON o.id = m.org_id
         LEFT JOIN users u ON u.id = m.user_id
         LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
         LEFT JOIN machine_posture h ON h.org_id = m.org_id AND h.machine_id = m.id",
        Standing::COLUMNS
    )
}

/// Whether each of the words `$5` stands somewhere in what is known of a machine, as `search::text_of` has it; `$6` is
/// what its name ends in behind the org's label.
const SEARCH: &str = " AND NOT EXISTS (SELECT FROM unnest($5::text[]) word WHERE position(word IN lower(concat_ws(E'\\n',
    m.name, m.name || '.' || o.slug || $6, host(m.ipv4), host(m.ipv6), u.email, m.os, m.agent_version,
    array_to_string(m.tags, E'\\n')))) = 0)";

/// A page of an org's machines, of one person or everybody, and how many there are on all pages.
pub(super) async fn read_page(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    of: Option<UserId>,
    page: &InDatabase,
) -> Result<(u64, Vec<Machine>), ApiError> {
    let of = of.map(|user| user.0);
    let suffix = format!(".{}", state.dns_suffix);
    let mut condition = "m.org_id = $1 AND ($2::uuid IS NULL OR m.user_id = $2)
        AND (cardinality($3::text[]) = 0 OR split_part(m.os, '-', 1) = ANY($3))
        AND (cardinality($4::text[]) = 0 OR m.tags && $4)"
        .to_owned();
    let mut wanted: Vec<&(dyn ToSql + Sync)> = vec![&org.0, &of, &page.systems, &page.tags];
    let mut searched = "";
    if !page.words.is_empty() {
        condition.push_str(SEARCH);
        wanted.push(&page.words);
        wanted.push(&suffix);
        searched = "JOIN orgs o ON o.id = m.org_id LEFT JOIN users u ON u.id = m.user_id";
    }
    let count = format!("SELECT count(*) FROM machines m {searched} WHERE {condition}");
    let total: i64 = tx.query_one(&count, &wanted).await?.get(0);
    let query = format!(
        "{} WHERE {condition} ORDER BY {} LIMIT {} OFFSET {}",
        select(),
        page.order,
        page.limit,
        page.offset
    );
    let rows = tx.query(&query, &wanted).await?;
    let machines = read_all(state, org, &rows)?;
    Ok((u64::try_from(total).unwrap_or_default(), machines))
}

/// Machines of an org by name: one or all, of one person or everybody.
pub(super) async fn read_machines(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<MachineId>,
    of: Option<UserId>,
) -> Result<Vec<Machine>, ApiError> {
    let of = of.map(|user| user.0);
    let condition = "m.org_id = $1 AND ($2::uuid IS NULL OR m.user_id = $2)";
    let rows = match only {
        // By the primary key.
        Some(id) => {
            let query = format!("{} WHERE {condition} AND m.id = $3", select());
            tx.query(&query, &[&org.0, &of, &id.0]).await?
        }
        None => {
            let query = format!("{} WHERE {condition} ORDER BY m.name", select());
            tx.query(&query, &[&org.0, &of]).await?
        }
    };
    read_all(state, org, &rows)
}

fn read_all(state: &State, org: OrgId, rows: &[Row]) -> Result<Vec<Machine>, ApiError> {
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
        posture: {
            let clock = state.posture_clock.clock();
            clock.standing(row.get(28), row.get(27), Timestamp::now())
        },
        online,
        last_seen,
        home_region: home.or_else(|| {
            let written: Option<&str> = row.get(26);
            written?.parse().ok().map(RegionId)
        }),
        tunnels: None,
        created_at: row.get(9),
        key_expires_at: row.get(10),
    })
}

fn is_recent(at: Timestamp) -> bool {
    let silence = Timestamp::now().duration_since(at).as_secs();
    silence.unsigned_abs() <= OFFLINE_AFTER_SECONDS
}
