//! A database, a key-value store, and nodes of the control plane.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio_rustls::TlsConnector;
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options};
use ztna_proto::relay::CertificatePin;

use crate::system;

/// A node that is not ready by then never will be.
const READY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Where a node is reached.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<TlsConnector>,
}

/// What nodes share.
pub struct Deployment {
    folder: tempfile::TempDir,
    cluster: Cluster,
    store: Store,
    program: PathBuf,
}

impl Deployment {
    /// A database as durable as a real one, in a folder of its own.
    pub async fn start(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let options = Options {
            folder: folder.path().join("pg"),
            durability: Durability::Safe,
            roles: Vec::new(),
        };
        let cluster = Cluster::start(options).await?;
        Ok(Self {
            cluster,
            store: Store::start()?,
            program: program.to_owned(),
            folder,
        })
    }

    /// An empty database.
    pub async fn create(&self, name: &str) -> Result<()> {
        self.cluster.create_database(name).await?;
        Ok(())
    }

    /// Starts a node on a database; nodes of one database share their keys.
    pub async fn node(&self, database: &str, tls: bool, shared: bool) -> Result<Node> {
        let data = self.folder.path().join(database);
        std::fs::create_dir_all(&data)?;
        let address = free_port()?;
        let ready = data.join("api.json");
        // The last node's, which was killed.
        let _ = std::fs::remove_file(&ready);
        let socket = self.folder.path().join("pg/run");
        let mut command = Command::new(&self.program);
        command
            .args(["--listen", &address.to_string()])
            .args(["--public-host", "127.0.0.1"])
            .arg("--database-url")
            .arg(format!(
                "host={} user={ADMIN_ROLE} dbname={database}",
                socket.display()
            ))
            .arg("--data-dir")
            .arg(&data)
            .args([
                "--signup-limit",
                "1000000",
                "--registration-limit",
                "1000000",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if !tls {
            command.arg("--no-tls");
        }
        if shared {
            command.args(["--kv-url", &self.store.url()]);
        }
        if std::env::var_os("ZTNA_BENCH_SHOW_SERVERS").is_none() {
            command.stderr(Stdio::null());
        }
        system::end_with_us(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let begin = Instant::now();
        let file: Ready = loop {
            let text = std::fs::read_to_string(&ready).unwrap_or_default();
            if let Ok(file) = serde_json::from_str(&text) {
                break file;
            }
            if let Some(status) = child.try_wait()? {
                bail!("ztna-api ended with {status}; ZTNA_BENCH_SHOW_SERVERS=1 shows why");
            }
            if begin.elapsed() > READY {
                bail!("ztna-api is not ready after {} s", READY.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        };
        let tls = match file.pin {
            Some(pin) => Some(connector(&pin)?),
            None => None,
        };
        Ok(Node {
            child,
            target: Target { address, tls },
        })
    }
}

/// What a node says of itself when it is ready.
#[derive(Deserialize)]
struct Ready {
    pin: Option<String>,
}

fn connector(pin: &str) -> Result<TlsConnector> {
    let pin: CertificatePin = ztna_tls::parse_pin(pin)?;
    let config = ztna_tls::client_config(&pin, ztna_tls::KeyExchange::PreferPostQuantum)?;
    Ok(TlsConnector::from(Arc::clone(&config)))
}

/// A running node; killed when dropped.
pub struct Node {
    child: Child,
    pub target: Target,
}

impl Node {
    pub fn cpu_time(&self) -> Result<Duration> {
        system::cpu_time(self.child.id())
    }

    pub fn resident(&self) -> Result<u64> {
        system::resident(self.child.id())
    }

    /// As a power cut would end it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// A Valkey or Redis.
struct Store {
    child: Child,
    address: SocketAddr,
}

impl Store {
    fn start() -> Result<Self> {
        let address = free_port()?;
        for program in ["valkey-server", "redis-server"] {
            let mut command = Command::new(program);
            command
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--port", &address.port().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            system::end_with_us(&mut command);
            if let Ok(child) = command.spawn() {
                return Ok(Self { child, address });
            }
        }
        bail!("neither valkey-server nor redis-server is here; install one")
    }

    fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
