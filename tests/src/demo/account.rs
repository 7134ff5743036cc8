//! The demo's owner, org and auth key: made at the first start, found at every later one.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use serde::{Deserialize, Serialize};
use ztna_proto::OrgId;
use ztna_proto::api::MAX_AUTH_KEY_SECONDS;

use crate::api::{Api, Owner};

/// Name of the account.
const EMAIL: &str = "owner@demo.example";
/// Name of the org.
const ORG: &str = "Demo";
/// Name of the file, in the server's data directory.
const FILE: &str = "demo.json";
/// A key that ends sooner is replaced.
const KEY_LEFT: SignedDuration = SignedDuration::from_hours(24);
/// Length of the password, in characters.
const PASSWORD_LEN: usize = 20;
/// Without characters that are easily confused.
const PASSWORD_CHARS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What the demo keeps of its account, 0600.
#[derive(Serialize, Deserialize)]
pub struct Account {
    /// Name of the account.
    pub email: String,
    /// Its password: the person at the terminal signs in with it.
    pub password: String,
    /// The org.
    pub org: OrgId,
    /// Reusable key that enrols machines.
    pub auth_key: String,
    /// When that key ends.
    pub key_expires_at: Timestamp,
}

impl Account {
    /// Finds the account in the data directory, or makes it.
    ///
    /// # Errors
    /// The control plane refuses, or the file cannot be written.
    pub fn find_or_make(api: &Api, data: &Path) -> Result<Self> {
        let file = data.join(FILE);
        let known = read(&file)?;
        let mut account = match known {
            Some(account) if account.has_key() => return Ok(account),
            Some(account) => account,
            None => {
                let password = password();
                let org = api.sign_up(EMAIL, &password, ORG)?.org;
                Self {
                    email: EMAIL.to_owned(),
                    password,
                    org,
                    auth_key: String::new(),
                    key_expires_at: Timestamp::UNIX_EPOCH,
                }
            }
        };
        // Written before there is a key: the account is not made twice.
        write(&file, &account)?;
        let created = account
            .sign_in(api)?
            .auth_key(true, Some(MAX_AUTH_KEY_SECONDS))?;
        created.key.expose().clone_into(&mut account.auth_key);
        account.key_expires_at = created.info.expires_at;
        write(&file, &account)?;
        Ok(account)
    }

    /// Signs in.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn sign_in<'a>(&self, api: &'a Api) -> Result<Owner<'a>> {
        api.sign_in(&self.email, &self.password, self.org)
            .with_context(|| {
                format!("cannot sign in as {}; if the password was changed, put it into {FILE} in the data directory", self.email)
            })
    }

    fn has_key(&self) -> bool {
        self.key_expires_at > Timestamp::now() + KEY_LEFT
    }
}

fn read(file: &Path) -> Result<Option<Account>> {
    match std::fs::read_to_string(file) {
        Ok(json) => serde_json::from_str(&json).map(Some).with_context(|| {
            format!(
                "{} is damaged; restore it, or start with another data directory",
                file.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Writes whole or not at all, for nobody else to read.
fn write(file: &Path, account: &Account) -> Result<()> {
    let new: PathBuf = file.with_extension("new");
    let attempt = || -> std::io::Result<()> {
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        out.write_all(&serde_json::to_vec_pretty(account)?)?;
        out.sync_all()?;
        std::fs::rename(&new, file)
    };
    attempt().with_context(|| format!("cannot write {}", file.display()))
}

fn password() -> String {
    let mut rng = rand::rng();
    let mut bytes = [0; PASSWORD_LEN];
    rng.fill_bytes(&mut bytes);
    bytes
        .iter()
        // 32 characters: every byte's lower bits choose evenly.
        .map(|byte| char::from(PASSWORD_CHARS[usize::from(*byte) % PASSWORD_CHARS.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_account_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert!(read(&file).unwrap().is_none());
        let account = Account {
            email: EMAIL.to_owned(),
            password: password(),
            org: OrgId::generate(),
            auth_key: "ztna-auth-x".to_owned(),
            key_expires_at: Timestamp::now() + SignedDuration::from_hours(48),
        };
        write(&file, &account).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let back = read(&file).unwrap().unwrap();
        assert_eq!(back.password, account.password);
        assert!(back.has_key());
        std::fs::write(&file, "{").unwrap();
        let error = read(&file).err().unwrap().to_string();
        assert!(error.contains("damaged"), "{error}");
    }

    #[test]
    fn passwords_are_long_and_differ() {
        assert_eq!(password().len(), PASSWORD_LEN);
        assert_ne!(password(), password());
        assert_eq!(PASSWORD_CHARS.len(), 32);
    }
}
