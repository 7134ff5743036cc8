//! `/api/orgs/{org}/posture/machines`

use axum::extract;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::document::{Attributes, RESTRICTED};
use ztna_proto::api::Role;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::posture::{MachinePosture, OnFailure, PostureReport, PostureResult};

use super::judge::consequence;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Path, User, ok, refuse};
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
}

/// What machines reported, what each policy says of them, and what to do about it. Members see their
/// own.
#[utoipa::path(get, path = "/api/orgs/{org}/posture/machines", tag = "posture", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<MachinePosture>>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<MachinePosture>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    ok(read(&state, &tx, org, user, None).await?)
}

/// The same of one machine.
#[utoipa::path(get, path = "/api/orgs/{org}/posture/machines/{machine}", tag = "posture",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<MachinePosture>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
) -> Answer<MachinePosture> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let found = read(&state, &tx, org, user, Some(id)).await?.pop();
    found.map_or_else(
        || {
            Err(refuse(
                ErrorCode::NotFound,
                "the org has no machine with that id that is yours to see",
            ))
        },
        ok,
    )
}

async fn read(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    user: UserId,
    only: Option<MachineId>,
) -> Result<Vec<MachinePosture>, ApiError> {
    let role = authorise(tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user.0);
    let rows = tx
        .query(
            "SELECT m.id, m.name, h.report, h.reported_at, h.results, now(), h.attributes
             FROM machines m
             LEFT JOIN machine_posture h ON h.org_id = m.org_id AND h.machine_id = m.id
             WHERE m.org_id = $1 AND m.id = COALESCE($2, m.id)
               AND ($3::uuid IS NULL OR m.user_id = $3)
             ORDER BY m.name",
            &[&org.0, &only.map(|id| id.0), &own],
        )
        .await?;
    rows.iter().map(|row| read_one(state, row)).collect()
}

fn read_one(state: &State, row: &Row) -> Result<MachinePosture, ApiError> {
    let unreadable = |error: tokio_postgres::Error| {
        ApiError::Internal(format!("a stored posture cannot be read: {error}"))
    };
    let report: Option<Json<PostureReport>> = row.try_get(2).map_err(unreadable)?;
    let reported_at: Option<Timestamp> = row.get(3);
    let results: Option<Json<Vec<PostureResult>>> = row.try_get(4).map_err(unreadable)?;
    let results = results.map(|Json(results)| results).unwrap_or_default();
    let now: Timestamp = row.get(5);
    let attributes: Option<Json<Attributes>> = row.try_get(6).map_err(unreadable)?;
    // Also of one that is silent, and fails no check by that.
    let restricted = attributes.is_some_and(|Json(known)| known.contains_key(RESTRICTED));
    Ok(MachinePosture {
        machine: MachineId(row.get(0)),
        name: row.get(1),
        report: report.map(|Json(report)| report),
        reported_at,
        current: reported_at.is_some_and(|at| now < state.posture_clock.clock().counts_until(at)),
        consequence: consequence(&results, now).max(restricted.then_some(OnFailure::Restrict)),
        results,
    })
}
