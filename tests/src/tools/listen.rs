//! Counts UDP packets on several ports: what really reached an application.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use super::{READY, next_line};

/// What to listen on.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// Own address and port; may be given several times
    #[arg(long, required = true)]
    pub bind: Vec<SocketAddr>,
}

/// Prints `ready`, then for every line of standard input the counts so far, a JSON array in the
/// order of the ports.
///
/// # Errors
/// A socket cannot be opened.
#[allow(clippy::print_stdout)]
pub fn run(args: &ListenArgs) -> Result<()> {
    let sockets = args
        .bind
        .iter()
        .map(|bind| UdpSocket::bind(bind).with_context(|| format!("cannot bind {bind}")))
        .collect::<Result<Vec<_>>>()?;
    // Leaked: the threads live as long as the program.
    let counts: &'static [AtomicU64] =
        Vec::leak(sockets.iter().map(|_| AtomicU64::new(0)).collect());
    for (socket, count) in sockets.into_iter().zip(counts) {
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while socket.recv(&mut buffer).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    println!("{READY}");
    while next_line()?.is_some() {
        let now: Vec<u64> = counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        println!("{}", serde_json::to_string(&now)?);
    }
    Ok(())
}
