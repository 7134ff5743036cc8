//! `/api/orgs` and `/api/orgs/{org}/members`.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{AddMemberRequest, CreateOrgRequest, Member, OrgMembership, Role};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, UserId};

use super::{Right, authorise, create, parse_role, role_text};
use crate::app::State;
use crate::http::{Answer, Json, Path, User, created, ok, refuse};
use crate::identity;

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create_org))
        .routes(routes!(list_members, add_member))
}

/// Makes an org; the caller owns it. Its first rule lets members reach all its machines.
#[utoipa::path(post, path = "/api/orgs", tag = "orgs", request_body = CreateOrgRequest, responses(
    (status = 201, body = Envelope<OrgMembership>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
))]
async fn create_org(
    extract::State(state): extract::State<State>,
    User(user): User,
    Json(request): Json<CreateOrgRequest>,
) -> Answer<OrgMembership> {
    created(create(&state, user, &request.name).await?)
}

/// The org's members.
#[utoipa::path(get, path = "/api/orgs/{org}/members", tag = "orgs", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<Member>>), (status = 404, body = ErrorBody),
))]
async fn list_members(
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
    let members = rows.iter().map(|row| {
        Ok(Member {
            user: UserId(row.get(0)),
            email: row.get(1),
            role: parse_role(row.get(2))?,
            joined_at: row.get(3),
        })
    });
    ok(members.collect::<Result<_, crate::http::ApiError>>()?)
}

/// Adds an existing account.
#[utoipa::path(post, path = "/api/orgs/{org}/members", tag = "orgs", params(("org" = OrgId, Path)),
    request_body = AddMemberRequest, responses(
    (status = 201, body = Envelope<Member>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody),
))]
async fn add_member(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<AddMemberRequest>,
) -> Answer<Member> {
    let email = identity::normalise_email(&request.email)?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Manage).await?;
    if request.role == Role::Owner && role != Role::Owner {
        return Err(refuse(
            ErrorCode::Forbidden,
            "only an owner makes another owner; ask one",
        ));
    }
    let account = tx
        .query_opt("SELECT user_id FROM lookup_account($1)", &[&email])
        .await?;
    let Some(account) = account else {
        return Err(refuse(
            ErrorCode::NotFound,
            format!("{email} has no account yet; have its owner sign up first"),
        ));
    };
    let member = UserId(account.get(0));
    let row = tx
        .query_opt(
            "INSERT INTO members (org_id, user_id, role) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING RETURNING joined_at",
            &[&org.0, &member.0, &role_text(request.role)],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::Conflict,
            format!("{email} is a member of the org already"),
        ));
    };
    let joined_at = row.get(0);
    tx.commit().await?;
    created(Member {
        user: member,
        email,
        role: request.role,
        joined_at,
    })
}
