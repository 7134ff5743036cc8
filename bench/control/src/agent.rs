//! A simulated agent: a stream, the hashes of its map, and nothing else.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use ztna_proto::CAPABILITY;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{
    ClientMessage, FullMap, MapDelta, RecordKind, Resume, ServerMessage, StateHash,
};

use crate::board::{Begun, Board};
use crate::deployment::Target;
use crate::http::{self, Io};

/// What is read at a time, in bytes. A real agent's buffer is larger, and there is one of it.
const READ_BUFFER: usize = 4 * 1024;
/// How long an agent waits that was refused or cut off: somewhere up to this.
const PAUSE_MS: u64 = 50;

/// A machine of the org.
#[derive(Clone)]
pub struct Machine {
    pub index: usize,
    pub id: MachineId,
    pub ipv4: Ipv4Addr,
    pub token: String,
    /// The machine whose endpoints this one waits for.
    pub hub: MachineId,
}

/// What all agents of a fleet have in common.
pub struct World {
    pub board: Board,
    pub nodes: Vec<Target>,
    /// The node that connections go to now, or [`SPREAD`]: what a balancer would know.
    pub node: AtomicUsize,
    /// Connections that are being made at a time.
    pub gate: Semaphore,
}

/// Connections go to all nodes in turn.
pub const SPREAD: usize = usize::MAX;

impl World {
    /// The node for a connection of this agent.
    fn target(&self, agent: usize) -> Option<&Target> {
        match self.node.load(Ordering::Relaxed) {
            SPREAD => self.nodes.get(agent % self.nodes.len()),
            node => self.nodes.get(node),
        }
    }
}

type Socket = WebSocketStream<Pin<Box<dyn Io>>>;

/// Lives until its task is ended: connects, listens, and connects again.
pub async fn live(
    machine: Arc<Machine>,
    world: Arc<World>,
    mut says: mpsc::UnboundedReceiver<ClientMessage>,
) {
    let mut map: Option<Map> = None;
    loop {
        match connect(&machine, &world, &mut map).await {
            Ok(socket) => {
                listen(&machine, &world, &mut map, socket, &mut says).await;
                world.board.ends();
            }
            Err(error) if error.is::<Wrong>() => world.board.is_wrong(&format!("{error:#}")),
            // It is tried again.
            Err(_) => {}
        }
        let pause = rand::random_range(1..=PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// A message that does not lead where it says.
#[derive(Debug)]
struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// Connects and reads up to the ticket.
async fn connect(machine: &Machine, world: &World, map: &mut Option<Map>) -> Result<Socket> {
    let _turn = world.gate.acquire().await?;
    let target = world.target(machine.index).context("no such node")?;
    let mut socket = open(machine, target).await?;
    let hello = ClientMessage::Hello {
        capability: CAPABILITY,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        resume: map.as_ref().map(|map| map.position),
    };
    send(&mut socket, &hello).await?;
    let first = next(&mut socket, world).await?;
    let begun = match ServerMessage::decode(&first)? {
        ServerMessage::Full(full) => {
            *map = Some(Map::new(full)?);
            Begun::Full
        }
        ServerMessage::Delta(delta) => {
            let held = map.as_mut().context("a delta to nothing")?;
            held.apply(delta)?;
            Begun::Delta
        }
        ServerMessage::KeepAlive(position) => {
            let held = map.as_mut().context("in sync with nothing")?;
            held.move_to(position)?;
            Begun::InSync
        }
        ServerMessage::Error(error) => bail!("{error}"),
        other => bail!("a stream begins with {other:?}"),
    };
    loop {
        let text = next(&mut socket, world).await?;
        if text.starts_with(r#"{"type":"relay_ticket""#) {
            break;
        }
    }
    let position = map.as_ref().context("no map")?.position;
    world.board.begins(machine.index, begun, position);
    Ok(socket)
}

async fn open(machine: &Machine, target: &Target) -> Result<Socket> {
    let io = http::connect(target, source(machine.index)).await?;
    let mut request = "ws://127.0.0.1/api/machine-stream".into_client_request()?;
    let bearer = format!("Bearer {}", machine.token).parse()?;
    request.headers_mut().insert("authorization", bearer);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(None)
        .max_frame_size(None);
    let (socket, _) = client_async_with_config(request, io, Some(config)).await?;
    Ok(socket)
}

/// An agent's own address of the loopback network.
pub fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f01_0000 + u32::try_from(index).unwrap_or_default())
}

/// Listens until the connection breaks.
async fn listen(
    machine: &Machine,
    world: &World,
    map: &mut Option<Map>,
    mut socket: Socket,
    says: &mut mpsc::UnboundedReceiver<ClientMessage>,
) {
    loop {
        let heard = tokio::select! {
            text = next(&mut socket, world) => match text {
                Ok(text) => take(machine, world, map, &text),
                Err(_) => return,
            },
            Some(message) = says.recv() => send(&mut socket, &message).await,
        };
        if let Err(error) = heard {
            if error.is::<Wrong>() {
                world.board.is_wrong(&format!("{error:#}"));
                *map = None;
            }
            return;
        }
    }
}

fn take(machine: &Machine, world: &World, map: &mut Option<Map>, text: &str) -> Result<()> {
    if text.starts_with(r#"{"type":"volatile""#) {
        // What a real agent does with the others is no business of a load generator's.
        if text.contains(r#""whole":false"#) && text.contains(&machine.hub.to_string()) {
            for port in ports_of(machine.hub, text)? {
                world.board.hears(port);
            }
        }
        return Ok(());
    }
    let held = map.as_mut().context("no map")?;
    match ServerMessage::decode(text)? {
        ServerMessage::Full(full) => *held = Map::new(full)?,
        ServerMessage::Delta(delta) => {
            held.apply(delta)?;
            world.board.stands(machine.index, held.position);
            world.board.tells(machine.index);
        }
        ServerMessage::KeepAlive(position) => {
            held.move_to(position)?;
            world.board.stands(machine.index, held.position);
        }
        ServerMessage::Error(error) => bail!("{error}"),
        ServerMessage::Volatile(_) | ServerMessage::RelayTicket(_) | ServerMessage::Unknown => {}
    }
    Ok(())
}

/// The ports of the hub's endpoints, as a volatile message tells them.
fn ports_of(hub: MachineId, text: &str) -> Result<Vec<u16>> {
    let ServerMessage::Volatile(update) = ServerMessage::decode(text)? else {
        return Ok(Vec::new());
    };
    let peers = update.peers.iter().filter(|peer| peer.id == hub);
    let endpoints = peers.flat_map(|peer| &peer.report.endpoints);
    Ok(endpoints.map(|endpoint| endpoint.addr.port()).collect())
}

async fn send(socket: &mut Socket, message: &ClientMessage) -> Result<()> {
    let text = serde_json::to_string(message)?;
    socket.send(Message::text(text)).await?;
    Ok(())
}

async fn next(socket: &mut Socket, world: &World) -> Result<Utf8Bytes> {
    loop {
        let message = socket.next().await.context("the stream ended")??;
        if let Message::Text(text) = message {
            world.board.read(text.len());
            return Ok(text);
        }
    }
}

/// The map by its hashes.
pub struct Map {
    pub position: Resume,
    this: StateHash,
    filter: StateHash,
    relays: StateHash,
    peers: HashMap<MachineId, StateHash>,
}

#[derive(Deserialize)]
struct Identified {
    id: MachineId,
}

fn hash_of(kind: RecordKind, record: &RawValue) -> StateHash {
    let mut hash = StateHash::default();
    hash.toggle(kind, record);
    hash
}

fn id_of(record: &RawValue) -> Result<MachineId> {
    let Identified { id } = serde_json::from_str(record.get())?;
    Ok(id)
}

impl Map {
    fn new(full: FullMap) -> Result<Self> {
        let mut peers = HashMap::with_capacity(full.peers.len());
        for record in &full.peers {
            peers.insert(id_of(record)?, hash_of(RecordKind::Peer, record));
        }
        let (seq, hash) = (full.seq, full.hash);
        let map = Self {
            position: Resume { seq, hash },
            this: hash_of(RecordKind::This, &full.this),
            filter: hash_of(RecordKind::Filter, &full.filter),
            relays: hash_of(RecordKind::Relays, &full.relays),
            peers,
        };
        map.check()?;
        Ok(map)
    }

    fn apply(&mut self, delta: MapDelta) -> Result<()> {
        let (held, base) = (self.position.seq, delta.base_seq);
        ensure!(
            held == base,
            Wrong(format!("a delta from {base} to a map at {held}"))
        );
        for (held, kind, new) in [
            (&mut self.this, RecordKind::This, &delta.this),
            (&mut self.filter, RecordKind::Filter, &delta.filter),
            (&mut self.relays, RecordKind::Relays, &delta.relays),
        ] {
            if let Some(record) = new {
                *held = hash_of(kind, record);
            }
        }
        for record in &delta.peers_changed {
            self.peers
                .insert(id_of(record)?, hash_of(RecordKind::Peer, record));
        }
        for id in &delta.peers_removed {
            self.peers.remove(id);
        }
        let (seq, hash) = (delta.seq, delta.hash);
        self.position = Resume { seq, hash };
        self.check()
    }

    fn move_to(&mut self, position: Resume) -> Result<()> {
        ensure!(
            self.position.hash == position.hash,
            Wrong(format!("not in sync at {}", position.seq))
        );
        self.position = position;
        Ok(())
    }

    /// The map hashes to what the message said.
    fn check(&self) -> Result<()> {
        let mut hash = StateHash::default();
        let parts = [&self.this, &self.filter, &self.relays];
        for part in parts.into_iter().chain(self.peers.values()) {
            for (sum, byte) in hash.0.iter_mut().zip(part.0) {
                *sum ^= byte;
            }
        }
        ensure!(
            hash == self.position.hash,
            Wrong(format!("the map at {} has another hash", self.position.seq))
        );
        Ok(())
    }
}
