//! Orgs that let their members in by sessions of their own provider alone.
//!
//! It is held where callers are told apart, against the org of the path, so a route that is added falls
//! under it. Owners may always come by their password: somebody has to mend a provider that is gone.
//! API keys and machine tokens are no sessions, and go on.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use http::request::Parts;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};

use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, SignedIn, refuse};

/// Checks a session's call against the org in its path, if there is one.
///
/// # Errors
/// `FORBIDDEN` if the org wants a session that its provider vouched for, `NOT_FOUND` if what stands in its
/// place is no org's id.
pub(crate) async fn admit(
    state: &State,
    parts: &mut Parts,
    caller: &SignedIn,
) -> Result<(), ApiError> {
    let Some(org) = org_of(parts).await? else {
        return Ok(());
    };
    if caller.vouched_by == Some(org) {
        return Ok(());
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    check_vouched(&tx, org, caller.user, caller.vouched_by).await
}

/// The org of `/api/orgs/{org}/…`, decoded as the call's own code gets it: what is written otherwise in the
/// address means the same org there.
async fn org_of(parts: &mut Parts) -> Result<Option<OrgId>, ApiError> {
    let route = parts.extensions.get::<MatchedPath>();
    if !route.is_some_and(|route| route.as_str().starts_with("/api/orgs/{")) {
        return Ok(None);
    }
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|rejection| ApiError::Internal(rejection.to_string()))?;
    let mut found = params.iter().filter(|(name, _)| *name == "org");
    match found.next().and_then(|(_, org)| org.parse().ok()) {
        Some(org) => Ok(Some(org)),
        None => Err(refuse(ErrorCode::NotFound, "nothing has that id")),
    }
}

/// Checks a person's session against an org, within its transaction.
///
/// # Errors
/// As [`admit`].
pub(crate) async fn check_vouched(
    tx: &Tx<'_>,
    org: OrgId,
    user: UserId,
    vouched_by: Option<OrgId>,
) -> Result<(), ApiError> {
    if vouched_by == Some(org) {
        return Ok(());
    }
    let wanted = tx
        .query_opt(
            "SELECT FROM sso_providers p JOIN members m ON m.org_id = p.org_id AND m.user_id = $2
             WHERE p.org_id = $1 AND p.required AND m.role <> 'owner'",
            &[&org.0, &user.0],
        )
        .await?;
    match wanted {
        None => Ok(()),
        Some(_) => Err(refuse(
            ErrorCode::Forbidden,
            "the org lets its members in by its own sign-in alone; sign in again, and choose your organisation's sign-in",
        )),
    }
}
