//! The hub: orgs whose machines are connected, kept up to date with the database.

mod others;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;
use ztna_proto::ids::{MachineId, OrgId, RegionId};
use ztna_proto::keys::KemKeyHash;
use ztna_proto::netmap::{Resume, VolatileReport};
use ztna_proto::ticket::TicketSigner;
use ztna_proto::tokens::TokenHash;

use super::load::{self, Loaded};
use super::nodes::{Said, Word};
use super::org::{self, OUTBOX, OrgState, Shared};
use super::{Changed, append_change, written};
use crate::db::Db;
use crate::http::{ApiError, Machine};
use crate::kv::Kv;
use others::Words;
use tokens::Tokens;

/// From the beginning of one reading of an org to that of the next. A node's end brings ten thousand machines
/// here, and each makes sure that what it is told is so; readings without a pause took a quarter of a core.
const READING_PAUSE: Duration = Duration::from_millis(10);

/// The messages for one stream, and the stream's number.
pub(super) struct Subscription {
    pub(super) inbox: mpsc::Receiver<Utf8Bytes>,
    pub(super) serial: u64,
}

/// Feeds the machine streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    db: Db,
    kv: Arc<dyn Kv>,
    /// Tells our words from those of other nodes.
    me: Uuid,
    shared: Shared,
    orgs: Mutex<HashMap<OrgId, Arc<OrgHub>>>,
    tokens: Tokens,
    /// What other nodes are to be told.
    words: OnceLock<Words>,
    /// Held while an org begins or ends to be heard of, so that the two do not overtake each other.
    subscriptions: tokio::sync::Mutex<()>,
    /// Words of other nodes may have been missed.
    gap: AtomicBool,
}

/// One org. Reading the database happens under `reading`, applying under `state`, which is never
/// held over an await.
#[derive(Default)]
struct OrgHub {
    /// When the last reading began.
    reading: tokio::sync::Mutex<Option<tokio::time::Instant>>,
    /// How often somebody asked for a reading …
    asked: AtomicU64,
    /// … and how many of these the last good reading has served.
    served: AtomicU64,
    state: Mutex<Option<OrgState>>,
    /// The database holds a change that could not be read; the sweep tries again.
    stale: AtomicBool,
}

impl OrgHub {
    fn state(&self) -> MutexGuard<'_, Option<OrgState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state is known to be behind the database.
    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::SeqCst)
    }

    fn is_idle(&self) -> bool {
        self.state().as_ref().is_none_or(OrgState::is_idle)
    }
}

impl Hub {
    pub(crate) fn new(
        db: Db,
        kv: Arc<dyn Kv>,
        signer: Arc<TicketSigner>,
        dns_suffix: String,
    ) -> Self {
        let has_others = kv.is_shared();
        Self(Arc::new(Inner {
            db,
            kv,
            me: Uuid::now_v7(),
            shared: Shared {
                signer,
                dns_suffix,
                has_others,
            },
            orgs: Mutex::new(HashMap::new()),
            tokens: Tokens::default(),
            words: OnceLock::new(),
            subscriptions: tokio::sync::Mutex::new(()),
            gap: AtomicBool::new(false),
        }))
    }

    /// The org has changed in the database: machines that the change concerns are told, and other
    /// nodes, which tell theirs.
    ///
    /// The caller must not hold a connection to the database: if all that there are waited here, none
    /// would be left to read the change with.
    ///
    /// Goes on when the caller is gone: a client that hangs up right after its change was committed
    /// must not keep the change from its peers.
    pub(crate) async fn notify(&self, id: OrgId) {
        let Some(org) = self.find(id) else {
            self.say(id, Word::Changed { seq: None });
            return;
        };
        org.stale.store(true, Ordering::SeqCst);
        let hub = self.clone();
        let work = tokio::spawn(async move {
            let read = hub.catch_up(id, &org).await;
            let seq = match &read {
                Ok(()) => org.state().as_ref().map(OrgState::seq),
                Err(_) => None,
            };
            hub.say(id, Word::Changed { seq });
            if let Err(error) = read {
                tracing::error!(org = %id, %error, "a change could not be passed on yet");
            }
        });
        // A panic is logged by the runtime, and the org stays stale.
        let _ = work.await;
    }

    /// Registers a stream for who has shown this token. `None`: it is not the machine's (any more), or the
    /// machine is not in its org.
    pub(super) async fn connect(
        &self,
        machine: &Machine,
        token: &TokenHash,
        resume: Option<Resume>,
    ) -> Result<Option<Subscription>, ApiError> {
        let org = self.open(machine.org);
        // The registration that this machine comes from may not have been read yet.
        self.catch_up(machine.org, &org).await?;
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let serial = self.with(machine, |state| match state.admits(machine.id, token) {
            true => state.connect(machine.id, outbox, resume, Instant::now()),
            false => Ok(None),
        })?;
        let serial = serial.flatten();
        Ok(serial.map(|serial| Subscription { inbox, serial }))
    }

    /// Runs `change` on the state of the machine's org, if the org is in memory.
    pub(super) fn with<T>(
        &self,
        machine: &Machine,
        change: impl FnOnce(&mut OrgState) -> org::Result<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(org) = self.find(machine.org) else {
            return Ok(None);
        };
        let (changed, unsaid) = {
            let mut state = org.state();
            let Some(state) = state.as_mut() else {
                return Ok(None);
            };
            (change(state), state.take_unsaid(Instant::now()))
        };
        self.say_machines(machine.org, unsaid);
        changed.map(Some).map_err(unserialisable)
    }

    /// A machine's volatile state came by heartbeat.
    pub(crate) async fn report(
        &self,
        machine: &Machine,
        report: VolatileReport,
    ) -> Result<(), ApiError> {
        let org = self.open(machine.org);
        self.ensure_loaded(machine.org, &org).await?;
        self.with(machine, |state| {
            state.report(machine.id, report, Instant::now())
        })?;
        Ok(())
    }

    /// A ticket for a machine that calls, maybe the one of its last call. `None`: it is not (any more) in
    /// its org.
    pub(crate) async fn ticket(&self, machine: &Machine) -> Result<Option<String>, ApiError> {
        let org = self.open(machine.org);
        let held = |state: &OrgState| state.held_ticket(machine.id, Instant::now());
        if let Some(ticket) = org.state().as_ref().and_then(held) {
            return Ok(Some(ticket));
        }
        // What ended the machine may have happened in another process.
        self.catch_up(machine.org, &org).await?;
        let mut state = org.state();
        let state = state.as_mut();
        Ok(state.and_then(|state| state.issue_ticket(machine.id, Instant::now())))
    }

    /// Whether the database holds that the machine runs this version of the agent, as far as is known here.
    pub(crate) fn runs(&self, machine: &Machine, version: &str) -> bool {
        let org = self.find(machine.org);
        let runs = |state: &OrgState| state.runs(machine.id, version);
        org.is_some_and(|org| !org.is_stale() && org.state().as_ref().is_some_and(runs))
    }

    /// The database holds now that the machine runs this version of the agent.
    pub(crate) fn has_run(&self, machine: &Machine, version: &str) {
        if let Some(org) = self.find(machine.org)
            && let Some(state) = org.state().as_mut()
        {
            state.has_run(machine.id, version);
        }
    }

    /// Sends a machine a fresh ticket over its stream, if it is still in its org.
    pub(super) async fn renew_ticket(
        &self,
        machine: &Machine,
        serial: u64,
    ) -> Result<(), ApiError> {
        let org = self.open(machine.org);
        self.catch_up(machine.org, &org).await?;
        self.with(machine, |state| state.renew_ticket(machine.id, serial))?;
        Ok(())
    }

    /// Peers of a machine that have this ML-KEM key.
    pub(crate) async fn peers_with_kem_key(
        &self,
        machine: &Machine,
        hash: &KemKeyHash,
    ) -> Result<Vec<MachineId>, ApiError> {
        let org = self.open(machine.org);
        self.ensure_loaded(machine.org, &org).await?;
        let state = org.state();
        let peers = state
            .as_ref()
            .map(|s| s.peers_with_kem_key(machine.id, hash));
        Ok(peers.unwrap_or_default())
    }

    /// Those of these machines that a machine has in its map.
    pub(crate) async fn peers_among(
        &self,
        machine: &Machine,
        asked: BTreeSet<MachineId>,
    ) -> Result<BTreeSet<MachineId>, ApiError> {
        let org = self.open(machine.org);
        self.ensure_loaded(machine.org, &org).await?;
        let state = org.state();
        let peers = state.as_ref().map(|s| s.peers_among(machine.id, asked));
        Ok(peers.unwrap_or_default())
    }

    /// Who of an org is there, and when each was last heard of, as far as the hub knows.
    pub(crate) fn presence(&self, org: OrgId) -> BTreeMap<MachineId, (bool, Option<Timestamp>)> {
        let Some(org) = self.find(org) else {
            return BTreeMap::new();
        };
        let state = org.state();
        state.as_ref().map(OrgState::presence).unwrap_or_default()
    }

    /// The relay regions that an org's machines are reached by, as far as the hub knows.
    pub(crate) fn homes(&self, org: OrgId) -> BTreeMap<MachineId, RegionId> {
        let Some(org) = self.find(org) else {
            return BTreeMap::new();
        };
        let state = org.state();
        state.as_ref().map(OrgState::homes).unwrap_or_default()
    }

    /// To be called every second: silent machines go offline, volatile state is written down,
    /// missed changes are read, orgs that nobody uses leave memory.
    pub(crate) async fn sweep(&self) {
        let orgs: Vec<(OrgId, Arc<OrgHub>)> = {
            let orgs = self.orgs();
            orgs.iter()
                .map(|(id, org)| (*id, Arc::clone(org)))
                .collect()
        };
        let (mut streams, mut dirty) = (0, Vec::new());
        for (id, org) in orgs {
            let swept = self.sweep_org(id, &org, &mut dirty).await;
            match swept {
                Ok(count) => streams += count,
                Err(error) => {
                    tracing::error!(org = %id, %error, "an org could not be looked after");
                }
            }
        }
        metrics::gauge!("ztna_api_machine_streams").set(streams as f64);
        self.write_down(dirty).await;
    }

    /// Writes volatile state. What cannot be written is tried again.
    async fn write_down(&self, mut states: Vec<(OrgId, Said)>) {
        // As the statement locks them, and every other node's.
        states.sort_unstable_by_key(|(org, said)| (*org, said.id));
        for states in states.chunks(written::MAX_TOGETHER) {
            if let Err(error) = written::write(&self.0.db, states).await {
                tracing::error!(%error, "what was heard of machines could not be written down yet");
                for (id, said) in states {
                    let Some(org) = self.find(*id) else { continue };
                    if let Some(state) = org.state().as_mut() {
                        state.is_unwritten(said.id);
                    }
                }
            }
        }
    }

    /// What is to be written down of the org's machines goes to `dirty`. Gives back how many are connected.
    async fn sweep_org(
        &self,
        id: OrgId,
        org: &Arc<OrgHub>,
        dirty: &mut Vec<(OrgId, Said)>,
    ) -> Result<usize, ApiError> {
        if org.is_stale() {
            self.catch_up(id, org).await?;
        }
        let overdue = org
            .state()
            .as_ref()
            .is_some_and(|state| state.is_overdue(Timestamp::now()));
        if overdue {
            self.turn(id).await?;
        }
        let (news, unsaid, streams) = {
            let mut state = org.state();
            match state.as_mut() {
                Some(state) => {
                    let now = Instant::now();
                    state.sweep(now).map_err(unserialisable)?;
                    let (dirty, unsaid) = (state.take_dirty(now), state.take_unsaid(now));
                    (dirty, unsaid, state.streams())
                }
                None => (Vec::new(), Vec::new(), 0),
            }
        };
        self.say_machines(id, unsaid);
        if !news.is_empty() {
            self.say_alive(id, &news);
            dirty.extend(news.into_iter().map(|said| (id, said)));
            return Ok(streams);
        }
        if org.is_idle() {
            self.close(id, org).await;
        }
        Ok(streams)
    }

    /// Rules have begun or ceased to hold: a change like any other, so that every node and every
    /// machine knows of it by its `seq`.
    async fn turn(&self, id: OrgId) -> Result<(), ApiError> {
        let mut connection = self.0.db.connect().await?;
        let tx = connection.org(id).await?;
        append_change(&tx, id, Changed::Policy).await?;
        tx.commit().await?;
        drop(connection);
        self.notify(id).await;
        Ok(())
    }

    /// Lets other nodes know who was heard of.
    fn say_alive(&self, org: OrgId, news: &[Said]) {
        let alive = news.iter().filter(|said| said.online);
        let machines: Vec<_> = alive.map(|said| said.id).collect();
        if !machines.is_empty() {
            self.say(org, Word::Alive { machines });
        }
    }

    /// Reads what changed since the state that is held, and applies it. Those who ask while others
    /// wait are served by one reading, which begins after they asked.
    async fn catch_up(&self, id: OrgId, org: &Arc<OrgHub>) -> Result<(), ApiError> {
        let number = org.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = org.reading.lock().await;
        if org.served.load(Ordering::SeqCst) >= number {
            return Ok(());
        }
        if let Some(last) = *last {
            sleep_until(last + READING_PAUSE).await;
        }
        *last = Some(tokio::time::Instant::now());
        let serves = org.asked.load(Ordering::SeqCst);
        // Before reading: a change that is committed while we read sets it again.
        org.stale.store(false, Ordering::SeqCst);
        let held = org.state().as_ref().map(OrgState::seq);
        if held.is_none() {
            self.subscribe(id, org).await;
        }
        let loaded = match load::load(&self.0.db, id, held).await {
            Ok(loaded) => loaded,
            Err(error) => {
                org.stale.store(true, Ordering::SeqCst);
                return Err(error);
            }
        };
        let mut state = org.state();
        let applied = match (state.as_mut(), loaded) {
            (Some(state), Loaded::Since(since)) => state.apply(since),
            (Some(state), Loaded::Whole(whole)) => state.replace(whole),
            (None, Loaded::Whole(whole)) => {
                OrgState::new(id, self.0.shared.clone(), whole).map(|new| {
                    self.remember_all(id, &new);
                    *state = Some(new);
                })
            }
            // Nothing was held, so everything was read.
            (None, Loaded::Since(_)) => Ok(()),
        };
        org.served.store(serves, Ordering::SeqCst);
        applied.map_err(unserialisable)
    }

    async fn ensure_loaded(&self, id: OrgId, org: &Arc<OrgHub>) -> Result<(), ApiError> {
        if org.state().is_some() {
            return Ok(());
        }
        self.catch_up(id, org).await
    }

    fn orgs(&self) -> MutexGuard<'_, HashMap<OrgId, Arc<OrgHub>>> {
        self.0.orgs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: OrgId) -> Option<Arc<OrgHub>> {
        self.orgs().get(&id).cloned()
    }

    fn open(&self, id: OrgId) -> Arc<OrgHub> {
        Arc::clone(self.orgs().entry(id).or_default())
    }
}

fn unserialisable(error: serde_json::Error) -> ApiError {
    ApiError::Internal(format!("a message could not be written: {error}"))
}
