//! Control plane, relay and STUN as processes of their own, with a database beside them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde::Deserialize;
use ztna_proto::RegionId;
use ztna_proto::relay::{RelayMap, RelayNode, RelayRegion};
use ztna_tls::parse_pin;

use super::{PORT, SERVER, wait_ready};
use crate::api::{Api, Server};
use crate::database::Database;
use crate::lab::{Lab, set_environment};
use crate::net::Host;
use crate::program::Program;

/// Last part of the relay's address.
const RELAY: u8 = 3;
/// UDP port of the STUN service.
const STUN_PORT: u16 = 3478;
/// The one region.
const REGION: RegionId = RegionId(1);

/// The processes.
pub struct Apart<'a> {
    lab: &'a Lab,
    /// How to reach the control plane.
    pub server: Server,
    control: Host,
    relay_host: Host,
    ticket_key: String,
    api: Option<Program>,
    relay: Option<Program>,
    stun: Program,
    database: Database,
}

/// `api.json`
#[derive(Deserialize)]
struct ApiFile {
    #[serde(flatten)]
    server: Server,
    ticket_key: String,
}

/// `derp.json`
#[derive(Deserialize)]
struct RelayFile {
    port: u16,
    pin: String,
}

impl<'a> Apart<'a> {
    /// Starts everything, on two hosts.
    ///
    /// # Errors
    /// One of them ends, or is not ready in time.
    pub fn start(lab: &'a Lab) -> Result<Self> {
        let control = lab.net.host("control", SERVER)?;
        let relay_host = lab.net.host("relay", RELAY)?;
        let database = Database::start(&lab.state_dir("db")?)?;

        // The relay needs the control plane's ticket key and the control plane the relay's pin:
        // the first start is for the key only.
        let api = start_api(lab, &control, &database)?;
        api.1.stop()?;
        let ticket_key = api.0.ticket_key;
        let (relay, node) = start_relay(lab, &relay_host, &ticket_key)?;
        write_relay_map(lab, node)?;
        let (file, api) = start_api(lab, &control, &database)?;

        let mut command = relay_host.netns.command(&lab.program("ztna-stun")?);
        set_environment(&mut command);
        command.args(["--listen", &format!("0.0.0.0:{STUN_PORT}")]);
        let stun = Program::start("ztna-stun", command, &lab.log("stun"))?;
        Ok(Self {
            lab,
            server: file.server,
            control,
            relay_host,
            ticket_key,
            api: Some(api),
            relay: Some(relay),
            stun,
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

    /// The relay's address and port.
    #[must_use]
    pub fn relay(&self) -> (Ipv4Addr, u16) {
        (self.relay_host.address, PORT)
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

    /// Kills the relay (SIGKILL).
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn kill_relay(&mut self) -> Result<()> {
        self.relay.take().context("no relay runs")?.kill()
    }

    /// Starts the relay again and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn restart_relay(&mut self) -> Result<()> {
        self.relay = Some(start_relay(self.lab, &self.relay_host, &self.ticket_key)?.0);
        Ok(())
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// A program does not end well.
    pub fn stop(self) -> Result<()> {
        let programs = [self.api, self.relay, Some(self.stun)];
        for program in programs.into_iter().flatten() {
            program.stop()?;
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

fn start_relay(lab: &Lab, host: &Host, ticket_key: &str) -> Result<(Program, RelayNode)> {
    let data = lab.state_dir("relay")?;
    let mut command = host.netns.command(&lab.program("ztna-derp")?);
    set_environment(&mut command);
    command
        .arg("--data-dir")
        .arg(&data)
        .args(["--listen", &format!("0.0.0.0:{PORT}")])
        .args(["--public-host", &host.address.to_string()])
        .args(["--region", &REGION.to_string()])
        .args(["--ticket-key", ticket_key]);
    let mut program = Program::start("ztna-derp", command, &lab.log("relay"))?;
    let ready = wait_ready::<RelayFile>(&data.join("derp.json"), &mut program)?.rest;
    let node = RelayNode {
        name: "lab1".to_owned(),
        host: host.address.to_string(),
        addresses: Vec::new(),
        derp_port: Some(ready.port),
        stun_port: Some(STUN_PORT),
        quic_port: None,
        http_port: None,
        certificate: parse_pin(&ready.pin)?,
    };
    Ok((program, node))
}

fn write_relay_map(lab: &Lab, node: RelayNode) -> Result<()> {
    let region = RelayRegion {
        id: REGION,
        code: "lab".to_owned(),
        name: "Lab".to_owned(),
        nodes: vec![node],
    };
    let map = RelayMap {
        regions: BTreeMap::from([(REGION, region)]),
    };
    let path = lab.state.path().join("relays.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&map)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
