//! `/api/register-machine`, `/api/machine-heartbeat`, `/api/kem-keys/{hash}` and
//! `/api/orgs/{org}/machines`.

use axum::extract;
use axum::response::IntoResponse;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    self, HeartbeatAnswer, HeartbeatRequest, KemKeyAnswer, RegisterRequest, Registered, Role,
    UpdateMachineRequest,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::{KemKeyHash, KemPublicKey};

use super::authenticate::authenticate_hash;
use super::search::Wanted;
use super::tags::check_tags;
use super::view::{read_machines, read_page};
use super::{actions, connections, facets, join, registration, static_peers, upkeep};
use crate::app::State;
use crate::http::{
    Answer, ApiError, Bearer, ClientIp, Counted, Empty, Json, KnownMachine, Machine, Path, Query,
    User, ok, refuse,
};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};
use crate::{posture, relays};

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(heartbeat))
        .routes(routes!(kem_key))
        .routes(routes!(list))
        .routes(routes!(show, update, delete))
        .merge(join::routes())
        .merge(connections::routes())
        .merge(facets::routes())
        .merge(actions::routes())
        .merge(static_peers::routes())
}

/// Enrols a machine. Bearer: an auth key, or a user's access token.
#[utoipa::path(post, path = "/api/register-machine", tag = "machines", request_body = RegisterRequest, responses(
    (status = 200, body = Envelope<Registered>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 409, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn register(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Bearer(bearer): Bearer,
    Json(request): Json<RegisterRequest>,
) -> Answer<Registered> {
    let failures = Counted::by_address(
        &*state.kv,
        "failed registrations",
        state.limits.registration,
        ip,
    );
    failures.check().await?;
    match registration::register(&state, &bearer, request).await {
        Ok(registered) => ok(registered),
        Err(error) => {
            if is_guess(&error) {
                failures.count().await?;
            }
            Err(error)
        }
    }
}

/// Whether a refusal is one that somebody who guesses keys would get.
fn is_guess(error: &ApiError) -> bool {
    let ApiError::Refused(body) = error else {
        return false;
    };
    matches!(
        body.code,
        ErrorCode::InvalidKey | ErrorCode::Unauthorized | ErrorCode::RegistrationConflict
    )
}

/// A machine is alive. Bearer: machine token.
#[utoipa::path(post, path = "/api/machine-heartbeat", tag = "machines", request_body = HeartbeatRequest, responses(
    (status = 200, body = Envelope<HeartbeatAnswer>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 410, body = ErrorBody),
))]
async fn heartbeat(
    extract::State(state): extract::State<State>,
    KnownMachine { machine, token }: KnownMachine,
    Json(request): Json<HeartbeatRequest>,
) -> Answer<HeartbeatAnswer> {
    netmap::check_report(&request.report)?;
    if let Some(report) = &request.posture {
        posture::check(report)?;
        // What a report may bring about must not rest on what this node remembers of the token.
        authenticate_hash(&state, token).await?;
    }
    upkeep::set_agent_version(&state, &machine, &request.agent_version).await?;
    state.hub.report(&machine, request.report).await?;
    if let Some(report) = &request.posture {
        posture::accept(&state, &machine, report).await?;
    }
    ok(HeartbeatAnswer {
        server_time: Timestamp::now(),
        relay_ticket: state.hub.ticket(&machine).await?,
    })
}

/// The ML-KEM key of a peer. Bearer: machine token.
#[utoipa::path(get, path = "/api/kem-keys/{hash}", tag = "machines", params(("hash" = KemKeyHash, Path)), responses(
    (status = 200, body = Envelope<KemKeyAnswer>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn kem_key(
    extract::State(state): extract::State<State>,
    machine: Machine,
    Path(hash): Path<KemKeyHash>,
) -> Answer<KemKeyAnswer> {
    let unknown = || {
        refuse(
            ErrorCode::NotFound,
            "no peer of this machine has that ML-KEM key; wait for the next change of the map",
        )
    };
    let peers = state.hub.peers_with_kem_key(&machine, &hash).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(machine.org).await?;
    for peer in peers {
        let row = tx
            .query_opt(
                "SELECT kem_key FROM machines WHERE org_id = $1 AND id = $2 AND kem_hash = $3",
                &[&machine.org.0, &peer.0, &hash.as_bytes().as_slice()],
            )
            .await?;
        if let Some(row) = row {
            let kem_key = KemPublicKey::try_from(row.get::<_, &[u8]>(0))
                .map_err(|error| ApiError::Internal(error.to_string()))?;
            return ok(KemKeyAnswer { kem_key });
        }
    }
    Err(unknown())
}

/// The org's machines, all of them or those that are asked for. Members see their own.
#[utoipa::path(get, path = "/api/orgs/{org}/machines", tag = "machines", params(("org" = OrgId, Path), Wanted), responses(
    (status = 200, body = Envelope<Vec<api::Machine>>, headers(("x-total-count" = u64, description = "How many there are on all pages."))),
    (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Query(wanted): Query<Wanted>,
) -> Result<impl IntoResponse, ApiError> {
    wanted.check()?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user);
    let (found, mut machines) = match wanted.in_database() {
        Some(page) => {
            let (total, machines) = read_page(&state, &tx, org, own, &page).await?;
            (Some(total), machines)
        }
        None => (None, read_machines(&state, &tx, org, None, own).await?),
    };
    drop(tx);
    drop(connection);
    // Tunnels are asked for once: of all that are sorted by them, else of those that are shown.
    let by_tunnels = wanted.asks_for_tunnels();
    if by_tunnels {
        connections::add_tunnels(&state, org, &mut machines).await?;
    }
    let (total, mut page) = match found {
        Some(total) => (total, machines),
        None => wanted.select(machines),
    };
    if !by_tunnels {
        connections::add_tunnels(&state, org, &mut page).await?;
    }
    let (status, body) = ok(page)?;
    Ok((status, [("x-total-count", total.to_string())], body))
}

/// One machine. Members see their own.
#[utoipa::path(get, path = "/api/orgs/{org}/machines/{machine}", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<api::Machine>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
) -> Answer<api::Machine> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user);
    let mut machine = read_machines(&state, &tx, org, Some(id), own).await?;
    drop(tx);
    drop(connection);
    connections::add_tunnels(&state, org, &mut machine).await?;
    machine.pop().map_or_else(|| Err(no_machine()), ok)
}

/// Renames a machine, gives it tags, or sets when and whether it must sign in again.
#[utoipa::path(patch, path = "/api/orgs/{org}/machines/{machine}", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), request_body = UpdateMachineRequest, responses(
    (status = 200, body = Envelope<api::Machine>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn update(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
    Json(request): Json<UpdateMachineRequest>,
) -> Answer<api::Machine> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let beyond_tags = UpdateMachineRequest {
        tags: None,
        ..request.clone()
    } != UpdateMachineRequest::default();
    if beyond_tags || request.tags.is_none() {
        authorise(&tx, org, user, Right::Manage).await?;
    }
    let own = match role {
        Role::Owner | Role::Admin => None,
        Role::Auditor | Role::Member => Some(user),
    };
    // Locks the org, so that the policy that knows the tags stays as it is.
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    let tags = match &request.tags {
        Some(tags) => Some(check_tags(&tx, org, (user, role), tags).await?),
        None => None,
    };
    let changed = upkeep::update(&tx, org, id, own, &request, tags).await?;
    let machine = read_machines(&state, &tx, org, Some(id), None).await?.pop();
    let back = match changed.returned {
        true => relays::revoked_until(&tx, &[changed.wg_key]).await?,
        false => None,
    };
    if changed.ended {
        relays::append(&tx, &changed.wg_key).await?;
    }
    tx.commit().await?;
    drop(connection);
    if changed.ended {
        state.cut(changed.wg_key).await;
    }
    relays::outlast(back).await;
    state.hub.notify(org).await;
    machine.map_or_else(|| Err(no_machine()), ok)
}

/// Deletes a machine: its stream ends, its peers forget it, its addresses are free. Members delete their
/// own, but none that is quarantined, locked, disabled or being wiped.
#[utoipa::path(delete, path = "/api/orgs/{org}/machines/{machine}", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn delete(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = match role {
        Role::Owner | Role::Admin => None,
        Role::Auditor | Role::Member => Some(user),
    };
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    if let Some(user) = own {
        upkeep::refuse_held(&tx, org, id, user).await?;
    }
    let Some(wg_key) = upkeep::delete(&tx, org, id, own).await? else {
        return Err(no_machine());
    };
    relays::append(&tx, &wg_key).await?;
    tx.commit().await?;
    drop(connection);
    state.cut(wg_key).await;
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, "a machine was deleted");
    ok(Empty {})
}

pub(super) fn no_machine() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "the org has no machine with that id that is yours to change",
    )
}
