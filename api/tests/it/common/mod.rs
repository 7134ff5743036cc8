//! A control plane on a real PostgreSQL, spoken to over HTTP.
//!
//! One private cluster per test process, a fresh database per test.

pub mod acts;
pub mod browser;
pub mod client;
pub mod listener;
pub mod provider;
pub mod redis;
pub mod stream;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use ztna_api::{APP_ROLE, App, Config, DatabaseConfig, ServerKeys};
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options};
use ztna_proto::keys::WgPublicKey;

pub use client::Client;

const PREFIX: &str = "ztna-test-pg-";

/// The process's cluster. It ends with the process; its folder goes with the next test run.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_init(|| async {
            remove_leftovers();
            let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
            Cluster::start(Options {
                folder,
                durability: Durability::Scratch,
                roles: vec![APP_ROLE.to_owned()],
            })
            .await
            .unwrap()
        })
        .await
}

fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            // Another test process may be at it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A fresh database.
pub async fn database() -> DatabaseConfig {
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let cluster = cluster().await;
    cluster.create_database(&name).await.unwrap();
    DatabaseConfig {
        setup: cluster.config(ADMIN_ROLE, &name),
        app: Some(cluster.config(APP_ROLE, &name)),
    }
}

/// A connection beside the control plane's.
pub async fn connect(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("SET search_path = ztna")
        .await
        .unwrap();
    client
}

/// A listener on a free port.
pub async fn free_address() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// A control plane that serves plain HTTP on the loopback address.
pub struct Server {
    pub address: SocketAddr,
    pub database: DatabaseConfig,
    /// Keys of machines that the control plane has cut off.
    pub cut: Arc<Mutex<Vec<WgPublicKey>>>,
    app: App,
    shutdown: CancellationToken,
    keys: Arc<tempfile::TempDir>,
}

impl Server {
    /// With generous limits, unless `adjust` sets others.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::set_permissions(keys.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self::start_on(
            free_address().await,
            database().await,
            Arc::new(keys),
            adjust,
        )
        .await
    }

    /// On a database of the test's own.
    pub async fn start_on_database(
        database: DatabaseConfig,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::set_permissions(keys.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self::start_on(free_address().await, database, Arc::new(keys), adjust).await
    }

    /// The folder with its keys.
    pub fn data_dir(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.keys)
    }

    /// Stops it and starts another with its keys on another database.
    pub async fn moved_to(self, database: DatabaseConfig) -> Self {
        let keys = Arc::clone(&self.keys);
        self.stop().await;
        Self::start_on(free_address().await, database, keys, |_| {}).await
    }

    /// Another node of the same deployment.
    pub async fn beside(&self, adjust: impl FnOnce(&mut Config)) -> Self {
        let (database, keys) = (self.database.clone(), Arc::clone(&self.keys));
        Self::start_on(free_address().await, database, keys, adjust).await
    }

    /// On a listener whose address had to be known before.
    pub async fn start_at(
        listener: TcpListener,
        database: DatabaseConfig,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::set_permissions(keys.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self::start_on(listener, database, Arc::new(keys), adjust).await
    }

    async fn start_on(
        listener: TcpListener,
        database: DatabaseConfig,
        keys: Arc<tempfile::TempDir>,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let server_keys = ServerKeys::load_or_create(keys.path()).unwrap();
        let mut config = Config::new(database.clone(), server_keys);
        config.limits.signup.count = 10_000;
        config.limits.login.count = 10_000;
        config.limits.reset.count = 10_000;
        config.limits.registration.count = 10_000;
        let cut = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&cut);
        config.on_cut = Some(Arc::new(move |key| record.lock().unwrap().push(key)));
        let address = listener.local_addr().unwrap();
        config.public_url = format!("http://{address}");
        adjust(&mut config);
        let app = App::start(config).await.unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(ztna_api::serve_plain(
            listener,
            app.router(),
            shutdown.clone(),
        ));
        Self {
            address,
            database,
            cut,
            app,
            shutdown,
            keys,
        }
    }

    /// Ends it.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.app.stop().await;
    }

    /// Stops it and starts another on the same database and keys.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with another configuration.
    pub async fn restart_with(self, adjust: impl FnOnce(&mut Config)) -> Self {
        self.shutdown.cancel();
        self.app.stop().await;
        Self::start_on(free_address().await, self.database, self.keys, adjust).await
    }

    pub fn ticket_verifier(&self) -> ztna_proto::ticket::TicketVerifier {
        self.app.ticket_verifier()
    }
}
