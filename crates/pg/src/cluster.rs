//! A cluster's life: made, started, ready, stopped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::account::Account;
use crate::error::Context;
use crate::folder::Folder;
use crate::watch::{State, Watch};
use crate::{Binaries, PgError, leftover};

/// The cluster's superuser.
pub const ADMIN_ROLE: &str = "ztna_admin";

/// Recovery after a power cut reads the log since the last checkpoint: minutes at worst.
const START_LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(30);

/// What a crash of the machine may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Safe,
    /// Everything: for tests, which throw the cluster away.
    Scratch,
}

/// How to run a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's folder; made if missing, with `data`, `run` and `log` in it.
    pub folder: PathBuf,
    /// What a crash may cost.
    pub durability: Durability,
    /// Roles beside [`ADMIN_ROLE`] that our account may connect as. Made by whoever uses them.
    pub roles: Vec<String>,
}

/// A running cluster. Dropping it stops the server; [`Cluster::stop`] waits for that.
pub struct Cluster {
    folder: Arc<Folder>,
    watch: Watch,
    major: u32,
}

impl Cluster {
    /// Starts the server and waits until it answers. The first time, it makes the cluster.
    ///
    /// # Errors
    /// There is no server on this machine, or it does not start; the message says what to do.
    pub async fn start(options: Options) -> Result<Self, PgError> {
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&options))
            .await
            .map_err(|error| PgError::Died {
                log: error.to_string(),
            })??;
        let major = prepared.binaries.major();
        let folder = Arc::clone(&prepared.folder);
        let watch = Watch::begin(prepared)?;
        let cluster = Self {
            folder,
            watch,
            major,
        };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// How to connect as `role` to `database`, from this process and while the cluster runs.
    #[must_use]
    pub fn config(&self, role: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.folder.inside("run"))
            .user(role)
            .dbname(database);
        config
    }

    /// How to connect to the cluster of a folder that another process runs, for the account that the
    /// process has. The folder has to stay open for as long.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn elsewhere(
        folder: &Path,
        role: &str,
        database: &str,
    ) -> Result<(File, tokio_postgres::Config), PgError> {
        let folder = Folder::open(folder)?;
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(folder.inside("run"))
            .user(role)
            .dbname(database);
        Ok((folder.into_file(), config))
    }

    /// The server's major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Process number of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.watch.state() {
            State::Running(pid) => Some(pid),
            State::Stopped | State::Failed(_) => None,
        }
    }

    /// Makes a database if it is missing.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create_database(&self, name: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = self.config(ADMIN_ROLE, "postgres").connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let found = client
            .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name])
            .await?;
        if found.is_none() {
            let quoted = name.replace('"', "\"\"");
            client
                .batch_execute(&format!("CREATE DATABASE \"{quoted}\""))
                .await?;
        }
        drop(client);
        // Ends with its client.
        let _ = connection.await;
        Ok(())
    }

    /// Ends when the server is down for good, and says why.
    pub async fn failed(&self) -> PgError {
        let mut states = self.watch.states();
        let end = states
            .wait_for(|state| !matches!(state, State::Running(_)))
            .await;
        match end.as_deref() {
            Ok(State::Failed(log)) => PgError::Died { log: log.clone() },
            _ => PgError::Died {
                log: "it was stopped".to_owned(),
            },
        }
    }

    /// Stops the server: sessions end, a checkpoint is written.
    pub async fn stop(self) {
        self.watch.stop();
        let mut states = self.watch.states();
        // An error means that the watching thread has ended, and the server with it.
        let _ = states
            .wait_for(|state| !matches!(state, State::Running(_)))
            .await;
    }

    async fn ready(&self) -> Result<(), PgError> {
        let config = self.config(ADMIN_ROLE, "postgres");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let error = match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let answer = client.simple_query("SELECT 1").await;
                    drop(client);
                    let _ = connection.await;
                    match answer {
                        Ok(_) => return Ok(()),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if let State::Failed(log) = self.watch.state() {
                return Err(PgError::Died { log });
            }
            if Instant::now() > deadline {
                return Err(PgError::Silent {
                    seconds: START_LIMIT.as_secs(),
                    error: error.to_string(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A cluster that is on the disk, not running, and ready to start.
pub(crate) struct Prepared {
    binaries: Binaries,
    account: Account,
    durability: Durability,
    pub(crate) folder: Arc<Folder>,
    pub(crate) data: PathBuf,
    /// Where the server prints before its own log begins.
    pub(crate) start_log: PathBuf,
    log: PathBuf,
}

impl Prepared {
    fn new(options: &Options) -> Result<Self, PgError> {
        let account = Account::choose()?;
        std::fs::create_dir_all(&options.folder).context("cannot create", &options.folder)?;
        let folder = options
            .folder
            .canonicalize()
            .context("cannot resolve", &options.folder)?;
        account.make_folder(&folder, 0o711)?;
        account.make_folder(&folder.join("run"), 0o711)?;
        let log = folder.join("log");
        account.make_folder(&log, 0o700)?;

        let data = folder.join("data");
        let binaries = Binaries::find(&data, read_major(&data))?;
        let prepared = Self {
            binaries,
            account,
            durability: options.durability,
            start_log: folder.join("start.log"),
            folder: Arc::new(Folder::open(&folder)?),
            data,
            log,
        };
        if prepared.data.join("PG_VERSION").is_file() {
            prepared.clear()?;
        } else {
            prepared.initdb()?;
        }
        prepared.admit(&options.roles)?;
        Ok(prepared)
    }

    /// Waits for what an earlier server left behind, and removes it.
    pub(crate) fn clear(&self) -> Result<(), PgError> {
        leftover::clear(&self.data, &self.folder.inside("run"))
    }

    /// Makes the cluster aside and renames it, so that a half-made one never has the final name.
    fn initdb(&self) -> Result<(), PgError> {
        let aside = self.data.with_extension("new");
        if aside.exists() {
            std::fs::remove_dir_all(&aside).context("cannot remove", &aside)?;
        }
        self.account.make_folder(&aside, 0o700)?;
        tracing::info!(folder = %self.data.display(), version = self.binaries.major(), "making the database");
        let mut command = Command::new(self.binaries.program("initdb"));
        command
            .arg("--pgdata")
            .arg(self.folder.inside("data.new"))
            .args(["--username", ADMIN_ROLE])
            .args(["--encoding", "UTF8", "--locale", "C"])
            .args(["--auth-local", "peer", "--auth-host", "reject"])
            .arg("--data-checksums")
            .current_dir("/");
        if self.durability == Durability::Scratch {
            command.arg("--no-sync");
        }
        self.account.apply(&mut command);
        self.folder.pass_to(&mut command);
        forget_client_settings(&mut command);
        let output = command.output().context("cannot run initdb for", &aside)?;
        if !output.status.success() {
            return Err(PgError::Initdb {
                data: self.data.clone(),
                output: tail(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        std::fs::rename(&aside, &self.data).context("cannot rename", &aside)?;
        if let (Durability::Safe, Some(parent)) = (self.durability, self.data.parent()) {
            let parent_file = std::fs::File::open(parent).context("cannot open", parent)?;
            parent_file.sync_all().context("cannot sync", parent)?;
        }
        Ok(())
    }

    /// Writes who may connect: our account, by the socket, as the roles named.
    fn admit(&self, roles: &[String]) -> Result<(), PgError> {
        let hba = "# Written at each start.\nlocal all all peer map=ztna\n";
        let ident: String = std::iter::once(ADMIN_ROLE)
            .chain(roles.iter().map(String::as_str))
            .map(|role| format!("ztna \"{}\" {role}\n", self.account.own_name))
            .collect();
        for (name, text) in [("pg_hba.conf", hba), ("pg_ident.conf", ident.as_str())] {
            let path = self.data.join(name);
            std::fs::write(&path, text).context("cannot write", &path)?;
            self.account.own_file(&path)?;
        }
        Ok(())
    }

    /// The command that runs the server in the foreground.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.binaries.program("postgres"));
        command
            .arg("-D")
            .arg(self.folder.inside("data"))
            .current_dir("/");
        let fsync = match self.durability {
            Durability::Safe => "on",
            Durability::Scratch => "off",
        };
        let settings = [
            ("listen_addresses", String::new()),
            ("port", "5432".to_owned()),
            (
                "unix_socket_directories",
                self.folder.inside("run").to_string_lossy().into_owned(),
            ),
            // Who connects is decided by `peer`, not by the socket's mode.
            ("unix_socket_permissions", "0777".to_owned()),
            ("max_connections", "100".to_owned()),
            ("fsync", fsync.to_owned()),
            ("full_page_writes", fsync.to_owned()),
            ("logging_collector", "on".to_owned()),
            (
                "log_directory",
                self.folder.inside("log").to_string_lossy().into_owned(),
            ),
            // A file per weekday, overwritten a week later: the log stays bounded.
            ("log_filename", "postgres-%a.log".to_owned()),
            ("log_truncate_on_rotation", "on".to_owned()),
            ("log_rotation_age", "1d".to_owned()),
            ("log_rotation_size", "0".to_owned()),
            ("timezone", "UTC".to_owned()),
        ];
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.account.apply(&mut command);
        self.folder.pass_to(&mut command);
        forget_client_settings(&mut command);
        command
    }

    /// The last lines that the server printed, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let mut text = std::fs::read_to_string(&self.start_log).unwrap_or_default();
        let newest = std::fs::read_dir(&self.log)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .max();
        if let Some((_, path)) = newest {
            text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
        tail(&text)
    }
}

/// The major version that wrote the data, if there is data.
fn read_major(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("PG_VERSION")).ok()?;
    text.trim().parse().ok()
}

/// A caller's PGHOST, PGDATA and the like must not reach our server.
fn forget_client_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

fn tail(text: &str) -> String {
    /// Lines of a log that a message shows.
    const LINES: usize = 6;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
