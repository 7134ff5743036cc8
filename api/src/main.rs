//! `ztna-api`: the control plane as a program of its own.

mod commands;
mod ready;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use ztna_api::{
    App, Config, Dashboard, DatabaseConfig, DatabaseFlags, GeoIp, MailConfig, MailFlags, RelayFile,
    Releases, ServerKeys, SignInFlags, default_host, secret, serve_plain, url, write_ready_file,
};
use ztna_tls::{AcceptLimits, ServerIdentity};

use ready::{READY_FILE, Ready};

/// Ten thousand connections allocate small things all the time: the system's allocator takes up to half of a
/// heartbeat's time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The control plane of a ztna deployment.
#[derive(Parser)]
#[command(
    name = "ztna-api",
    version,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  Behind a proxy that does TLS:
    ztna-api --no-tls --listen 127.0.0.1:8080 --trusted-proxies 1 \\
      --database-url postgres://ztna@localhost/ztna --data-dir /var/lib/ztna-api
  With a self-signed certificate, which agents pin:
    ztna-api --listen 0.0.0.0:8443 --public-host control.example.com \\
      --database-url postgres://ztna@localhost/ztna --relay-map relays.json"
)]
struct Flags {
    #[command(subcommand)]
    command: Option<commands::Command>,
    /// Address and port to serve on.
    #[arg(long, env = "ZTNA_LISTEN", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseFlags,
    /// Valkey or Redis (7 or newer) that all nodes of the deployment share, as
    /// redis://[user:password@]host[:port][/database], or rediss://… for TLS [default: this process's own
    /// memory]
    #[arg(long, env = "ZTNA_KV_URL", hide_env_values = true, group = "kv")]
    kv_url: Option<String>,
    /// File that holds it, in its place
    #[arg(long, env = "ZTNA_KV_URL_FILE", group = "kv", value_name = "FILE")]
    kv_url_file: Option<PathBuf>,
    /// File with the authorities that sign its certificate, in PEM [default: the public web's].
    #[arg(long, env = "ZTNA_KV_AUTHORITIES", requires = "kv")]
    kv_authorities: Option<PathBuf>,
    #[command(flatten)]
    mail: MailFlags,
    /// What links in letters, and addresses that browsers are sent back to, start with [default: the scheme, host and port that agents dial]
    #[arg(long, env = "ZTNA_PUBLIC_URL")]
    public_url: Option<String>,
    /// Folder of the signing keys and the self-signed certificate.
    #[arg(long, env = "ZTNA_DATA_DIR", default_value = "/var/lib/ztna-api")]
    data_dir: PathBuf,
    /// Certificate chain in PEM, in place of a self-signed one.
    #[arg(long, env = "ZTNA_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    #[arg(long, env = "ZTNA_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP, for a proxy that does TLS.
    #[arg(long, env = "ZTNA_NO_TLS", conflicts_with = "tls_cert")]
    no_tls: bool,
    /// JSON file with relay regions to write into the relay map: {"regions": {"1": {…}}}.
    #[arg(long, env = "ZTNA_RELAY_MAP")]
    relay_map: Option<PathBuf>,
    /// Probe orgs' own relays that are not on the public internet. Not where strangers may sign up:
    /// they would learn what answers in this server's own network.
    #[arg(long, env = "ZTNA_ALLOW_PRIVATE_RELAYS")]
    allow_private_relays: bool,
    /// Name or address that agents dial [default: the address of the default route's interface].
    #[arg(long, env = "ZTNA_PUBLIC_HOST")]
    public_host: Option<String>,
    /// What machine names end in, after the org's label.
    #[arg(long, env = "ZTNA_DNS_SUFFIX", default_value = "ztna.internal")]
    dns_suffix: String,
    /// Database of the countries that addresses are in, in the MaxMind DB format (GeoLite2-Country.mmdb), for rules that ask
    /// for the country of a source. All nodes need the same [default: no country is known]
    #[arg(long, env = "ZTNA_GEOIP", value_name = "FILE")]
    geoip: Option<PathBuf>,
    /// Folder with the built dashboard, to serve beside the API [default: none is served]
    #[arg(long, env = "ZTNA_DASHBOARD_DIR", value_name = "DIR")]
    dashboard: Option<PathBuf>,
    /// Folder with releases of the agent (manifest.json, and a folder for each version) [default: none are served]
    #[arg(long, env = "ZTNA_RELEASES_DIR", value_name = "DIR")]
    releases: Option<PathBuf>,
    /// Public key that releases have to be signed with, in PEM [default: signatures are left to machines to check]
    #[arg(
        long,
        env = "ZTNA_RELEASE_KEY",
        value_name = "FILE",
        requires = "releases"
    )]
    release_key: Option<PathBuf>,
    /// Proxies in front of this server that append to X-Forwarded-For.
    #[arg(long, env = "ZTNA_TRUSTED_PROXIES", default_value_t = 0)]
    trusted_proxies: usize,
    /// Sign-ups per address in 5 minutes.
    #[arg(long, env = "ZTNA_SIGNUP_LIMIT", default_value_t = 5)]
    signup_limit: u64,
    /// Failed registrations per address in 10 minutes.
    #[arg(long, env = "ZTNA_REGISTRATION_LIMIT", default_value_t = 10)]
    registration_limit: u64,
    /// Failed sign-ins per address in 5 minutes.
    #[arg(long, env = "ZTNA_LOGIN_LIMIT", default_value_t = 10)]
    login_limit: u64,
    #[command(flatten)]
    sign_in: SignInFlags,
}

/// Libraries speak up only when something is wrong.
const DEFAULT_LOG: &str = "info,refinery_core=warn,tokio_postgres=warn,fred=error";

#[tokio::main]
async fn main() -> ExitCode {
    let mut flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| DEFAULT_LOG.into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let done = match flags.command.take() {
        Some(command) => commands::run(command).await,
        None => run(flags).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<()> {
    std::fs::create_dir_all(&flags.data_dir)
        .with_context(|| format!("cannot make the data folder {}", flags.data_dir.display()))?;
    let listener = TcpListener::bind(flags.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", flags.listen))?;
    let address = listener.local_addr()?;
    let host = flags
        .public_host
        .clone()
        .unwrap_or_else(|| default_host().to_string());
    let identity = identity(&flags, &host)?;
    let (scheme, pin) = match &identity {
        Some(identity) => ("https", Some(identity.pin())),
        None => ("http", None),
    };
    let url = url(scheme, &host, address);
    let mut config = config(&flags)?;
    config.public_url = flags.public_url.clone().unwrap_or_else(|| url.clone());
    let public_url = config.public_url.clone();
    config.pin = pin.clone().filter(|_| flags.tls_cert.is_none());
    config.mail = flags.mail.read()?.map(|(url, from)| MailConfig {
        url,
        from,
        public_url,
    });
    let app = App::start(config).await?;

    let ready = Ready {
        url,
        listen: address,
        pin,
        ticket_key: app.ticket_verifier().to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let tls = identity
        .map(|identity| identity.server_config())
        .transpose()?;

    let shutdown = CancellationToken::new();
    let (router, stopping) = (app.router(), shutdown.clone());
    let server = tokio::spawn(async move {
        match tls {
            Some(tls) => {
                let stop = stopping.clone();
                let handler = move |stream, peer| {
                    let (router, stop) = (router.clone(), stop.clone());
                    async move { ztna_tls::serve_http(stream, peer, router, &stop).await }
                };
                ztna_tls::serve(listener, tls, AcceptLimits::default(), stopping, handler).await;
            }
            None => serve_plain(listener, router, stopping).await,
        }
    });
    let path = flags.data_dir.join(READY_FILE);
    write_ready_file(&path, &ready).with_context(|| format!("cannot write {}", path.display()))?;
    tracing::info!(
        url = ready.url,
        pin = ready.pin,
        ticket_key = ready.ticket_key,
        "the control plane is ready"
    );

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    // Nobody should dial a server that is gone.
    let _ = std::fs::remove_file(&path);
    app.stop().await;
    shutdown.cancel();
    server.await?;
    Ok(())
}

/// `None`: no TLS.
fn identity(flags: &Flags, host: &str) -> Result<Option<ServerIdentity>> {
    if flags.no_tls {
        return Ok(None);
    }
    let identity = match (&flags.tls_cert, &flags.tls_key) {
        (Some(certificate), Some(key)) => ServerIdentity::from_pem_files(certificate, key)?,
        _ => ServerIdentity::load_or_create(&flags.data_dir, &[host.to_owned()])?,
    };
    Ok(Some(identity))
}

fn config(flags: &Flags) -> Result<Config> {
    let setup: tokio_postgres::Config = flags
        .database
        .url()?
        .parse()
        .context("--database-url is not of the form postgres://user@host/name")?;
    if setup.get_dbname().is_none() {
        bail!("--database-url names no database; append /name");
    }
    let database = DatabaseConfig { setup, app: None };
    let mut config = Config::new(database, ServerKeys::load_or_create(&flags.data_dir)?);
    if let Some(path) = &flags.relay_map {
        let text = std::fs::read(path)
            .with_context(|| format!("cannot read the relay map {}", path.display()))?;
        let file: RelayFile = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a relay map", path.display()))?;
        config.relays = file.regions.into_values().collect();
    }
    let kv_url = secret(flags.kv_url.as_deref(), flags.kv_url_file.as_deref())?;
    config.kv_url = kv_url.map(|url| url.as_str().to_owned());
    config.kv_authorities.clone_from(&flags.kv_authorities);
    config.sign_in = flags.sign_in.config()?;
    config.geoip = flags.geoip.as_deref().map(GeoIp::open).transpose()?;
    config.dashboard = flags
        .dashboard
        .as_deref()
        .map(Dashboard::open)
        .transpose()?;
    if let Some(folder) = &flags.releases {
        config.releases = Some(Releases::open(folder, flags.release_key.as_deref())?);
    }
    config.dns_suffix.clone_from(&flags.dns_suffix);
    config.allow_private_relays = flags.allow_private_relays;
    config.trusted_proxies = flags.trusted_proxies;
    config.limits.signup.count = flags.signup_limit;
    config.limits.registration.count = flags.registration_limit;
    config.limits.login.count = flags.login_limit;
    Ok(config)
}
