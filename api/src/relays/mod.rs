//! Relays: the map of their regions, the tickets that open them, who lost that right, and whether
//! they work.
//!
//! * [`map`]: the deployment's regions, which every org sees, and each org's own;
//! * [`routes`]: how an org sees and changes its own, within the bounds of [`check`];
//! * [`revocations`]: the list that relays follow, so that a revoked machine is cut off at once;
//! * [`health`]: probes of every node.

mod check;
mod health;
mod map;
mod revocations;
mod routes;

use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use ztna_proto::ids::{MachineId, OrgId, RegionId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};

pub(crate) use health::{is_public, keep_probing};
pub(crate) use map::{load, upsert};
pub use revocations::{RevocationFeed, RevocationFeedError};
pub(crate) use revocations::{Revocations, append, outlast, revoked_until};

use crate::app::State;

pub(crate) fn routes() -> OpenApiRouter<State> {
    routes::routes()
        .merge(revocations::routes())
        .merge(health::routes())
}

/// Named by the ticket of a machine that has no region: no relay is in it.
const NO_REGION: RegionId = RegionId(0);

/// A ticket for a machine, good from now on, for its org's regions and no others: own regions of
/// two orgs may have the same number, so a ticket without regions, which opens all, is never made.
pub(crate) fn ticket(
    signer: &TicketSigner,
    org: OrgId,
    machine: MachineId,
    wg_key: WgPublicKey,
    regions: &[RegionId],
) -> String {
    let issued_at = Timestamp::now();
    signer.sign(&TicketClaims {
        org,
        machine,
        wg_key,
        regions: match regions {
            [] => vec![NO_REGION],
            some => some.to_vec(),
        },
        issued_at,
        expires_at: issued_at
            .checked_add(TICKET_LIFETIME)
            .unwrap_or(Timestamp::MAX),
        bytes_per_second: None,
    })
}
