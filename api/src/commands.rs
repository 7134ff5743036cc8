//! `ztna-api backup` and `ztna-api restore`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ztna_api::{BackupConfig, DatabaseConfig, Manifest, Restore, backup, restore};
use ztna_objects::{Objects, S3Settings};

/// What is done instead of serving.
#[derive(Subcommand)]
pub enum Command {
    /// Write everything that the database holds to S3 or to a folder, while nodes go on working
    #[command(after_help = "Examples:
  ztna-api backup --database-url postgres://postgres@db/ztna /var/backups/ztna
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=eu-central-1 \\
    ztna-api backup --database-url postgres://postgres@db/ztna s3://bucket/ztna
The master key (master.key in --data-dir) is not in a backup. Keep it, and api-keys.json, in another place: without
it the authenticators of people are lost, with both whoever reads the backup has everything.")]
    Backup(Place),
    /// Bring a backup back into an empty database; stop the nodes first
    Restore {
        #[command(flatten)]
        place: Place,
        /// Which backup [default: the newest]
        #[arg(long)]
        name: Option<String>,
        /// Lose what the database holds now
        #[arg(long)]
        replace: bool,
        /// Go on though the secrets in the backup are sealed with another master key
        #[arg(long)]
        other_master_key: bool,
    },
}

/// The database, the keys, and where backups are.
#[derive(Args)]
pub struct Place {
    /// Where backups are: s3://bucket/prefix, or a folder. S3's credentials and address come from
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and AWS_ENDPOINT_URL for a store that is not
    /// Amazon's
    location: String,
    /// The database, as postgres://user@host/name; the user is a superuser, or to back up has BYPASSRLS
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Folder of the signing keys and the master key
    #[arg(long, env = "ZTNA_DATA_DIR", default_value = "/var/lib/ztna-api")]
    data_dir: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// It could not be done; the message says what to do.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Backup(place) => {
            let (objects, database) = open(&place)?;
            let (name, manifest) = backup(&config(&place, &objects, &database)).await?;
            tracing::info!(name, rows = rows(&manifest), "the backup is written");
        }
        Command::Restore {
            place,
            name,
            replace,
            other_master_key,
        } => {
            let (objects, database) = open(&place)?;
            let wanted = Restore {
                name,
                replace,
                other_master_key,
            };
            let (name, manifest) = restore(&config(&place, &objects, &database), &wanted).await?;
            tracing::info!(name, rows = rows(&manifest), taken = %manifest.created_at, "the backup is back");
        }
    }
    Ok(())
}

fn open(place: &Place) -> Result<(Objects, DatabaseConfig)> {
    let setup = place
        .database_url
        .parse()
        .context("--database-url is not of the form postgres://user@host/name")?;
    let objects = Objects::open(&place.location, S3Settings::from_env())?;
    Ok((objects, DatabaseConfig { setup, app: None }))
}

fn config<'a>(
    place: &'a Place,
    objects: &'a Objects,
    database: &'a DatabaseConfig,
) -> BackupConfig<'a> {
    BackupConfig {
        database,
        data_dir: &place.data_dir,
        objects,
    }
}

fn rows(manifest: &Manifest) -> u64 {
    manifest.tables.iter().map(|table| table.rows).sum()
}
