//! Which rows of a log somebody wants to see, and how they are read.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use utoipa::IntoParams;
use uuid::Uuid;
use ztna_proto::audit::{
    AUDIT_SCAN, AuditActor, AuditActorKind, AuditEntry, AuditTarget, MAX_AUDIT_TEXT,
};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::keys::hex;

use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// What rows have to be; all of it.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Id of a person, key or machine that did it; of a person, also what their API keys did.
    actor: Option<Uuid>,
    /// An action (`machine.update`), or all of a kind (`machine`).
    #[param(max_length = 100)]
    action: Option<String>,
    /// Id of what it was done to.
    #[param(max_length = 100)]
    target: Option<String>,
    /// From this time on.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Somewhere in actor, target, address, client, before or after, in any case.
    #[param(max_length = 100)]
    text: Option<String>,
}

/// Columns of an [`AuditEntry`], in [`read`]'s order.
const COLUMNS: &str = "seq, at, actor_kind, actor_id, actor_for, actor_name, action, target_id,
    target_name, before::text, after::text, ip, client, route, request_id, hash";

impl Filter {
    /// # Errors
    /// `VALIDATION_ERROR` if a text is longer than anything that it could find.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let texts = [
            ("action", &self.action),
            ("target", &self.target),
            ("text", &self.text),
        ];
        for (name, text) in texts {
            let Some(text) = text else { continue };
            // The database's texts hold no NUL.
            if text.chars().count() > MAX_AUDIT_TEXT || text.contains('\0') {
                return Err(refuse(
                    ErrorCode::ValidationError,
                    format!("`{name}` may have {MAX_AUDIT_TEXT} characters; shorten it"),
                ));
            }
        }
        Ok(())
    }

    /// A time that the database knows: it knows none that is many thousand years ago.
    fn time(at: Option<Timestamp>) -> Option<Timestamp> {
        at.map(|at| at.max(Timestamp::UNIX_EPOCH))
    }

    /// Rows with `above < seq < below` that the filter lets through: at most `limit` of at most
    /// [`AUDIT_SCAN`], and the last row that was looked at.
    pub(super) async fn select(
        &self,
        tx: &Tx<'_>,
        org: OrgId,
        range: Range,
        limit: i64,
    ) -> Result<Selected, ApiError> {
        let (first, last) = match range.order {
            Order::Newest => (range.above.max(range.below - 1 - AUDIT_SCAN), range.below),
            Order::Oldest => (range.above, range.below.min(range.above + 1 + AUDIT_SCAN)),
        };
        let direction = match range.order {
            Order::Newest => "DESC",
            Order::Oldest => "ASC",
        };
        let rows = tx
            .query(
                &format!(
                    "SELECT {COLUMNS} FROM audit_log
                     WHERE org_id = $1 AND seq > $2 AND seq < $3
                       AND ($4::uuid IS NULL OR actor_id = $4 OR actor_for = $4)
                       AND ($5::text IS NULL OR action = $5 OR starts_with(action, $5 || '.'))
                       AND ($6::text IS NULL OR target_id = $6)
                       AND ($7::timestamptz IS NULL OR at >= $7)
                       AND ($8::timestamptz IS NULL OR at < $8)
                       AND ($9::text IS NULL OR strpos(lower(concat_ws(E'\\n', actor_name, target_name,
                            host(ip), client, before::text, after::text)), lower($9)) > 0)
                     ORDER BY seq {direction} LIMIT $10"
                ),
                &[
                    &org.0,
                    &first,
                    &last,
                    &self.actor,
                    &self.action,
                    &self.target,
                    &Self::time(self.since),
                    &Self::time(self.until),
                    &self.text,
                    &limit,
                ],
            )
            .await?;
        let entries: Vec<AuditEntry> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) >= limit;
        let reached = match (entries.last(), range.order) {
            (Some(entry), _) if full => entry.seq,
            (_, Order::Newest) => first + 1,
            (_, Order::Oldest) => last - 1,
        };
        Ok(Selected { entries, reached })
    }
}

/// In which order rows are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Newest,
    Oldest,
}

/// Rows between two, both not included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) above: i64,
    pub(super) below: i64,
    pub(super) order: Order,
}

/// Rows that were found.
pub(super) struct Selected {
    pub(super) entries: Vec<AuditEntry>,
    /// The last row that was looked at.
    pub(super) reached: i64,
}

/// The last row that was cut off, and the last that there is.
pub(super) async fn ends(tx: &Tx<'_>, org: OrgId) -> Result<(i64, i64), ApiError> {
    let row = tx
        .query_one(
            "SELECT cut_seq, seq FROM audit_heads WHERE org_id = $1",
            &[&org.0],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// The last row that an org's log has; 0 if it has none yet.
pub(crate) async fn head(tx: &Tx<'_>, org: OrgId) -> Result<i64, ApiError> {
    Ok(ends(tx, org).await?.1)
}

/// The rows with `above < seq < below`, the oldest first, at most `limit`.
pub(crate) async fn between(
    tx: &Tx<'_>,
    org: OrgId,
    above: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<AuditEntry>, ApiError> {
    let order = Order::Oldest;
    let range = Range {
        above,
        below,
        order,
    };
    let found = Filter::default().select(tx, org, range, limit).await?;
    Ok(found.entries)
}

fn read(row: &Row) -> Result<AuditEntry, ApiError> {
    let kind = match row.get(2) {
        "user" => AuditActorKind::User,
        "api_key" => AuditActorKind::ApiKey,
        "auth_key" => AuditActorKind::AuthKey,
        "machine" => AuditActorKind::Machine,
        "system" => AuditActorKind::System,
        "anonymous" => AuditActorKind::Anonymous,
        _ => AuditActorKind::Unknown,
    };
    Ok(AuditEntry {
        seq: row.get(0),
        at: row.get(1),
        actor: AuditActor {
            kind,
            id: row.get(3),
            on_behalf_of: row.get::<_, Option<Uuid>>(4).map(UserId),
            name: row.get(5),
        },
        action: row.get(6),
        target: AuditTarget {
            id: row.get(7),
            name: row.get(8),
        },
        before: raw(row.get(9))?,
        after: raw(row.get(10))?,
        ip: row.get(11),
        client: row.get(12),
        route: row.get(13),
        request_id: row.get(14),
        hash: hex(row.get::<_, &[u8]>(15)),
    })
}

/// As it is kept, so that who exports a log can make its hashes again.
fn raw(text: Option<String>) -> Result<Option<Box<RawValue>>, ApiError> {
    text.map(RawValue::from_string)
        .transpose()
        .map_err(|error| ApiError::Internal(format!("a row of the audit log: {error}")))
}
