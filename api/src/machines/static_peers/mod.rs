//! Static peers: devices with a stock WireGuard app, which a gateway machine carries.
//!
//! A static peer is a machine of its org, with a row in `static_peers` beside. [`peers`] makes them and
//! their keys, [`config`] writes what their device is configured with, [`gateways`] marks the machines that
//! may carry them, and [`attach`] is how such a machine takes one up. What follows from changes by itself
//! (a gateway that is held or deleted, another key) the database's triggers do.

mod attach;
mod config;
mod gateways;
mod peers;

use utoipa_axum::router::OpenApiRouter;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId};

use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// What a static peer's preshared key is sealed for.
fn preshared_key_purpose(id: MachineId) -> String {
    format!("preshared key of {id}")
}

pub(super) fn routes() -> OpenApiRouter<State> {
    gateways::routes()
        .merge(peers::routes())
        .merge(attach::routes())
}

/// Refuses to wipe what has no agent that could do it.
pub(super) async fn refuse_wipe(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    name: &str,
) -> Result<(), ApiError> {
    match is_static(tx, org, id).await? {
        true => Err(refuse(
            ErrorCode::Conflict,
            format!(
                "{name} is a static peer: it has no agent that could erase anything; delete it, or give it \
                 new keys"
            ),
        )),
        false => Ok(()),
    }
}

async fn is_static(tx: &Tx<'_>, org: OrgId, id: MachineId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM static_peers WHERE org_id = $1 AND machine_id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    Ok(row.is_some())
}
