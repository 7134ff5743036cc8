//! A machine that does not keep to the policy: the mesh of a real agent, with its source filter
//! off and no TUN device. It has an enrolled machine's identity and joins as the agent would; then
//! it sends whatever it is told to.
//!
//! The agent has no switch for this, so that nobody can turn the source filter off. What it proves
//! is that nothing is gained by it: the receiver filters as well.

mod control;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use etherparse::PacketBuilder;
use rand::rngs::StdRng;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::net::UdpSocket;
use tokio::time::sleep_until;
use ztna_derp::client::{ClientConfig, Event, Receiver, Sender, connect};
use ztna_handshake::Handshakes;
use ztna_mesh::wireguard::Gotatun;
use ztna_mesh::{Mesh, MeshConfig, Output, SourceFilter};
use ztna_netmap::{Netmap, Update};
use ztna_proto::netmap::{ClientMessage, Endpoint, EndpointKind, VolatileReport};
use ztna_proto::{DiscoPrivateKey, RegionId};

use super::READY;
use control::{Control, Member};

/// Bytes of UDP payload in each packet that is sent.
pub const PAYLOAD: usize = 1000;
/// Pause between two packets: no queue on the way overflows.
const PAUSE: Duration = Duration::from_millis(2);

/// Whose identity, and where from.
#[derive(Clone, Debug, clap::Args)]
pub struct RogueArgs {
    /// State file of an enrolled machine whose daemon does not run
    #[arg(long)]
    pub state: PathBuf,
    /// Own UDP address and port
    #[arg(long)]
    pub bind: SocketAddr,
}

/// Joins, prints `ready`, and carries out lines `send ADDRESS:PORT COUNT` until standard input ends.
///
/// # Errors
/// It cannot join, or its connection breaks.
pub fn run(args: &RogueArgs) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { Rogue::join(args).await?.serve().await })
}

struct Rogue {
    mesh: Mesh,
    netmap: Netmap,
    control: Control,
    udp: UdpSocket,
    own: Ipv4Addr,
    region: RegionId,
    sender: Sender,
    receiver: Receiver,
    commands: Lines<BufReader<Stdin>>,
}

impl Rogue {
    /// Does what an agent does at its start: map, relay, report.
    async fn join(args: &RogueArgs) -> Result<Self> {
        let member = Member::read(&args.state)?;
        let mut control = Control::connect(&member).await?;
        let mut netmap = Netmap::default();
        control
            .send(&netmap.next_hello(env!("CARGO_PKG_VERSION")))
            .await?;
        let ticket = wait_for_map(&mut control, &mut netmap).await?;

        let relays = netmap.relays().regions.iter().next();
        let (region, relay) = relays.context("the relay map is empty")?;
        let region = *region;
        let node = relay.nodes.first().context("the region has no relay")?;
        let (sender, receiver) = connect(ClientConfig {
            node: node.clone(),
            key: member.wg.clone(),
            ticket,
        })
        .await?;

        let udp = UdpSocket::bind(args.bind).await?;
        let mesh = new_mesh(&member);
        let report = VolatileReport {
            endpoints: vec![Endpoint {
                addr: args.bind,
                kind: EndpointKind::Local,
            }],
            home_region: Some(region),
            disco_key: Some(mesh.disco_key()),
        };
        control.send(&ClientMessage::Report(report)).await?;
        let mut rogue = Self {
            mesh,
            own: netmap.this().context("the map names no machine")?.ipv4,
            netmap,
            control,
            udp,
            region,
            sender,
            receiver,
            commands: BufReader::new(tokio::io::stdin()).lines(),
        };
        rogue.mesh.set_endpoints(vec![args.bind]);
        rogue.apply_map();
        Ok(rogue)
    }

    /// Everything that the map says.
    fn apply_map(&mut self) {
        let now = Instant::now();
        if let Some(this) = self.netmap.this() {
            self.mesh.set_self(this);
        }
        self.mesh.set_filter(self.netmap.filter());
        let held: Vec<_> = self.mesh.peer_ids().collect();
        for id in held {
            if !self.netmap.peers().contains_key(&id) {
                self.mesh.remove_peer(id);
            }
        }
        for (id, peer) in self.netmap.peers() {
            self.mesh.upsert_peer(peer, now);
            if let Some(volatile) = self.netmap.volatile(id) {
                self.mesh.set_volatile(volatile, now);
            }
        }
    }

    #[allow(clippy::print_stdout)]
    async fn serve(mut self) -> Result<()> {
        println!("{READY}");
        let mut buffer = vec![0; 2048];
        loop {
            self.carry_out().await?;
            let idle = Instant::now() + Duration::from_secs(3600);
            let deadline = self.mesh.poll_timeout().unwrap_or(idle);
            tokio::select! {
                text = self.control.next() => {
                    self.netmap.handle_text(&text?)?;
                    self.apply_map();
                }
                received = self.udp.recv_from(&mut buffer) => {
                    // An ICMP error of an earlier packet is none of this one.
                    if let Ok((length, from)) = received {
                        let datagram = BytesMut::from(&buffer[..length]);
                        self.mesh.handle_udp(from, datagram, Instant::now());
                    }
                }
                event = self.receiver.next() => {
                    if let Event::Packet { from, packet } = event? {
                        let datagram = BytesMut::from(packet);
                        self.mesh.handle_relay(self.region, from, datagram, Instant::now());
                    }
                }
                line = self.commands.next_line() => {
                    let Some(line) = line? else { return Ok(()) };
                    self.obey(&line).await?;
                    println!("done");
                }
                () = sleep_until(deadline.into()) => self.mesh.handle_timeout(Instant::now()),
            }
        }
    }

    /// `send ADDRESS:PORT COUNT`
    async fn obey(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["send", to, count] = words[..] else {
            bail!("expected `send ADDRESS:PORT COUNT`, got {line:?}");
        };
        let (to, count): (SocketAddrV4, u32) = (to.parse()?, count.parse()?);
        let packet = packet(self.own, to)?;
        for _ in 0..count {
            self.mesh
                .handle_tun(BytesMut::from(packet.as_slice()), Instant::now());
            self.carry_out().await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn carry_out(&mut self) -> Result<()> {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Udp { to, datagram, .. } | Output::Oversize { to, datagram, .. } => {
                    // Lost, as on any network.
                    let _ = self.udp.send_to(&datagram, to).await;
                }
                Output::Relay { peer, datagram, .. } => {
                    self.sender.try_send(peer, Bytes::from(datagram))?;
                }
                Output::NeedKemKey(hash) => {
                    let key = self.control.kem_key(hash).await?;
                    self.mesh.provide_kem_key(&key, Instant::now());
                }
                Output::Tun(_) | Output::Lan(_) | Output::Event(_) => {}
            }
        }
        Ok(())
    }
}

fn new_mesh(member: &Member) -> Mesh {
    let config = MeshConfig {
        source_filter: SourceFilter::Off,
        ..MeshConfig::default()
    };
    let handshakes = Handshakes::new(
        member.identity(),
        config.handshake.clone(),
        Box::new(rand::make_rng::<StdRng>()),
        Instant::now(),
    );
    Mesh::new(
        &config,
        member.wg.public(),
        Box::new(Gotatun::new(&member.wg)),
        handshakes,
        DiscoPrivateKey::generate(&mut rand::rng()),
        Box::new(rand::make_rng::<StdRng>()),
    )
}

/// Reads the stream until there is a map and a relay ticket; returns the ticket.
async fn wait_for_map(control: &mut Control, netmap: &mut Netmap) -> Result<String> {
    let mut ticket = None;
    loop {
        match netmap.handle_text(&control.next().await?)? {
            Update::Ticket(text) => ticket = Some(text),
            Update::Ended(error) => bail!("the control plane ended the stream: {error}"),
            _ => {}
        }
        if netmap.this().is_some()
            && let Some(ticket) = ticket.take()
        {
            return Ok(ticket);
        }
    }
}

/// A UDP packet as an application of this machine would send it.
fn packet(own: Ipv4Addr, to: SocketAddrV4) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ipv4(own.octets(), to.ip().octets(), 64).udp(4000, to.port());
    let mut packet = Vec::new();
    builder.write(&mut packet, &[0; PAYLOAD])?;
    Ok(packet)
}
