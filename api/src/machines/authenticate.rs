//! Machine tokens.

use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::tokens::MachineToken;

use crate::app::State;
use crate::http::{ApiError, Machine, refuse};

/// Told to one whose token is not (any more) a machine's.
pub(crate) fn unknown_token() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "the machine token is not valid (any more); enrol the machine again with `ztna up`",
    )
}

/// Told to a machine that was deleted.
pub(crate) fn deleted() -> ApiError {
    refuse(
        ErrorCode::MachineDeleted,
        "this machine was deleted from its org; enrol it again with `ztna up`",
    )
}

/// Told to a machine whose time is over.
pub(crate) fn expired() -> ApiError {
    refuse(
        ErrorCode::KeyExpired,
        "this machine's sign-in has expired; sign in again with `ztna up`",
    )
}

/// The machine that a token belongs to.
///
/// # Errors
/// `UNAUTHORIZED`, `MACHINE_DELETED` or `KEY_EXPIRED`.
pub(crate) async fn authenticate(state: &State, token: &MachineToken) -> Result<Machine, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT org_id, id, expired, deleted FROM lookup_machine_token($1)",
            &[&token.hash().as_slice()],
        )
        .await?;
    let Some(row) = row else {
        return Err(unknown_token());
    };
    if row.get(3) {
        return Err(deleted());
    }
    if row.get(2) {
        return Err(expired());
    }
    Ok(Machine {
        org: OrgId(row.get(0)),
        id: MachineId(row.get(1)),
    })
}

/// A WireGuard key as the database holds it.
pub(crate) fn wg_key(bytes: &[u8]) -> Result<WgPublicKey, ApiError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ApiError::Internal("a stored WireGuard key is damaged".to_owned()))?;
    Ok(WgPublicKey(bytes))
}
