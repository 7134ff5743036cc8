//! Keys that enrol machines without a person at hand.

mod routes;

pub(crate) use routes::routes;

use uuid::Uuid;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{AuthKeyId, OrgId};
use ztna_proto::tokens::AuthKey;

use crate::db::{Connection, Tx};
use crate::http::{ApiError, refuse};

/// The org that a key enrols into, and the key's id.
///
/// # Errors
/// `INVALID_KEY` if there is no such key.
pub(crate) async fn find(
    connection: &Connection,
    key: &AuthKey,
) -> Result<(OrgId, AuthKeyId), ApiError> {
    let row = connection
        .look_up(
            "SELECT org_id, id FROM lookup_auth_key($1)",
            &[&key.hash().as_slice()],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::InvalidKey,
            "this control plane knows no such auth key; check the server's address, or have a new key made",
        ));
    };
    Ok((OrgId(row.get(0)), AuthKeyId(row.get(1))))
}

/// What a key says of the machines that it enrols. By default nothing, as for a person's machine.
#[derive(Default)]
pub(crate) struct Terms {
    pub(crate) tags: Vec<String>,
    pub(crate) ephemeral: bool,
    pub(crate) preapproved: bool,
}

/// Uses the key for so many machines, within the registration's transaction: of any number of callers at once, a
/// one-shot key admits one, a reusable one as many as it may, and none counts whose registration fails.
///
/// # Errors
/// `INVALID_KEY` (revoked), `KEY_EXPIRED` or `KEY_USED`.
pub(crate) async fn consume(
    tx: &Tx<'_>,
    org: OrgId,
    key: AuthKeyId,
    machines: usize,
) -> Result<Terms, ApiError> {
    let machines = i64::try_from(machines).unwrap_or(i64::MAX);
    let consumed = tx
        .query_opt(
            "UPDATE auth_keys SET uses = uses + $3
             WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL AND expires_at > now()
               AND (reusable OR uses + $3 = 1) AND (max_uses IS NULL OR uses + $3 <= max_uses)
             RETURNING tags, ephemeral, preapproved",
            &[&org.0, &key.0, &machines],
        )
        .await?;
    if let Some(row) = consumed {
        return Ok(Terms {
            tags: row.get(0),
            ephemeral: row.get(1),
            preapproved: row.get(2),
        });
    }
    Err(why_not(tx, org, key.0).await?)
}

async fn why_not(tx: &Tx<'_>, org: OrgId, key: Uuid) -> Result<ApiError, ApiError> {
    let row = tx
        .query_opt(
            "SELECT revoked_at IS NOT NULL, expires_at <= now(), reusable FROM auth_keys
             WHERE org_id = $1 AND id = $2",
            &[&org.0, &key],
        )
        .await?;
    let (code, message) = match row.map(|row| (row.get(0), row.get(1), row.get(2))) {
        None | Some((true, _, _)) => (
            ErrorCode::InvalidKey,
            "the auth key was revoked; have a new one made",
        ),
        Some((false, true, _)) => (
            ErrorCode::KeyExpired,
            "the auth key has expired; have a new one made",
        ),
        Some((false, false, true)) => (
            ErrorCode::KeyUsed,
            "the auth key has enrolled as many machines as it may; have a new one made, for more (`max_uses`)",
        ),
        Some((false, false, false)) => (
            ErrorCode::KeyUsed,
            "the auth key is for one machine and has enrolled it; have a new one made, or a reusable one",
        ),
    };
    Ok(refuse(code, message))
}
