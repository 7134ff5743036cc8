//! How a machine ends: deleted by a person, or expired by time.

use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::keys::WgPublicKey;

use super::authenticate::wg_key;
use super::check_text;
use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, Machine};
use crate::netmap::{self, Changed};
use crate::relays;

/// Writes down which version of the agent a machine runs, if that is another than before. Peers are
/// not told: they do not see it.
pub(crate) async fn set_agent_version(
    state: &State,
    machine: &Machine,
    version: &str,
) -> Result<(), ApiError> {
    check_text("agent_version", version)?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(machine.org).await?;
    tx.execute(
        "UPDATE machines SET agent_version = $3
         WHERE org_id = $1 AND id = $2 AND agent_version <> $3",
        &[&machine.org.0, &machine.id.0, &version],
    )
    .await?;
    tx.commit().await
}

/// Deletes a machine of the org, `of` one person if named, and keeps its token's hash so that it can
/// be told. `None`: there is no such machine.
pub(super) async fn delete(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    of: Option<UserId>,
) -> Result<Option<WgPublicKey>, ApiError> {
    let row = tx
        .query_opt(
            "DELETE FROM machines WHERE org_id = $1 AND id = $2 AND ($3::uuid IS NULL OR user_id = $3)
             RETURNING wg_key, token_hash",
            &[&org.0, &id.0, &of.map(|user| user.0)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    tx.execute(
        "INSERT INTO deleted_machines (org_id, id, token_hash) VALUES ($1, $2, $3)",
        &[&org.0, &id.0, &row.get::<_, &[u8]>(1)],
    )
    .await?;
    wg_key(row.get(0)).map(Some)
}

/// Machines that a transaction has deleted, to be told of once it is committed.
#[must_use = "peers and relays have to be told"]
pub(crate) struct Removed(Vec<WgPublicKey>);

impl Removed {
    /// Cuts the machines off and tells their peers.
    pub(crate) async fn tell(self, state: &State, org: OrgId) {
        if self.0.is_empty() {
            return;
        }
        for key in self.0 {
            state.cut(key).await;
        }
        state.hub.notify(org).await;
    }
}

/// Deletes the org's machines, those that one person has enrolled or all. The transaction holds the
/// org's row.
pub(crate) async fn remove_all(
    tx: &Tx<'_>,
    org: OrgId,
    of: Option<UserId>,
) -> Result<Removed, ApiError> {
    let rows = tx
        .query(
            "SELECT id FROM machines WHERE org_id = $1 AND ($2::uuid IS NULL OR user_id = $2) ORDER BY id",
            &[&org.0, &of.map(|user| user.0)],
        )
        .await?;
    let mut keys = Vec::new();
    for row in &rows {
        let id = MachineId(row.get(0));
        netmap::append_change(tx, org, Changed::Machine(id)).await?;
        if let Some(key) = delete(tx, org, id, of).await? {
            relays::append(tx, &key).await?;
            keys.push(key);
        }
    }
    Ok(Removed(keys))
}

/// Ends machines whose time is over, in every org.
pub(crate) async fn expire_due(state: &State) -> Result<(), ApiError> {
    for org in orgs_to_expire(state).await? {
        for (id, wg_key) in expire_in(state, org).await? {
            tracing::info!(%org, machine = %id, "a machine's sign-in has expired");
            state.cut(wg_key).await;
        }
        state.hub.notify(org).await;
    }
    Ok(())
}

async fn orgs_to_expire(state: &State) -> Result<Vec<OrgId>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let rows = tx
        .query("SELECT * FROM lookup_orgs_to_expire()", &[])
        .await?;
    Ok(rows.iter().map(|row| OrgId(row.get(0))).collect())
}

async fn expire_in(state: &State, org: OrgId) -> Result<Vec<(MachineId, WgPublicKey)>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    // Taken before any machine's row, as every change does: no two of them wait for each other.
    tx.query_opt("SELECT FROM orgs WHERE id = $1 FOR UPDATE", &[&org.0])
        .await?;
    let rows = tx
        .query(
            "UPDATE machines SET expired = true
             WHERE org_id = $1 AND NOT expired AND key_expires_at <= now() RETURNING id, wg_key",
            &[&org.0],
        )
        .await?;
    let mut ended = Vec::new();
    for row in &rows {
        let id = MachineId(row.get(0));
        netmap::append_change(&tx, org, Changed::Machine(id)).await?;
        ended.push((id, wg_key(row.get(1))?));
    }
    for (_, key) in &ended {
        relays::append(&tx, key).await?;
    }
    tx.commit().await?;
    Ok(ended)
}
