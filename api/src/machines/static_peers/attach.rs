//! `POST /api/machine-static-peers/{machine}`: a gateway takes a static peer up.

use std::net::IpAddr;

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Registered;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::KemKeyHash;
use ztna_proto::static_peers::{AttachRequest, Attached, PresharedKey};
use ztna_proto::tokens::MachineToken;

use super::preshared_key_purpose;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Counted, Json, Machine, Path, ok, refuse};
use crate::machines::authenticate::wg_key;
use crate::machines::check_text;
use crate::machines::standing::{Standing, disabled, expired};
use crate::netmap::{self, Changed};
use crate::{orgs, relays};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(attach))
}

/// Takes a static peer up: the gateway brings keys for its end of the mesh, and is given a token to speak
/// for it, and what its device is known by. Bearer: the gateway's machine token.
#[utoipa::path(post, path = "/api/machine-static-peers/{machine}", tag = "machines",
    params(("machine" = MachineId, Path)), request_body = AttachRequest, responses(
    (status = 200, body = Envelope<Attached>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 410, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn attach(
    extract::State(state): extract::State<State>,
    gateway: Machine,
    Path(id): Path<MachineId>,
    Json(request): Json<AttachRequest>,
) -> Answer<Attached> {
    check_text("agent_version", &request.agent_version)?;
    Counted::by_machine(
        &*state.kv,
        "takings-up of static peers",
        state.limits.attach,
        gateway.id,
    )
    .spend()
    .await?;
    let org = gateway.org;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    orgs::lock(&tx, org).await?;
    demand_in_network(&tx, org, gateway.id).await?;
    let query = format!(
        "SELECT s.public_key, s.preshared_key, m.wg_key, m.detached, m.name, m.ipv4, m.ipv6, m.key_expires_at,
                o.name, o.slug, {}
         FROM static_peers s
         JOIN machines m ON m.org_id = s.org_id AND m.id = s.machine_id
         JOIN orgs o ON o.id = s.org_id
         WHERE s.org_id = $1 AND s.machine_id = $2 AND s.gateway_id = $3",
        Standing::COLUMNS
    );
    let row = tx
        .query_opt(&query, &[&org.0, &id.0, &gateway.id.0])
        .await?
        .ok_or_else(not_carried)?;
    let standing = Standing::read(&row, 10);
    if let Some(reason) = &standing.disabled {
        return Err(disabled(reason));
    }
    if standing.expired {
        return Err(expired());
    }
    if !standing.approved {
        return Err(refuse(
            ErrorCode::Conflict,
            "the static peer waits for approval by an admin of its org, and is carried after that",
        ));
    }
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(5), row.get(6)) else {
        return Err(ApiError::Internal("a machine has no addresses".to_owned()));
    };
    let old = wg_key(row.get(2))?;
    let was_detached: bool = row.get(3);
    let token = MachineToken::generate(&mut rand::rng());
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    tx.execute(
        "UPDATE machines SET wg_key = $3, kem_key = $4, kem_hash = $5, token_hash = $6, agent_version = $7,
                previous_token_hash = NULL, detached = false
         WHERE org_id = $1 AND id = $2",
        &[
            &org.0,
            &id.0,
            &request.wg_key.as_bytes().as_slice(),
            &request.kem_key.as_bytes().as_slice(),
            &KemKeyHash::of(&request.kem_key).as_bytes().as_slice(),
            &token.hash().as_slice(),
            &request.agent_version,
        ],
    )
    .await
    .map_err(|error| match error.violates("machines_wg_key_key") {
        true => refuse(
            ErrorCode::Conflict,
            "another machine has this `wg_key`; make a new one for each static peer",
        ),
        false => error,
    })?;
    let preshared_key = match row.get::<_, Option<&[u8]>>(1) {
        Some(sealed) => {
            let purpose = preshared_key_purpose(id);
            let key = match orgs::open_secret(&tx, &state.keys, org, &purpose, sealed).await {
                Ok(opened) => PresharedKey::from_slice(&opened),
                Err(ApiError::Internal(reason)) => {
                    tracing::error!(%org, machine = %id, reason, "a preshared key does not open");
                    None
                }
                Err(error) => return Err(error),
            };
            Some(key.ok_or_else(stays_closed)?)
        }
        None => None,
    };
    let name: String = row.get(4);
    let answer = Attached {
        machine: Registered {
            machine_id: id,
            node_key: token,
            org,
            org_name: row.get(8),
            dns_name: state.dns_name(&name, row.get(9)),
            name,
            ipv4,
            ipv6,
            key_expires_at: row.get(7),
        },
        public_key: wg_key(row.get(0))?,
        preshared_key,
    };
    let replaced = !was_detached && old != request.wg_key;
    let revoked_until = relays::revoked_until(&tx, &[request.wg_key]).await?;
    if replaced {
        relays::append(&tx, &old).await?;
    }
    tx.commit().await?;
    drop(connection);
    if replaced {
        state.cut(old).await;
    }
    relays::outlast(revoked_until).await;
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, gateway = %gateway.id, "a static peer was taken up");
    ok(answer)
}

/// As after a restore without the master key that it was sealed under.
fn stays_closed() -> ApiError {
    refuse(
        ErrorCode::Conflict,
        "the static peer's preshared key does not open with this control plane's master key; give the static peer \
         new keys",
    )
}

/// A gateway that is held carries nobody.
async fn demand_in_network(tx: &Tx<'_>, org: OrgId, id: MachineId) -> Result<(), ApiError> {
    let query = format!(
        "SELECT {} FROM machines m WHERE m.org_id = $1 AND m.id = $2",
        Standing::COLUMNS
    );
    let row = tx.query_opt(&query, &[&org.0, &id.0]).await?;
    match row.is_some_and(|row| Standing::read(&row, 0).is_in()) {
        true => Ok(()),
        false => Err(refuse(
            ErrorCode::Conflict,
            "this machine is not in the network, so it carries no static peers; an admin of its org can \
             end what holds it",
        )),
    }
}

fn not_carried() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "this machine is not the gateway of a static peer with that id; wait for the next change of the map",
    )
}
