//! `/api/register-machine`, `/api/machine-heartbeat`, `/api/kem-keys/{hash}` and
//! `/api/orgs/{org}/machines`.

use std::net::IpAddr;

use axum::extract;
use jiff::Timestamp;
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    self, HeartbeatAnswer, HeartbeatRequest, KemKeyAnswer, OFFLINE_AFTER_SECONDS, RegisterRequest,
    Registered, Role, UpdateMachineRequest,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::keys::{KemKeyHash, KemPublicKey};

use super::{authenticate, normalise_name, registration, upkeep};
use crate::app::State;
use crate::db::Tx;
use crate::http::{
    Answer, ApiError, Bearer, ClientIp, Counted, Empty, Json, Machine, Path, User, ok, refuse,
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
        .routes(routes!(update, delete))
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
    machine: Machine,
    Json(request): Json<HeartbeatRequest>,
) -> Answer<HeartbeatAnswer> {
    netmap::check_report(&request.report)?;
    if let Some(report) = &request.posture {
        posture::check(report)?;
    }
    upkeep::set_agent_version(&state, &machine, &request.agent_version).await?;
    state.hub.report(&machine, request.report).await?;
    if let Some(report) = &request.posture {
        posture::accept(&state, &machine, report).await?;
    }
    let ticket = state.hub.ticket(&machine).await?;
    ok(HeartbeatAnswer {
        server_time: Timestamp::now(),
        // Deleted or expired since the token was checked: the next call is told which.
        relay_ticket: ticket.ok_or_else(authenticate::unknown_token)?,
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

/// The org's machines. Members see their own.
#[utoipa::path(get, path = "/api/orgs/{org}/machines", tag = "machines", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<api::Machine>>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<api::Machine>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user);
    ok(read_machines(&state, &tx, org, None, own).await?)
}

/// Renames a machine, or sets when it must sign in again.
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
    let name = request.name.as_deref().map(normalise_name).transpose()?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    let row = tx
        .query_opt(
            "UPDATE machines m SET name = COALESCE($3, m.name),
                    key_expires_at = COALESCE($4, m.key_expires_at),
                    expired = COALESCE(COALESCE($4, m.key_expires_at) <= now(), false)
             FROM machines before
             WHERE m.org_id = $1 AND m.id = $2 AND before.org_id = m.org_id AND before.id = m.id
             RETURNING m.wg_key, m.expired AND NOT before.expired",
            &[&org.0, &id.0, &name, &request.key_expires_at],
        )
        .await
        .map_err(|error| match error.violates("machines_org_id_name_key") {
            true => refuse(
                ErrorCode::Conflict,
                "another machine of the org has that name; choose another",
            ),
            false => error,
        })?;
    let Some(row) = row else {
        return Err(no_machine());
    };
    let wg_key = authenticate::wg_key(row.get(0))?;
    let ended: bool = row.get(1);
    let machine = read_machines(&state, &tx, org, Some(id), None).await?.pop();
    if ended {
        relays::append(&tx, &wg_key).await?;
    }
    tx.commit().await?;
    drop(connection);
    if ended {
        state.cut(wg_key).await;
    }
    state.hub.notify(org).await;
    machine.map_or_else(|| Err(no_machine()), ok)
}

/// Deletes a machine: its stream ends, its peers forget it, its addresses are free.
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

fn no_machine() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "the org has no machine with that id that is yours to change",
    )
}

/// Machines as people see them: one or all, of one person or everybody, by name.
async fn read_machines(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<MachineId>,
    of: Option<UserId>,
) -> Result<Vec<api::Machine>, ApiError> {
    let rows = tx
        .query(
            "SELECT m.id, m.name, m.os, m.agent_version, m.wg_key, m.ipv4, m.ipv6, u.email,
                    p.last_seen, m.created_at, m.key_expires_at, o.slug
             FROM machines m
             JOIN orgs o ON o.id = m.org_id
             LEFT JOIN users u ON u.id = m.user_id
             LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
             WHERE m.org_id = $1 AND m.id = COALESCE($2, m.id)
               AND ($3::uuid IS NULL OR m.user_id = $3)
             ORDER BY m.name",
            &[&org.0, &only.map(|id| id.0), &of.map(|user| user.0)],
        )
        .await?;
    let live = state.hub.presence(org);
    rows.iter()
        .map(|row| {
            let mut machine = read_machine(state, row)?;
            // The hub knows sooner than the database; without a hub nobody has a stream.
            if let Some((online, last_seen)) = live.get(&machine.id) {
                machine.online = *online;
                machine.last_seen = machine.last_seen.max(*last_seen);
            }
            Ok(machine)
        })
        .collect()
}

fn read_machine(state: &State, row: &Row) -> Result<api::Machine, ApiError> {
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(5), row.get(6)) else {
        return Err(ApiError::Internal("a machine has no addresses".to_owned()));
    };
    let name: String = row.get(1);
    let last_seen: Option<Timestamp> = row.get(8);
    Ok(api::Machine {
        id: MachineId(row.get(0)),
        dns_name: state.dns_name(&name, row.get(11)),
        name,
        os: row.get(2),
        agent_version: row.get(3),
        wg_key: authenticate::wg_key(row.get(4))?,
        ipv4,
        ipv6,
        user: row.get(7),
        online: last_seen.is_some_and(is_recent),
        last_seen,
        created_at: row.get(9),
        key_expires_at: row.get(10),
    })
}

fn is_recent(at: Timestamp) -> bool {
    let silence = Timestamp::now().duration_since(at).as_secs();
    silence.unsigned_abs() <= OFFLINE_AFTER_SECONDS
}
