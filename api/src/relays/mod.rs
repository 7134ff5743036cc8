//! The relay map, and the tickets that open relays.

use jiff::Timestamp;
use tokio_postgres::types::Json;
use ztna_proto::ids::RegionId;
use ztna_proto::relay::{RelayMap, RelayNode, RelayRegion};
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};

use crate::db::{Db, Tx};
use crate::http::{ApiError, Machine};

/// Writes regions into the map, over those with the same id; others stay.
pub(crate) async fn upsert(db: &Db, map: &RelayMap) -> Result<(), ApiError> {
    let mut connection = db.connect().await?;
    let tx = connection.bare().await?;
    for region in map.regions.values() {
        upsert_region(&tx, region).await?;
    }
    tx.commit().await
}

async fn upsert_region(tx: &Tx<'_>, region: &RelayRegion) -> Result<(), ApiError> {
    let id = number(region.id)?;
    tx.execute(
        "INSERT INTO relay_regions (id, code, name) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET code = excluded.code, name = excluded.name",
        &[&id, &region.code, &region.name],
    )
    .await?;
    tx.execute("DELETE FROM relay_nodes WHERE region_id = $1", &[&id])
        .await?;
    for (position, node) in (0i32..).zip(&region.nodes) {
        tx.execute(
            "INSERT INTO relay_nodes (region_id, name, position, node) VALUES ($1, $2, $3, $4)",
            &[&id, &node.name, &position, &Json(node)],
        )
        .await?;
    }
    Ok(())
}

fn number(id: RegionId) -> Result<i32, ApiError> {
    i32::try_from(id.0)
        .map_err(|_| ApiError::Internal(format!("region {id} has too large a number")))
}

/// The whole map.
pub(crate) async fn load(db: &Db) -> Result<RelayMap, ApiError> {
    let mut connection = db.connect().await?;
    let tx = connection.bare().await?;
    let regions = tx
        .query("SELECT id, code, name FROM relay_regions ORDER BY id", &[])
        .await?;
    let nodes = tx
        .query(
            "SELECT region_id, node FROM relay_nodes ORDER BY region_id, position",
            &[],
        )
        .await?;
    let mut map = RelayMap::default();
    for row in &regions {
        let id = RegionId(row.get::<_, i32>(0).unsigned_abs());
        let region = RelayRegion {
            id,
            code: row.get(1),
            name: row.get(2),
            nodes: Vec::new(),
        };
        map.regions.insert(id, region);
    }
    for row in &nodes {
        let id = RegionId(row.get::<_, i32>(0).unsigned_abs());
        let Json(node): Json<RelayNode> = row.try_get(1)?;
        if let Some(region) = map.regions.get_mut(&id) {
            region.nodes.push(node);
        }
    }
    Ok(map)
}

/// A ticket for a machine, good from now on, for all regions.
pub(crate) fn ticket(signer: &TicketSigner, machine: &Machine) -> String {
    let issued_at = Timestamp::now();
    signer.sign(&TicketClaims {
        org: machine.org,
        machine: machine.id,
        wg_key: machine.wg_key,
        regions: Vec::new(),
        issued_at,
        expires_at: issued_at
            .checked_add(TICKET_LIFETIME)
            .unwrap_or(Timestamp::MAX),
        bytes_per_second: None,
    })
}
