//! The relay map in the database.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::Json;
use ztna_proto::ids::{OrgId, RegionId};
use ztna_proto::relay::{Location, RegionDocument, RelayMap, RelayNode, RelayRegion};

use super::check;
use crate::db::{Db, Tx};
use crate::http::ApiError;

/// Writes regions of the deployment into the map, over those with the same number; others stay.
pub(crate) async fn upsert(db: &Db, regions: &[RegionDocument]) -> Result<(), ApiError> {
    check::deployment(regions)?;
    let mut connection = db.connect().await?;
    let tx = connection.bare().await?;
    for document in regions {
        upsert_region(&tx, document).await?;
    }
    tx.commit().await
}

async fn upsert_region(tx: &Tx<'_>, document: &RegionDocument) -> Result<(), ApiError> {
    let (region, location) = (&document.region, &document.location);
    let id = number(region.id)?;
    tx.execute(
        "INSERT INTO relay_regions (id, code, name, latitude, longitude) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET code = excluded.code, name = excluded.name,
             latitude = excluded.latitude, longitude = excluded.longitude",
        &[&id, &region.code, &region.name, &location.latitude, &location.longitude],
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

/// Writes one of the org's own regions, over the one with the same number.
pub(super) async fn store_own(
    tx: &Tx<'_>,
    org: OrgId,
    document: &RegionDocument,
) -> Result<(), ApiError> {
    let (region, location) = (&document.region, &document.location);
    let id = number(region.id)?;
    tx.execute(
        "INSERT INTO org_relay_regions (org_id, id, code, name, latitude, longitude)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (org_id, id) DO UPDATE SET code = excluded.code, name = excluded.name,
             latitude = excluded.latitude, longitude = excluded.longitude",
        &[
            &org.0,
            &id,
            &region.code,
            &region.name,
            &location.latitude,
            &location.longitude,
        ],
    )
    .await?;
    tx.execute(
        "DELETE FROM org_relay_nodes WHERE org_id = $1 AND region_id = $2",
        &[&org.0, &id],
    )
    .await?;
    for (position, node) in (0i32..).zip(&region.nodes) {
        tx.execute(
            "INSERT INTO org_relay_nodes (org_id, region_id, name, position, node)
             VALUES ($1, $2, $3, $4, $5)",
            &[&org.0, &id, &node.name, &position, &Json(node)],
        )
        .await?;
    }
    Ok(())
}

/// Removes one of the org's own regions. `false`: there is none with that number.
pub(super) async fn remove_own(
    tx: &Tx<'_>,
    org: OrgId,
    region: RegionId,
) -> Result<bool, ApiError> {
    let Ok(id) = number(region) else {
        return Ok(false);
    };
    let removed = tx
        .execute(
            "DELETE FROM org_relay_regions WHERE org_id = $1 AND id = $2",
            &[&org.0, &id],
        )
        .await?;
    Ok(removed > 0)
}

/// A region's number as the database has it.
fn number(id: RegionId) -> Result<i32, ApiError> {
    i32::try_from(id.0)
        .map_err(|_| ApiError::Internal(format!("region {id} has too large a number")))
}

/// The regions of the deployment.
pub(super) async fn deployment(tx: &Tx<'_>) -> Result<Vec<RegionDocument>, ApiError> {
    let regions = tx
        .query(
            "SELECT id, code, name, latitude, longitude FROM relay_regions ORDER BY id",
            &[],
        )
        .await?;
    let nodes = tx
        .query(
            "SELECT region_id, node FROM relay_nodes ORDER BY region_id, position",
            &[],
        )
        .await?;
    join(&regions, &nodes)
}

/// The org's own regions.
pub(super) async fn own(tx: &Tx<'_>, org: OrgId) -> Result<Vec<RegionDocument>, ApiError> {
    let regions = tx
        .query(
            "SELECT id, code, name, latitude, longitude FROM org_relay_regions
             WHERE org_id = $1 ORDER BY id",
            &[&org.0],
        )
        .await?;
    let nodes = tx
        .query(
            "SELECT region_id, node FROM org_relay_nodes WHERE org_id = $1
             ORDER BY region_id, position",
            &[&org.0],
        )
        .await?;
    join(&regions, &nodes)
}

/// What the org's machines get: the deployment's regions and its own.
pub(crate) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<RelayMap, ApiError> {
    let mut documents = deployment(tx).await?;
    documents.extend(own(tx, org).await?);
    let regions = documents.into_iter().map(|document| document.region);
    Ok(RelayMap {
        regions: regions.map(|region| (region.id, region)).collect(),
    })
}

fn join(regions: &[Row], nodes: &[Row]) -> Result<Vec<RegionDocument>, ApiError> {
    let mut of: BTreeMap<i32, Vec<RelayNode>> = BTreeMap::new();
    for row in nodes {
        let Json(node) = row.try_get(1)?;
        of.entry(row.get(0)).or_default().push(node);
    }
    let document = |row: &Row| {
        let id: i32 = row.get(0);
        RegionDocument {
            region: RelayRegion {
                id: RegionId(id.unsigned_abs()),
                code: row.get(1),
                name: row.get(2),
                nodes: of.remove(&id).unwrap_or_default(),
            },
            location: Location {
                latitude: row.get(3),
                longitude: row.get(4),
            },
        }
    };
    Ok(regions.iter().map(document).collect())
}
