//! The program around the relay.

mod admit;
pub mod args;
mod check;
mod health;
mod http;
mod limits;
mod mesh;
mod plain;
mod revocations;
mod signals;
mod tls;
mod verify_url;
mod web;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use args::{Cli, Command, ServeArgs};
use clap::CommandFactory;
use clap::error::ErrorKind;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio_util::task::TaskTracker;
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{BootstrapDns, Port, Server, ServerConfig, run_quic};
use ztna_proto::RegionId;
use ztna_tls::Security;

/// Written into the data directory when the relay is ready, removed when it ends.
const READY_FILE: &str = "derp.json";

/// Does what the command line says.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Some(Command::Check(args)) => check::run(args).await,
        Some(Command::Health(args)) => health::run(&args).await.map(|()| ExitCode::SUCCESS),
        None => serve(cli.serve).await.map(|()| ExitCode::SUCCESS),
    }
}

/// Runs the relay until SIGINT or SIGTERM.
async fn serve(args: ServeArgs) -> Result<()> {
    let mode = args.admission.mode(args.region).unwrap_or_else(|wrong| {
        let mut command = Cli::command();
        command
            .error(ErrorKind::MissingRequiredArgument, wrong)
            .exit()
    });
    let dir = args.data_dir;
    make_dir(&dir).with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    let host = args.public_host.unwrap_or_else(default_host);
    let key = RelayPrivateKey::load_or_create(&dir)
        .with_context(|| format!("no relay key in {}", dir.display()))?;
    let (reload, shutdown) = (signals::Reload::default(), signals::stop()?);
    reload.on_hangup()?;
    let http = args.http_listen.is_some();
    let secured = args
        .tls
        .secure(&dir, &host, &key.public(), http, &reload, &shutdown)?;
    let limits = args.limits.limits()?;

    // Before the server, which looks its counters up.
    let recorder = PrometheusBuilder::new().install_recorder()?;
    let (admission, revocations) = mode.admission(RegionId(args.region))?;
    let server = Server::new(ServerConfig {
        key,
        admission,
        limits,
        mesh: args.mesh.mesh(RegionId(args.region))?,
    });
    let listener = plain::bind(args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    // QUIC has no plain form.
    let quic_tls = match &secured.security {
        _ if args.no_quic => None,
        Security::Plain => None,
        Security::Tls(tls) | Security::TlsWithChallenges { tls, .. } => Some(Arc::clone(tls)),
    };
    let quic = match quic_tls {
        Some(tls) => Some((quic_socket(args.quic_listen.unwrap_or(args.listen))?, tls)),
        None => None,
    };
    let quic_port = match &quic {
        Some((socket, _)) => Some(socket.local_addr()?.port()),
        None => None,
    };

    let tasks = TaskTracker::new();
    let metrics = web::Metrics {
        recorder,
        server: Arc::clone(&server),
        age: revocations.as_ref().map(revocations::Revocations::age),
    };
    let bootstrap = BootstrapDns::new(args.bootstrap_dns_names);
    let mut router = web::router(Arc::clone(&bootstrap));
    let proxies = args.tls.proxies();
    let accept = args.limits.accept(args.tls.no_tls);
    let strangers = args.limits.accept(false);
    let mut metrics_address = None;
    match args.metrics_listen {
        Some(own) => {
            let own = plain::bind(own, "--metrics-listen").await?;
            metrics_address = Some(own.local_addr()?);
            let routes = metrics.routes();
            tasks.spawn(plain::run(own, routes, strangers, shutdown.clone()));
        }
        // Behind a proxy that is not trusted, everybody comes from its address.
        None if args.tls.no_tls && proxies.is_empty() => {}
        None => router = router.merge(metrics.routes_for(args.metrics_from)),
    }
    let mut http_address = None;
    if let Some(wanted) = args.http_listen {
        let plain = plain::bind(wanted, "--http-listen").await?;
        http_address = Some(plain.local_addr()?);
        let routes = plain::router(secured.challenges, origin(&host, address));
        tasks.spawn(plain::run(plain, routes, strangers, shutdown.clone()));
    }
    if let Some(revocations) = revocations {
        tasks.spawn(revocations.follow(Arc::clone(&server), shutdown.clone()));
    }
    if let Some(keeper) = secured.keeper {
        tasks.spawn(keeper);
    }
    tasks.spawn(bootstrap.keep(shutdown.clone()));
    if args.limits.rate_config.is_some() {
        let again = Arc::clone(&reload.limits);
        tasks.spawn(
            args.limits
                .follow(Arc::clone(&server), again, shutdown.clone()),
        );
    }
    for node in args.mesh.mesh_with {
        tasks.spawn(Arc::clone(&server).link(node, shutdown.clone()));
    }
    tasks.close();

    let ready = serde_json::json!({
        "host": host,
        "port": address.port(),
        "quic_port": quic_port,
        "listen": address,
        "tls": !matches!(secured.security, Security::Plain),
        "http_port": http_address.map(|address| address.port()),
        "metrics": metrics_address,
        "region": args.region,
        "pin": secured.pin,
        "public_key": server.public_key().to_string(),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let ready_file = dir.join(READY_FILE);
    write_ready(&ready_file, &ready)
        .with_context(|| format!("cannot write {}", ready_file.display()))?;
    tracing::info!(%address, host, region = args.region, pin = secured.pin, "relay ready");

    let by_quic = quic.map(|(socket, tls)| {
        let server = Arc::clone(&server);
        tokio::spawn(run_quic(server, socket, tls, strangers, shutdown.clone()))
    });
    let port = Port {
        security: secured.security,
        proxies,
        limits: accept,
    };
    ztna_derp::server::run(server, listener, port, router, shutdown).await;
    if let Some(by_quic) = by_quic {
        by_quic.await??;
    }
    tasks.wait().await;
    tracing::info!("relay stopped");
    // Nobody reads it now; a file that stays behind is replaced at the next start.
    let _ = std::fs::remove_file(&ready_file);
    Ok(())
}

fn quic_socket(address: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| {
        format!("cannot listen on UDP {address} for QUIC; choose another --quic-listen, or say --no-quic")
    })
}

/// Where browsers find the relay.
fn origin(host: &str, address: SocketAddr) -> String {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host.to_owned(),
    };
    match address.port() {
        443 => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    }
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// This machine's address on its default route. No packet is sent: connecting a UDP socket only
/// chooses a source address (192.0.2.1 is for documentation, RFC 5737).
fn default_host() -> String {
    let source = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from(([192, 0, 2, 1], 9)))?;
        Ok(socket.local_addr()?.ip())
    };
    source().unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string()
}

/// Whole or not at all: whoever waits for the file reads all of it.
fn write_ready(path: &Path, ready: &serde_json::Value) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, ready)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}
