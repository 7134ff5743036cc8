//! `/api/machine-connections` and `/api/orgs/{org}/machines/{machine}/connections`: machines' tunnels as they see them.
//!
//! That may be lost, and changes often: it stands in the store for such things and ends there by itself. A report needs
//! nothing of the database.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use ztna_proto::api::Role;
use ztna_proto::connections::{
    CONNECTIONS_STALE_SECONDS, MAX_CONNECTIONS, MachineConnections, NamedConnection,
    ReportConnections,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};

use super::routes::no_machine;
use crate::app::State;
use crate::http::{Answer, ApiError, Empty, Json, KnownMachine, Path, User, ok, refuse};
use crate::orgs::{Right, authorise};

/// What is kept of a report.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: Timestamp,
    report: ReportConnections,
}

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(report))
        .routes(routes!(show))
}

fn key(org: OrgId, machine: MachineId) -> String {
    format!("connections:{org}:{machine}")
}

/// A machine tells of its tunnels. Bearer: machine token.
#[utoipa::path(put, path = "/api/machine-connections", tag = "machines", request_body = ReportConnections, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 410, body = ErrorBody),
))]
async fn report(
    extract::State(state): extract::State<State>,
    KnownMachine { machine, .. }: KnownMachine,
    Json(report): Json<ReportConnections>,
) -> Answer<Empty> {
    if report.connections.len() > MAX_CONNECTIONS {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "a report tells of at most {MAX_CONNECTIONS} connections; leave the oldest out"
            ),
        ));
    }
    let at = Timestamp::now();
    let kept = serde_json::to_vec(&Kept { at, report })
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let lifetime = Duration::from_secs(CONNECTIONS_STALE_SECONDS);
    let key = key(machine.org, machine.id);
    state.reports.set(&key, kept, lifetime).await?;
    ok(Empty {})
}

/// A machine's tunnels, as it has told of them within the last 15 minutes. Members see those of their own machines.
#[utoipa::path(get, path = "/api/orgs/{org}/machines/{machine}/connections", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<MachineConnections>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
) -> Answer<MachineConnections> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user.0);
    let there =
        "SELECT FROM machines WHERE org_id = $1 AND id = $2 AND ($3::uuid IS NULL OR user_id = $3)";
    if tx.query_opt(there, &[&org.0, &id.0, &own]).await?.is_none() {
        return Err(no_machine());
    }
    let kept = state.reports.get(&key(org, id)).await?;
    let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(Kept { at, report }) = kept else {
        return ok(MachineConnections::default());
    };
    // What a machine says names only what is in its org.
    let peers: Vec<Uuid> = report.connections.iter().map(|c| c.peer.0).collect();
    let rows = tx
        .query(
            "SELECT id, name FROM machines WHERE org_id = $1 AND id = ANY($2)",
            &[&org.0, &peers],
        )
        .await?;
    let names: BTreeMap<Uuid, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let connections = report.connections.into_iter().filter_map(|connection| {
        let name = names.get(&connection.peer.0)?.clone();
        Some(NamedConnection { name, connection })
    });
    ok(MachineConnections {
        reported_at: Some(at),
        count: report.count,
        connections: connections.collect(),
    })
}
