//! `/api/orgs/{org}/settings`: switches of the whole org.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::machines::{
    MAX_KEY_EXPIRY_DAYS, MIN_KEY_EXPIRY_DAYS, OrgSettings, UpdateOrgSettings,
};

use super::{Right, authorise};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, User, ok, refuse};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, update))
}

/// The org's settings.
#[utoipa::path(get, path = "/api/orgs/{org}/settings", tag = "orgs", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<OrgSettings>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<OrgSettings> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    ok(read(&tx, org).await?)
}

/// Changes the org's settings.
#[utoipa::path(patch, path = "/api/orgs/{org}/settings", tag = "orgs", params(("org" = OrgId, Path)),
    request_body = UpdateOrgSettings, responses(
    (status = 200, body = Envelope<OrgSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn update(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<UpdateOrgSettings>,
) -> Answer<OrgSettings> {
    let days = MIN_KEY_EXPIRY_DAYS..=MAX_KEY_EXPIRY_DAYS;
    if request
        .key_expiry_days
        .is_some_and(|wanted| !days.contains(&wanted))
    {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`key_expiry_days` may be {MIN_KEY_EXPIRY_DAYS} to {MAX_KEY_EXPIRY_DAYS}; a single machine's expiry can be switched off"
            ),
        ));
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    tx.execute(
        "UPDATE orgs SET machine_approval = COALESCE($2, machine_approval),
                key_expiry_seconds = COALESCE($3, key_expiry_seconds) WHERE id = $1",
        &[
            &org.0,
            &request.machine_approval,
            &request.key_expiry_days.map(|days| i64::from(days) * DAY),
        ],
    )
    .await?;
    let settings = read(&tx, org).await?;
    tx.commit().await?;
    tracing::info!(%org, by = %user, ?settings, "the org's settings were changed");
    ok(settings)
}

async fn read(tx: &Tx<'_>, org: OrgId) -> Result<OrgSettings, ApiError> {
    let row = tx
        .query_one(
            "SELECT machine_approval, key_expiry_seconds FROM orgs WHERE id = $1",
            &[&org.0],
        )
        .await?;
    let seconds: i64 = row.get(1);
    Ok(OrgSettings {
        machine_approval: row.get(0),
        key_expiry_days: u16::try_from((seconds + DAY - 1) / DAY).unwrap_or(u16::MAX),
    })
}
