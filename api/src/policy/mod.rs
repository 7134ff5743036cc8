//! An org's rules.

mod routes;

pub(crate) use routes::routes;

use tokio_postgres::types::Json;
use ztna_policy::{Policy, Rule};
use ztna_proto::ids::OrgId;

use crate::db::Tx;
use crate::http::ApiError;

/// The org's policy, its rules in the order in which they were stored.
pub(crate) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<Policy, ApiError> {
    let rows = tx
        .query(
            "SELECT rule FROM rules WHERE org_id = $1 ORDER BY position",
            &[&org.0],
        )
        .await?;
    let rules = rows.iter().map(|row| {
        let Json(rule): Json<Rule> = row.try_get(0).map_err(|error| {
            ApiError::Internal(format!("a rule of org {org} cannot be read: {error}"))
        })?;
        Ok(rule)
    });
    Ok(Policy {
        rules: rules.collect::<Result<_, ApiError>>()?,
    })
}

/// Replaces the org's policy.
pub(crate) async fn store(tx: &Tx<'_>, org: OrgId, policy: &Policy) -> Result<(), ApiError> {
    tx.execute("DELETE FROM rules WHERE org_id = $1", &[&org.0])
        .await?;
    for (position, rule) in (0i32..).zip(&policy.rules) {
        tx.execute(
            "INSERT INTO rules (org_id, id, position, rule) VALUES ($1, $2, $3, $4)",
            &[&org.0, &rule.id.0, &position, &Json(rule)],
        )
        .await?;
    }
    Ok(())
}
