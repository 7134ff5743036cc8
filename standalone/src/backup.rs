//! `ztna-server backup` and `ztna-server restore`: with the database that runs, or one that is started
//! for it.

use anyhow::Result;
use clap::Subcommand;
use ztna_api::{BackupConfig, DatabaseConfig, Restore, backup, restore, s3_settings};
use ztna_objects::Objects;
use ztna_pg::{ADMIN_ROLE, Cluster};

use crate::args::Args;
use crate::lock::Lock;
use crate::server::{DATABASE, Database, FOLDER, make_dir};

/// What is done instead of serving.
#[derive(Subcommand)]
pub enum Command {
    /// Write everything that the database holds to S3 or to a folder, while the server runs or not
    #[command(after_help = "\
S3's credentials and address come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or …_FILE), AWS_REGION, and AWS_ENDPOINT_URL for a
store that is not Amazon's. Keys are not in a backup: keep the files of --data-dir (all but postgres/) elsewhere.")]
    Backup {
        /// s3://bucket/prefix, or a folder
        location: String,
    },
    /// Bring a backup back; stop the server first, and put its keys back into --data-dir
    Restore {
        /// s3://bucket/prefix, or a folder
        location: String,
        /// Which backup [default: the newest]
        #[arg(long)]
        name: Option<String>,
        /// Lose what the database holds now
        #[arg(long)]
        replace: bool,
        /// Go on though no master key in --data-dir has written the backup, or one is missing that it is sealed
        /// with. Nothing then shows who wrote it: whoever may write to the place can have put in accounts of their
        /// own. Needs --name, of a backup that you know from elsewhere to be the right one
        #[arg(long)]
        other_master_key: bool,
    },
}

/// Runs a command.
///
/// # Errors
/// It could not be done; the message says what to do.
pub async fn run(command: Command, args: &Args) -> Result<()> {
    let data_dir = make_dir(&args.data_dir)?;
    let location = match &command {
        Command::Backup { location } | Command::Restore { location, .. } => location,
    };
    let objects = Objects::open(location, s3_settings()?)?;
    let lock = Lock::take(&data_dir);
    let is_ours = !args.has_database();
    if let (Command::Backup { .. }, Err(_), true) = (&command, &lock, is_ours) {
        // The server runs, and its database with it.
        let (_folder, setup) = Cluster::elsewhere(&data_dir.join(FOLDER), ADMIN_ROLE, DATABASE)?;
        let database = DatabaseConfig { setup, app: None };
        return work(command, &database, &data_dir, &objects).await;
    }
    // A backup of a database that somebody else runs asks for no lock.
    let _lock = match command {
        Command::Backup { .. } if !is_ours => None,
        _ => Some(lock?),
    };
    let database = Database::start(args, &data_dir).await?;
    let done = work(command, &database.config, &data_dir, &objects).await;
    database.stop().await;
    done
}

async fn work(
    command: Command,
    database: &DatabaseConfig,
    data_dir: &std::path::Path,
    objects: &Objects,
) -> Result<()> {
    let config = BackupConfig {
        database,
        data_dir,
        objects,
    };
    let (name, manifest) = match command {
        Command::Backup { .. } => backup(&config).await?,
        Command::Restore {
            name,
            replace,
            other_master_key,
            ..
        } => {
            let wanted = Restore {
                name,
                replace,
                other_master_key,
            };
            restore(&config, &wanted).await?
        }
    };
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    tracing::info!(name, rows, taken = %manifest.created_at, "done");
    Ok(())
}
