//! The way out on Ctrl-C: nothing of a lab stays behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::{lab, net};

/// Exit status after SIGINT, as shells report it.
const EXIT_STATUS: i32 = 130;

/// Whether the end has begun: nothing new is to be made.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Fails once a signal has begun the end, so that nothing is made behind the back of the clean-up.
///
/// # Errors
/// The end has begun.
pub fn check() -> Result<()> {
    ensure!(!ENDING.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// If the end has begun, leaves it to the thread that does it; what fails meanwhile fails because
/// of it.
pub fn yield_to_end() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Watches for SIGINT, SIGTERM and SIGHUP.
pub struct Watch {
    in_order: Arc<AtomicBool>,
    signalled: Receiver<()>,
}

impl Watch {
    /// From now on a signal removes this program's namespaces, with all that runs in them, and ends
    /// it; until [`Watch::wait`] is called.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start() -> Result<Self> {
        let in_order = Arc::new(AtomicBool::new(false));
        let (sender, signalled) = channel();
        let orderly = Arc::clone(&in_order);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Err(error) = next_signal() {
                    eprintln!("ztna-lab: cannot wait for signals: {error:#}");
                    return;
                }
                if orderly.load(Ordering::SeqCst) && sender.send(()).is_ok() {
                    return;
                }
                ENDING.store(true, Ordering::SeqCst);
                if let Err(error) = net::destroy_own().and_then(|()| lab::sweep_dirs(true)) {
                    eprintln!("ztna-lab: cannot clean up: {error:#}");
                }
                std::process::exit(EXIT_STATUS);
            })
            .context("cannot start a thread")?;
        Ok(Self {
            in_order,
            signalled,
        })
    }

    /// Waits for a signal and returns, for an end in order.
    pub fn wait(self) {
        self.in_order.store(true, Ordering::SeqCst);
        // An error means that the thread could not wait, and has said so.
        let _ = self.signalled.recv();
    }
}

fn next_signal() -> Result<()> {
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
