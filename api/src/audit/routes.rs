//! `/api/orgs/{org}/audit`.

use axum::extract;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Role;
use ztna_proto::audit::{
    AUDIT_PAGE, AuditFormat, AuditPage, AuditSettings, AuditVerification, MAX_AUDIT_DAYS,
    MAX_AUDIT_PAGE, MIN_AUDIT_DAYS,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;

use super::filter::{Filter, Order, Range, ends};
use super::{chain, export, note};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, Query, User, ok, refuse};
use crate::orgs::{Right, authorise};

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(export_log))
        .routes(routes!(verify))
        .routes(routes!(settings, change_settings))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Page {
    /// `next` of the page before.
    cursor: Option<i64>,
    /// Most rows of the page: 1 to 500, else 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// The org's audit log, the newest first. A page may be short, or empty, and have a `next`: a call looks at
/// 100,000 rows.
#[utoipa::path(get, path = "/api/orgs/{org}/audit", tag = "audit", params(("org" = OrgId, Path), Filter, Page), responses(
    (status = 200, body = Envelope<AuditPage>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Query(filter): Query<Filter>,
    Query(page): Query<Page>,
) -> Answer<AuditPage> {
    filter.check()?;
    let limit = page.limit.unwrap_or(AUDIT_PAGE);
    if !(1..=MAX_AUDIT_PAGE).contains(&limit) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("`limit` may be 1 to {MAX_AUDIT_PAGE}; correct it"),
        ));
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org_snapshot(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let (cut, head) = ends(&tx, org).await?;
    let range = Range {
        above: cut,
        below: page.cursor.unwrap_or(i64::MAX).clamp(cut + 1, head + 1),
        order: Order::Newest,
    };
    let found = filter.select(&tx, org, range, i64::from(limit)).await?;
    ok(AuditPage {
        next: (found.reached > cut + 1).then_some(found.reached),
        entries: found.entries,
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Export {
    /// `csv`, unless asked for `json`.
    #[serde(default)]
    #[param(inline)]
    format: AuditFormat,
}

/// The org's audit log as a file, the oldest row first, as far as it reaches now. That it was exported, the
/// log says too.
#[utoipa::path(get, path = "/api/orgs/{org}/audit/export", tag = "audit", params(("org" = OrgId, Path), Filter, Export), responses(
    (status = 200, description = "The rows.", content((String = "text/csv"), (Vec<ztna_proto::audit::AuditEntry> = "application/json"))),
    (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn export_log(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Query(filter): Query<Filter>,
    Query(Export { format }): Query<Export>,
) -> Result<Response, ApiError> {
    filter.check()?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let (cut, head) = ends(&tx, org).await?;
    note(&tx, "export", json!({ "format": format, "to": head })).await?;
    tx.commit().await?;
    drop(connection);
    let range = Range {
        above: cut,
        below: head + 1,
        order: Order::Oldest,
    };
    Ok(export::answer(state, org, filter, range, format))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Start {
    /// `next` of the answer before.
    from: Option<i64>,
}

/// Makes the hashes of the audit log again, 10,000 rows a call, and tells the first row that is not what
/// was written.
#[utoipa::path(get, path = "/api/orgs/{org}/audit/verify", tag = "audit", params(("org" = OrgId, Path), Start), responses(
    (status = 200, body = Envelope<AuditVerification>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn verify(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Query(Start { from }): Query<Start>,
) -> Answer<AuditVerification> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org_snapshot(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    ok(chain::verify(&tx, org, from).await?)
}

/// How long the org keeps its audit log.
#[utoipa::path(get, path = "/api/orgs/{org}/audit/settings", tag = "audit", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<AuditSettings>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn settings(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<AuditSettings> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    ok(read_settings(&tx, org).await?)
}

async fn read_settings(tx: &Tx<'_>, org: OrgId) -> Result<AuditSettings, ApiError> {
    let row = tx
        .query_one(
            "SELECT audit_retention_days FROM orgs WHERE id = $1",
            &[&org.0],
        )
        .await?;
    let days: i32 = row.get(0);
    Ok(AuditSettings {
        retention_days: u16::try_from(days).unwrap_or(MAX_AUDIT_DAYS),
    })
}

/// Sets how long the org keeps its audit log. For owners. What is older goes within the hour.
#[utoipa::path(put, path = "/api/orgs/{org}/audit/settings", tag = "audit", params(("org" = OrgId, Path)),
    request_body = AuditSettings, responses(
    (status = 200, body = Envelope<AuditSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn change_settings(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(settings): Json<AuditSettings>,
) -> Answer<AuditSettings> {
    let days = settings.retention_days;
    if !(MIN_AUDIT_DAYS..=MAX_AUDIT_DAYS).contains(&days) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("`retention_days` may be {MIN_AUDIT_DAYS} to {MAX_AUDIT_DAYS}; correct it"),
        ));
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    // An admin must not be able to remove what an owner would read about the admin.
    if authorise(&tx, org, user, Right::Manage).await? != Role::Owner {
        return Err(refuse(
            ErrorCode::Forbidden,
            "only an owner sets how long the audit log is kept; ask one",
        ));
    }
    tx.execute(
        "UPDATE orgs SET audit_retention_days = $2 WHERE id = $1",
        &[&org.0, &i32::from(days)],
    )
    .await?;
    tx.commit().await?;
    ok(settings)
}
