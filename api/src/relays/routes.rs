//! `/api/orgs/{org}/relays`: the relay map as an org sees it, and its own regions in it.

use axum::extract;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, RegionId};
use ztna_proto::relay::RegionDocument;

use super::check::{self, MAX_OWN_REGIONS};
use super::map;
use crate::app::State;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};

/// The relay map as an org sees it.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub(crate) struct OrgRelays {
    /// What the org's own relays check tickets with: `ztna-derp --ticket-key`.
    ticket_key: String,
    /// Every region that the org's machines may use.
    regions: Vec<OrgRegion>,
}

/// A region as an org sees it.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub(crate) struct OrgRegion {
    /// Whether the org may change it.
    own: bool,
    /// The region.
    #[serde(flatten)]
    document: RegionDocument,
}

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, delete))
}

/// The regions that the org's machines may use: the deployment's, and its own.
#[utoipa::path(get, path = "/api/orgs/{org}/relays", tag = "relays", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<OrgRelays>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<OrgRelays> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    let deployment = map::deployment(&tx).await?.into_iter();
    let own = map::own(&tx, org).await?.into_iter();
    let regions = deployment
        .map(|document| (false, document))
        .chain(own.map(|document| (true, document)))
        .map(|(own, document)| OrgRegion { own, document });
    ok(OrgRelays {
        ticket_key: state.keys.ticket_verifier().to_string(),
        regions: regions.collect(),
    })
}

/// Makes or replaces one of the org's own regions (900 to 999). Machines are told at once.
#[utoipa::path(put, path = "/api/orgs/{org}/relays/{region}", tag = "relays",
    params(("org" = OrgId, Path), ("region" = RegionId, Path)), request_body = RegionDocument, responses(
    (status = 200, body = Envelope<RegionDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn put(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, region)): Path<(OrgId, RegionId)>,
    Json(document): Json<RegionDocument>,
) -> Answer<RegionDocument> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    check::own(region, &document)?;
    // Holds the org's row: no two changes count the regions at once.
    netmap::append_change(&tx, org, Changed::Relays).await?;
    let own = map::own(&tx, org).await?;
    let others: Vec<_> = own
        .iter()
        .filter(|other| other.region.id != region)
        .collect();
    if others.len() >= MAX_OWN_REGIONS {
        return Err(refuse(
            ErrorCode::Conflict,
            format!("the org has {MAX_OWN_REGIONS} regions already; delete one first"),
        ));
    }
    let deployment = map::deployment(&tx).await?;
    let mut visible = others.into_iter().chain(&deployment);
    if let Some(other) = visible.find(|other| other.region.code == document.region.code) {
        return Err(refuse(
            ErrorCode::Conflict,
            format!(
                "region {} has the code {:?} already; choose another",
                other.region.id, other.region.code
            ),
        ));
    }
    map::store_own(&tx, org, &document).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, %region, by = %user, "a relay region was written");
    ok(document)
}

/// Deletes one of the org's own regions. Machines are told at once.
#[utoipa::path(delete, path = "/api/orgs/{org}/relays/{region}", tag = "relays",
    params(("org" = OrgId, Path), ("region" = RegionId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn delete(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, region)): Path<(OrgId, RegionId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    netmap::append_change(&tx, org, Changed::Relays).await?;
    if !map::remove_own(&tx, org, region).await? {
        return Err(no_region(region));
    }
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, %region, by = %user, "a relay region was deleted");
    ok(Empty {})
}

fn no_region(region: RegionId) -> ApiError {
    refuse(
        ErrorCode::NotFound,
        format!("the org has no region {region} of its own"),
    )
}
