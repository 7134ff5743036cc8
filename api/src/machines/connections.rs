//! `/api/machine-connections` and `/api/orgs/{org}/machines/{machine}/connections`: machines' tunnels as they see them.
//!
//! That may be lost, and changes often: it stands in the store for such things and ends there by itself. A report needs
//! nothing of the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use ztna_proto::api::{Machine, Role};
use ztna_proto::connections::{
    CONNECTIONS_STALE_SECONDS, MAX_CONNECTIONS, MAX_TOLD_MACHINES, MAX_WHY, MachineConnections,
    NamedConnection, OrgConnections, OrgTunnel, ReportConnections, TunnelMix,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};

use super::routes::no_machine;
use crate::app::State;
use crate::http::{Answer, ApiError, Empty, Json, KnownMachine, Path, User, ok, refuse};
use crate::orgs::{Right, authorise};
use crate::text::has_hidden;

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
        .routes(routes!(list))
}

fn key(org: OrgId, machine: MachineId) -> String {
    format!("connections:{org}:{machine}")
}

/// Where the counts of a report are: lists of machines need no more of it.
fn mix_key(org: OrgId, machine: MachineId) -> String {
    format!("tunnels:{org}:{machine}")
}

/// A machine tells of its tunnels. Bearer: machine token.
#[utoipa::path(put, path = "/api/machine-connections", tag = "machines", request_body = ReportConnections, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 410, body = ErrorBody),
))]
async fn report(
    extract::State(state): extract::State<State>,
    KnownMachine { machine, .. }: KnownMachine,
    Json(mut report): Json<ReportConnections>,
) -> Answer<Empty> {
    if report.connections.len() > MAX_CONNECTIONS {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "a report tells of at most {MAX_CONNECTIONS} connections; leave the oldest out"
            ),
        ));
    }
    let unfit = |why: &String| why.chars().count() > MAX_WHY || has_hidden(why);
    if report.connections.iter().any(|c| unfit(&c.why)) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("`why` may have {MAX_WHY} characters, none of them invisible; shorten it"),
        ));
    }
    // Nothing is kept of machines that it may not know, whatever it says of them.
    let peers: BTreeSet<MachineId> = report.connections.iter().map(|c| c.peer).collect();
    let known = state.hub.peers_among(&machine, peers).await?;
    report.connections.retain(|c| known.contains(&c.peer));
    let written = |error: serde_json::Error| ApiError::Internal(error.to_string());
    let mix = serde_json::to_vec(&TunnelMix::of(&report.connections)).map_err(written)?;
    let at = Timestamp::now();
    let kept = serde_json::to_vec(&Kept { at, report }).map_err(written)?;
    let lifetime = Duration::from_secs(CONNECTIONS_STALE_SECONDS);
    let (org, id) = (machine.org, machine.id);
    state.reports.set(&key(org, id), kept, lifetime).await?;
    state.reports.set(&mix_key(org, id), mix, lifetime).await?;
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
    drop(tx);
    drop(connection);
    // Nobody waits for a connection to the database because the store is slow.
    let kept = state.reports.get(&key(org, id)).await?;
    let kept: Option<Kept> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(Kept { at, report }) = kept else {
        return ok(MachineConnections::default());
    };
    // What was kept names only what is in the org still.
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
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

/// The tunnels that the org's machines have told of within the last 15 minutes, those of the first 1,000 machines by name.
#[utoipa::path(get, path = "/api/orgs/{org}/connections", tag = "machines", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<OrgConnections>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<OrgConnections> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let limit = i64::try_from(MAX_TOLD_MACHINES + 1).unwrap_or(i64::MAX);
    let query = "SELECT id FROM machines WHERE org_id = $1 ORDER BY name LIMIT $2";
    let rows = tx.query(query, &[&org.0, &limit]).await?;
    drop(tx);
    drop(connection);
    let ids = rows.iter().map(|row| MachineId(row.get(0)));
    let ids: Vec<MachineId> = ids.take(MAX_TOLD_MACHINES).collect();
    let keys: Vec<String> = ids.iter().map(|id| key(org, *id)).collect();
    let kept = state.reports.get_many(&keys).await?;
    let known: BTreeSet<MachineId> = ids.iter().copied().collect();
    let mut tunnels: BTreeMap<(MachineId, MachineId), OrgTunnel> = BTreeMap::new();
    for (machine, kept) in ids.into_iter().zip(kept) {
        let kept = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(Kept { at, report }) = kept else {
            continue;
        };
        for connection in report.connections {
            let peer = connection.peer;
            let ends = (machine.min(peer), machine.max(peer));
            let is_newer = tunnels.get(&ends).is_none_or(|old| old.reported_at < at);
            if known.contains(&peer) && is_newer {
                let tunnel = OrgTunnel {
                    machine,
                    reported_at: at,
                    connection,
                };
                tunnels.insert(ends, tunnel);
            }
        }
    }
    ok(OrgConnections {
        tunnels: tunnels.into_values().collect(),
        is_partial: rows.len() > MAX_TOLD_MACHINES,
    })
}

/// Says of machines what they have told of their tunnels. Waits for the store: no connection to the database should be held.
pub(super) async fn add_tunnels(
    state: &State,
    org: OrgId,
    machines: &mut [Machine],
) -> Result<(), ApiError> {
    let keys: Vec<String> = machines.iter().map(|it| mix_key(org, it.id)).collect();
    let kept = state.reports.get_many(&keys).await?;
    for (machine, kept) in machines.iter_mut().zip(kept) {
        machine.tunnels = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    }
    Ok(())
}
