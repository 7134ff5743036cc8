//! How a machine changes, and how it ends: deleted by a person, expired by time, gone by silence.

use jiff::Timestamp;
use ztna_proto::api::UpdateMachineRequest;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{AuthKeyId, MachineId, OrgId, UserId};
use ztna_proto::keys::WgPublicKey;

use super::authenticate::wg_key;
use super::routes::no_machine;
use super::standing::Standing;
use super::{check_text, normalise_name};
use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, Machine, refuse};
use crate::netmap::{self, Changed};
use crate::{orgs, relays};

/// Writes down which version of the agent a machine runs, if that is another than before. Peers are
/// not told: they do not see it.
pub(crate) async fn set_agent_version(
    state: &State,
    machine: &Machine,
    version: &str,
) -> Result<(), ApiError> {
    if state.hub.runs(machine, version) {
        return Ok(());
    }
    check_text("agent_version", version)?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(machine.org).await?;
    tx.execute(
        "UPDATE machines SET agent_version = $3
         WHERE org_id = $1 AND id = $2 AND agent_version <> $3",
        &[&machine.org.0, &machine.id.0, &version],
    )
    .await?;
    tx.commit().await?;
    state.hub.has_run(machine, version);
    Ok(())
}

/// What a change has done to a machine's sign-in.
pub(super) struct Updated {
    pub(super) wg_key: WgPublicKey,
    /// It is over now.
    pub(super) ended: bool,
    /// It was over, and is not.
    pub(super) returned: bool,
}

/// Changes a machine, `of` one person if named. `tags` are checked. The transaction holds the org's row.
pub(super) async fn update(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    of: Option<UserId>,
    request: &UpdateMachineRequest,
    tags: Option<Vec<String>>,
) -> Result<Updated, ApiError> {
    let name = request.name.as_deref().map(normalise_name).transpose()?;
    let query = format!(
        "SELECT m.wg_key, m.tags, m.key_expiry, m.key_expires_at,
                now() + o.key_expiry_seconds * interval '1 second', {}
         FROM machines m JOIN orgs o ON o.id = m.org_id
         WHERE m.org_id = $1 AND m.id = $2 AND ($3::uuid IS NULL OR m.user_id = $3)",
        Standing::COLUMNS
    );
    let row = tx
        .query_opt(&query, &[&org.0, &id.0, &of.map(|user| user.0)])
        .await?
        .ok_or_else(no_machine)?;
    let before = Standing::read(&row, 5);
    let over: Option<Timestamp> = row.get(3);
    if of.is_some() && before.is_held() {
        return Err(held());
    }
    if of.is_some() && (before.expired || over.is_some_and(|over| over <= Timestamp::now())) {
        return Err(refuse(
            ErrorCode::Forbidden,
            "the machine's sign-in has expired, and with tags it would be in the network again; sign in \
             with `ztna up` on the machine, or ask an admin",
        ));
    }
    let tags: Vec<String> = tags.unwrap_or_else(|| row.get(1));
    let key_expiry: bool = request.key_expiry.unwrap_or_else(|| row.get(2));
    let expires = key_expiry && tags.is_empty() && before.wipe.is_none();
    if !expires && request.key_expires_at.is_some() {
        return Err(refuse(
            ErrorCode::ValidationError,
            "the machine's sign-in does not end: it has tags, or `key_expiry` is off; change that first",
        ));
    }
    let ends_at: Option<Timestamp> = match expires {
        true => request.key_expires_at.or(over).or_else(|| row.get(4)),
        false => None,
    };
    let expired = ends_at.is_some_and(|ends_at| ends_at <= Timestamp::now());
    tx.execute(
        "UPDATE machines SET name = COALESCE($3, name), tags = $4, key_expiry = $5,
                user_id = CASE WHEN cardinality($4::text[]) = 0 THEN user_id END,
                key_expires_at = $6, expired = $7
         WHERE org_id = $1 AND id = $2",
        &[&org.0, &id.0, &name, &tags, &key_expiry, &ends_at, &expired],
    )
    .await
    .map_err(|error| match error.violates("machines_org_id_name_key") {
        true => refuse(
            ErrorCode::Conflict,
            "another machine of the org has that name; choose another",
        ),
        false => error,
    })?;
    let after = Standing {
        expired,
        ..before.clone()
    };
    Ok(Updated {
        wg_key: wg_key(row.get(0))?,
        ended: before.is_in() && !after.is_in(),
        returned: !before.is_in() && after.is_in(),
    })
}

/// Refuses what would end the hold of a member's own machine. The transaction holds the org's row.
pub(super) async fn refuse_held(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    user: UserId,
) -> Result<(), ApiError> {
    let query = format!(
        "SELECT {} FROM machines m WHERE m.org_id = $1 AND m.id = $2 AND m.user_id = $3",
        Standing::COLUMNS
    );
    let row = tx.query_opt(&query, &[&org.0, &id.0, &user.0]).await?;
    match row.is_some_and(|row| Standing::read(&row, 0).is_held()) {
        true => Err(held()),
        false => Ok(()),
    }
}

fn held() -> ApiError {
    refuse(
        ErrorCode::Forbidden,
        "the machine is quarantined, locked, disabled or being wiped; an admin of its org can end that, \
         or delete it",
    )
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

/// Machines that a transaction has deleted or cut off, to be told of once it is committed.
#[must_use = "peers and relays have to be told"]
pub(crate) struct Removed(Vec<WgPublicKey>);

impl Removed {
    /// Voids the relay tickets of the machines. The last thing in the transaction: who has begun it
    /// must not wait for an org's row any more.
    pub(crate) async fn append(&self, tx: &Tx<'_>) -> Result<(), ApiError> {
        for key in &self.0 {
            relays::append(tx, key).await?;
        }
        Ok(())
    }

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
/// org's row, and calls [`Removed::append`] at its end.
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
            keys.push(key);
        }
    }
    Ok(Removed(keys))
}

/// Quarantines the machines that a key has enrolled. The transaction holds the org's row.
pub(crate) async fn quarantine_all(
    tx: &Tx<'_>,
    org: OrgId,
    key: AuthKeyId,
    reason: &str,
) -> Result<Removed, ApiError> {
    let rows = tx
        .query(
            "UPDATE machines SET quarantined = $3
             WHERE org_id = $1 AND auth_key_id = $2 AND quarantined IS NULL RETURNING id, wg_key",
            &[&org.0, &key.0, &reason],
        )
        .await?;
    let mut keys = Vec::new();
    for row in &rows {
        netmap::append_change(tx, org, Changed::Machine(MachineId(row.get(0)))).await?;
        keys.push(wg_key(row.get(1))?);
    }
    let removed = Removed(keys);
    removed.append(tx).await?;
    Ok(removed)
}

/// Deletes ephemeral machines that were silent for too long, in every org; not those that are held,
/// which would be free of it by silence. Nobody's silence counts
/// before this process has been there to hear for as long.
pub(crate) async fn remove_silent(state: &State) -> Result<(), ApiError> {
    if state.started.elapsed() < state.ephemeral_silence {
        return Ok(());
    }
    let seconds = i64::try_from(state.ephemeral_silence.as_secs()).unwrap_or(i64::MAX);
    let orgs = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        tx.query(
            "SELECT * FROM lookup_orgs_with_silent_machines($1)",
            &[&seconds],
        )
        .await?
    };
    for org in orgs.iter().map(|row| OrgId(row.get(0))) {
        remove_silent_in(state, org, seconds)
            .await?
            .tell(state, org)
            .await;
    }
    Ok(())
}

async fn remove_silent_in(state: &State, org: OrgId, seconds: i64) -> Result<Removed, ApiError> {
    let present = state.hub.presence(org);
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    orgs::lock(&tx, org).await?;
    let query = format!(
        "SELECT m.id FROM machines m
         LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
         WHERE m.org_id = $1 AND m.ephemeral AND NOT {}
           AND COALESCE(p.last_seen, m.created_at) < now() - $2::bigint * interval '1 second'
         ORDER BY m.id",
        Standing::IS_HELD
    );
    let rows = tx.query(&query, &[&org.0, &seconds]).await?;
    let silent = rows.iter().map(|row| MachineId(row.get(0)));
    let silent = silent.filter(|id| !present.get(id).is_some_and(|(online, _)| *online));
    let mut keys = Vec::new();
    for id in silent {
        netmap::append_change(&tx, org, Changed::Machine(id)).await?;
        if let Some(key) = delete(&tx, org, id, None).await? {
            tracing::info!(%org, machine = %id, "an ephemeral machine was silent for too long");
            keys.push(key);
        }
    }
    let removed = Removed(keys);
    removed.append(&tx).await?;
    tx.commit().await?;
    Ok(removed)
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
    orgs::lock(&tx, org).await?;
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
