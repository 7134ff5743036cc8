//! What machines are told: the machine stream, and the hub that feeds it.
//!
//! * [`Hub`] holds the orgs whose machines are connected. A change is committed to the database
//!   first, with the org's next `seq` and an entry in its change log; then the hub is notified,
//!   reads what changed since it last looked, and sends every machine that the change concerns the
//!   difference ([`org::OrgState`]). Notices may come late, twice or out of order: what counts is
//!   the log.
//! * Volatile state (endpoints, home region, online) goes past the log, from the machine that
//!   reports it to those that see it, and to the database in batches ([`written`]).
//! * Nodes that share a key-value store tell each other of both ([`nodes`]). While it is away they look
//!   into the database.
//! * Each stream ([`stream`]) has a bounded outbox. A machine that does not read it is cut off and
//!   starts again with a full map; it never makes others wait.

mod ended;
mod entry;
mod hub;
mod load;
mod nodes;
mod org;
mod presence;
mod socket;
mod stream;
mod written;

use uuid::Uuid;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::netmap::{MAX_ENDPOINTS, VolatileReport};

pub(crate) use hub::Hub;
pub(crate) use load::{facts, facts_among, facts_of, names};
pub(crate) use stream::routes;

use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// Entries of an org's change log. A node that missed more reads the org anew.
const LOG_LENGTH: i64 = 10_000;

/// What a durable change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// A machine came, went or is different.
    Machine(MachineId),
    /// The rules are others.
    Policy,
    /// The org's own relay regions are others.
    Relays,
    /// What every machine is told of the org: read anew.
    Org,
}

/// Takes the org's next `seq` and logs the change under it. Locks the org's row until the
/// transaction ends, so commits happen in the order of `seq`.
pub(crate) async fn append_change(
    tx: &Tx<'_>,
    org: OrgId,
    changed: Changed,
) -> Result<(), ApiError> {
    let (kind, machine) = match changed {
        Changed::Machine(id) => ("machine", Some(id.0)),
        Changed::Policy => ("policy", None),
        Changed::Relays => ("relays", None),
        Changed::Org => ("org", None),
    };
    append(tx, org, kind, &[machine]).await
}

/// [`append_change`] for several machines.
pub(crate) async fn append_machines(
    tx: &Tx<'_>,
    org: OrgId,
    machines: &[MachineId],
) -> Result<(), ApiError> {
    let machines: Vec<_> = machines.iter().map(|id| Some(id.0)).collect();
    append(tx, org, "machine", &machines).await
}

async fn append(
    tx: &Tx<'_>,
    org: OrgId,
    kind: &str,
    machines: &[Option<Uuid>],
) -> Result<(), ApiError> {
    // Every registration and report of news comes by here, holding the org's row: one round trip.
    let logged = tx.execute(
        "WITH next AS (UPDATE orgs SET seq = seq + cardinality($3::uuid[]) WHERE id = $1 RETURNING seq),
              old AS (DELETE FROM changes WHERE org_id = $1 AND seq <= (SELECT seq FROM next) - $4::bigint)
         INSERT INTO changes (org_id, seq, kind, machine_id)
         SELECT $1, next.seq - cardinality($3::uuid[]) + changed.place, $2, changed.id
         FROM next, unnest($3::uuid[]) WITH ORDINALITY AS changed (id, place)",
        &[&org.0, &kind, &machines, &LOG_LENGTH],
    )
    .await?;
    match usize::try_from(logged) == Ok(machines.len()) {
        true => Ok(()),
        false => Err(ApiError::Internal(format!(
            "org {org} is gone, so its change could not be logged"
        ))),
    }
}

/// Refuses a report that would make every peer's map grow without bound.
pub(crate) fn check_report(report: &VolatileReport) -> Result<(), ApiError> {
    if report.endpoints.len() <= MAX_ENDPOINTS {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::ValidationError,
        format!(
            "the report names {} endpoints; at most {MAX_ENDPOINTS} are possible",
            report.endpoints.len()
        ),
    ))
}
