//! Writing a backup.

use std::fmt::Write as _;
use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction};
use ztna_proto::keys::hex;

use super::seals::Needed;
use super::{
    BackupConfig, BackupError, FORM, FORMAT, MANIFEST, Manifest, PREFIX, SEAL, SEAL_PURPOSE, SUMS,
    Sequence, Table, blind, columns, io, quoted, rows_of, sealed_text, unsealed,
};
use crate::db;
use crate::keys::ServerKeys;

/// Writes a backup of everything, as it is at one moment, while nodes go on working. Says its name and
/// what is in it.
///
/// # Errors
/// The database cannot be read whole, or the place does not take it; no backup is there then.
pub async fn backup(config: &BackupConfig<'_>) -> Result<(String, Manifest), BackupError> {
    let keys = ServerKeys::load(config.data_dir)?;
    // A place that cannot be used is said before the work.
    config.objects.list().await?;
    let work = tempfile::tempdir().map_err(io("cannot make a folder to work in"))?;
    let mut client = db::connect(&config.database.setup).await?;
    if let Some(account) = db::blind_account(&client).await? {
        return Err(blind(&account));
    }
    let tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    // An error where rows would be left out in silence.
    tx.batch_execute(&format!("SET LOCAL row_security = off; {FORM}"))
        .await?;
    let mut found = tables(&tx).await?;
    hold(&tx, &found).await?;
    let needed = Needed::find(&tx, &keys).await?;
    if needed.closed > 0 {
        tracing::warn!(
            secrets = needed.closed,
            data_dir = %config.data_dir.display(),
            "these open with no master key of this folder, so they come back closed; if it does not have the \
             deployment's newest master.key, copy that there and take the backup again"
        );
    }
    let created_at: Timestamp = tx.query_one("SELECT now()", &[]).await?.get(0);
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at,
        schema_version: i64::from(db::schema_version(&tx).await?),
        master_keys: needed.fingerprints,
        closed: needed.closed,
        tables: Vec::new(),
        sequences: sequences(&tx).await?,
    };
    // Microseconds, so that no two have one name.
    let name = format!("{PREFIX}{}", created_at.strftime("%Y%m%dT%H%M%S.%6fZ"));
    let mut sums = String::new();
    for mut table in found.drain(..) {
        let file = work.path().join(&table.name);
        write_rows(&tx, &mut table, &file).await?;
        let object = rows_of(&table.name);
        config
            .objects
            .put(&format!("{name}/{object}"), &file)
            .await?;
        std::fs::remove_file(&file).map_err(io("cannot remove a file of the work folder"))?;
        sum(&mut sums, &table.sha256, &object);
        tracing::info!(table = table.name, rows = table.rows, "written");
        manifest.tables.push(table);
    }
    tx.commit().await?;
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| {
        BackupError::Refused(format!("the manifest cannot be written: {error}"))
    })?;
    sum(&mut sums, &hex(&Sha256::digest(&text)), MANIFEST);
    let seal = keys
        .vouch(SEAL_PURPOSE, &sealed_text(&name, &sums))
        .map_err(unsealed)?;
    let last = [
        (MANIFEST, text),
        (SEAL, seal.into_bytes()),
        (SUMS, sums.into_bytes()),
    ];
    for (object, content) in last {
        let file = work.path().join(object);
        std::fs::write(&file, content).map_err(io("cannot write in the work folder"))?;
        config
            .objects
            .put(&format!("{name}/{object}"), &file)
            .await?;
    }
    note(&client, &name, created_at).await;
    Ok((name, manifest))
}

/// Notes for figures and alerts that there is a new backup. That it could not be noted, as in a replica, takes nothing from
/// the backup.
async fn note(client: &Client, name: &str, taken_at: Timestamp) {
    let noted = client
        .execute(
            "INSERT INTO ztna.last_backup (name, taken_at) VALUES ($1, $2)
         ON CONFLICT (single) DO UPDATE SET name = excluded.name, taken_at = excluded.taken_at",
            &[&name, &taken_at],
        )
        .await;
    if let Err(error) = noted {
        tracing::warn!(
            error = db::detail(&error),
            "the backup is whole, and the database could not be told: ztna_api_last_backup_timestamp_seconds stays \
             as it was"
        );
    }
}

fn sum(sums: &mut String, digest: &str, object: &str) {
    // Writing into a string does not fail.
    let _ = writeln!(sums, "{digest}  {object}");
}

/// Keeps migrations away from the tables until the end. Reading and writing go on.
async fn hold(tx: &Transaction<'_>, tables: &[Table]) -> Result<(), BackupError> {
    let names: Vec<String> = tables.iter().map(|table| quoted(&table.name)).collect();
    if names.is_empty() {
        return Err(BackupError::Refused(
            "this database holds nothing of ztna; check --database-url".to_owned(),
        ));
    }
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    Ok(tx.batch_execute(&lock).await?)
}

/// The tables, by name. What migrations write of themselves comes back with them.
pub(super) async fn tables(tx: &impl GenericClient) -> Result<Vec<Table>, BackupError> {
    let rows = tx
        .query(
            "SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
                 AND c.relname <> 'refinery_schema_history'
                 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             GROUP BY c.relname ORDER BY c.relname",
            &[&db::SCHEMA],
        )
        .await?;
    let table = |row: &tokio_postgres::Row| Table {
        name: row.get(0),
        columns: row.get(1),
        rows: 0,
        bytes: 0,
        sha256: String::new(),
    };
    Ok(rows.iter().map(table).collect())
}

async fn sequences(tx: &Transaction<'_>) -> Result<Vec<Sequence>, BackupError> {
    let rows = tx
        .query(
            "SELECT sequencename::text, last_value FROM pg_sequences
             WHERE schemaname = $1 AND last_value IS NOT NULL ORDER BY 1",
            &[&db::SCHEMA],
        )
        .await?;
    let sequence = |row: &tokio_postgres::Row| Sequence {
        name: row.get(0),
        last: row.get(1),
    };
    Ok(rows.iter().map(sequence).collect())
}

/// Writes a table's rows to a file, in the order of its key, and notes how many, how long they are and what
/// they hash to.
async fn write_rows(
    tx: &Transaction<'_>,
    table: &mut Table,
    file: &Path,
) -> Result<(), BackupError> {
    let key = tx
        .query_one(
            "SELECT COALESCE(string_agg(quote_ident(a.attname), ', ' ORDER BY k.place), '1')
             FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place),
                 pg_attribute a
             WHERE i.indrelid = quote_ident($1)::regclass AND i.indisprimary
                 AND a.attrelid = i.indrelid AND a.attnum = k.attnum",
            &[&table.name],
        )
        .await?
        .get::<_, String>(0);
    let columns = columns(&table.columns);
    let name = quoted(&table.name);
    let copy = format!("COPY (SELECT {columns} FROM {name} ORDER BY {key}) TO STDOUT");
    let out = tokio::fs::File::create(file)
        .await
        .map_err(io("cannot write in the work folder"))?;
    let mut out = BufWriter::new(out);
    let mut digest = Sha256::new();
    let mut stream = pin!(tx.copy_out(copy.as_str()).await?);
    while let Some(piece) = stream.try_next().await? {
        digest.update(&piece);
        table.bytes += piece.len() as u64;
        // Line ends within a value are escaped: a line is a row.
        let ends = piece.iter().filter(|byte| **byte == b'\n');
        table.rows += ends.count() as u64;
        out.write_all(&piece)
            .await
            .map_err(io("cannot write in the work folder"))?;
    }
    out.flush()
        .await
        .map_err(io("cannot write in the work folder"))?;
    table.sha256 = hex(&digest.finalize());
    Ok(())
}
