//! `ztna-api backup`, `ztna-api restore`, `ztna-api keys` and `ztna-api health`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ztna_api::{
    BackupConfig, DatabaseConfig, DatabaseFlags, Manifest, Resealed, Restore, backup,
    forget_old_master_keys, reseal, restore, rotate_master_key, s3_settings,
};
use ztna_objects::Objects;
use ztna_proto::api::Health;
use ztna_proto::relay::CertificatePin;
use ztna_tls::{KeyExchange, parse_pin};

use crate::ready::{READY_FILE, Ready};

/// A node that takes longer is not well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

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
        /// Go on though no master key in --data-dir has written the backup, or one is missing that it is sealed
        /// with. Nothing then shows who wrote it: whoever may write to the place can have put in accounts of their
        /// own. Needs --name, of a backup that you know from elsewhere to be the right one
        #[arg(long)]
        other_master_key: bool,
    },
    /// Ask a node that runs for its health: it ends with status 0 where that serves, degraded or not, else with 1
    #[command(after_help = "Examples:
  ztna-api health
  ztna-api health --url https://vpn.example.org")]
    Health(HealthArgs),
    /// Change the master key, under which the secrets in the database are sealed
    #[command(
        subcommand,
        after_help = "A rotation, with nodes that go on serving:
  1. ztna-api keys rotate        a new key, before the old one, in master.key
  2. copy master.key to all nodes and restart them, one by one
  3. ztna-api keys reseal        orgs' keys and people's authenticators under the new key
  4. ztna-api keys forget-old    the old key is gone; copy master.key to all nodes again
Until all nodes have the new key, nodes hear of each other by the database alone. Backups from before step 1 need the
old key: keep it as long as them. Backup codes of second factors from before step 1 end with step 4."
    )]
    Keys(Keys),
}

/// What is asked for its health.
#[derive(Args)]
pub struct HealthArgs {
    /// Address of a node, as in https://vpn.example.org [default: the node of --data-dir, on this machine]
    #[arg(long)]
    url: Option<String>,
    /// Folder of the node, with its api.json
    #[arg(long, env = "ZTNA_DATA_DIR", default_value = "/var/lib/ztna-api")]
    data_dir: PathBuf,
}

/// Steps of a rotation.
#[derive(Subcommand)]
pub enum Keys {
    /// Put a new master key before the ones in master.key of --data-dir
    Rotate {
        /// Folder of the signing keys and the master key
        #[arg(long, env = "ZTNA_DATA_DIR", default_value = "/var/lib/ztna-api")]
        data_dir: PathBuf,
    },
    /// Seal everything under the first key of master.key
    Reseal(Deployment),
    /// The same, and remove the other keys from master.key
    ForgetOld(Deployment),
}

/// A deployment, and where its backups are.
#[derive(Args)]
pub struct Place {
    /// Where backups are: s3://bucket/prefix, or a folder. S3's credentials and address come from
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or AWS_SECRET_ACCESS_KEY_FILE), AWS_REGION, and AWS_ENDPOINT_URL for a store that is not
    /// Amazon's
    location: String,
    #[command(flatten)]
    deployment: Deployment,
}

/// The database and the keys.
#[derive(Args)]
pub struct Deployment {
    #[command(flatten)]
    database: DatabaseFlags,
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
        Command::Health(args) => health(&args).await?,
        Command::Keys(keys) => change(keys).await?,
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

/// Asks a node for its health.
async fn health(args: &HealthArgs) -> Result<()> {
    let (url, pin) = match &args.url {
        Some(url) => (url.trim_end_matches('/').to_owned(), None),
        None => here(&args.data_dir)?,
    };
    let pin = pin.unwrap_or(CertificatePin::WebPki);
    let tls = ztna_tls::client_config(&pin, KeyExchange::PreferPostQuantum)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .timeout(HEALTH_TIMEOUT)
        .build()?;
    let answer = client.get(format!("{url}/health")).send().await;
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let served = answer.status().is_success();
    let health: Health = answer
        .json()
        .await
        .with_context(|| format!("what answers at {url} is no node of ztna"))?;
    if !served {
        bail!("{url} does not serve: {}", health.status);
    }
    tracing::info!(
        status = health.status,
        version = health.version,
        "{url} serves"
    );
    Ok(())
}

/// How the node of a folder is reached from its own machine.
fn here(data_dir: &Path) -> Result<(String, Option<CertificatePin>)> {
    let path = data_dir.join(READY_FILE);
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "cannot read {}, which a node writes when it is ready; name one by --url",
            path.display()
        )
    })?;
    let ready: Ready = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what a node writes", path.display()))?;
    let mut address = ready.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(match &ready.pin {
        Some(pin) => (format!("https://{address}"), Some(parse_pin(pin)?)),
        None => (format!("http://{address}"), None),
    })
}

async fn change(keys: Keys) -> Result<()> {
    match keys {
        Keys::Rotate { data_dir } => {
            let count = rotate_master_key(&data_dir)?;
            tracing::info!(
                keys = count,
                "there is a new master key; copy master.key to all nodes and restart them, then run `ztna-api \
                 keys reseal`"
            );
        }
        Keys::Reseal(of) => {
            let done = reseal(&database(&of)?, &of.data_dir).await?;
            let Resealed {
                org_keys,
                authenticators,
            } = done;
            tracing::info!(
                org_keys,
                authenticators,
                "sealed under the current master key"
            );
        }
        Keys::ForgetOld(of) => {
            let old = forget_old_master_keys(&database(&of)?, &of.data_dir).await?;
            tracing::info!(old, "there is one master key; copy master.key to all nodes");
        }
    }
    Ok(())
}

fn database(of: &Deployment) -> Result<DatabaseConfig> {
    let setup = of
        .database
        .url()?
        .parse()
        .context("--database-url is not of the form postgres://user@host/name")?;
    Ok(DatabaseConfig { setup, app: None })
}

fn open(place: &Place) -> Result<(Objects, DatabaseConfig)> {
    let objects = Objects::open(&place.location, s3_settings()?)?;
    Ok((objects, database(&place.deployment)?))
}

fn config<'a>(
    place: &'a Place,
    objects: &'a Objects,
    database: &'a DatabaseConfig,
) -> BackupConfig<'a> {
    BackupConfig {
        database,
        data_dir: &place.deployment.data_dir,
        objects,
    }
}

fn rows(manifest: &Manifest) -> u64 {
    manifest.tables.iter().map(|table| table.rows).sum()
}
