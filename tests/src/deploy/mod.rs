//! The platform's servers in a lab: all in one process, or each in its own.

mod apart;
mod relay;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::{Api, Server};
use crate::lab::{Lab, set_environment};
use crate::net::Host;
use crate::net::cmd::poll;
use crate::program::Program;

pub use apart::Apart;
pub use relay::Site;

/// TCP port of control plane and relay.
pub const PORT: u16 = 443;
/// Last part of the server's address.
pub const SERVER: u8 = 2;
/// Longest wait for a server to be ready; a first start makes a database.
const START_LIMIT: Duration = Duration::from_secs(60);

/// `ztna-server` on a host of its own.
pub struct Standalone {
    /// Where it runs.
    pub host: Host,
    /// How to reach it.
    pub server: Server,
    program: Program,
}

impl Standalone {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn start(lab: &Lab) -> Result<Self> {
        let host = lab.net.host("server", SERVER)?;
        let data = lab.state_dir("server")?;
        let mut command = host.netns.command(&lab.program("ztna-server")?);
        set_environment(&mut command);
        command
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", &format!("0.0.0.0:{PORT}")])
            .args(["--public-host", &host.address.to_string()]);
        let mut program = Program::start("ztna-server", command, &lab.log("server"))?;
        let ready: Ready<Server> = wait_ready(&data.join("server.json"), &mut program)?;
        Ok(Self {
            host,
            server: ready.rest,
            program,
        })
    }

    /// A client of its API.
    ///
    /// # Errors
    /// The server's pin is malformed.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.server, Some(&self.host.netns))
    }

    /// Where the private database's socket and the rest of its data are.
    #[must_use]
    pub fn data_dir(lab: &Lab) -> PathBuf {
        lab.state.path().join("server")
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop(self) -> Result<()> {
        self.program.stop()
    }
}

/// A file that a server writes when it is ready.
#[derive(Deserialize)]
pub struct Ready<T> {
    pid: u32,
    /// What else it says.
    #[serde(flatten)]
    pub rest: T,
}

/// Waits for a server's ready file, written by this very process.
///
/// # Errors
/// The process ends, or writes none in time.
pub fn wait_ready<T: DeserializeOwned>(path: &Path, program: &mut Program) -> Result<Ready<T>> {
    let what = format!("{} is written", path.display());
    let pid = program.pid();
    poll(START_LIMIT, &what, || {
        program.check_running()?;
        let Ok(json) = std::fs::read_to_string(path) else {
            return Ok(None);
        };
        let ready: Ready<T> =
            serde_json::from_str(&json).with_context(|| format!("{}: {json}", path.display()))?;
        Ok((ready.pid == pid).then_some(ready))
    })
}
