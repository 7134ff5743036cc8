//! The program around the service.

pub mod args;
mod figures;
mod health;

use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ztna_stun::discovery::Corners;
use ztna_stun::server::{self, Listener, Options};

use args::{Args, Command, Listen};

/// Does what the command line says.
pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Some(Command::Health) => health::run(args.listen()[0].address).await,
        None => serve(args).await,
    }
}

/// Serves until SIGINT or SIGTERM.
async fn serve(args: Args) -> Result<()> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = Options {
        workers: args.workers.unwrap_or(cores),
        rate: NonZeroU32::new(args.rate),
        dual_stack: false,
    };
    let stop = CancellationToken::new();
    let mut services = JoinSet::new();
    // Counters belong to the recorder that is there when the service starts.
    if let Some(address) = args.metrics_listen {
        services.spawn(figures::start(address, stop.clone()).await?);
    }
    let listeners = open(&args.listen(), &args.alternate, &options)?;
    let (mut terminate, mut interrupt) = signals()?;
    for listener in listeners {
        let address = listener.local_addr();
        tracing::info!(%address, workers = options.workers, "STUN service listens on UDP and TCP");
        services.spawn(server::run(listener, stop.clone()));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    while services.join_next().await.is_some() {}
    Ok(())
}

fn signals() -> io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok((
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ))
}

/// Opens all sockets, or none.
fn open(listen: &[Listen], alternates: &[SocketAddr], options: &Options) -> Result<Vec<Listener>> {
    let mut unmatched = alternates.to_vec();
    let mut listeners = Vec::new();
    for one in listen {
        let family = |other: &SocketAddr| other.is_ipv4() == one.address.is_ipv4();
        let alternate = unmatched
            .iter()
            .position(family)
            .map(|at| unmatched.remove(at));
        let opened = match alternate {
            Some(alternate) => {
                let corners = Corners::new(one.address, alternate)
                    .context("--listen and --alternate do not go together")?;
                server::bind_corners(corners, options)
            }
            None => server::bind_with(one.address, options),
        };
        match opened {
            Ok(listener) => listeners.push(listener),
            Err(error) if !one.required && lacks_family(&error) => {
                tracing::info!(address = %one.address, "no IPv6 on this machine");
            }
            Err(error) => {
                let hint = hint(&error);
                let alternate = alternate.map_or(String::new(), |other| format!(" and {other}"));
                return Err(error).with_context(|| {
                    format!(
                        "cannot listen at {}{alternate} on UDP and TCP; {hint}",
                        one.address
                    )
                });
            }
        }
    }
    if let Some(alternate) = unmatched.first() {
        bail!(
            "--alternate {alternate} needs a --listen of its own with an address of the same family"
        );
    }
    Ok(listeners)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)
    )
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what is there, or choose another with --listen",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: `ip addr` shows them",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root: choose another with --listen"
        }
        _ => "choose another with --listen",
    }
}
