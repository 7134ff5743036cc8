//! The database behind a lab's control plane: a cluster of its own for one that runs apart, and a
//! look into any of them, for what has no API, like the passing of time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options};

/// Name of the database, as `ztna-server` calls its own.
const NAME: &str = "ztna";

/// A cluster for a control plane that runs in a process of its own.
pub struct Database {
    runtime: Runtime,
    cluster: Cluster,
    folder: PathBuf,
}

impl Database {
    /// Makes and starts it.
    ///
    /// # Errors
    /// There is no PostgreSQL on this machine.
    pub fn start(folder: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let options = Options {
            folder: folder.to_owned(),
            durability: Durability::Scratch,
            roles: Vec::new(),
        };
        let cluster = runtime.block_on(Cluster::start(options))?;
        runtime.block_on(cluster.create_database(NAME))?;
        Ok(Self {
            runtime,
            cluster,
            folder: folder.to_owned(),
        })
    }

    /// What a control plane connects to.
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.folder.join("run");
        format!("host={} user={ADMIN_ROLE} dbname={NAME}", socket.display())
    }

    /// Stops it in order.
    pub fn stop(self) {
        self.runtime.block_on(self.cluster.stop());
    }
}

/// Runs a statement as superuser in the private database of the `ztna-server` at `data`.
///
/// # Errors
/// The database refuses, or the statement changes other than one row.
pub fn as_admin(data: &Path, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<()> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(data.join("postgres/run"))
        .user(ADMIN_ROLE)
        .dbname(NAME);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let (client, connection) = config
                .connect(NoTls)
                .await
                .with_context(|| format!("cannot connect to the database in {}", data.display()))?;
            let connection = tokio::spawn(connection);
            let changed = client.execute(statement, parameters).await?;
            drop(client);
            connection.await??;
            anyhow::ensure!(changed == 1, "{statement}: changed {changed} rows, not one");
            Ok(())
        })
}
