//! Machine tokens.

use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::tokens::{MachineToken, TokenHash};

use super::standing::{deleted, disabled, expired, unknown_token};
use crate::app::State;
use crate::http::{ApiError, Machine};

/// The machine that a token belongs to.
///
/// # Errors
/// `UNAUTHORIZED`, `MACHINE_DELETED`, `MACHINE_DISABLED` or `KEY_EXPIRED`.
pub(crate) async fn authenticate(state: &State, token: &MachineToken) -> Result<Machine, ApiError> {
    authenticate_hash(state, token.hash()).await
}

/// The same, by what is known of the token.
///
/// # Errors
/// As for [`authenticate`].
pub(crate) async fn authenticate_hash(state: &State, hash: TokenHash) -> Result<Machine, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT org_id, id, expired, deleted, disabled FROM lookup_machine_token($1)",
            &[&hash.as_slice()],
        )
        .await?;
    let Some(row) = row else {
        return Err(unknown_token());
    };
    if row.get(3) {
        return Err(deleted());
    }
    if let Some(reason) = row.get(4) {
        return Err(disabled(reason));
    }
    if row.get(2) {
        return Err(expired());
    }
    let machine = Machine {
        org: OrgId(row.get(0)),
        id: MachineId(row.get(1)),
    };
    state.hub.remember(hash, machine);
    Ok(machine)
}

/// The machine that a token belongs to, as the hub knows it if it does ([`crate::netmap::Hub::recognise`]).
///
/// # Errors
/// As for [`authenticate`].
pub(crate) async fn recognise(state: &State, token: &MachineToken) -> Result<Machine, ApiError> {
    match state.hub.recognise(&token.hash()) {
        Some(machine) => Ok(machine),
        None => authenticate(state, token).await,
    }
}

/// A WireGuard key as the database holds it.
pub(crate) fn wg_key(bytes: &[u8]) -> Result<WgPublicKey, ApiError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ApiError::Internal("a stored WireGuard key is damaged".to_owned()))?;
    Ok(WgPublicKey(bytes))
}
