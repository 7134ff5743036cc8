//! `/api/orgs`.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{CreateOrgRequest, OrgMembership};
use ztna_proto::error::{Envelope, ErrorBody};

use super::{create, invitations, members, second_factor, settings};
use crate::app::State;
use crate::http::{Answer, Json, User, created};

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create_org))
        .merge(members::routes())
        .merge(invitations::routes())
        .merge(settings::routes())
        .merge(second_factor::routes())
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
