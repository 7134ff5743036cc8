//! Signals.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Cancelled by SIGINT or SIGTERM.
pub fn stop() -> Result<CancellationToken> {
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

/// Those who want to know of a SIGHUP: "read your files again".
#[derive(Clone, Default)]
pub struct Reload {
    pub certificate: Arc<Notify>,
    pub limits: Arc<Notify>,
}

impl Reload {
    /// Tells them. Other systems than Unix have no such signal.
    #[cfg(unix)]
    pub fn on_hangup(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = self.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::info!("SIGHUP: reading files again");
                reload.certificate.notify_one();
                reload.limits.notify_one();
            }
        });
        Ok(())
    }

    #[cfg(not(unix))]
    pub fn on_hangup(&self) -> Result<()> {
        Ok(())
    }
}
