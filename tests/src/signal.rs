//! The way out on Ctrl-C: nothing of a lab stays behind.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::net;

/// Exit status after SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP end this program after its namespaces are removed.
///
/// # Errors
/// No thread can be started.
pub fn clean_up_on_signals() -> Result<()> {
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(|| {
            if let Err(error) = wait_for_any() {
                eprintln!("ztna-lab: cannot wait for signals: {error:#}");
                return;
            }
            if let Err(error) = net::destroy_own() {
                eprintln!("ztna-lab: cannot remove the namespaces: {error:#}");
            }
            std::process::exit(INTERRUPTED);
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// Waits for the first of the signals that ask to end.
///
/// # Errors
/// The runtime refuses.
pub fn wait_for_any() -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            Ok(())
        })
}
