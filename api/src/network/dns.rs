//! `/api/orgs/{org}/dns`.

use axum::extract;
use tokio_postgres::types::Json as Jsonb;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::network::DnsSettings;

use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, User, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, put))
}

/// The org's names, for the hub.
pub(crate) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<DnsSettings, ApiError> {
    let row = tx
        .query_opt(
            "SELECT settings FROM dns_settings WHERE org_id = $1",
            &[&org.0],
        )
        .await?;
    let Some(row) = row else {
        return Ok(DnsSettings::default());
    };
    let Jsonb(settings) = row
        .try_get(0)
        .map_err(|_| ApiError::Internal(format!("the DNS settings of org {org} are damaged")))?;
    Ok(settings)
}

/// The names that the org has beside its machines', and who answers for others.
#[utoipa::path(get, path = "/api/orgs/{org}/dns", tag = "network", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<DnsSettings>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<DnsSettings> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    ok(load(&tx, org).await?)
}

/// Replaces them. Every machine is told.
#[utoipa::path(put, path = "/api/orgs/{org}/dns", tag = "network", params(("org" = OrgId, Path)),
    request_body = DnsSettings, responses(
    (status = 200, body = Envelope<DnsSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn put(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(settings): Json<DnsSettings>,
) -> Answer<DnsSettings> {
    settings
        .check()
        .map_err(|error| refuse(ErrorCode::ValidationError, error.to_string()))?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    netmap::append_change(&tx, org, Changed::Org).await?;
    tx.execute(
        "INSERT INTO dns_settings (org_id, settings) VALUES ($1, $2)
         ON CONFLICT (org_id) DO UPDATE SET settings = excluded.settings",
        &[&org.0, &Jsonb(&settings)],
    )
    .await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    ok(settings)
}
