//! The engine's loop: everything that the mesh is told, and everything that it wants done.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use ztna_handshake::{Handshakes, Identity};
use ztna_mesh::demux::{Kind, classify};
use ztna_mesh::{Event, Mesh, MeshConfig, Output};
use ztna_netcheck::PortMapping;
use ztna_netmap::Update;
use ztna_path::Selected;
use ztna_proto::netmap::VolatileReport;
use ztna_proto::{DiscoPrivateKey, MachineId, RegionId};

use super::burst::{Burst, Bursts};
use super::device::{Reader, Writer};
use super::endpoints::{Endpoints, Sighting};
use super::lan::Lan;
use super::netcheck::Check;
use super::portmap::PortMapper;
use super::relays::{RelayEvent, Relays};
use super::udp::UdpPort;
use super::{CHANNEL_CAPACITY, ControlEvent, EngineConfig, EngineEvent, Request, paths, status};
use crate::daemon::routes;
use crate::platform::{NetworkMonitor, is_too_big};

/// Packets from relays on their way to the loop.
const RELAY_CHANNEL: usize = 1024;
/// Packets from relays that are taken before other things have their turn.
const RELAY_BATCH: usize = 128;
/// Room behind a packet for WireGuard's padding, so that sealing need not move it.
const PADDING_ROOM: usize = 16;
/// Endpoints and home region are looked at anew this often at least, if anything happens at all.
const REFRESH: Duration = Duration::from_secs(1);
/// A fresh ticket is asked for this often at most.
const TICKET_PAUSE: Duration = Duration::from_secs(5);
/// A NAT that gives this machine another address does so for one socket after another: paths are
/// doubted after this much time …
const REBIND_SETTLE: Duration = Duration::from_millis(500);
/// … and this often at most.
const REBIND_PAUSE: Duration = Duration::from_secs(5);

/// A timer that is so late shows that this process did not run: NATs have forgotten it meanwhile, and
/// others have given it up. Longer than an overloaded machine lets it wait.
const ASLEEP: Duration = Duration::from_secs(10);

/// A running engine: the mesh and all that it does IO with.
pub struct Engine {
    pub(super) mesh: Mesh,
    pub(super) relays: Relays,
    pub(super) endpoints: Endpoints,
    pub(super) warnings: Vec<String>,
    pub(super) home: Option<RegionId>,
    config: Shared,
    pub(super) check: Check,
    tun: Writer,
    events: mpsc::Sender<EngineEvent>,
    reported: Option<VolatileReport>,
    ticket_asked: Option<Instant>,
    /// When endpoints and home region are looked at anew.
    refresh_at: Instant,
    /// When paths are to be doubted because the NAT changed.
    rebound_at: Option<Instant>,
    /// The regions in the order in which they are to be home.
    ranked: Vec<RegionId>,
    /// When they were last.
    doubted: Option<Instant>,
    /// Datagrams that are to leave, in bursts.
    bursts: Bursts,
    /// Datagrams that are to leave, in fragments if they must.
    pub(super) fragmentable: Vec<(SocketAddr, BytesMut)>,
    /// Packets that are to reach the TUN device.
    packets: Vec<BytesMut>,
    /// Pings for everybody on this machine's links.
    lan_pings: Vec<BytesMut>,
}

/// What the engine shares with the supervisor or keeps for life.
struct Shared {
    netmap: std::sync::Arc<std::sync::RwLock<ztna_netmap::Netmap>>,
    port: u16,
    port_mapping: bool,
    lan_discovery: bool,
}

/// The sources of events, apart from the state that they act on.
pub struct Inputs {
    pub(super) tun: Reader,
    pub(super) udp: UdpPort,
    pub(super) network: NetworkMonitor,
    pub(super) lan: Lan,
    pub(super) relays: mpsc::Receiver<RelayEvent>,
}

impl Engine {
    /// Opens the port and makes the mesh. Nothing moves before [`Engine::run`].
    pub fn new(
        config: EngineConfig,
        events: mpsc::Sender<EngineEvent>,
    ) -> std::io::Result<(Self, Inputs)> {
        let mut warnings = Vec::new();
        let udp = match UdpPort::bind(config.port) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                warnings.push(format!(
                    "UDP port {} is in use by another program; another port was taken",
                    config.port
                ));
                UdpPort::bind(0)?
            }
            result => result?,
        };
        let handshake = config
            .psk_interval
            .map(ztna_handshake::Config::with_rotation);
        let mesh_config = MeshConfig {
            handshake: handshake.unwrap_or_default(),
            ..MeshConfig::default()
        };
        let handshakes = Handshakes::new(
            Identity {
                wg: config.wg_key.clone(),
                kem: config.kem,
            },
            mesh_config.handshake.clone(),
            Box::new(rand::make_rng::<rand::rngs::StdRng>()),
            std::time::Instant::now(),
        );
        let mesh = Mesh::new(
            &mesh_config,
            config.wg_key.public(),
            (config.wireguard)(&config.wg_key),
            handshakes,
            DiscoPrivateKey::generate(&mut rand::rng()),
            Box::new(rand::make_rng::<rand::rngs::StdRng>()),
        );
        let (relay_events, relays) = mpsc::channel(RELAY_CHANNEL);
        let (reader, writer) = config.device.split();
        let engine = Self {
            mesh,
            relays: Relays::new(config.wg_key, relay_events),
            endpoints: Endpoints::default(),
            warnings,
            home: None,
            config: Shared {
                netmap: config.netmap,
                port: udp.port()?,
                port_mapping: config.port_mapping,
                lan_discovery: config.lan_discovery,
            },
            check: Check::new(),
            tun: writer,
            events,
            reported: None,
            ticket_asked: None,
            refresh_at: Instant::now(),
            rebound_at: None,
            ranked: Vec::new(),
            doubted: None,
            bursts: Bursts::default(),
            fragmentable: Vec::new(),
            packets: Vec::with_capacity(CHANNEL_CAPACITY),
            lan_pings: Vec::new(),
        };
        Ok((
            engine,
            Inputs {
                tun: reader,
                udp,
                network: config.network,
                lan: Lan::off(),
                relays,
            },
        ))
    }

    /// Moves packets until it is told to stop, or cannot go on.
    pub async fn run(
        mut self,
        mut inputs: Inputs,
        mut control: mpsc::Receiver<ControlEvent>,
        mut requests: mpsc::Receiver<Request>,
    ) {
        self.apply(&Update::Full, now());
        self.set_addresses(&inputs.network);
        inputs.lan = self.join_lan(&inputs.network);
        let mut mapper = self.map_port(&inputs.network);
        let mut received: Vec<(SocketAddr, BytesMut)> = Vec::new();
        let mut outgoing: Vec<BytesMut> = Vec::new();
        loop {
            self.flush(&inputs.udp).await;
            for ping in self.lan_pings.drain(..) {
                inputs.lan.send(&inputs.udp, &ping, Instant::now());
            }
            if Instant::now() >= self.refresh_at {
                self.refresh();
            }
            let wake = self.wake_at();
            tokio::select! {
                batch = inputs.tun.recv(PADDING_ROOM, &mut outgoing) => match batch {
                    Ok(()) => {
                        let now = now();
                        for packet in outgoing.drain(..) {
                            self.mesh.handle_tun(packet, now);
                        }
                    }
                    Err(error) => {
                        let why = format!("the TUN device is gone: {error}");
                        // Fails only if the supervisor is gone, and with it whoever to tell.
                        let _ = self.events.clone().send(EngineEvent::Failed(why)).await;
                        break;
                    },
                },
                result = inputs.udp.receive(&mut received) => {
                    if let Err(error) = result {
                        // An ICMP error of an earlier datagram, reported here; the socket is fine.
                        tracing::debug!(%error, "UDP receive");
                    }
                    let now = now();
                    for (from, datagram) in received.drain(..) {
                        self.handle_datagram(from, datagram, now);
                    }
                }
                (from, datagram) = inputs.lan.receive() => self.mesh.handle_udp(from, datagram, now()),
                Some(event) = inputs.relays.recv() => {
                    self.handle_relay_event(event);
                    for _ in 1..RELAY_BATCH {
                        let Ok(event) = inputs.relays.try_recv() else { break };
                        self.handle_relay_event(event);
                    }
                }
                event = control.recv() => match event {
                    Some(event) => self.handle_control(event),
                    None => break,
                },
                request = requests.recv() => match request {
                    // Nobody waits for the answer if this fails.
                    Some(Request::Status(answer)) => {
                        drop(answer.send(status::of(&mut self, inputs.tun.lost())));
                    },
                    Some(Request::Paths(peer, answer)) => drop(answer.send(paths::of(&self, peer))),
                    Some(Request::Netcheck(answer)) => self.check.request(answer, Instant::now()),
                    Some(Request::Shutdown) | None => break,
                },
                () = inputs.network.changed() => {
                    tracing::info!("network changed");
                    self.set_addresses(&inputs.network);
                    // What peers are told from here on is where this machine is now.
                    self.refresh();
                    inputs.lan = self.join_lan(&inputs.network);
                    self.prove_paths();
                    // The one before gives its port back by itself.
                    mapper = self.map_port(&inputs.network);
                    self.endpoints.set_mapped(None);
                    self.check.set_port_mapping(PortMapping::default());
                }
                () = self.check.found() => self.refresh_at = Instant::now(),
                found = mapper.changed() => {
                    self.endpoints.set_mapped(found.mapped);
                    self.check.set_port_mapping(found);
                    self.refresh_at = Instant::now();
                }
                () = sleep_until(wake) => {
                    if wake.elapsed() >= ASLEEP {
                        tracing::info!("this machine or its daemon slept");
                        self.set_addresses(&inputs.network);
                        self.prove_paths();
                    }
                    self.handle_timeout(&inputs.udp).await;
                }
            }
        }
        mapper.close().await;
    }

    /// Every path, relay and stream has to answer anew.
    fn prove_paths(&mut self) {
        self.relays.network_changed();
        self.mesh.network_changed(now());
        self.emit(EngineEvent::NetworkChanged);
    }

    fn wake_at(&self) -> Instant {
        let at = Instant::now();
        let mesh = self.mesh.poll_timeout().map(Instant::from_std);
        // Until there is a home region and the connection to it stands, something is to be done
        // without an event.
        let refresh = (!self.relays.is_home_up()).then_some(self.refresh_at);
        let check = self.check.poll_timeout();
        [mesh, check, refresh, self.rebound_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(at + Duration::from_secs(3600))
    }

    async fn handle_timeout(&mut self, udp: &UdpPort) {
        let at = Instant::now();
        self.mesh.handle_timeout(at.into_std());
        for (to, request) in self.check.requests(at) {
            let burst = Burst::one(to, BytesMut::from(request.as_slice()));
            if let Err(error) = udp.send(&burst).await {
                tracing::debug!(%to, %error, "STUN request not sent");
            }
        }
        if self.rebound_at.is_some_and(|due| due <= at) {
            self.rebound_at = None;
            self.doubted = Some(at);
            tracing::info!("the NAT gives this machine another address");
            self.prove_paths();
        }
        if self.check.is_measured() {
            self.refresh_at = at;
        }
    }

    fn handle_datagram(&mut self, from: SocketAddr, datagram: BytesMut, now: std::time::Instant) {
        if classify(&datagram) != Kind::Stun {
            self.mesh.handle_udp(from, datagram, now);
            return;
        }
        let at = Instant::from_std(now);
        let Some(seen) = self.check.handle(from, &datagram, at) else {
            return;
        };
        tracing::debug!(region = %seen.region, addr = %seen.addr, "seen by STUN");
        if self.endpoints.seen(seen.service, seen.addr, at) == Sighting::Moved {
            let earliest = self.doubted.map_or(at, |last| last + REBIND_PAUSE);
            let due = (at + REBIND_SETTLE).max(earliest);
            self.rebound_at.get_or_insert(due);
        }
        self.refresh_at = at;
    }

    fn handle_relay_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Packet {
                region,
                from,
                packet,
            } => {
                self.mesh
                    .handle_relay(region, from, BytesMut::from(&packet[..]), now());
            }
            RelayEvent::Changed => self.refresh_at = Instant::now(),
            RelayEvent::TicketRefused => {
                let at = Instant::now();
                let recently = |asked: Instant| at.duration_since(asked) < TICKET_PAUSE;
                if !self.ticket_asked.is_some_and(recently) {
                    self.ticket_asked = Some(at);
                    self.emit(EngineEvent::NeedTicket);
                }
            }
        }
    }

    fn handle_control(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Netmap(update) => self.apply(&update, now()),
            ControlEvent::Ticket(ticket) => self.relays.set_ticket(ticket),
            ControlEvent::KemKey(key) => self.mesh.provide_kem_key(&key, now()),
            ControlEvent::RouteUse(route_use) => self.mesh.set_route_use(route_use),
            ControlEvent::Connected | ControlEvent::Disconnected => {}
        }
    }

    /// Brings the mesh to what the netmap says.
    fn apply(&mut self, update: &Update, now: std::time::Instant) {
        let shared = std::sync::Arc::clone(&self.config.netmap);
        let netmap = shared.read().unwrap_or_else(PoisonError::into_inner);
        match update {
            Update::Volatile(peers) => {
                for peer in peers.iter().filter_map(|id| netmap.volatile(id)) {
                    self.mesh.set_volatile(peer, now);
                }
            }
            Update::Full | Update::Delta(_) => {
                if let Some(this) = netmap.this() {
                    self.mesh.set_self(this);
                }
                let peers = netmap.peers();
                let touched: BTreeSet<MachineId> = match update {
                    Update::Delta(changes) => &changes.peers_changed | &changes.peers_removed,
                    _ => self.mesh.peer_ids().chain(peers.keys().copied()).collect(),
                };
                // Those that are gone first: their keys and addresses may be others' now.
                for id in touched.iter().filter(|id| !peers.contains_key(id)) {
                    self.mesh.remove_peer(*id);
                }
                for (id, record) in touched.iter().filter_map(|id| peers.get_key_value(id)) {
                    if self.mesh.upsert_peer(record, now)
                        && let Some(volatile) = netmap.volatile(id)
                    {
                        self.mesh.set_volatile(volatile, now);
                    }
                }
                if !matches!(update, Update::Delta(changes) if !changes.filter) {
                    self.mesh.set_filter(netmap.filter());
                }
                self.endpoints.set_tailnet(tailnet(&netmap));
                if self.relays.set_map(netmap.relays()) {
                    self.refresh_at = Instant::from_std(now);
                    self.check.set_map(netmap.relays(), self.refresh_at);
                }
            }
            Update::Ticket(_) | Update::InSync | Update::Ended(_) | Update::Ignored => {}
        }
    }

    fn set_addresses(&mut self, network: &NetworkMonitor) {
        self.endpoints
            .set_local(&network.addresses(), self.config.port);
        self.refresh_at = Instant::now();
        self.check.network_changed(self.refresh_at);
    }

    fn join_lan(&self, network: &NetworkMonitor) -> Lan {
        if self.config.lan_discovery {
            Lan::join(&network.addresses())
        } else {
            Lan::off()
        }
    }

    fn map_port(&self, network: &NetworkMonitor) -> PortMapper {
        let gateway = network.gateway().filter(|_| self.config.port_mapping);
        PortMapper::start(gateway, self.config.port)
    }

    /// Tells the control plane and the mesh where this machine is, if that changed.
    fn refresh(&mut self) {
        let at = Instant::now();
        self.refresh_at = at + REFRESH;
        let endpoints = self.endpoints.list(at);
        if self.home.is_some() || self.check.is_settled(at) {
            self.choose_home(at);
            let look_at = self.relays.look_at(at);
            self.refresh_at = look_at.map_or(self.refresh_at, |at| at.min(self.refresh_at));
        }
        let report = VolatileReport {
            endpoints,
            home_region: self.home,
            disco_key: Some(self.mesh.disco_key()),
        };
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        self.mesh.set_endpoints(
            report
                .endpoints
                .iter()
                .map(|endpoint| endpoint.addr)
                .collect(),
        );
        let had = self.reported.as_ref().map(|before| &before.endpoints);
        if had.is_some_and(|had| *had != report.endpoints) {
            self.mesh.endpoints_changed(at.into_std());
        }
        if self.emit(EngineEvent::Report(report.clone())) {
            self.reported = Some(report);
        }
    }

    fn choose_home(&mut self, at: Instant) {
        let fit = self.relays.home_candidates(at);
        let heard = self.relays.home_state().heard;
        // Between two measurements only a home that fails is left: what is half measured misleads.
        if self.check.take_measured() || self.home.is_none() {
            self.ranked = self.check.rank(self.home, heard, &fit, at);
        } else if fit.iter().any(|region| !self.ranked.contains(region)) {
            self.ranked = self.check.rank(self.home, Some(at), &fit, at);
        }
        let ranked: Vec<RegionId> = self
            .ranked
            .iter()
            .copied()
            .filter(|id| fit.contains(id))
            .collect();
        let home = self.relays.choose_home(&ranked, at);
        if home != self.home {
            self.home = home;
            self.check.set_home(home);
            // Home stands first from now on, until the next measurement.
            self.ranked = self.check.rank(home, Some(at), &fit, at);
        }
    }

    /// Tells the supervisor. `false`: it is busy; what matters is told again.
    fn emit(&self, event: EngineEvent) -> bool {
        self.events.try_send(event).is_ok()
    }

    /// Carries out what the mesh wants, also of what could not be carried out: the mesh leaves an
    /// address that cannot be sent to alone for a while, so this ends.
    async fn flush(&mut self, udp: &UdpPort) {
        loop {
            self.collect(udp.max_segments());
            if self.packets.is_empty() && self.bursts.is_empty() && self.fragmentable.is_empty() {
                return;
            }
            for (to, datagram) in self.fragmentable.drain(..) {
                if let Err(error) = udp.send_in_fragments(to, datagram).await {
                    tracing::trace!(%to, %error, "not sent");
                }
            }
            if let Err(error) = self.tun.send(self.packets.drain(..)).await {
                tracing::debug!(%error, "the TUN device refused packets");
            }
            let bursts = self.bursts.take();
            for burst in &bursts {
                if let Err(error) = udp.send(burst).await {
                    tracing::trace!(to = %burst.to, %error, "not sent");
                    let Some(peer) = burst.peer else { continue };
                    if is_too_big(&error) {
                        let payload = burst.largest();
                        self.mesh.send_too_big(peer, burst.to, payload, now());
                    } else {
                        self.mesh.send_failed(peer, burst.to, now());
                    }
                }
            }
            self.bursts.reuse(bursts);
        }
    }

    /// Sorts what the mesh wants by where it goes.
    fn collect(&mut self, max_segments: usize) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Udp { to, peer, datagram } => {
                    self.bursts.push(to, peer, datagram, max_segments);
                }
                Output::Lan(ping) => self.lan_pings.push(ping),
                Output::Oversize {
                    to,
                    relay,
                    datagram,
                } => self.send_oversize(to, relay, datagram),
                Output::Tun(packet) => self.packets.push(packet),
                Output::Relay {
                    region,
                    peer,
                    datagram,
                } => self.relays.send(region, peer, datagram.freeze()),
                Output::NeedKemKey(hash) => {
                    self.emit(EngineEvent::NeedKemKey(hash));
                }
                Output::Event(event) => {
                    tell(&event);
                    if let Event::Path {
                        selected: Selected::Relay(_),
                        ..
                    } = event
                    {
                        // Maybe since the NAT is another: peers have to know where this machine is.
                        self.check.hurry(Instant::now());
                    }
                }
            }
        }
    }
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// What leads into the tunnel and so is no place where this machine can be reached from outside.
fn tailnet(netmap: &ztna_netmap::Netmap) -> BTreeSet<IpNet> {
    let Some(this) = netmap.this() else {
        return BTreeSet::new();
    };
    let mut networks = routes::tailnet(this.ipv4, this.ipv6);
    networks.extend([
        IpNet::from(IpAddr::V4(this.ipv4)),
        IpNet::from(IpAddr::V6(this.ipv6)),
    ]);
    networks
}

fn tell(event: &Event) {
    match event {
        Event::Path { peer, selected } => tracing::info!(%peer, ?selected, "path"),
        Event::Psk { peer, epoch } => tracing::info!(%peer, epoch, "preshared key"),
        Event::PskExpired { peer } => tracing::info!(%peer, "preshared key expired"),
    }
}
