//! Networks behind machines: a machine offers them, an admin or the policy approves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use axum::extract;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::network::{
    AdvertiseRoutesRequest, ApproveRoutesRequest, MachineRoutes, OfferedRoute, check_routes,
};

use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Machine, Path, User, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{IPV6_BITS, Right, authorise};
use crate::{machines, policy};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(advertise))
        .routes(routes!(list))
        .routes(routes!(approve))
}

/// What the machine offers to route, whole. Bearer: machine token. What the policy's `autoApprovers`
/// name is approved at once, when it is offered first.
#[utoipa::path(put, path = "/api/machine-routes", tag = "network", request_body = AdvertiseRoutesRequest, responses(
    (status = 200, body = Envelope<MachineRoutes>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 410, body = ErrorBody),
))]
async fn advertise(
    extract::State(state): extract::State<State>,
    machine: Machine,
    Json(request): Json<AdvertiseRoutesRequest>,
) -> Answer<MachineRoutes> {
    let Machine { org, id } = machine;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let wanted = check(&request.routes, &tailnet(&tx, org).await?)?;
    let held = offered(&tx, org, Some(id)).await?.remove(&id);
    let held = held.map(|(_, routes)| routes).unwrap_or_default();
    if !held.keys().eq(&wanted) {
        netmap::append_change(&tx, org, Changed::Machine(id)).await?;
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        tx.execute(
            "DELETE FROM machine_routes
             WHERE org_id = $1 AND machine_id = $2 AND prefix::text <> ALL ($3)",
            &[&org.0, &id.0, &wanted],
        )
        .await?;
        let approved = approved_by_policy(&tx, org, id, &request.routes).await?;
        // Two calls at once: the org's row, locked by the change, makes them take turns.
        tx.execute(
            "INSERT INTO machine_routes (org_id, machine_id, prefix, approved)
             SELECT $1, $2, prefix::cidr, prefix = ANY ($4) FROM unnest($3::text[]) AS prefix
             ON CONFLICT (org_id, machine_id, prefix) DO NOTHING",
            &[&org.0, &id.0, &wanted, &approved],
        )
        .await?;
    }
    let routes = read_one(&state, &tx, org, id).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    ok(routes)
}

/// The networks behind the org's machines. Of machines that offer none: nothing.
#[utoipa::path(get, path = "/api/orgs/{org}/routes", tag = "network", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<MachineRoutes>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<MachineRoutes>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    ok(read_all(&state, &tx, org).await?)
}

/// Says which of the networks that a machine offers it may route.
#[utoipa::path(put, path = "/api/orgs/{org}/machines/{machine}/routes", tag = "network",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), request_body = ApproveRoutesRequest, responses(
    (status = 200, body = Envelope<MachineRoutes>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn approve(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
    Json(request): Json<ApproveRoutesRequest>,
) -> Answer<MachineRoutes> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let wanted = check(&request.approved, &[])?;
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    machines::demand_machine(&tx, org, id).await?;
    let held = offered(&tx, org, Some(id)).await?.remove(&id);
    let held = held.map(|(_, routes)| routes).unwrap_or_default();
    if let Some(stranger) = wanted.iter().find(|route| !held.contains_key(route)) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "the machine does not offer {stranger}; have it offered there first: \
                 `ztna up --advertise-routes …`"
            ),
        ));
    }
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    tx.execute(
        "UPDATE machine_routes SET approved = (prefix::text = ANY ($3))
         WHERE org_id = $1 AND machine_id = $2",
        &[&org.0, &id.0, &wanted],
    )
    .await?;
    let routes = read_one(&state, &tx, org, id).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, approved = ?wanted, "routes approved");
    ok(routes)
}

fn check(routes: &[IpNet], tailnet: &[IpNet]) -> Result<BTreeSet<IpNet>, ApiError> {
    check_routes(routes, tailnet)
        .map_err(|error| refuse(ErrorCode::ValidationError, error.to_string()))
}

/// The networks that hold the org's tailnet addresses.
pub(crate) async fn tailnet(tx: &Tx<'_>, org: OrgId) -> Result<Vec<IpNet>, ApiError> {
    let row = tx
        .query_one(
            "SELECT ipv4_network, ipv6_network, masklen(ipv4_network) FROM orgs WHERE id = $1",
            &[&org.0],
        )
        .await?;
    let damaged = || ApiError::Internal(format!("the networks of org {org} are damaged"));
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(0), row.get(1)) else {
        return Err(damaged());
    };
    let bits = u8::try_from(row.get::<_, i32>(2)).map_err(|_| damaged())?;
    let ipv4 = Ipv4Net::new(ipv4, bits).map_err(|_| damaged())?;
    let ipv6 = Ipv6Net::new(ipv6, IPV6_BITS).map_err(|_| damaged())?;
    Ok(vec![ipv4.trunc().into(), ipv6.trunc().into()])
}

/// Those of the networks that the policy approves by itself for this machine.
async fn approved_by_policy(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    routes: &[IpNet],
) -> Result<Vec<String>, ApiError> {
    let Some(facts) = netmap::facts_of(tx, org, id).await? else {
        return Ok(Vec::new());
    };
    let document = policy::load(tx, org).await?;
    let approved = routes
        .iter()
        .filter(|route| facts.auto_approved(id, **route, &document));
    Ok(approved.map(ToString::to_string).collect())
}

/// Machines by id, each with its name, what it offers, and whether it may.
type Offers = BTreeMap<MachineId, (String, BTreeMap<IpNet, bool>)>;

/// What the org's machines offer, or one of them.
async fn offered(tx: &Tx<'_>, org: OrgId, only: Option<MachineId>) -> Result<Offers, ApiError> {
    let rows = tx
        .query(
            "SELECT r.machine_id, m.name, r.prefix::text, r.approved
             FROM machine_routes r JOIN machines m ON m.org_id = r.org_id AND m.id = r.machine_id
             WHERE r.org_id = $1 AND r.machine_id = COALESCE($2, r.machine_id)",
            &[&org.0, &only.map(|id| id.0)],
        )
        .await?;
    let mut offers = Offers::new();
    for row in &rows {
        let prefix = row.get::<_, &str>(2).parse();
        let prefix =
            prefix.map_err(|_| ApiError::Internal("a stored route is damaged".to_owned()))?;
        let (_, routes) = offers
            .entry(MachineId(row.get(0)))
            .or_insert_with(|| (row.get(1), BTreeMap::new()));
        routes.insert(prefix, row.get(3));
    }
    Ok(offers)
}

/// What the org's machines offer, as people see it: by name.
async fn read_all(state: &State, tx: &Tx<'_>, org: OrgId) -> Result<Vec<MachineRoutes>, ApiError> {
    let offers = offered(tx, org, None).await?;
    let online = state.hub.presence(org);
    let is_offline = |id: &MachineId| !online.get(id).is_some_and(|(online, _)| *online);
    // As machines choose: `RoutingTable` of crates/mesh.
    let mut primaries: BTreeMap<IpNet, (bool, MachineId)> = BTreeMap::new();
    for (id, (_, routes)) in &offers {
        for (prefix, _) in routes.iter().filter(|(_, approved)| **approved) {
            let rank = (is_offline(id), *id);
            let first = primaries.entry(*prefix).or_insert(rank);
            *first = rank.min(*first);
        }
    }
    let mut machines: Vec<_> = offers
        .into_iter()
        .map(|(machine, (name, routes))| MachineRoutes {
            machine,
            name,
            routes: routes
                .into_iter()
                .map(|(prefix, approved)| OfferedRoute {
                    prefix,
                    approved,
                    primary: primaries
                        .get(&prefix)
                        .is_some_and(|(_, first)| *first == machine),
                })
                .collect(),
        })
        .collect();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(machines)
}

/// The same of one machine.
async fn read_one(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
) -> Result<MachineRoutes, ApiError> {
    let all = read_all(state, tx, org).await?;
    if let Some(machine) = all.into_iter().find(|routes| routes.machine == id) {
        return Ok(machine);
    }
    let row = tx
        .query_one(
            "SELECT name FROM machines WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    Ok(MachineRoutes {
        machine: id,
        name: row.get(0),
        routes: Vec::new(),
    })
}
