//! A member who has lost the second factor and its backup codes: an owner takes it off.
//!
//! It is the account's, and the account may be a member elsewhere. So an owner may do this for who is in no
//! other org, or whose address is of a domain that the org has proved: nobody's account gets weaker by an
//! invitation that they accepted.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Role;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, UserId};

use super::members::role_of;
use super::{Right, authorise};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Path, SignedIn, ok, refuse};
use crate::identity;
use crate::mail::Letter;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(reset))
}

/// Takes a member's second factor off, and ends their sessions. The next sign-in is by the password, or the
/// provider, alone. Owners do this, for members who are in no other org, or of a domain that is proved to be
/// the org's; the member is told by mail.
#[utoipa::path(delete, path = "/api/orgs/{org}/members/{user}/second-factor", tag = "orgs",
    params(("org" = OrgId, Path), ("user" = UserId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn reset(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Path((org, member)): Path<(OrgId, UserId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let own = authorise(&tx, org, caller.user, Right::Manage).await?;
    if own != Role::Owner {
        return Err(refuse(
            ErrorCode::Forbidden,
            "only an owner takes a member's second factor off; ask one",
        ));
    }
    if caller.user == member {
        return Err(refuse(
            ErrorCode::Forbidden,
            "your own second factor goes by your password and a code; if you have lost it, ask another owner",
        ));
    }
    role_of(&tx, org, member).await?;
    tx.enter_person(member).await?;
    if is_elsewhere(&tx, org, member).await? && !is_of_proved_domain(&tx, org, member).await? {
        return Err(refuse(
            ErrorCode::Forbidden,
            "the member is in other orgs too, and their address is of no domain that is proved to be this org's; \
             prove it first",
        ));
    }
    if !identity::remove_second_factor(&tx, member).await? {
        return Err(refuse(
            ErrorCode::NotFound,
            "the member has no second factor",
        ));
    }
    let row = tx
        .query_one(
            "SELECT u.email, o.name FROM users u, orgs o WHERE u.id = $1 AND o.id = $2",
            &[&member.0, &org.0],
        )
        .await?;
    tx.commit().await?;
    drop(connection);
    if let Some(mail) = &state.mail {
        let org_name = row.get(1);
        mail.send(row.get(0), &Letter::SecondFactorGone { org_name });
    }
    tracing::info!(%org, %member, by = %caller.user, "a second factor was taken off");
    ok(Empty {})
}

/// Whether the person of the transaction is a member of another org.
async fn is_elsewhere(tx: &Tx<'_>, org: OrgId, member: UserId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM members WHERE user_id = $1 AND org_id <> $2 LIMIT 1",
            &[&member.0, &org.0],
        )
        .await?;
    Ok(row.is_some())
}

async fn is_of_proved_domain(tx: &Tx<'_>, org: OrgId, member: UserId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM sso_domains d JOIN users u ON u.id = $2
             WHERE d.org_id = $1 AND d.proved_at IS NOT NULL AND d.domain = split_part(u.email, '@', 2)",
            &[&org.0, &member.0],
        )
        .await?;
    Ok(row.is_some())
}
