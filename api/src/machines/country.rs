//! The country that a machine calls from: an attribute that rules may ask for.

use std::net::IpAddr;

use ztna_proto::ids::{MachineId, OrgId};

use crate::app::State;
use crate::http::{ApiError, Machine};
use crate::netmap::{self, Changed};

/// A machine has connected from this address. Another country than before is a change like any other. Of a
/// static peer none is known: it is its gateway that calls.
pub(crate) async fn called_from(
    state: &State,
    machine: &Machine,
    address: IpAddr,
) -> Result<(), ApiError> {
    let Some(geoip) = &state.geoip else {
        return Ok(());
    };
    let country = geoip.country(address);
    let mut connection = state.db.connect().await?;
    {
        // Mostly it is the same: then nobody waits for the org's row.
        let tx = connection.org(machine.org).await?;
        let other = tx
            .query_opt(
                "SELECT FROM machines m WHERE org_id = $1 AND id = $2 AND country IS DISTINCT FROM $3
                   AND NOT EXISTS (SELECT FROM static_peers s WHERE s.org_id = m.org_id AND s.machine_id = m.id)",
                &[&machine.org.0, &machine.id.0, &country],
            )
            .await?;
        if other.is_none() {
            return Ok(());
        }
    }
    let tx = connection.org(machine.org).await?;
    netmap::append_change(&tx, machine.org, Changed::Machine(machine.id)).await?;
    let changed = tx
        .execute(
            "UPDATE machines SET country = $3 WHERE org_id = $1 AND id = $2 AND country IS DISTINCT FROM $3",
            &[&machine.org.0, &machine.id.0, &country],
        )
        .await?;
    if changed == 0 {
        return Ok(());
    }
    tx.commit().await?;
    drop(connection);
    state.hub.notify(machine.org).await;
    tracing::debug!(machine = %machine.id, country, "a machine calls from another country");
    Ok(())
}

/// Forgets what is known from a time with a database: what nobody keeps right, must open nothing.
pub(crate) async fn forget_countries(state: &State) -> Result<(), ApiError> {
    if state.geoip.is_some() {
        return Ok(());
    }
    let orgs = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        tx.query("SELECT * FROM lookup_orgs_with_countries()", &[])
            .await?
    };
    for org in orgs.iter().map(|row| OrgId(row.get(0))) {
        let mut connection = state.db.connect().await?;
        let tx = connection.org(org).await?;
        crate::orgs::lock(&tx, org).await?;
        let machines = tx
            .query(
                "UPDATE machines SET country = NULL WHERE org_id = $1 AND country IS NOT NULL RETURNING id",
                &[&org.0],
            )
            .await?;
        for machine in &machines {
            let changed = Changed::Machine(MachineId(machine.get(0)));
            netmap::append_change(&tx, org, changed).await?;
        }
        tx.commit().await?;
        drop(connection);
        state.hub.notify(org).await;
        tracing::info!(%org, machines = machines.len(), "countries are not known any more: there is no --geoip");
    }
    Ok(())
}
