//! `GET /api/derp-health`.

use axum::extract::{self, Query};
use serde::Deserialize;
use tokio_postgres::Row;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, RegionId};
use ztna_proto::relay::{Location, NodeHealth, RegionHealth, RelayHealth};
use ztna_proto::tokens::MachineToken;

use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Bearer, ok, refuse};
use crate::identity::check_vouched;
use crate::machines;
use crate::orgs::{Right, authorise};

pub(in crate::relays) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(derp_health))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Ask {
    /// Show this org's own regions too. Bearer: a member's access token. A machine's token shows
    /// those of its own org without being asked.
    #[param(value_type = Option<OrgId>)]
    org: Option<OrgId>,
}

/// Whether the relays work, as the control plane sees them: the deployment's for everybody, an org's
/// own for its members and machines.
#[utoipa::path(get, path = "/api/derp-health", tag = "relays", params(Ask), responses(
    (status = 200, body = Envelope<RelayHealth>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn derp_health(
    extract::State(state): extract::State<State>,
    bearer: Option<Bearer>,
    query: Result<Query<Ask>, extract::rejection::QueryRejection>,
) -> Answer<RelayHealth> {
    let Query(Ask { org: wanted }) =
        query.map_err(|_| refuse(ErrorCode::NotFound, "no org has that id"))?;
    let machine = match &bearer {
        Some(Bearer(text)) if text.starts_with(MachineToken::PREFIX) => {
            let token = text.parse().map_err(|_| machines::unknown_token())?;
            Some(machines::authenticate(&state, &token).await?)
        }
        Some(_) | None => None,
    };
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let mut regions = deployment(&tx).await?;
    let org = match (machine, bearer, wanted) {
        (Some(machine), _, None) => Some(machine.org),
        (Some(machine), _, Some(org)) if machine.org == org => Some(org),
        (Some(_), ..) => return Err(refuse(ErrorCode::NotFound, "the machine is in another org")),
        (None, Some(Bearer(token)), Some(org)) => {
            let access = state.keys.verify_access(&token).ok_or_else(expired)?;
            tx.enter_org(org).await?;
            authorise(&tx, org, access.user, Right::Belong).await?;
            check_vouched(&tx, org, access.user, access.vouched_by).await?;
            Some(org)
        }
        (None, None, Some(_)) => return Err(expired()),
        (None, _, None) => None,
    };
    if let Some(org) = org {
        tx.enter_org(org).await?;
        regions.extend(own(&tx, org).await?);
    }
    ok(RelayHealth { regions })
}

fn expired() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "an org's own relays are shown to its members only; sign in (again)",
    )
}

async fn deployment(tx: &Tx<'_>) -> Result<Vec<RegionHealth>, ApiError> {
    let rows = tx
        .query(
            "SELECT r.id, r.code, r.name, r.latitude, r.longitude,
                    n.name, h.up, h.since, h.latency_ms, h.checked_at, NULL::text
             FROM relay_regions r
             LEFT JOIN relay_nodes n ON n.region_id = r.id
             LEFT JOIN relay_health h ON h.region_id = r.id AND h.node = n.name
             ORDER BY r.id, n.position",
            &[],
        )
        .await?;
    Ok(read(&rows, false))
}

async fn own(tx: &Tx<'_>, org: OrgId) -> Result<Vec<RegionHealth>, ApiError> {
    let rows = tx
        .query(
            "SELECT r.id, r.code, r.name, r.latitude, r.longitude,
                    n.name, h.up, h.since, h.latency_ms, h.checked_at, h.error
             FROM org_relay_regions r
             LEFT JOIN org_relay_nodes n ON n.org_id = r.org_id AND n.region_id = r.id
             LEFT JOIN org_relay_health h
                ON h.org_id = r.org_id AND h.region_id = r.id AND h.node = n.name
             WHERE r.org_id = $1 ORDER BY r.id, n.position",
            &[&org.0],
        )
        .await?;
    Ok(read(&rows, true))
}

/// Regions of rows that are in their order.
fn read(rows: &[Row], own: bool) -> Vec<RegionHealth> {
    let mut regions: Vec<RegionHealth> = Vec::new();
    for row in rows {
        let id = RegionId(row.get::<_, i32>(0).unsigned_abs());
        if regions.last().is_none_or(|region| region.id != id) {
            regions.push(RegionHealth {
                id,
                code: row.get(1),
                name: row.get(2),
                location: Location {
                    latitude: row.get(3),
                    longitude: row.get(4),
                },
                own,
                nodes: Vec::new(),
            });
        }
        let name: Option<String> = row.get(5);
        if let (Some(node), Some(region)) = (name, regions.last_mut()) {
            region.nodes.push(NodeHealth {
                node,
                up: row.get(6),
                since: row.get(7),
                latency_ms: row.get(8),
                checked_at: row.get(9),
                error: row.get(10),
            });
        }
    }
    regions
}
