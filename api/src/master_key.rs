//! A new master key: made, everything sealed under it, the old one forgotten.

use std::path::Path;

use uuid::Uuid;
use ztna_proto::ids::OrgId;

use crate::db;
use crate::http::ApiError;
use crate::identity::TOTP_PURPOSE;
use crate::keys::{KeysError, ServerKeys};
use crate::seal::Sealer;
use crate::{DatabaseConfig, SetupError};

/// A master key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The master key's file.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database cannot be used.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A query failed.
    #[error("the database refuses: {}", db::detail(.0))]
    Query(#[from] tokio_postgres::Error),
    /// It is not safe to go on.
    #[error("{0}")]
    Refused(String),
}

/// What was sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Keys of orgs.
    pub org_keys: usize,
    /// Secrets of people's authenticators.
    pub authenticators: usize,
}

/// Puts a new master key before those of a data folder. Says how many there are.
///
/// # Errors
/// There is none, there are too many, or another command is changing them.
pub fn rotate_master_key(data_dir: &Path) -> Result<usize, MasterKeyError> {
    ServerKeys::load(data_dir)?;
    let _lock = Sealer::lock(data_dir)?;
    Ok(Sealer::rotate(data_dir)?)
}

/// Seals under the current master key what is sealed under old ones.
///
/// # Errors
/// Something does not open, or another command is changing the keys; nothing is changed then.
pub async fn reseal(
    database: &DatabaseConfig,
    data_dir: &Path,
) -> Result<Resealed, MasterKeyError> {
    let _lock = Sealer::lock(data_dir)?;
    reseal_locked(database, data_dir).await
}

async fn reseal_locked(
    database: &DatabaseConfig,
    data_dir: &Path,
) -> Result<Resealed, MasterKeyError> {
    let keys = ServerKeys::load(data_dir)?;
    let sealer = keys.sealer();
    let mut client = db::connect(&database.setup).await?;
    if let Some(account) = db::blind_account(&client).await? {
        return Err(MasterKeyError::Refused(format!(
            "the account {account} sees one org at a time; give --database-url one that is a superuser or \
             has BYPASSRLS"
        )));
    }
    let tx = client.transaction().await?;
    tx.batch_execute(&format!(
        "SET LOCAL search_path = {};
         SET LOCAL ztna.actor = '{{\"kind\": \"system\", \"route\": \"ztna-api keys reseal\"}}'",
        db::SCHEMA
    ))
    .await?;
    let closed = |what: &'static str, id: Uuid| {
        move |_: ApiError| {
            MasterKeyError::Refused(format!(
                "{what} {id} does not open with any master key of {}; nothing was changed",
                data_dir.display()
            ))
        }
    };
    let orgs = tx
        .query("SELECT org_id, key FROM org_keys FOR UPDATE", &[])
        .await?;
    for row in &orgs {
        let org: Uuid = row.get(0);
        let sealed = sealer
            .reseal_org_key(OrgId(org), row.get(1))
            .map_err(closed("the key of the org", org))?;
        tx.execute(
            "UPDATE org_keys SET key = $2 WHERE org_id = $1",
            &[&org, &sealed],
        )
        .await?;
    }
    let people = tx
        .query("SELECT user_id, secret FROM totp_secrets FOR UPDATE", &[])
        .await?;
    for row in &people {
        let user: Uuid = row.get(0);
        let sealed = sealer
            .open(user, TOTP_PURPOSE, row.get(1))
            .and_then(|secret| sealer.seal(user, TOTP_PURPOSE, &secret))
            .map_err(closed("the authenticator of the account", user))?;
        tx.execute(
            "UPDATE totp_secrets SET secret = $2 WHERE user_id = $1",
            &[&user, &sealed],
        )
        .await?;
    }
    tx.commit().await?;
    Ok(Resealed {
        org_keys: orgs.len(),
        authenticators: people.len(),
    })
}

/// Seals everything under the current master key, and removes the old ones from the data folder. Says how
/// many those were.
///
/// # Errors
/// Something does not open, or another command is changing the keys; nothing is changed then.
pub async fn forget_old_master_keys(
    database: &DatabaseConfig,
    data_dir: &Path,
) -> Result<usize, MasterKeyError> {
    // Until the end: a key that came in between would be the one that stays, and nothing sealed under it.
    let _lock = Sealer::lock(data_dir)?;
    if ServerKeys::load(data_dir)?.sealer().is_single() {
        return Ok(0);
    }
    reseal_locked(database, data_dir).await?;
    Ok(Sealer::forget_old(data_dir)?)
}
