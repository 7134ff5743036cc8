//! The program around the relay.

pub mod args;
mod mesh;
mod web;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use args::Args;
use clap::CommandFactory;
use clap::error::ErrorKind;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ztna_derp::key::RelayPrivateKey;
use ztna_derp::server::{Limits, Server, ServerConfig, TicketAdmission};
use ztna_proto::RegionId;
use ztna_proto::relay::ORG_REGIONS;
use ztna_tls::ServerIdentity;

/// Written into the data directory when the relay is ready, removed when it ends.
const READY_FILE: &str = "derp.json";

const NO_ORG: &str = "\
--org is missing: region 900 to 999 is an org's own, and without the org's id machines of any other
org with a region of that number would be let in. GET /api/auth/me lists your orgs.";

const NO_TICKET_KEY: &str = "\
--ticket-key is missing: a relay serves only machines that its control plane has given a ticket.
The key is in api.json in the data directory of ztna-api, field ticket_key; ztna-server needs no
separate relay.";

/// Runs the relay until SIGINT or SIGTERM.
pub async fn run(args: Args) -> Result<()> {
    let Some(verifier) = args.ticket_key else {
        let mut command = Args::command();
        command
            .error(ErrorKind::MissingRequiredArgument, NO_TICKET_KEY)
            .exit()
    };
    if ORG_REGIONS.contains(&args.region) && args.org.is_none() {
        bail!("{}", NO_ORG);
    }
    let dir = &args.data_dir;
    make_dir(dir).with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    let host = args.public_host.clone().unwrap_or_else(default_host);
    let key = RelayPrivateKey::load_or_create(dir)
        .with_context(|| format!("no relay key in {}", dir.display()))?;
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => ServerIdentity::from_pem_files(certificate, key)?,
        _ => ServerIdentity::load_or_create(dir, &names(&host))?,
    };
    let tls = identity.server_config()?;

    let recorder = PrometheusBuilder::new().install_recorder()?;
    let server = Server::new(ServerConfig {
        key,
        admission: Arc::new(
            TicketAdmission::with_system_clock(verifier, RegionId(args.region)).for_org(args.org),
        ),
        limits: Limits {
            clients: args.max_clients,
            bytes_per_second: args.client_rate.map(Into::into),
            ..Limits::default()
        },
        mesh: args.mesh.mesh(RegionId(args.region))?,
    });
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        let address = args.listen;
        format!("cannot listen on {address}; another program has it, or ports below 1024 need root: try --listen 0.0.0.0:8443")
    })?;
    let address = listener.local_addr()?;

    let shutdown = stop_signal()?;
    let router = web::router(recorder, args.metrics_from);
    let ready = serde_json::json!({
        "host": host,
        "port": address.port(),
        "listen": address,
        "region": args.region,
        "pin": identity.pin(),
        "public_key": server.public_key().to_string(),
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let ready_file = dir.join(READY_FILE);
    write_ready(&ready_file, &ready)
        .with_context(|| format!("cannot write {}", ready_file.display()))?;
    tracing::info!(%address, host, region = args.region, pin = identity.pin(), "relay ready");

    for node in args.mesh.mesh_with {
        tokio::spawn(Arc::clone(&server).link(node, shutdown.clone()));
    }
    ztna_derp::server::run(server, listener, tls, router, shutdown).await;
    tracing::info!("relay stopped");
    // Nobody reads it now; a file that stays behind is replaced at the next start.
    let _ = std::fs::remove_file(&ready_file);
    Ok(())
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

/// Names of a self-signed certificate.
fn names(host: &str) -> Vec<String> {
    let mut names = vec![
        host.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    names.dedup();
    names
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

/// Cancelled by SIGINT or SIGTERM.
fn stop_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[cfg(unix)]
    let wait = {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    };
    #[cfg(not(unix))]
    let wait = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    tokio::spawn(async move {
        wait.await;
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(stop)
}
