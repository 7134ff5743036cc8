//! `/api/orgs/{org}/invitations` and `/api/accept-invitation`: how people come into an org.

use std::net::IpAddr;

use axum::extract;
use jiff::Timestamp;
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    AcceptInvitationRequest, InvitationInfo, InvitationPreview, InviteRequest, Invited,
    OrgMembership,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{InvitationId, OrgId, UserId};
use ztna_proto::tokens::InvitationToken;

use super::members::owners_alone;
use super::{Right, authorise, parse_role, role_text};
use crate::app::State;
use crate::db::Tx;
use crate::http::{
    Answer, ApiError, ClientIp, Counted, Empty, Json, Path, SignedIn, User, created, ok, refuse,
};
use crate::identity;
use crate::mail::Letter;

/// How long an invitation holds, in seconds: 7 days.
const SECONDS: i64 = 7 * 24 * 60 * 60;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(invite, list))
        .routes(routes!(withdraw))
        .routes(routes!(preview))
        .routes(routes!(accept))
}

/// Columns of an [`InvitationInfo`], in [`read`]'s order.
const INFO: &str = "id, email, role, created_at, expires_at";

fn read(row: &Row) -> Result<InvitationInfo, ApiError> {
    Ok(InvitationInfo {
        id: InvitationId(row.get(0)),
        email: row.get(1),
        role: parse_role(row.get(2))?,
        created_at: row.get(3),
        expires_at: row.get(4),
    })
}

/// Invites an address. The invitation goes there by mail; where no mail is sent, the answer holds its
/// token. Whether the address has an account, nobody learns.
#[utoipa::path(post, path = "/api/orgs/{org}/invitations", tag = "orgs", params(("org" = OrgId, Path)),
    request_body = InviteRequest, responses(
    (status = 201, body = Envelope<Invited>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn invite(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<InviteRequest>,
) -> Answer<Invited> {
    let email = identity::normalise_email(&request.email)?;
    let token = InvitationToken::generate(&mut rand::rng());
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let own = authorise(&tx, org, user, Right::Manage).await?;
    owners_alone(own, &[request.role])?;
    let member = tx
        .query_opt(
            "SELECT FROM members m JOIN users u ON u.id = m.user_id
             WHERE m.org_id = $1 AND u.email = $2",
            &[&org.0, &email],
        )
        .await?;
    if member.is_some() {
        return Err(refuse(
            ErrorCode::AlreadyMember,
            format!("{email} is a member of the org already"),
        ));
    }
    let row = tx
        .query_opt(
            &format!(
                "INSERT INTO invitations AS old (org_id, id, hash, email, role, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, now() + $7::bigint * interval '1 second')
                 ON CONFLICT (org_id, email) DO UPDATE SET id = excluded.id, hash = excluded.hash,
                     role = excluded.role, created_by = excluded.created_by, created_at = now(),
                     expires_at = excluded.expires_at
                 WHERE old.expires_at <= now()
                 RETURNING {INFO}"
            ),
            &[
                &org.0,
                &InvitationId::generate().0,
                &token.hash().as_slice(),
                &email,
                &role_text(request.role),
                &user.0,
                &SECONDS,
            ],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::DuplicateInvitation,
            format!("{email} is invited already; withdraw that invitation first"),
        ));
    };
    let invitation = read(&row)?;
    let org_name: String = tx
        .query_one("SELECT name FROM orgs WHERE id = $1", &[&org.0])
        .await?
        .get(0);
    let token = match &state.mail {
        None => Some(token),
        Some(mail) => {
            if !identity::may_write(&state, &email).await? {
                return Err(refuse(
                    ErrorCode::RateLimited,
                    format!(
                        "{email} was sent several letters just now; try again in a few minutes"
                    ),
                ));
            }
            mail.send(&email, &Letter::Invitation { org_name, token });
            None
        }
    };
    tx.commit().await?;
    tracing::info!(%org, by = %user, "somebody was invited");
    created(Invited { invitation, token })
}

/// The org's open invitations.
#[utoipa::path(get, path = "/api/orgs/{org}/invitations", tag = "orgs", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<InvitationInfo>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<InvitationInfo>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let rows = tx
        .query(
            &format!(
                "SELECT {INFO} FROM invitations WHERE org_id = $1 AND expires_at > now() ORDER BY id DESC"
            ),
            &[&org.0],
        )
        .await?;
    ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// Withdraws an invitation.
#[utoipa::path(delete, path = "/api/orgs/{org}/invitations/{id}", tag = "orgs",
    params(("org" = OrgId, Path), ("id" = InvitationId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn withdraw(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, InvitationId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let found = tx
        .execute(
            "DELETE FROM invitations WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    if found == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "the org has no open invitation with that id",
        ));
    }
    tx.commit().await?;
    ok(Empty {})
}

/// What an invitation is about. Needs its token and nothing else, and changes nothing.
#[utoipa::path(post, path = "/api/invitations/preview", tag = "orgs", request_body = AcceptInvitationRequest, responses(
    (status = 200, body = Envelope<InvitationPreview>), (status = 401, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn preview(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<AcceptInvitationRequest>,
) -> Answer<InvitationPreview> {
    let offer = look(&state, ip, &request.token).await?;
    ok(InvitationPreview {
        org_name: offer.org_name,
        role: offer.role,
        email: offer.email,
        inviter: offer.inviter,
        expires_at: offer.expires_at,
    })
}

/// Makes the caller a member of the org that invited the caller's address.
#[utoipa::path(post, path = "/api/accept-invitation", tag = "orgs", request_body = AcceptInvitationRequest, responses(
    (status = 200, body = Envelope<OrgMembership>), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 409, body = ErrorBody),
))]
async fn accept(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<AcceptInvitationRequest>,
) -> Answer<OrgMembership> {
    ok(join(&state, caller.user, &request.token).await?)
}

/// What an invitation says, for who holds its token.
pub(crate) struct Offer {
    pub(crate) org: OrgId,
    pub(crate) id: InvitationId,
    pub(crate) org_name: String,
    pub(crate) slug: String,
    pub(crate) email: String,
    pub(crate) role: ztna_proto::api::Role,
    expires_at: Timestamp,
    /// Address of who invited, if they are still a member.
    inviter: Option<String>,
}

/// Why an invitation is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    /// To be shown.
    Look,
    /// To be accepted: nobody else may at the same time.
    Accept,
}

/// The invitation of a token; the transaction then works within its org.
///
/// # Errors
/// `INVALID_KEY` if it is not good.
async fn find(tx: &Tx<'_>, token: &InvitationToken, take: Take) -> Result<Offer, ApiError> {
    let bad = || {
        refuse(
            ErrorCode::InvalidKey,
            "the invitation was accepted, withdrawn, or its 7 days are over; ask for another",
        )
    };
    let hash = token.hash();
    let row = tx
        .query_opt(
            "SELECT org_id, id FROM lookup_invitation($1)",
            &[&hash.as_slice()],
        )
        .await?
        .ok_or_else(bad)?;
    let (org, id) = (OrgId(row.get(0)), InvitationId(row.get(1)));
    tx.enter_org(org).await?;
    let lock = match take {
        Take::Look => "",
        Take::Accept => "FOR UPDATE OF i",
    };
    let query = format!(
        "SELECT o.name, o.slug, i.email, i.role, i.expires_at, u.email
         FROM invitations i JOIN orgs o ON o.id = i.org_id
         LEFT JOIN members m ON m.org_id = i.org_id AND m.user_id = i.created_by
         LEFT JOIN users u ON u.id = m.user_id
         WHERE i.org_id = $1 AND i.id = $2 AND i.hash = $3 {lock}"
    );
    let row = tx
        .query_opt(&query, &[&org.0, &id.0, &hash.as_slice()])
        .await?
        .ok_or_else(bad)?;
    Ok(Offer {
        org,
        id,
        org_name: row.get(0),
        slug: row.get(1),
        email: row.get(2),
        role: parse_role(row.get(3))?,
        expires_at: row.get(4),
        inviter: row.get(5),
    })
}

/// What an invitation says, for somebody who may be guessing tokens.
///
/// # Errors
/// `INVALID_KEY` if it is not good, `RATE_LIMITED` after too many that were not.
pub(crate) async fn look(
    state: &State,
    ip: IpAddr,
    token: &InvitationToken,
) -> Result<Offer, ApiError> {
    let looks = Counted::by_address(
        &*state.kv,
        "looks at invitations",
        state.limits.invitations,
        ip,
    );
    looks.check().await?;
    let found = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        find(&tx, token, Take::Look).await
    };
    if found.is_err() {
        // Only guesses count.
        looks.count().await?;
    }
    found
}

/// Makes a person a member by an invitation to their address.
pub(crate) async fn join(
    state: &State,
    user: UserId,
    token: &InvitationToken,
) -> Result<OrgMembership, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let account = tx
        .query_opt("SELECT email FROM users WHERE id = $1", &[&user.0])
        .await?;
    let offer = find(&tx, token, Take::Accept).await?;
    if account.is_none_or(|row| row.get::<_, &str>(0) != offer.email) {
        return Err(refuse(
            ErrorCode::EmailMismatch,
            "the invitation is for another address than your account's; sign in with that one",
        ));
    }
    let joined = tx
        .execute(
            "INSERT INTO members (org_id, user_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&offer.org.0, &user.0, &role_text(offer.role)],
        )
        .await?;
    if joined == 0 {
        return Err(refuse(
            ErrorCode::AlreadyMember,
            "you are a member of the org already",
        ));
    }
    tx.execute(
        "DELETE FROM invitations WHERE org_id = $1 AND id = $2",
        &[&offer.org.0, &offer.id.0],
    )
    .await?;
    tx.commit().await?;
    tracing::info!(org = %offer.org, %user, "an invitation was accepted");
    Ok(OrgMembership {
        id: offer.org,
        name: offer.org_name,
        slug: offer.slug,
        role: offer.role,
    })
}
