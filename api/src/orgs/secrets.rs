//! Secrets of orgs, each sealed under its org's own key.

use zeroize::Zeroizing;
use ztna_proto::ids::OrgId;

use crate::db::{Db, Tx};
use crate::http::ApiError;
use crate::identity;
use crate::keys::ServerKeys;
use crate::seal::{self, OrgKey};

/// Seals a secret of an org.
pub(crate) async fn seal_secret(
    tx: &Tx<'_>,
    keys: &ServerKeys,
    org: OrgId,
    purpose: &str,
    secret: &[u8],
) -> Result<Vec<u8>, ApiError> {
    key_of(tx, keys, org).await?.seal(org, purpose, secret)
}

/// Opens a secret of an org.
///
/// # Errors
/// It is another org's or for another purpose, or the master key is another.
pub(crate) async fn open_secret(
    tx: &Tx<'_>,
    keys: &ServerKeys,
    org: OrgId,
    purpose: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // As a node of before wrote it.
    if seal::is_derived(sealed) {
        return keys.sealer().open(org.0, purpose, sealed);
    }
    key_of(tx, keys, org).await?.open(org, purpose, sealed)
}

/// Makes the key of an org that has none. Whether it had none.
pub(super) async fn make_key(tx: &Tx<'_>, keys: &ServerKeys, org: OrgId) -> Result<bool, ApiError> {
    let (_, sealed) = keys.sealer().make_org_key(org)?;
    let made = tx
        .execute(
            "INSERT INTO org_keys (org_id, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&org.0, &sealed],
        )
        .await?;
    Ok(made == 1)
}

async fn key_of(tx: &Tx<'_>, keys: &ServerKeys, org: OrgId) -> Result<OrgKey, ApiError> {
    let query = "SELECT key FROM org_keys WHERE org_id = $1";
    let row = match tx.query_opt(query, &[&org.0]).await? {
        Some(row) => row,
        // A node of before made the org.
        None => {
            make_key(tx, keys, org).await?;
            tx.query_one(query, &[&org.0]).await?
        }
    };
    keys.sealer().open_org_key(org, row.get(0))
}

/// Makes the keys of orgs of before there were any, and seals under them what they had.
///
/// # Errors
/// The database does not work.
pub(crate) async fn make_missing_keys(db: &Db, keys: &ServerKeys) -> Result<(), ApiError> {
    let mut connection = db.connect().await?;
    let orgs: Vec<OrgId> = {
        let tx = connection.bare().await?;
        let rows = tx
            .query("SELECT org_id FROM lookup_orgs_without_key()", &[])
            .await?;
        rows.iter().map(|row| OrgId(row.get(0))).collect()
    };
    for org in &orgs {
        let tx = connection.org(*org).await?;
        // Another node that starts may have been first.
        if make_key(&tx, keys, *org).await? {
            identity::reseal_client_secret(&tx, keys, *org).await?;
            tx.commit().await?;
        }
    }
    if !orgs.is_empty() {
        tracing::info!(orgs = orgs.len(), "orgs have sealing keys of their own");
    }
    Ok(())
}
