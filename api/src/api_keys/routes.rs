//! `/api/orgs/{org}/api-keys`.

use axum::extract;
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    ApiKeyInfo, CreateApiKeyRequest, CreatedApiKey, MAX_API_KEY_DAYS, MAX_DESCRIPTION, MAX_SCOPES,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{ApiKeyId, OrgId, UserId};
use ztna_proto::tokens::ApiKey;

use super::{AREAS, is_scope};
use crate::app::State;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, created, ok, refuse};
use crate::orgs::{Right, authorise};

/// Columns of an [`ApiKeyInfo`], in [`read_info`]'s order.
const INFO: &str =
    "id, description, scopes, created_by, created_at, expires_at, revoked_at, last_used_at";

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(revoke))
}

fn read_info(row: &Row) -> ApiKeyInfo {
    ApiKeyInfo {
        id: ApiKeyId(row.get(0)),
        description: row.get(1),
        scopes: row.get(2),
        created_by: UserId(row.get(3)),
        created_at: row.get(4),
        expires_at: row.get(5),
        revoked_at: row.get(6),
        last_used_at: row.get(7),
    }
}

/// Makes an API key that acts for the caller. It is shown this once.
#[utoipa::path(post, path = "/api/orgs/{org}/api-keys", tag = "api keys", params(("org" = OrgId, Path)),
    request_body = CreateApiKeyRequest, responses(
    (status = 201, body = Envelope<CreatedApiKey>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn create(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<CreateApiKeyRequest>,
) -> Answer<CreatedApiKey> {
    check(&request)?;
    let key = ApiKey::generate(&mut rand::rng());
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let row = tx
        .query_one(
            &format!(
                "INSERT INTO api_keys (org_id, id, hash, description, scopes, created_by, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, now() + $7::integer * interval '1 day')
                 RETURNING {INFO}"
            ),
            &[
                &org.0,
                &ApiKeyId::generate().0,
                &key.hash().as_slice(),
                &request.description,
                &request.scopes,
                &user.0,
                &i32::from(request.expires_in_days),
            ],
        )
        .await?;
    let info = read_info(&row);
    tx.commit().await?;
    tracing::info!(%org, key = %info.id, by = %user, "an API key was made");
    created(CreatedApiKey { key, info })
}

fn check(request: &CreateApiKeyRequest) -> Result<(), ApiError> {
    let invalid = |message: String| Err(refuse(ErrorCode::ValidationError, message));
    if request.description.chars().count() > MAX_DESCRIPTION {
        return invalid(format!(
            "`description` may have {MAX_DESCRIPTION} characters; shorten it"
        ));
    }
    if !(1..=MAX_API_KEY_DAYS).contains(&request.expires_in_days) {
        return invalid(format!(
            "`expires_in_days` may be 1 to {MAX_API_KEY_DAYS}; correct it"
        ));
    }
    if !(1..=MAX_SCOPES).contains(&request.scopes.len()) {
        return invalid(format!(
            "`scopes` takes 1 to {MAX_SCOPES} scopes; correct it"
        ));
    }
    if let Some(scope) = request.scopes.iter().find(|scope| !is_scope(scope)) {
        return invalid(format!(
            "`{}` is no scope; there are `read`, `write`, and both for one of {}, as in `machines:read`",
            scope.chars().take(64).collect::<String>(),
            AREAS.join(", ")
        ));
    }
    Ok(())
}

/// The org's API keys, the newest first.
#[utoipa::path(get, path = "/api/orgs/{org}/api-keys", tag = "api keys", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<ApiKeyInfo>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<ApiKeyInfo>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let rows = tx
        .query(
            &format!("SELECT {INFO} FROM api_keys WHERE org_id = $1 ORDER BY id DESC"),
            &[&org.0],
        )
        .await?;
    ok(rows.iter().map(read_info).collect())
}

/// Revokes an API key: it works no more.
#[utoipa::path(delete, path = "/api/orgs/{org}/api-keys/{id}", tag = "api keys",
    params(("org" = OrgId, Path), ("id" = ApiKeyId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn revoke(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, ApiKeyId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let found = tx
        .execute(
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    if found == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "the org has no API key with that id",
        ));
    }
    tx.commit().await?;
    tracing::info!(%org, key = %id, by = %user, "an API key was revoked");
    ok(Empty {})
}
