//! Which master keys a backup needs, and whether this deployment wrote it.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{BackupError, Manifest, SEAL_PURPOSE, sealed_text, unsealed};
use crate::identity::{CLIENT_SECRET_PURPOSE, TOTP_PURPOSE};
use crate::keys::ServerKeys;
use crate::seal::{ORG_KEY, is_derived};

/// What is sealed under a master key itself: owner and secret, and what for. Backup codes are hashed with one,
/// and nothing tells with which; they end with the old key in a rotation too.
const SEALED: [(&str, &str); 3] = [
    ("SELECT org_id, key FROM org_keys", ORG_KEY),
    ("SELECT user_id, secret FROM totp_secrets", TOTP_PURPOSE),
    // As it was before orgs had keys.
    (
        "SELECT org_id, client_secret FROM sso_providers",
        CLIENT_SECRET_PURPOSE,
    ),
];

/// The master keys that a backup needs.
pub(super) struct Needed {
    /// Their fingerprints, sorted.
    pub(super) fingerprints: Vec<String>,
    /// How much opens with none that is here.
    pub(super) closed: u64,
}

impl Needed {
    /// Tries every secret: in the middle of a rotation each may be sealed under another master key.
    pub(super) async fn find(tx: &Transaction<'_>, keys: &ServerKeys) -> Result<Self, BackupError> {
        let mut fingerprints = BTreeSet::new();
        let mut closed = 0;
        for (query, purpose) in SEALED {
            let none: [&(dyn ToSql + Sync); 0] = [];
            let mut rows = pin!(tx.query_raw(query, none).await?);
            while let Some(row) = rows.try_next().await? {
                let (owner, sealed): (Uuid, Option<&[u8]>) = (row.get(0), row.get(1));
                let Some(sealed) = sealed.filter(|sealed| is_derived(sealed)) else {
                    continue;
                };
                let key = keys.sealer().sealed_under(owner, purpose, sealed);
                match key.map_err(unsealed)? {
                    Some(fingerprint) => drop(fingerprints.insert(fingerprint)),
                    None => closed += 1,
                }
            }
        }
        Ok(Self {
            fingerprints: fingerprints.into_iter().collect(),
            closed,
        })
    }
}

/// Whose a backup is, as far as the master keys here tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This deployment wrote it, and everything in it opens.
    Ours,
    /// This deployment wrote it, and a master key is missing that some of it is sealed with.
    KeyMissing,
    /// Another deployment's, or forged.
    Unknown,
}

impl Origin {
    /// # Errors
    /// It bears a master key of ours, and was not written by whoever has it.
    pub(super) fn find(
        keys: &ServerKeys,
        name: &str,
        manifest: &Manifest,
        sums: &str,
        seal: &str,
    ) -> Result<Self, BackupError> {
        let here = keys.master_fingerprints();
        let is_here = |fingerprint: &String| here.contains(fingerprint);
        let vouched = keys.vouched(SEAL_PURPOSE, &sealed_text(name, sums), seal);
        match vouched.map_err(unsealed)? {
            true if manifest.master_keys.iter().all(is_here) => Ok(Self::Ours),
            true => Ok(Self::KeyMissing),
            false if manifest.master_keys.iter().any(is_here) => Err(BackupError::Damaged {
                name: name.to_owned(),
                why: "it was not written by this deployment, or changed since".to_owned(),
            }),
            false => Ok(Self::Unknown),
        }
    }

    /// Why a backup is not brought back without `--other-master-key`, if it is not.
    pub(super) fn refusal(self, name: &str, data_dir: &Path) -> Option<BackupError> {
        let folder = data_dir.display();
        let after = "after which people sign in without a second factor until they set one up anew, orgs \
                     enter their providers' client secrets again, and static peers with a preshared key need \
                     new keys";
        let message = match self {
            Self::Ours => return None,
            Self::KeyMissing => format!(
                "secrets in `{name}` are sealed with a master key that {folder} does not have: put the line of \
                 it back into master.key, below the others, or go on with --other-master-key and --name {name}, \
                 {after}"
            ),
            Self::Unknown => format!(
                "nothing shows who wrote `{name}`: no master key in {folder} did. If it is this deployment's, put \
                 its master.key and api-keys.json there; if they are there, somebody else has written this \
                 backup, and --name chooses another. Only if you know from elsewhere that it is what you want, \
                 accounts and all, go on with --other-master-key and --name {name}, {after}"
            ),
        };
        Some(BackupError::Refused(message))
    }
}
