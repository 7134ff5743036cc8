//! The deployment, put together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ztna_api::{
    APP_ROLE, App, Config, DatabaseConfig, MailConfig, RevocationFeed, ServerKeys, default_host,
    secret, url, write_ready_file,
};
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{
    Limits, ListenerLimits, Server, ServerConfig, TicketAdmission, run_quic, tls_config,
};
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options, PgError};
use ztna_proto::RegionId;
use ztna_proto::relay::{CertificatePin, RegionDocument, RelayNode, RelayRegion};
use ztna_tls::ServerIdentity;

use crate::args::Args;
use crate::lock::Lock;

/// The region of this deployment's own relay.
const REGION: RegionId = RegionId(1);
const REGION_CODE: &str = "local";
/// Tried in this order when no address is named.
const PORTS: [u16; 2] = [443, 8443];
/// How long one wait for revocations lasts.
const REVOCATION_WAIT: Duration = Duration::from_secs(25);
/// Pause after revocations could not be read.
const REVOCATION_PAUSE: Duration = Duration::from_secs(1);
/// The database, in an own cluster.
pub(crate) const DATABASE: &str = "ztna";
/// Folder of the own cluster, in the data directory.
pub(crate) const FOLDER: &str = "postgres";
/// Written when everything serves. It stays behind, so that the next start can tell which port the
/// machines know; `pid` tells whether it is current.
const READY_FILE: &str = "server.json";

#[derive(Serialize)]
struct Ready {
    url: String,
    pin: String,
    stun_port: u16,
    pid: u32,
    version: &'static str,
}

/// Runs the deployment until SIGINT or SIGTERM, or until the database is down for good.
pub async fn run(args: Args) -> Result<()> {
    let data_dir = make_dir(&args.data_dir)?;
    let _lock = Lock::take(&data_dir)?;
    let stop = stop_signal()?;

    // Everything that a second server or a missing right would spoil, before the database starts.
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    let quic = match args.no_quic {
        false => Some(quic_socket(
            args.quic_listen.or(args.listen).unwrap_or(address),
        )?),
        true => None,
    };
    let stun = ztna_stun::server::bind(args.stun_listen).with_context(|| {
        let address = args.stun_listen;
        format!(
            "cannot listen on {address} (UDP and TCP); stop what is there, or choose another --stun-listen"
        )
    })?;
    let host = args
        .public_host
        .clone()
        .unwrap_or_else(|| default_host().to_string());
    let identity = identity(&args, &data_dir, &host)?;
    let keys = ServerKeys::load_or_create(&data_dir)?;
    let relay_key = RelayPrivateKey::load_or_create(&data_dir)
        .with_context(|| format!("no relay key in {}", data_dir.display()))?;
    let tls = tls_config(&identity, &relay_key.public())?;
    let stun_port = stun.local_addr().port();

    let database = Database::start(&args, &data_dir).await?;
    // The relay comes after the control plane, which installs the recorder for figures, and the
    // control plane has to know the relay.
    let relay: Arc<OnceLock<Arc<Server>>> = Arc::default();
    let (cuts, figures) = (Arc::clone(&relay), Arc::clone(&relay));
    let mut config = Config::new(database.config.clone(), keys);
    let geoip = args.geoip.as_deref().map(ztna_api::GeoIp::open);
    config.geoip = geoip.transpose()?;
    let dashboard = args.dashboard.as_deref().map(ztna_api::Dashboard::open);
    config.dashboard = dashboard.transpose()?;
    if let Some(folder) = &args.releases {
        let releases = ztna_api::Releases::open(folder, args.release_key.as_deref())?;
        config.releases = Some(releases);
    }
    config.dns_suffix.clone_from(&args.dns_suffix);
    let own_url = || url("https", &host, address);
    config.public_url = args.public_url.clone().unwrap_or_else(own_url);
    config.pin = args.tls_cert.is_none().then(|| identity.pin());
    config.mail = mail(&args, &config.public_url)?;
    config.sign_in = args.sign_in.config()?;
    config.allow_private_relays = args.allow_private_relays;
    let mut region = own_region(&args, &host, address, stun_port, &identity);
    for node in &mut region.region.nodes {
        node.quic_port = match &quic {
            Some(socket) => Some(socket.local_addr()?.port()),
            None => None,
        };
    }
    config.relays = vec![region];
    config.on_cut = Some(Arc::new(move |key| {
        if let Some(relay) = cuts.get() {
            relay.revoke(&key, Timestamp::now());
        }
    }));
    config.more_figures = Some(Arc::new(move || {
        figures
            .get()
            .map_or(String::new(), |relay| relay.prometheus())
    }));
    let app = App::start(config).await?;
    let server = relay.get_or_init(|| {
        let verifier = app.ticket_verifier();
        Server::new(ServerConfig {
            key: relay_key,
            admission: Arc::new(TicketAdmission::with_system_clock(verifier, REGION)),
            limits: Limits::default(),
            mesh: None,
        })
    });

    let mut revocations = app.revocations();
    // Before anybody is let in: those who lost their right while this server was down.
    while let Some(entries) = revocations.next(Duration::ZERO).await?
        && !entries.is_empty()
    {
        server.revoke_all(&entries);
    }

    let quic = quic.map(|socket| (socket, Arc::clone(&tls)));
    let serving = Serving::start(Arc::clone(server), &app, listener, tls, stun, revocations);
    if let Some((socket, tls)) = quic {
        serving.start_quic(Arc::clone(server), socket, tls);
    }
    let ready = Ready {
        url: url("https", &host, address),
        pin: identity.pin(),
        stun_port,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let ready_file = data_dir.join(READY_FILE);
    write_ready_file(&ready_file, &ready)
        .with_context(|| format!("cannot write {}", ready_file.display()))?;
    tracing::info!(url = ready.url, pin = ready.pin, "ready");

    let failure = tokio::select! {
        () = stop.cancelled() => None,
        failure = database.failed() => Some(failure),
    };
    tracing::info!("stopping");
    app.stop().await;
    serving.stop().await;
    database.stop().await;
    match failure {
        Some(failure) => Err(failure).context("the database is down"),
        None => Ok(()),
    }
}

/// What serves the network.
struct Serving {
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Serving {
    fn start(
        relay: Arc<Server>,
        app: &App,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stun: ztna_stun::server::Listener,
        revocations: RevocationFeed,
    ) -> Self {
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let router = ztna_derp::server::routes().merge(app.router());
        tasks.spawn(follow(Arc::clone(&relay), revocations, shutdown.clone()));
        tasks.spawn(ztna_derp::server::run(
            relay,
            listener,
            tls,
            router,
            shutdown.clone(),
        ));
        tasks.spawn(ztna_stun::server::run(stun, shutdown.clone()));
        tasks.close();
        Self { tasks, shutdown }
    }

    fn start_quic(&self, relay: Arc<Server>, socket: UdpSocket, tls: Arc<rustls::ServerConfig>) {
        let limits = ListenerLimits::default();
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            if let Err(error) = run_quic(relay, socket, tls, limits, shutdown).await {
                tracing::error!(%error, "machines reach the relay by TCP only");
            }
        });
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }
}

/// Keeps the relay up to date with what other processes on the same database revoke.
async fn follow(relay: Arc<Server>, mut revocations: RevocationFeed, shutdown: CancellationToken) {
    let following = async {
        loop {
            match revocations.next(REVOCATION_WAIT).await {
                Ok(Some(entries)) => {
                    relay.revoke_all(&entries);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "trying again");
                    tokio::time::sleep(REVOCATION_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(following).await;
}

/// The database: an own cluster, or one that somebody else runs.
pub(crate) struct Database {
    pub(crate) config: DatabaseConfig,
    cluster: Option<Cluster>,
}

impl Database {
    pub(crate) async fn start(args: &Args, data_dir: &Path) -> Result<Self> {
        let (given, file) = (&args.database_url, &args.database_url_file);
        if let Some(url) = secret(given.as_deref(), file.as_deref())? {
            let setup = url
                .parse()
                .context("--database-url is not of the form postgres://user@host/name")?;
            let config = DatabaseConfig { setup, app: None };
            return Ok(Self {
                config,
                cluster: None,
            });
        }
        let cluster = Cluster::start(Options {
            folder: data_dir.join(FOLDER),
            durability: Durability::Safe,
            roles: vec![APP_ROLE.to_owned()],
        })
        .await?;
        cluster.create_database(DATABASE).await?;
        let config = DatabaseConfig {
            setup: cluster.config(ADMIN_ROLE, DATABASE),
            app: Some(cluster.config(APP_ROLE, DATABASE)),
        };
        Ok(Self {
            config,
            cluster: Some(cluster),
        })
    }

    /// Ends when an own cluster is down for good; else never.
    async fn failed(&self) -> PgError {
        match &self.cluster {
            Some(cluster) => cluster.failed().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) async fn stop(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

/// The data directory, whose path no later change of directory concerns.
pub(crate) fn make_dir(dir: &Path) -> Result<std::path::PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("cannot use the data directory {}", dir.display()))
}

async fn listen(wanted: Option<SocketAddr>) -> Result<TcpListener> {
    let hint = "stop what is there, or choose another --listen; ports below 1024 need root";
    if let Some(address) = wanted {
        return TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; {hint}"));
    }
    let [first, second] = PORTS.map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    match TcpListener::bind(first).await {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let listener = TcpListener::bind(second).await;
            listener.with_context(|| format!("cannot listen on {second}; {hint}"))
        }
        result => result.with_context(|| format!("cannot listen on {first}; {hint}")),
    }
}

fn quic_socket(address: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| {
        format!(
            "cannot listen on UDP {address} for QUIC; choose another --quic-listen, or say --no-quic"
        )
    })
}

fn identity(args: &Args, data_dir: &Path, host: &str) -> Result<ServerIdentity> {
    Ok(match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => ServerIdentity::from_pem_files(certificate, key)?,
        _ => {
            let mut names = vec![host.to_owned()];
            for local in ["localhost", "127.0.0.1"] {
                if host != local {
                    names.push(local.to_owned());
                }
            }
            ServerIdentity::load_or_create(data_dir, &names)?
        }
    })
}

fn mail(args: &Args, public_url: &str) -> Result<Option<MailConfig>> {
    let mail = args.mail.read()?.map(|(url, from)| MailConfig {
        url,
        from,
        public_url: public_url.to_owned(),
    });
    Ok(mail)
}

/// This deployment's own region.
fn own_region(
    args: &Args,
    host: &str,
    address: SocketAddr,
    stun_port: u16,
    identity: &ServerIdentity,
) -> RegionDocument {
    let node = RelayNode {
        name: REGION_CODE.to_owned(),
        host: host.to_owned(),
        addresses: host.parse::<IpAddr>().into_iter().collect(),
        derp_port: Some(address.port()),
        stun_port: Some(stun_port),
        quic_port: None,
        http_port: None,
        certificate: match args.tls_cert {
            Some(_) => CertificatePin::WebPki,
            None => identity.certificate_pin(),
        },
    };
    let region = RelayRegion {
        id: REGION,
        code: REGION_CODE.to_owned(),
        name: "This server".to_owned(),
        nodes: vec![node],
    };
    region.into()
}

/// Cancelled by SIGINT or SIGTERM.
fn stop_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let stop = token.clone();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}
