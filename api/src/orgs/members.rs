//! `/api/orgs/{org}/members`: roles changed, members gone.

use axum::extract;
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{Member, Role, UpdateMemberRequest};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, UserId};

use super::{Right, authorise, lock, parse_role, role_text};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, ok, refuse};
use crate::machines::{self, Removed};
use crate::netmap::{self, Changed};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(update, remove))
}

/// The org's members.
#[utoipa::path(get, path = "/api/orgs/{org}/members", tag = "orgs", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<Member>>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<Member>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    let rows = tx
        .query(
            "SELECT m.user_id, u.email, m.role, m.joined_at FROM members m
             JOIN users u ON u.id = m.user_id WHERE m.org_id = $1 ORDER BY u.email",
            &[&org.0],
        )
        .await?;
    ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &Row) -> Result<Member, ApiError> {
    Ok(Member {
        user: UserId(row.get(0)),
        email: row.get(1),
        role: parse_role(row.get(2))?,
        joined_at: row.get(3),
    })
}

/// Changes a member's role. What concerns owners, owners do; the last one stays.
#[utoipa::path(patch, path = "/api/orgs/{org}/members/{user}", tag = "orgs",
    params(("org" = OrgId, Path), ("user" = UserId, Path)), request_body = UpdateMemberRequest, responses(
    (status = 200, body = Envelope<Member>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody),
))]
async fn update(
    extract::State(state): extract::State<State>,
    User(caller): User,
    Path((org, member)): Path<(OrgId, UserId)>,
    Json(request): Json<UpdateMemberRequest>,
) -> Answer<Member> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let own = authorise(&tx, org, caller, Right::Manage).await?;
    let before = role_of(&tx, org, member).await?;
    owners_alone(own, &[before, request.role])?;
    if before == Role::Owner && request.role != Role::Owner {
        another_owner(&tx, org, member).await?;
    }
    tx.execute(
        "UPDATE members SET role = $3 WHERE org_id = $1 AND user_id = $2",
        &[&org.0, &member.0, &role_text(request.role)],
    )
    .await?;
    // Rules may speak of roles.
    let machines = tx
        .query(
            "SELECT id FROM machines WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &member.0],
        )
        .await?;
    for machine in &machines {
        let changed = Changed::Machine(MachineId(machine.get(0)));
        netmap::append_change(&tx, org, changed).await?;
    }
    let row = tx
        .query_one(
            "SELECT m.user_id, u.email, m.role, m.joined_at FROM members m
             JOIN users u ON u.id = m.user_id WHERE m.org_id = $1 AND m.user_id = $2",
            &[&org.0, &member.0],
        )
        .await?;
    let changed = read(&row)?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, %member, by = %caller, role = role_text(request.role), "a role was changed");
    ok(changed)
}

/// Removes a member, or oneself. The member's machines and API keys go too.
#[utoipa::path(delete, path = "/api/orgs/{org}/members/{user}", tag = "orgs",
    params(("org" = OrgId, Path), ("user" = UserId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody),
))]
async fn remove(
    extract::State(state): extract::State<State>,
    User(caller): User,
    Path((org, member)): Path<(OrgId, UserId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let right = match caller == member {
        true => Right::Belong,
        false => Right::Manage,
    };
    let own = authorise(&tx, org, caller, right).await?;
    let removed = take_out(&tx, org, member, own).await?;
    removed.append(&tx).await?;
    tx.commit().await?;
    drop(connection);
    removed.tell(&state, org).await;
    tracing::info!(%org, %member, by = %caller, "a member was removed");
    ok(Empty {})
}

/// Removes a member within a transaction, on the word of somebody with the role `by`.
pub(crate) async fn take_out(
    tx: &Tx<'_>,
    org: OrgId,
    member: UserId,
    by: Role,
) -> Result<Removed, ApiError> {
    let role = role_of(tx, org, member).await?;
    owners_alone(by, &[role])?;
    if role == Role::Owner {
        another_owner(tx, org, member).await?;
    }
    let removed = machines::remove_all(tx, org, Some(member)).await?;
    tx.execute(
        "DELETE FROM members WHERE org_id = $1 AND user_id = $2",
        &[&org.0, &member.0],
    )
    .await?;
    Ok(removed)
}

/// A member's role. Locks the org, so that no two owners step down at once, and machines go in the
/// order that every change keeps.
pub(super) async fn role_of(tx: &Tx<'_>, org: OrgId, member: UserId) -> Result<Role, ApiError> {
    lock(tx, org).await?;
    let row = tx
        .query_opt(
            "SELECT role FROM members WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &member.0],
        )
        .await?;
    match row {
        Some(row) => parse_role(row.get(0)),
        None => Err(refuse(
            ErrorCode::NotFound,
            "the org has no member with that id",
        )),
    }
}

/// Refuses what concerns owners to others.
pub(super) fn owners_alone(own: Role, touched: &[Role]) -> Result<(), ApiError> {
    if own == Role::Owner || !touched.contains(&Role::Owner) {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::Forbidden,
        "only an owner makes, changes or removes an owner; ask one",
    ))
}

async fn another_owner(tx: &Tx<'_>, org: OrgId, member: UserId) -> Result<(), ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM members WHERE org_id = $1 AND role = 'owner' AND user_id <> $2 LIMIT 1",
            &[&org.0, &member.0],
        )
        .await?;
    if row.is_some() {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::Conflict,
        "this is the org's only owner; make another member an owner first",
    ))
}

/// Ends an org whose last member goes: nobody and nothing is left in it, and its label is free. The row
/// itself is swept away later, when no stream knows of it any more.
pub(crate) async fn dissolve(tx: &Tx<'_>, org: OrgId) -> Result<Removed, ApiError> {
    lock(tx, org).await?;
    let removed = machines::remove_all(tx, org, None).await?;
    for ended in [
        "UPDATE orgs SET name = 'deleted', slug = 'deleted-' || id WHERE id = $1",
        "UPDATE auth_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE org_id = $1",
        "DELETE FROM invitations WHERE org_id = $1",
        "DELETE FROM members WHERE org_id = $1",
    ] {
        tx.execute(ended, &[&org.0]).await?;
    }
    Ok(removed)
}
