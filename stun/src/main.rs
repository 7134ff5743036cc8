//! `ztna-stun`: the STUN service.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use ztna_stun::server;

/// Tells machines the address that the outside sees them at (STUN, RFC 8489).
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  ztna-stun\n  ztna-stun --listen 192.0.2.1:3478 --listen [2001:db8::1]:3478"
)]
struct Args {
    /// Address and UDP port to serve at; may be given several times
    #[arg(
        long,
        env = "ZTNA_STUN_LISTEN",
        value_delimiter = ',',
        default_value = "0.0.0.0:3478"
    )]
    listen: Vec<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let stop = CancellationToken::new();
    let mut services = JoinSet::new();
    for addr in args.listen {
        let socket = server::bind(addr).with_context(|| {
            format!(
                "cannot listen at {addr}/udp; choose another with --listen, or stop what is there"
            )
        })?;
        tracing::info!(%addr, "STUN service listens");
        services.spawn(server::run(socket, stop.clone()));
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    stop.cancel();
    while services.join_next().await.is_some() {}
    Ok(())
}
