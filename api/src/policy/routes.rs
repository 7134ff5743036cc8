//! `/api/orgs/{org}/policy`.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::Policy;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;

use crate::app::State;
use crate::http::{Answer, Json, Path, User, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, replace))
}

/// The org's rules.
#[utoipa::path(get, path = "/api/orgs/{org}/policy", tag = "policy", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Policy>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Policy> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    ok(super::load(&tx, org).await?)
}

/// Replaces the org's rules. Machines are told at once.
#[utoipa::path(put, path = "/api/orgs/{org}/policy", tag = "policy", params(("org" = OrgId, Path)),
    request_body = Policy, responses(
    (status = 200, body = Envelope<Policy>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn replace(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(policy): Json<Policy>,
) -> Answer<Policy> {
    if let Err(fault) = policy.check() {
        return Err(refuse(ErrorCode::ValidationError, fault.to_string()));
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    netmap::append_change(&tx, org, Changed::Policy).await?;
    super::store(&tx, org, &policy).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    ok(policy)
}
