//! Control plane, relays and STUN as processes of their own, with a database beside them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde::Deserialize;
use ztna_proto::RegionId;

use super::relay::{Relay, Site, map_of};
use super::{PORT, SERVER, wait_ready};
use crate::api::{Api, Server};
use crate::database::Database;
use crate::lab::{Lab, set_environment};
use crate::net::Host;
use crate::program::Program;

/// Last part of the only relay's address.
const RELAY: u8 = 3;

/// The processes.
pub struct Apart<'a> {
    lab: &'a Lab,
    /// How to reach the control plane.
    pub server: Server,
    /// The relays.
    pub relays: Vec<Relay<'a>>,
    control: Host,
    api: Option<Program>,
    database: Database,
}

/// `api.json`
#[derive(Deserialize)]
struct ApiFile {
    #[serde(flatten)]
    server: Server,
    ticket_key: String,
}

impl<'a> Apart<'a> {
    /// Starts everything, on two hosts: one relay, on the host `relay`.
    ///
    /// # Errors
    /// One of them ends, or is not ready in time.
    pub fn start(lab: &'a Lab) -> Result<Self> {
        let site = Site {
            host: lab.net.host("relay", RELAY)?,
            region: RegionId(1),
            code: "lab",
        };
        Self::with_relays(lab, &[site])
    }

    /// Starts the control plane on a host of its own, and relays.
    ///
    /// # Errors
    /// One of them ends, or is not ready in time.
    pub fn with_relays(lab: &'a Lab, sites: &[Site]) -> Result<Self> {
        let control = lab.net.host("control", SERVER)?;
        let database = Database::start(&lab.state_dir("db")?)?;

        // Relays need the control plane's ticket key and the control plane the relays' pins: the
        // first start is for the key only.
        let api = start_api(lab, &control, &database)?;
        api.1.stop()?;
        let mut relays = sites
            .iter()
            .map(|site| Relay::start(lab, site, &api.0.ticket_key))
            .collect::<Result<Vec<_>>>()?;
        mesh(lab, &mut relays)?;
        write_map(lab, &relays)?;
        let (file, api) = start_api(lab, &control, &database)?;
        Ok(Self {
            lab,
            server: file.server,
            relays,
            control,
            api: Some(api),
            database,
        })
    }

    /// A client of the API.
    ///
    /// # Errors
    /// The server's pin is malformed.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.server, Some(&self.control.netns))
    }

    /// Writes the relay map as its relays are now, for the next start of the control plane.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_relay_map(&self) -> Result<()> {
        write_map(self.lab, &self.relays)
    }

    /// Kills the control plane (SIGKILL).
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn kill_api(&mut self) -> Result<()> {
        self.api.take().context("no control plane runs")?.kill()
    }

    /// Starts the control plane again and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn restart_api(&mut self) -> Result<()> {
        self.api = Some(start_api(self.lab, &self.control, &self.database)?.1);
        Ok(())
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// A program does not end well.
    pub fn stop(self) -> Result<()> {
        if let Some(api) = self.api {
            api.stop()?;
        }
        for relay in self.relays {
            relay.stop()?;
        }
        self.database.stop();
        Ok(())
    }
}

fn start_api(lab: &Lab, host: &Host, database: &Database) -> Result<(ApiFile, Program)> {
    let data = lab.state_dir("api")?;
    let mut command = host.netns.command(&lab.program("ztna-api")?);
    set_environment(&mut command);
    command
        .arg("--data-dir")
        .arg(&data)
        .args(["--listen", &format!("0.0.0.0:{PORT}")])
        .args(["--public-host", &host.address.to_string()])
        .args(["--database-url", &database.url()]);
    let map = lab.state.path().join("relays.json");
    if map.exists() {
        command.arg("--relay-map").arg(map);
    }
    let mut program = Program::start("ztna-api", command, &lab.log("api"))?;
    let ready = wait_ready(&data.join("api.json"), &mut program)?;
    Ok((ready.rest, program))
}

fn write_map(lab: &Lab, relays: &[Relay<'_>]) -> Result<()> {
    let path = lab.state.path().join("relays.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&map_of(relays))?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the relays of a region one mesh, where there are several.
fn mesh(lab: &Lab, relays: &mut [Relay<'_>]) -> Result<()> {
    let regions = map_of(relays).regions;
    for relay in relays {
        let members = &regions[&relay.site.region].nodes;
        if members.len() == 1 {
            continue;
        }
        let key = lab
            .state
            .path()
            .join(format!("mesh-{}.key", relay.site.region));
        if !key.exists() {
            let secret: [u8; 32] = rand::random();
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            std::fs::write(&key, hex).with_context(|| format!("cannot write {}", key.display()))?;
            std::fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        }
        relay.join_mesh(&key, members)?;
    }
    Ok(())
}
