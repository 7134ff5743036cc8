//! Bringing a backup back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_postgres::{Client, Transaction};
use ztna_proto::keys::hex;

use super::dump::tables;
use super::seals::Origin;
use super::{
    BackupConfig, BackupError, FORM, FORMAT, MANIFEST, MAX_TEXT, Manifest, SEAL, SUMS, Table,
    backups, columns, io, quoted, rows_of,
};
use crate::db;
use crate::keys::ServerKeys;

/// Rows are sent in pieces of this size, in bytes.
const PIECE: usize = 256 * 1024;

/// Tables whose rows are of no use under another master key. People could not sign in with them.
const OF_MASTER_KEY: [&str; 3] = ["backup_codes", "org_keys", "totp_secrets"];

/// What to bring back, and over what.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// The backup. `None`: the newest that is whole.
    pub name: Option<String>,
    /// Whether what the database holds may be lost.
    pub replace: bool,
    /// Whether to go on with a backup that this deployment did not write, or whose secrets another master key
    /// has sealed; they are lost. Demands a name.
    pub other_master_key: bool,
}

/// Brings a backup back, into the database as this version's migrations leave it.
///
/// Everything is fetched and checked before the database is touched, and rows come back in one
/// transaction. A restore that was cut short leaves a database that no node serves.
///
/// # Errors
/// The backup is damaged, of a newer version, sealed with another master key or of unknown origin; the
/// database is not empty, or nodes are working on it.
pub async fn restore(
    config: &BackupConfig<'_>,
    wanted: &Restore,
) -> Result<(String, Manifest), BackupError> {
    let keys = ServerKeys::load(config.data_dir)?;
    let name = choose(config, wanted).await?;
    let work = tempfile::tempdir().map_err(io("cannot make a folder to work in"))?;
    let (manifest, origin, files) = fetch(config, &keys, &name, work.path(), wanted).await?;
    if manifest.schema_version > i64::from(db::newest_migration()) {
        return Err(BackupError::Refused(format!(
            "the backup `{name}` is of version {}, which is newer than this one; restore it with that",
            manifest.version
        )));
    }
    tracing::info!(name, taken = %manifest.created_at, "fetched and checked");
    if manifest.closed > 0 {
        tracing::warn!(
            secrets = manifest.closed,
            "these opened with no master key when the backup was taken"
        );
    }
    let mut client = db::connect(&config.database.setup).await?;
    may_write_everything(&client).await?;
    db::lock(&client).await?;
    make_room(&client, wanted.replace).await?;
    let schema_version = i32::try_from(manifest.schema_version).unwrap_or(i32::MAX);
    db::make_schema(&mut client, schema_version).await?;
    let lost = match origin {
        Origin::Ours => &[],
        Origin::KeyMissing | Origin::Unknown => &OF_MASTER_KEY[..],
    };
    load(&mut client, &name, &manifest, &files, lost).await?;
    drop(client);
    db::prepare(&config.database.setup).await?;
    Ok((name, manifest))
}

/// The backup that was named, or the newest.
async fn choose(config: &BackupConfig<'_>, wanted: &Restore) -> Result<String, BackupError> {
    let mut whole = backups(config.objects).await?;
    let Some(wanted) = &wanted.name else {
        // Whoever may write there decides which is the newest.
        if wanted.other_master_key {
            return Err(BackupError::Refused(format!(
                "with --other-master-key nothing but your choice says which backup is the right one: give it \
                 with --name; there are: {}",
                whole.join(", ")
            )));
        }
        let refused = || BackupError::Refused("there is no backup that is whole".to_owned());
        return whole.pop().ok_or_else(refused);
    };
    match whole.contains(wanted) {
        true => Ok(wanted.clone()),
        false => Err(BackupError::Refused(format!(
            "there is no whole backup `{wanted}`; there are: {}",
            whole.join(", ")
        ))),
    }
}

/// Refuses an account that could not bring the rows back as they were.
async fn may_write_everything(client: &Client) -> Result<(), BackupError> {
    let row = client
        .query_one(
            "SELECT (rolsuper OR rolbypassrls)
                 AND has_parameter_privilege('session_replication_role', 'SET'), rolname::text
             FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await?;
    if row.get(0) {
        return Ok(());
    }
    let account: String = row.get(1);
    Err(BackupError::Refused(format!(
        "the account {account} may not write rows as they were; give --database-url one that is a superuser"
    )))
}

/// Fetches a backup's objects and checks them. Says whose it is, and where each table's rows are.
async fn fetch(
    config: &BackupConfig<'_>,
    keys: &ServerKeys,
    name: &str,
    work: &Path,
    wanted: &Restore,
) -> Result<(Manifest, Origin, BTreeMap<String, PathBuf>), BackupError> {
    let damaged = |why: String| BackupError::Damaged {
        name: name.to_owned(),
        why,
    };
    let sums_file = work.join(SUMS);
    config
        .objects
        .get(&format!("{name}/{SUMS}"), &sums_file, MAX_TEXT)
        .await?;
    let text = read_text(&sums_file).await?;
    let seal_file = work.join(SEAL);
    config
        .objects
        .get(&format!("{name}/{SEAL}"), &seal_file, MAX_TEXT)
        .await?;
    let seal = read_text(&seal_file).await?;
    let sums: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, object)| (object, digest))
        .collect();
    let fetch = async |object: &str, file: &Path, limit: u64| -> Result<(), BackupError> {
        let Some(wanted) = sums.get(object) else {
            return Err(damaged(format!("{SUMS} does not name {object}")));
        };
        config
            .objects
            .get(&format!("{name}/{object}"), file, limit)
            .await?;
        match digest_of(file).await? == *wanted {
            true => Ok(()),
            false => Err(damaged(format!("{object} is not what was written"))),
        }
    };
    let file = work.join(MANIFEST);
    fetch(MANIFEST, &file, MAX_TEXT).await?;
    let manifest: Manifest = serde_json::from_str(&read_text(&file).await?)
        .map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    if manifest.format != FORMAT {
        let why = format!(
            "its form is {}, this version reads {FORMAT}",
            manifest.format
        );
        return Err(damaged(why));
    }
    let origin = Origin::find(keys, name, &manifest, &text, &seal)?;
    if let Some(refusal) = origin.refusal(name, config.data_dir)
        && !wanted.other_master_key
    {
        return Err(refusal);
    }
    let mut files = BTreeMap::new();
    for (number, table) in manifest.tables.iter().enumerate() {
        let file = work.join(format!("{number}.copy"));
        fetch(&rows_of(&table.name), &file, table.bytes).await?;
        files.insert(table.name.clone(), file);
    }
    Ok((manifest, origin, files))
}

async fn read_text(file: &Path) -> Result<String, BackupError> {
    let reading = "cannot read what was fetched";
    tokio::fs::read_to_string(file).await.map_err(io(reading))
}

async fn digest_of(file: &Path) -> Result<String, BackupError> {
    let reading = "cannot read what was fetched";
    let mut file = tokio::fs::File::open(file).await.map_err(io(reading))?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).await.map_err(io(reading))? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&piece[..count]),
        }
    }
}

/// Refuses a database that holds something, or takes it away.
async fn make_room(client: &Client, replace: bool) -> Result<(), BackupError> {
    let nodes: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = $1",
            &[&db::APPLICATION],
        )
        .await?
        .get(0);
    if nodes > 0 {
        return Err(BackupError::Refused(
            "nodes are working on this database; stop them first".to_owned(),
        ));
    }
    let tables: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_tables WHERE schemaname = $1",
            &[&db::SCHEMA],
        )
        .await?
        .get(0);
    if tables == 0 {
        return Ok(());
    }
    if !replace {
        return Err(BackupError::Refused(
            "the database is not empty; name an empty one, or lose what is in this one with --replace"
                .to_owned(),
        ));
    }
    let drop = format!("DROP SCHEMA {} CASCADE", db::SCHEMA);
    client.batch_execute(&drop).await?;
    Ok(())
}

/// Puts the rows in, all or none.
async fn load(
    client: &mut Client,
    name: &str,
    manifest: &Manifest,
    files: &BTreeMap<String, PathBuf>,
    lost: &[&str],
) -> Result<(), BackupError> {
    // Neither triggers nor foreign keys: the rows were consistent when they were read, and what
    // triggers would do, they have done.
    client
        .batch_execute(&format!(
            "RESET ROLE; SET session_replication_role = replica; {FORM}"
        ))
        .await?;
    let tx = client.transaction().await?;
    let shape = |tables: &[Table]| -> Vec<(String, Vec<String>)> {
        let shape = tables.iter().map(|t| (t.name.clone(), t.columns.clone()));
        shape.collect()
    };
    if shape(&tables(&tx).await?) != shape(&manifest.tables) {
        return Err(BackupError::Damaged {
            name: name.to_owned(),
            why: format!(
                "its tables are not those that migration {} leaves",
                manifest.schema_version
            ),
        });
    }
    for table in &manifest.tables {
        tx.batch_execute(&format!("TRUNCATE {} CASCADE", quoted(&table.name)))
            .await?;
    }
    for table in &manifest.tables {
        let Some(file) = files.get(&table.name) else {
            continue;
        };
        if lost.contains(&table.name.as_str()) {
            tracing::warn!(
                table = table.name,
                rows = table.rows,
                "left out: sealed with another master key"
            );
            continue;
        }
        let rows = load_rows(&tx, table, file).await?;
        tracing::info!(table = table.name, rows, "brought back");
        if rows != table.rows {
            return Err(BackupError::Damaged {
                name: name.to_owned(),
                why: format!("{} has {rows} rows, not {}", table.name, table.rows),
            });
        }
    }
    for sequence in &manifest.sequences {
        let sequence_name = quoted(&sequence.name);
        tx.query_one(
            "SELECT setval($1::text::regclass, $2)",
            &[&sequence_name, &sequence.last],
        )
        .await?;
    }
    db::end_restore(&tx).await?;
    tx.commit().await?;
    Ok(())
}

async fn load_rows(tx: &Transaction<'_>, table: &Table, file: &Path) -> Result<u64, BackupError> {
    let reading = "cannot read what was fetched";
    let copy = format!(
        "COPY {} ({}) FROM STDIN",
        quoted(&table.name),
        columns(&table.columns)
    );
    let mut sink = pin!(tx.copy_in::<_, Bytes>(copy.as_str()).await?);
    let mut file = tokio::fs::File::open(file).await.map_err(io(reading))?;
    loop {
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece).await.map_err(io(reading))?;
        if count == 0 {
            return Ok(sink.finish().await?);
        }
        piece.truncate(count);
        sink.send(Bytes::from(piece)).await?;
    }
}
