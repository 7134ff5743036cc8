//! `/api/orgs/{org}/auth-keys`.

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use serde::Deserialize;
use tokio_postgres::Row;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    AuthKeyInfo, CreateAuthKeyRequest, CreatedAuthKey, DEFAULT_AUTH_KEY_SECONDS,
    DEFAULT_AUTH_KEY_USES, MAX_AUTH_KEY_SECONDS, MAX_AUTH_KEY_USES, MAX_DESCRIPTION,
    MIN_AUTH_KEY_SECONDS,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{AuthKeyId, OrgId};
use ztna_proto::tokens::AuthKey;

use crate::app::State;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, created, ok, refuse};
use crate::machines::{self, check_tags};
use crate::orgs::{self, Right, authorise};

/// The keys of an org, as [`read_info`] reads them.
const INFO: &str =
    "SELECT k.id, k.description, k.reusable, k.uses, k.tags, k.ephemeral, k.preapproved,
        u.email, k.created_at, k.expires_at, k.revoked_at,
        CASE WHEN k.reusable THEN k.max_uses ELSE 1 END
    FROM auth_keys k LEFT JOIN users u ON u.id = k.created_by WHERE k.org_id = $1";
/// Told of machines that are quarantined because their key was revoked.
const REVOKED: &str = "the auth key that enrolled it was revoked";

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(revoke))
}

fn read_info(row: &Row) -> AuthKeyInfo {
    AuthKeyInfo {
        id: AuthKeyId(row.get(0)),
        description: row.get(1),
        reusable: row.get(2),
        uses: row.get::<_, i64>(3).unsigned_abs(),
        max_uses: row.get::<_, Option<i64>>(11).map(i64::unsigned_abs),
        tags: row.get(4),
        ephemeral: row.get(5),
        preapproved: row.get(6),
        created_by: row.get(7),
        created_at: row.get(8),
        expires_at: row.get(9),
        revoked_at: row.get(10),
    }
}

/// Makes a key. It is shown this once.
#[utoipa::path(post, path = "/api/orgs/{org}/auth-keys", tag = "auth keys", params(("org" = OrgId, Path)),
    request_body = CreateAuthKeyRequest, responses(
    (status = 201, body = Envelope<CreatedAuthKey>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn create(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<CreateAuthKeyRequest>,
) -> Answer<CreatedAuthKey> {
    let (seconds, max_uses) = check(&request)?;
    let key = AuthKey::generate(&mut rand::rng());
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Manage).await?;
    let tags = check_tags(&tx, org, (user, role), &request.tags).await?;
    let id = AuthKeyId::generate();
    tx.execute(
        "INSERT INTO auth_keys (org_id, id, hash, description, reusable, tags, ephemeral, preapproved,
                created_by, expires_at, max_uses)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::bigint * interval '1 second', $11)",
        &[
            &org.0,
            &id.0,
            &key.hash().as_slice(),
            &request.description,
            &request.reusable,
            &tags,
            &request.ephemeral,
            &request.preapproved,
            &user.0,
            &seconds,
            &max_uses,
        ],
    )
    .await?;
    let row = tx
        .query_one(&format!("{INFO} AND k.id = $2"), &[&org.0, &id.0])
        .await?;
    let info = read_info(&row);
    tx.commit().await?;
    created(CreatedAuthKey { key, info })
}

/// The key's lifetime in seconds, and how many registrations it admits.
fn check(request: &CreateAuthKeyRequest) -> Result<(i64, i64), ApiError> {
    if request.description.chars().count() > MAX_DESCRIPTION {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("`description` may have {MAX_DESCRIPTION} characters; shorten it"),
        ));
    }
    let seconds = request.expires_in.unwrap_or(DEFAULT_AUTH_KEY_SECONDS);
    if !(MIN_AUTH_KEY_SECONDS..=MAX_AUTH_KEY_SECONDS).contains(&seconds) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`expires_in` may be {MIN_AUTH_KEY_SECONDS} (5 minutes) to {MAX_AUTH_KEY_SECONDS} (90 days) seconds; correct it"
            ),
        ));
    }
    let (default, most) = match request.reusable {
        true => (DEFAULT_AUTH_KEY_USES, MAX_AUTH_KEY_USES),
        false => (1, 1),
    };
    let uses = request.max_uses.unwrap_or(default);
    if !(1..=most).contains(&uses) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`max_uses` may be 1 to {MAX_AUTH_KEY_USES} of a reusable key, and 1 of another; correct it"
            ),
        ));
    }
    Ok((seconds.cast_signed(), uses.cast_signed()))
}

/// The org's keys, the newest first.
#[utoipa::path(get, path = "/api/orgs/{org}/auth-keys", tag = "auth keys", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<AuthKeyInfo>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<AuthKeyInfo>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let rows = tx
        .query(&format!("{INFO} ORDER BY k.id DESC"), &[&org.0])
        .await?;
    ok(rows.iter().map(read_info).collect())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Revoke {
    /// Whether the machines that it has enrolled are quarantined.
    #[serde(default)]
    quarantine: bool,
}

/// Revokes a key: it enrols no more machines. Those that it has enrolled stay, unless they are to be
/// quarantined; a key that was revoked before can be revoked again for that.
#[utoipa::path(delete, path = "/api/orgs/{org}/auth-keys/{id}", tag = "auth keys",
    params(("org" = OrgId, Path), ("id" = AuthKeyId, Path), Revoke), responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn revoke(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, AuthKeyId)>,
    query: Result<Query<Revoke>, QueryRejection>,
) -> Answer<Empty> {
    let Query(Revoke { quarantine }) = query.map_err(|rejection| {
        refuse(
            ErrorCode::ValidationError,
            format!("`quarantine` is true or false: {}", rejection.body_text()),
        )
    })?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    // Before the key's row, as a registration takes them.
    orgs::lock(&tx, org).await?;
    let found = tx
        .execute(
            "UPDATE auth_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    if found == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "the org has no auth key with that id",
        ));
    }
    let cut = match quarantine {
        true => Some(machines::quarantine_all(&tx, org, id, REVOKED).await?),
        false => None,
    };
    tx.commit().await?;
    drop(connection);
    if let Some(cut) = cut {
        cut.tell(&state, org).await;
    }
    ok(Empty {})
}
