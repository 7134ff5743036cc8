//! The relays under test, each started as it is meant to be run, and their clients.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use ztna_proto::OrgId;
use ztna_proto::relay::CertificatePin;
use ztna_proto::ticket::TicketSigner;
use ztna_tls::{KeyExchange, client_config, parse_pin, pin_of};

use super::packet::Flow;
use super::{derp, iroh};
use crate::process::{Cpus, Server};

/// Datagrams in one frame of iroh-relay, where its client is let to join them.
const JOINED: usize = 10;

/// A relay that can be started.
#[derive(Clone, Debug)]
pub enum Relay {
    /// Ours: the program.
    Ztna(PathBuf),
    /// Tailscale's, built by whoever runs this: a program of Go.
    Derper(PathBuf),
    /// `iroh-relay` from Cargo's registry. `joined`: its clients put several datagrams into one
    /// frame, which its protocol allows when they are at hand at once.
    Iroh { joined: bool },
}

/// A relay that runs.
pub struct Running {
    pub server: Server,
    target: Target,
    _dir: TempDir,
}

enum Target {
    Derp(Arc<derp::Target>),
    Iroh(Box<iroh::Target>, usize),
}

impl Relay {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ztna(_) => "ztna-derp",
            Self::Derper(_) => "derper",
            Self::Iroh { joined: false } => "iroh-relay",
            Self::Iroh { joined: true } => "iroh-relay, 10 datagrams a frame",
        }
    }

    pub fn start(&self, cpus: Cpus) -> Result<Running> {
        let dir = tempfile::tempdir()?;
        let (server, target) = match self {
            Self::Ztna(program) => {
                let signer = TicketSigner::from_seed(&rand::random());
                let mut command = Command::new(program);
                command
                    .args(["--listen", "127.0.0.1:0", "--public-host", "127.0.0.1"])
                    .args(["--ticket-key", &signer.verifier().to_string()])
                    .arg("--data-dir")
                    .arg(dir.path());
                let mut server = Server::start(self.name(), command, cpus)?;
                let ready = server.wait_for_json(&dir.path().join("derp.json"))?;
                let pin = parse_pin(ready["pin"].as_str().unwrap_or_default())?;
                let port = ready["port"].as_u64().context("no port in derp.json")?;
                let target = derp::Target {
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?)),
                    tls: client_config(&pin, KeyExchange::PreferPostQuantum)?,
                    signer,
                    org: OrgId::generate(),
                    joined: AtomicU32::new(0),
                };
                (server, Target::Derp(Arc::new(target)))
            }
            Self::Derper(program) => {
                let (command, address, pin) = derper(program, dir.path())?;
                let mut server = Server::start(self.name(), command, cpus)?;
                server.wait_ready(|| TcpStream::connect(address).ok())?;
                let target = derp::Target {
                    address,
                    tls: client_config(&pin, KeyExchange::PreferPostQuantum)?,
                    // It asks for no ticket, and looks at none.
                    signer: TicketSigner::from_seed(&rand::random()),
                    org: OrgId::generate(),
                    joined: AtomicU32::new(0),
                };
                (server, Target::Derp(Arc::new(target)))
            }
            Self::Iroh { joined } => {
                let ready = dir.path().join("ready.json");
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve-iroh").arg(&ready);
                let mut server = Server::start(self.name(), command, cpus)?;
                let target = iroh::Target::new(&server.wait_for_json(&ready)?)?;
                let per_frame = if *joined { JOINED } else { 1 };
                (server, Target::Iroh(Box::new(target), per_frame))
            }
        };
        Ok(Running {
            server,
            target,
            _dir: dir,
        })
    }
}

/// derper with a certificate of ours, open to all; where it will listen, and the certificate's pin.
fn derper(program: &Path, dir: &Path) -> Result<(Command, SocketAddr, CertificatePin)> {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    std::fs::write(dir.join("localhost.crt"), identity.cert.pem())?;
    std::fs::write(
        dir.join("localhost.key"),
        identity.signing_key.serialize_pem(),
    )?;
    // Free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = Command::new(program);
    command
        .args([
            "-a",
            &address.to_string(),
            "-http-port",
            "-1",
            "-stun=false",
        ])
        .args(["-hostname", "localhost", "-certmode", "manual", "-certdir"])
        .arg(dir)
        .arg("-c")
        .arg(dir.join("derper.key"))
        .arg("-verify-clients=false");
    Ok((command, address, pin_of(identity.cert.der())))
}

impl Running {
    /// Where a relay that speaks DERP is reached.
    pub fn derp(&self) -> Option<Arc<derp::Target>> {
        match &self.target {
            Target::Derp(target) => Some(Arc::clone(target)),
            Target::Iroh(..) => None,
        }
    }

    pub async fn join(&self) -> Result<Client> {
        Ok(match &self.target {
            Target::Derp(target) => Client::Derp(Box::new(target.join().await?)),
            Target::Iroh(target, per_frame) => {
                Client::Iroh(Box::new(target.join().await?), *per_frame)
            }
        })
    }
}

/// A client of any relay.
pub enum Client {
    Derp(Box<derp::Client>),
    Iroh(Box<iroh::Client>, usize),
}

/// Ends of a connection: sends to one peer, in bursts of at most a given size.
pub enum Sender {
    Derp(derp::Sender),
    Iroh(Box<iroh::Sender>),
}

/// Receives from whomever.
pub enum Receiver {
    Derp(derp::Receiver),
    Iroh(iroh::Receiver),
}

/// Two clients of one relay, each ready to send to the other.
pub fn pair(one: Client, other: Client, burst: usize) -> Result<[(Sender, Receiver); 2]> {
    Ok(match (one, other) {
        (Client::Derp(one), Client::Derp(other)) => {
            let (a, b) = (one.key, other.key);
            [one.split(b, burst), other.split(a, burst)]
                .map(|(sender, receiver)| (Sender::Derp(sender), Receiver::Derp(receiver)))
        }
        (Client::Iroh(one, per_frame), Client::Iroh(other, _)) => {
            let (a, b) = (one.key, other.key);
            [one.split(b, per_frame), other.split(a, per_frame)].map(|(sender, receiver)| {
                (Sender::Iroh(Box::new(sender)), Receiver::Iroh(receiver))
            })
        }
        _ => bail!("clients of different relays"),
    })
}

impl Client {
    pub async fn idle(self) -> Result<()> {
        match self {
            Self::Derp(client) => client.idle().await,
            Self::Iroh(client, _) => client.idle().await,
        }
    }
}

impl Sender {
    pub async fn send(&mut self, flow: &Flow, count: usize) -> Result<()> {
        match self {
            Self::Derp(sender) => sender.send(flow, count).await,
            Self::Iroh(sender) => sender.send(flow, count).await,
        }
    }
}

impl Receiver {
    pub async fn receive(&mut self, flow: &Flow) -> Result<()> {
        match self {
            Self::Derp(receiver) => receiver.receive(flow).await,
            Self::Iroh(receiver) => receiver.receive(flow).await,
        }
    }
}
