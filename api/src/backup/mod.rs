//! Backup and restore: everything that the database holds, in one snapshot, as objects in S3 or in a
//! folder.
//!
//! A backup is a name, `ztna-20260701T120000.000000Z`, under which there is
//!
//! * `tables/….copy`: each table as PostgreSQL's `COPY` writes it, in the order of its key;
//! * `manifest.json`: which version and which migrations wrote it ([`Manifest`]);
//! * `SHA256SUMS.hmac`: MACs over the next, one under each master key of the deployment: who may write to the
//!   bucket still cannot write a backup that this deployment takes for its own;
//! * `SHA256SUMS`: the digest of rows and manifest, in the form that `sha256sum --check` reads. It is
//!   written last: a backup without it is none.
//!
//! The data folder's `master.key` is not in it, so that whoever reads a backup opens no sealed secret.
//! The manifest has the fingerprints of the master keys that something in it is sealed with, in the middle of
//! a rotation several, and a restore asks for all of them ([`seals`]).

mod dump;
mod restore;
mod seals;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ztna_objects::{Objects, ObjectsError};

use crate::db;
use crate::http::ApiError;
use crate::keys::KeysError;
use crate::{DatabaseConfig, SetupError};

pub use dump::backup;
pub use restore::{Restore, restore};

/// Form of the manifest. A backup of another form is not read.
const FORMAT: u32 = 2;
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const SEAL: &str = "SHA256SUMS.hmac";
/// What the key of [`SEAL`] is for.
const SEAL_PURPOSE: &str = "backup";
/// How values are written, whatever the account's settings; and it takes as long as it takes.
const FORM: &str = "SET search_path = ztna; SET timezone = 'UTC'; SET datestyle = 'ISO'; \
    SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET statement_timeout = 0; \
    SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";
/// What backups' names start with.
const PREFIX: &str = "ztna-";
/// Longest manifest or list of digests that is read, in bytes.
const MAX_TEXT: u64 = 16 * 1024 * 1024;

/// A backup was not made, or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place for objects.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The database cannot be prepared.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The master key's file.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A query failed.
    #[error("the database refuses: {}", db::detail(.0))]
    Query(#[from] tokio_postgres::Error),
    /// A file on the way.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was found is no backup, or a damaged one.
    #[error("the backup `{name}` is not usable: {why}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is not safe to go on.
    #[error("{0}")]
    Refused(String),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> BackupError {
    move |source| BackupError::Io { what, source }
}

/// What a backup says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The manifest's form.
    format: u32,
    /// The version that wrote it.
    pub version: String,
    /// When the snapshot was taken.
    pub created_at: Timestamp,
    /// The last migration that the database had.
    pub schema_version: i64,
    /// Fingerprints of the master keys that secrets in it are sealed with.
    master_keys: Vec<String>,
    /// Secrets that opened with none of the master keys that were there.
    closed: u64,
    /// Every table.
    pub tables: Vec<Table>,
    /// Every sequence that has been used.
    sequences: Vec<Sequence>,
}

/// A table of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the rows' fields.
    columns: Vec<String>,
    /// How many rows it has.
    pub rows: u64,
    /// How long they are, written out.
    bytes: u64,
    /// Digest of its rows, in hex.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sequence {
    name: String,
    last: i64,
}

/// What [`SEAL`] is over: the name too, so that an old backup is not passed off as the newest.
fn sealed_text(name: &str, sums: &str) -> String {
    format!("{name}\n{sums}")
}

/// The deployment's keys could not be used.
fn unsealed(error: ApiError) -> BackupError {
    BackupError::Refused(error.to_string())
}

/// Where a table's rows are.
fn rows_of(table: &str) -> String {
    format!("tables/{table}.copy")
}

/// Names of the backups that are whole, oldest first.
///
/// # Errors
/// The place cannot be read.
pub async fn backups(objects: &Objects) -> Result<Vec<String>, BackupError> {
    let names = objects.list().await?;
    let whole = names.iter().filter_map(|name| {
        let (backup, rest) = name.split_once('/')?;
        (rest == SUMS && backup.starts_with(PREFIX)).then(|| backup.to_owned())
    });
    Ok(whole.collect())
}

/// What backup and restore work with.
pub struct BackupConfig<'a> {
    /// The database; `setup` is used.
    pub database: &'a DatabaseConfig,
    /// The folder with the master key.
    pub data_dir: &'a Path,
    /// Where backups are.
    pub objects: &'a Objects,
}

/// An account from which row-level security would hide rows.
fn blind(account: &str) -> BackupError {
    BackupError::Refused(format!(
        "the account {account} sees one org at a time; give --database-url one that is a superuser or has \
         BYPASSRLS"
    ))
}

/// A name within a statement.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn columns(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}
