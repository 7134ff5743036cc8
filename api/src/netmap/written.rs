//! Volatile state in the database: written in batches, read when an org is opened, and by nodes that
//! cannot hear each other. Times are the database's, since nodes' clocks differ.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;
use ztna_proto::ids::{MachineId, OrgId};

use super::nodes::Said;
use crate::db::{Db, Tx};
use crate::http::ApiError;

/// Transactions that began before a reading may become visible after it; the next reading begins this
/// much earlier. What is read twice does no harm.
const OVERLAP: Duration = Duration::from_secs(30);

/// Machines whose state is written at a time, at most: what one statement takes is bounded, and what it locks.
pub(super) const MAX_TOGETHER: usize = 4096;

/// Writes volatile state of machines of several orgs, in one statement. One that was deleted meanwhile is left
/// out, and nothing replaces what is newer.
pub(super) async fn write(db: &Db, states: &[(OrgId, Said)]) -> Result<(), ApiError> {
    let (mut orgs, mut ids, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut online, mut streams) = (Vec::new(), Vec::new());
    let (mut silences, mut reports) = (Vec::new(), Vec::new());
    for (org, state) in states {
        let (Some(silence), Some(report)) = (state.silent_ms, &state.report) else {
            continue;
        };
        orgs.push(org.0);
        ids.push(state.id.0);
        versions.push(signed(state.version));
        online.push(state.online);
        streams.push(state.stream.map(signed));
        silences.push(signed(silence));
        reports.push(Json(report));
    }
    let connection = db.connect().await?;
    connection
        .look_up(
            "SELECT write_presence($1, $2, $3, $4, $5, $6, $7)",
            &[
                &orgs, &ids, &versions, &online, &streams, &silences, &reports,
            ],
        )
        .await?;
    Ok(())
}

/// What is written down of an org's machines.
pub(super) async fn read(tx: &Tx<'_>, org: OrgId) -> Result<Vec<Said>, ApiError> {
    let rows = tx
        .query(
            "SELECT org_id, machine_id, version, online, stream,
                 GREATEST(0, EXTRACT(epoch FROM now() - last_seen) * 1000)::bigint, report
             FROM machine_presence WHERE org_id = $1",
            &[&org.0],
        )
        .await?;
    Ok(rows.iter().filter_map(read_row).collect())
}

/// What several orgs' nodes have written since a reading, and where orgs stand.
pub(super) struct News {
    pub(super) seqs: Vec<(OrgId, i64)>,
    pub(super) machines: BTreeMap<OrgId, Vec<Said>>,
    /// The database's time of this reading.
    pub(super) at: Timestamp,
}

/// Reads what is new in these orgs since an earlier reading, or all that is written down.
pub(super) async fn news(
    db: &Db,
    orgs: &[OrgId],
    since: Option<Timestamp>,
) -> Result<News, ApiError> {
    let ids: Vec<Uuid> = orgs.iter().map(|org| org.0).collect();
    let overlap = jiff::SignedDuration::from_secs(OVERLAP.as_secs() as i64);
    let since = since.map_or(Timestamp::UNIX_EPOCH, |at| at - overlap);
    let mut connection = db.connect().await?;
    let tx = connection.bare().await?;
    let at = tx.query_one("SELECT now()", &[]).await?.get(0);
    let rows = tx
        .query(
            "SELECT org_id, machine_id, version, online, stream,
                 GREATEST(0, EXTRACT(epoch FROM now() - last_seen) * 1000)::bigint, report
             FROM lookup_presence_news($1, $2)",
            &[&ids, &since],
        )
        .await?;
    let mut machines: BTreeMap<OrgId, Vec<Said>> = BTreeMap::new();
    for row in &rows {
        let org = OrgId(row.get(0));
        machines.entry(org).or_default().extend(read_row(row));
    }
    let rows = tx
        .query("SELECT org_id, seq FROM lookup_org_seqs($1)", &[&ids])
        .await?;
    let seqs = rows.iter().map(|row| (OrgId(row.get(0)), row.get(1)));
    let seqs = seqs.collect();
    tx.commit().await?;
    Ok(News { seqs, machines, at })
}

/// A report that cannot be read (of another version) counts as none: the machine sends the next.
fn read_row(row: &Row) -> Option<Said> {
    let Json(report) = row.try_get(6).ok()?;
    Some(Said {
        id: MachineId(row.get(1)),
        version: row.get::<_, i64>(2).unsigned_abs(),
        online: row.get(3),
        stream: row.get::<_, Option<i64>>(4).map(i64::unsigned_abs),
        silent_ms: Some(row.get::<_, i64>(5).unsigned_abs()),
        report: Some(report),
    })
}

/// As the database counts. What does not fit is no version of ours.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
