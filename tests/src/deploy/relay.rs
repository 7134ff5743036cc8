//! A relay with STUN beside it, on a host of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use ztna_proto::RegionId;
use ztna_proto::relay::{CertificatePin, RelayMap, RelayNode, RelayRegion};
use ztna_tls::parse_pin;

use super::{PORT, wait_ready};
use crate::lab::{Lab, set_environment};
use crate::net::Host;
use crate::program::Program;

/// UDP port of the STUN service.
const STUN_PORT: u16 = 3478;

/// Where a relay is to be.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its host; the relay has its name.
    pub host: Host,
    /// Its region.
    pub region: RegionId,
    /// The region's code.
    pub code: &'static str,
}

/// A relay and its STUN service.
pub struct Relay<'a> {
    lab: &'a Lab,
    /// Where it is.
    pub site: Site,
    ticket_key: String,
    mesh: Vec<String>,
    program: Option<Program>,
    stun: Program,
    /// What the relay map says of it.
    pub node: RelayNode,
    /// UDP port of its QUIC transport, which the map keeps to itself until a lab says otherwise.
    pub quic_port: Option<u16>,
}

/// `derp.json`
#[derive(Deserialize)]
struct RelayFile {
    port: u16,
    pin: String,
    #[serde(default)]
    quic_port: Option<u16>,
}

impl<'a> Relay<'a> {
    /// Starts both and waits until the relay is ready. It serves those with tickets of `ticket_key`.
    ///
    /// # Errors
    /// One ends, or is not ready in time.
    pub fn start(lab: &'a Lab, site: &Site, ticket_key: &str) -> Result<Self> {
        let (program, ready) = start_relay(lab, site, ticket_key, &[])?;
        let host = &site.host;
        let mut command = host.netns.command(&lab.program("ztna-stun")?);
        set_environment(&mut command);
        command.args(["--listen", &format!("0.0.0.0:{STUN_PORT}")]);
        let log = lab.log(&format!("{}-stun", host.name));
        Ok(Self {
            lab,
            site: site.clone(),
            ticket_key: ticket_key.to_owned(),
            mesh: Vec::new(),
            program: Some(program),
            stun: Program::start("ztna-stun", command, &log)?,
            node: RelayNode {
                name: host.name.clone(),
                host: host.address.to_string(),
                addresses: Vec::new(),
                derp_port: Some(ready.port),
                stun_port: Some(STUN_PORT),
                quic_port: None,
                http_port: None,
                certificate: parse_pin(&ready.pin)?,
            },
            quic_port: ready.quic_port,
        })
    }

    /// The relay's address and port.
    #[must_use]
    pub fn address(&self) -> (Ipv4Addr, u16) {
        (self.site.host.address, PORT)
    }

    /// Kills the relay (SIGKILL); STUN stays.
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().context("no relay runs")?.kill()
    }

    /// Starts the relay again and waits until it is ready.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn restart(&mut self) -> Result<()> {
        let (program, _) = start_relay(self.lab, &self.site, &self.ticket_key, &self.mesh)?;
        self.program = Some(program);
        Ok(())
    }

    /// Starts the relay anew as one of a mesh. `key` is the file with their secret.
    ///
    /// # Errors
    /// It does not end well, or is not ready in time.
    pub fn join_mesh(&mut self, key: &Path, members: &[RelayNode]) -> Result<()> {
        self.mesh = vec!["--mesh-key-file".to_owned(), key.display().to_string()];
        for member in members {
            let CertificatePin::Sha256(pin) = &member.certificate else {
                bail!("{} has no certificate of its own", member.name);
            };
            let address = format!("{}:{PORT}=sha256:{pin}", member.host);
            self.mesh.extend(["--mesh-with".to_owned(), address]);
        }
        self.program.take().context("no relay runs")?.stop()?;
        self.restart()
    }

    /// Stops both in order.
    ///
    /// # Errors
    /// One does not end well.
    pub fn stop(self) -> Result<()> {
        for program in [self.program, Some(self.stun)].into_iter().flatten() {
            program.stop()?;
        }
        Ok(())
    }
}

fn start_relay(
    lab: &Lab,
    site: &Site,
    ticket_key: &str,
    mesh: &[String],
) -> Result<(Program, RelayFile)> {
    let (host, name) = (&site.host, &site.host.name);
    let data = lab.state_dir(name)?;
    let mut command = host.netns.command(&lab.program("ztna-derp")?);
    set_environment(&mut command);
    command
        .arg("--data-dir")
        .arg(&data)
        .args(["--listen", &format!("0.0.0.0:{PORT}")])
        .args(["--public-host", &host.address.to_string()])
        .args(["--region", &site.region.to_string()])
        .args(["--ticket-key", ticket_key])
        .args(mesh);
    let mut program = Program::start("ztna-derp", command, &lab.log(name))?;
    let ready = wait_ready(&data.join("derp.json"), &mut program)?;
    Ok((program, ready.rest))
}

/// The relay map of some relays.
pub fn map_of(relays: &[Relay<'_>]) -> RelayMap {
    let mut regions = BTreeMap::new();
    for relay in relays {
        let Site { region, code, .. } = relay.site;
        regions
            .entry(region)
            .or_insert_with(|| RelayRegion {
                id: region,
                code: code.to_owned(),
                name: code.to_owned(),
                nodes: Vec::new(),
            })
            .nodes
            .push(relay.node.clone());
    }
    RelayMap { regions }
}
