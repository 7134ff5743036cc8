//! The daemon: a socket for the command line, and the tunnel that it is told to keep up.
//!
//! * [`supervisor`]: carries out what clients ask, brings the tunnel up and down.
//! * [`session`]: a tunnel that is up. [`link`]: its connection to the control plane.
//!   [`engine`]: its packets. [`gateway`]: static peers that this machine carries.
//! * [`state`]: what is remembered, in [`state_dir`]. [`wipe`]: what is left of it when an admin says so.

mod backoff;
mod connections;
mod dns;
mod engine;
mod gateway;
mod inspect;
mod link;
mod log;
mod netcheck;
mod network;
mod peers;
mod ping;
mod posture;
mod register;
mod report;
mod routes;
mod session;
mod state;
mod state_dir;
mod supervisor;
mod up;
mod wipe;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ztna_local::Listener;
use ztna_mesh::tunnel::NewWireGuard;

pub use dns::RESOLV_CONF;
pub use log::{LOG_FILE, init as init_log};
pub use state_dir::replace_file;

use crate::platform::{EndSignals, may_make_devices, protect_memory};
use state::State;
use state_dir::StateDir;
use supervisor::{Door, Supervisor};

/// Settings of a daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder.
    pub state_dir: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Name of the TUN device.
    pub tun: String,
    /// UDP port; 0: any.
    pub port: u16,
    /// Whether to ask the router for a port of its own.
    pub port_mapping: bool,
    /// Whether to look for peers on this machine's own links by multicast.
    pub lan_discovery: bool,
    /// The file that names this machine's nameservers.
    pub resolv_conf: PathBuf,
    /// Epoch length of preshared keys, if not the handshake's own.
    pub psk_interval: Option<Duration>,
    /// What seals packets.
    pub wireguard: NewWireGuard,
}

/// A daemon that listens, and does not serve yet.
pub struct Daemon {
    listener: Listener,
    supervisor: Arc<Supervisor>,
}

impl Daemon {
    /// Takes the folder and the socket.
    ///
    /// # Errors
    /// Not permitted, another daemon has them, or the state file cannot be used.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        if let Err(why) = may_make_devices()? {
            bail!(why);
        }
        // Before the first key is read.
        let warning = protect_memory();
        let dir = StateDir::open(&options.state_dir)?;
        let state = State::load(&dir)?;
        let listener = Listener::bind(&options.socket).await?;
        // A daemon that was killed had no time for it.
        let restored = dns::restore(&dir, &options.resolv_conf).err().map(|error| {
            let file = options.resolv_conf.display();
            format!("{file} cannot be put back as it was before the tunnel: {error}; look at it")
        });
        let warning = warning.or(restored);
        Ok(Self {
            listener,
            supervisor: Supervisor::new(options, dir, state, warning),
        })
    }

    /// Serves until it is told to end by a signal or a client, then takes the tunnel down.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut signals = EndSignals::listen().context("cannot receive signals")?;
        let supervisor = &self.supervisor;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            socket = %supervisor.options.socket.display(),
            state_dir = %supervisor.options.state_dir.display(),
            "daemon started"
        );
        supervisor.resume();
        tokio::select! {
            () = self.listener.run(Arc::new(Door(Arc::clone(supervisor)))) => {}
            () = supervisor.ended() => {}
            () = signals.wait() => {}
        }
        self.supervisor.end().await;
        tracing::info!("daemon ended");
        Ok(())
    }
}
