//! Many agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use ztna_proto::netmap::ClientMessage;

use crate::agent::{Machine, SPREAD, World, live};
use crate::board::Board;
use crate::deployment::Target;

/// Connections that are being made at a time: more would only wait in the server's backlog.
const AT_ONCE: usize = 256;
/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(5);

/// Agents that run until this is dropped.
pub struct Fleet {
    world: Arc<World>,
    says: Vec<mpsc::UnboundedSender<ClientMessage>>,
    machines: Vec<Arc<Machine>>,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Agents that begin to connect, to all nodes in turn.
    pub fn start(nodes: Vec<Target>, machines: &[Arc<Machine>]) -> Self {
        Self::start_at(SPREAD, nodes, machines)
    }

    /// Agents that begin to connect to one of the nodes.
    pub fn start_at(node: usize, nodes: Vec<Target>, machines: &[Arc<Machine>]) -> Self {
        let world = Arc::new(World {
            board: Board::default(),
            nodes,
            node: AtomicUsize::new(node),
            gate: Semaphore::new(AT_ONCE),
        });
        let mut tasks = JoinSet::new();
        let mut says = Vec::new();
        for machine in machines {
            let (sender, receiver) = mpsc::unbounded_channel();
            says.push(sender);
            tasks.spawn(live(Arc::clone(machine), Arc::clone(&world), receiver));
        }
        Self {
            world,
            says,
            machines: machines.to_vec(),
            _tasks: tasks,
        }
    }

    pub fn board(&self) -> &Board {
        &self.world.board
    }

    pub fn machines(&self) -> &[Arc<Machine>] {
        &self.machines
    }

    /// From now on, connections go to this node.
    pub fn turn_to(&self, node: usize) {
        self.world.node.store(node, Ordering::Relaxed);
    }

    /// An agent says something on its stream.
    pub fn say(&self, agent: usize, message: ClientMessage) {
        if let Some(says) = self.says.get(agent) {
            // The task lives as long as the fleet.
            let _ = says.send(message);
        }
    }

    /// Waits until all are connected and in sync; how long it took from `begin`.
    pub async fn all_connected(&self, begin: Instant, limit: Duration) -> Result<Duration> {
        let all = self.says.len();
        let what = || format!("{} of {all} agents connected", self.board().connected());
        until(limit, what, || self.board().connected() >= all).await?;
        Ok(begin.elapsed())
    }
}

/// Waits for something.
pub async fn until(
    limit: Duration,
    state: impl Fn() -> String,
    is_so: impl Fn() -> bool,
) -> Result<()> {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > limit {
            bail!("after {} s: {}", limit.as_secs(), state());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
