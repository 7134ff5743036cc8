//! The link between the control plane and a running engine: keeps the machine stream up, applies
//! what it says to the netmap, carries reports, tickets and ML-KEM keys.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use ztna_netmap::{Netmap, RESYNC_INTERVAL, Update};
use ztna_proto::api::{HEARTBEAT_SECONDS, HeartbeatRequest};
use ztna_proto::machines::HoldKind;
use ztna_proto::netmap::{ClientMessage, MAX_ENDPOINTS, VolatileReport};
use ztna_proto::tokens::MachineToken;
use ztna_proto::{ErrorBody, ErrorCode, KemKeyHash};

use super::backoff::Backoff;
use super::engine::{ControlEvent, EngineEvent};
use super::posture::PostureTurn;
use super::routes;
use super::state_dir::StateDir;
use crate::control::{Api, ControlError, MachineStream};
use crate::platform::health;
use crate::platform::{Interface, ThisHealth};

/// Name of the netmap's file.
pub const NETMAP_FILE: &str = "netmap.json";
/// Name of the relay ticket's file: a daemon that starts while the control plane is away gets into
/// relays with the ticket of before, which holds for a day.
pub const TICKET_FILE: &str = "relay-ticket";
/// A changed map is written after this long, so that a burst of changes is one write.
const SAVE_DELAY: Duration = Duration::from_secs(1);
/// The first heartbeat: soon, for a ticket in case that the stream does not come up.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(5);
/// ML-KEM keys that are fetched at once.
const KEY_FETCHES: usize = 8;
/// An answer to a registration takes no longer.
const RENEWAL_WAIT: Duration = Duration::from_secs(3);
/// A stream that stood this long was a good one: the next failure starts the pauses anew.
const GOOD_STREAM: Duration = Duration::from_secs(10);

/// How the link stands.
#[derive(Clone, Debug, Default)]
pub struct LinkView {
    /// Whether the stream stands.
    pub connected: bool,
    /// How often it came to stand.
    pub streams: u64,
    /// Whether the control plane has told or confirmed the netmap since the link was made.
    pub synced: bool,
    /// Why the stream does not stand.
    pub error: Option<String>,
    /// The control plane does not serve this registration any more, and why.
    pub ended: Option<ErrorBody>,
    /// The machine was switched off, and why: there is no map until it is switched on.
    pub disabled: Option<String>,
    /// The control plane wants this machine's keys and state erased, and why.
    pub wipe: Option<String>,
    /// The engine gave up, and why.
    pub engine_failed: Option<String>,
    /// Addresses or routes could not be set, and why.
    pub interface_error: Option<String>,
}

/// What a link is made of.
pub struct Link {
    pub api: Api,
    /// A renewal brings another.
    pub token: watch::Receiver<MachineToken>,
    pub netmap: Arc<RwLock<Netmap>>,
    /// `None`: the link of a static peer that this machine carries, of which nothing is kept on disk, and
    /// whose health is not this machine's.
    pub dir: Option<Arc<StateDir>>,
    pub to_engine: mpsc::Sender<ControlEvent>,
    pub view: watch::Sender<LinkView>,
    pub stop: CancellationToken,
    /// Told after each change of the netmap.
    pub map_news: watch::Sender<()>,
}

struct Shared {
    link: Link,
    report: watch::Sender<Option<VolatileReport>>,
    ticket_wanted: Notify,
    network_changed: Notify,
    map_changed: Notify,
    /// Keys on their way.
    fetching: Mutex<BTreeSet<KemKeyHash>>,
    fetches: Semaphore,
}

impl Link {
    /// Runs until it is stopped, or the control plane ends the registration. Everything it started
    /// has ended then, and the netmap is on disk. `interface`: the device, if there is one.
    pub async fn run(self, mut events: mpsc::Receiver<EngineEvent>, interface: Option<Interface>) {
        let stop = self.stop.clone();
        let shared = Arc::new(Shared {
            link: self,
            report: watch::channel(None).0,
            ticket_wanted: Notify::new(),
            network_changed: Notify::new(),
            map_changed: Notify::new(),
            fetching: Mutex::default(),
            fetches: Semaphore::new(KEY_FETCHES),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).keep_stream(interface));
        tasks.spawn(Arc::clone(&shared).keep_beating());
        tasks.spawn(Arc::clone(&shared).keep_saving());
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => event,
            };
            match event {
                Some(EngineEvent::Report(mut report)) => {
                    report.endpoints.truncate(MAX_ENDPOINTS);
                    shared.report.send_replace(Some(report));
                }
                Some(EngineEvent::NeedKemKey(hash)) => {
                    tasks.spawn(Arc::clone(&shared).fetch_key(hash));
                }
                Some(EngineEvent::NeedTicket) => shared.ticket_wanted.notify_one(),
                Some(EngineEvent::NetworkChanged) => shared.network_changed.notify_one(),
                Some(EngineEvent::Failed(why)) => {
                    shared
                        .link
                        .view
                        .send_modify(|view| view.engine_failed = Some(why));
                }
                None => {
                    shared.link.view.send_modify(|view| {
                        view.engine_failed
                            .get_or_insert_with(|| "the engine ended".to_owned());
                    });
                    stop.cancelled().await;
                    break;
                }
            }
            // Finished fetches.
            while tasks.try_join_next().is_some() {}
        }
        // The tasks see `stop` too, and those that hold something worth a farewell take leave.
        while tasks.join_next().await.is_some() {}
    }
}

impl Shared {
    fn token(&self) -> MachineToken {
        self.link.token.borrow().clone()
    }

    async fn to_engine(&self, event: ControlEvent) {
        // An engine that has ended needs no news; the link hears of it by its own channel.
        let _ = self.link.to_engine.send(event).await;
    }

    async fn keep_stream(self: Arc<Self>, mut interface: Option<Interface>) {
        self.configure(&mut interface).await;
        self.saved_ticket().await;
        let stop = self.link.stop.clone();
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let Some(error) = self.one_stream(&mut interface, &stop).await else {
                return;
            };
            self.lock_map().disconnected();
            let was_connected = self.link.view.borrow().connected;
            if was_connected && started.elapsed() >= GOOD_STREAM {
                backoff.reset();
            }
            if was_connected {
                self.to_engine(ControlEvent::Disconnected).await;
            }
            if let ControlError::Refused(body) = &error
                && body.code == ErrorCode::MachineDisabled
            {
                self.disabled(&body.message).await;
            }
            if matches!(&error, ControlError::Refused(body) if body.code == ErrorCode::Unauthorized)
                && self.is_renewed().await
            {
                continue;
            }
            let ended = error.ends_registration();
            self.link.view.send_modify(|view| {
                view.connected = false;
                view.error = Some(error.to_string());
                if let (true, ControlError::Refused(body)) = (ended, &error) {
                    view.ended = Some(body.clone());
                }
            });
            if ended {
                match self.link.dir {
                    Some(_) => {
                        tracing::warn!(%error, "the control plane ended this machine's registration");
                    }
                    None => tracing::info!(%error, "a static peer is not to be carried any more"),
                }
                return;
            }
            let pause = backoff.after_failure(std::time::Instant::now(), &mut rand::rng());
            tracing::info!(%error, ?pause, "no machine stream");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                // What failed on one network says nothing of another.
                () = self.network_changed.notified() => backoff.reset(),
            }
        }
    }

    /// One connection, until it breaks (the error) or the link is stopped (`None`).
    async fn one_stream(
        &self,
        interface: &mut Option<Interface>,
        stop: &CancellationToken,
    ) -> Option<ControlError> {
        let token = self.token();
        let connected = loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                connected = MachineStream::connect(&self.link.api, token.expose()) => {
                    break connected;
                }
                // The attempt may hang on an address that is gone.
                () = self.network_changed.notified() => {}
            }
        };
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => return Some(error),
        };
        let mut report = self.report.subscribe();
        report.mark_unchanged();
        if let Err(error) = self.greet(&mut stream, &mut report).await {
            return Some(error);
        }
        let mut resynced: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    stream.close().await;
                    return None;
                }
                () = self.network_changed.notified() => {
                    if let Err(error) = stream.prove().await {
                        return Some(error);
                    }
                }
                Ok(()) = report.changed() => {
                    let current = report.borrow_and_update().clone();
                    if let Some(current) = current
                        && let Err(error) = stream.send(&ClientMessage::Report(current)).await
                    {
                        return Some(error);
                    }
                }
                message = stream.next() => {
                    let message = match message {
                        Ok(message) => message,
                        Err(error) => return Some(error),
                    };
                    match self.apply(&message, interface).await {
                        Applied::Fine => {}
                        Applied::Ended(error) => return Some(error.into()),
                        Applied::OutOfSync => {
                            let due = resynced.is_none_or(|at| at.elapsed() >= RESYNC_INTERVAL);
                            if due {
                                resynced = Some(Instant::now());
                                if let Err(error) = stream.send(&ClientMessage::Resync).await {
                                    return Some(error);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    async fn greet(
        &self,
        stream: &mut MachineStream,
        report: &mut watch::Receiver<Option<VolatileReport>>,
    ) -> Result<(), ControlError> {
        let hello = self.read_map(|map| map.next_hello(env!("CARGO_PKG_VERSION")));
        stream.send(&hello).await?;
        let current = report.borrow_and_update().clone();
        if let Some(current) = current {
            stream.send(&ClientMessage::Report(current)).await?;
        }
        tracing::info!(
            url = self.link.api.server().origin(),
            "machine stream stands"
        );
        self.link.view.send_modify(|view| {
            view.connected = true;
            view.streams += 1;
            view.error = None;
        });
        self.to_engine(ControlEvent::Connected).await;
        Ok(())
    }

    async fn apply(&self, message: &str, interface: &mut Option<Interface>) -> Applied {
        let handled = self.lock_map().handle_text(message);
        let update = match handled {
            Ok(update) => update,
            Err(error) => {
                tracing::warn!(%error, "the netmap is out of step");
                return Applied::OutOfSync;
            }
        };
        match update {
            Update::Full | Update::Delta(_) => {
                self.read_map(|map| {
                    for warning in map.warnings() {
                        tracing::warn!(%warning, "part of the netmap cannot be read");
                    }
                });
                self.configure(interface).await;
                self.map_changed.notify_one();
                self.link.map_news.send_replace(());
                self.to_engine(ControlEvent::Netmap(update)).await;
                self.synced();
                self.look_for_wipe();
            }
            Update::Volatile(_) => self.to_engine(ControlEvent::Netmap(update)).await,
            Update::Ticket(ticket) => self.new_ticket(ticket).await,
            Update::Ended(error) => return Applied::Ended(error),
            Update::InSync => self.synced(),
            Update::Ignored => {}
        }
        Applied::Fine
    }

    fn synced(&self) {
        self.link.view.send_if_modified(|view| {
            let was_disabled = view.disabled.take().is_some();
            !std::mem::replace(&mut view.synced, true) || was_disabled
        });
    }

    /// The control plane refuses this machine, until it does not: what the map says is void, on disk
    /// too, so that a restart does not bring it back.
    async fn disabled(&self, message: &str) {
        *self.lock_map() = Netmap::default();
        if let Some(dir) = &self.link.dir
            && let Err(error) = dir.remove(NETMAP_FILE)
        {
            tracing::warn!(%error, "cannot remove the saved netmap");
        }
        self.map_changed.notify_one();
        self.to_engine(ControlEvent::Netmap(Update::Full)).await;
        self.link.view.send_modify(|view| {
            view.synced = false;
            view.disabled = Some(message.to_owned());
        });
    }

    /// Whether another token came in the place of one that is not good any more: whoever renews the
    /// registration hears of it a moment after the control plane has voided the old one.
    async fn is_renewed(&self) -> bool {
        let mut token = self.link.token.clone();
        matches!(timeout(RENEWAL_WAIT, token.changed()).await, Ok(Ok(())))
    }

    fn look_for_wipe(&self) {
        let wipe = self.read_map(|map| {
            let hold = map.this()?.hold.as_ref()?;
            (hold.kind == HoldKind::Wipe).then(|| hold.message.clone())
        });
        if wipe.is_some() {
            self.link.view.send_modify(|view| view.wipe = wipe);
        }
    }

    async fn new_ticket(&self, ticket: String) {
        if let Some(dir) = &self.link.dir
            && let Err(error) = dir.write(TICKET_FILE, ticket.as_bytes())
        {
            tracing::warn!(%error, "cannot save the relay ticket");
        }
        self.to_engine(ControlEvent::Ticket(ticket)).await;
    }

    /// The ticket of before, if there is one. Relays know by themselves whether it still holds.
    async fn saved_ticket(&self) {
        let Some(dir) = &self.link.dir else { return };
        let Ok(Some(bytes)) = dir.read(TICKET_FILE) else {
            return;
        };
        if let Ok(ticket) = std::str::from_utf8(&bytes) {
            self.to_engine(ControlEvent::Ticket(ticket.to_owned()))
                .await;
        }
    }

    /// Gives the device the addresses and routes that the netmap wants.
    async fn configure(&self, interface: &mut Option<Interface>) {
        let Some(interface) = interface else { return };
        let Some((ipv4, ipv6, wanted)) = self.read_map(|map| {
            let this = map.this()?;
            let peers = map.peers().values();
            let wanted = routes::wanted(this.ipv4, this.ipv6, peers);
            Some((this.ipv4, this.ipv6, wanted))
        }) else {
            return;
        };
        let result = async {
            interface.set_addresses(ipv4, ipv6).await?;
            interface.set_routes(&wanted).await
        }
        .await;
        let error = result.err().map(|error| {
            tracing::error!(%error, "cannot set addresses and routes");
            format!("cannot set the tunnel's addresses and routes: {error}")
        });
        self.link.view.send_if_modified(|view| {
            let changed = view.interface_error != error;
            view.interface_error = error;
            changed
        });
    }

    async fn keep_beating(self: Arc<Self>) {
        let stop = self.link.stop.clone();
        let mut pause = FIRST_HEARTBEAT;
        let mut posture = PostureTurn::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.ticket_wanted.notified() => {}
                () = sleep(pause) => {}
            }
            // A heartbeat without a report would tell peers that this machine is nowhere.
            let Some(report) = self.report.borrow().clone() else {
                continue;
            };
            pause = Duration::from_secs(HEARTBEAT_SECONDS);
            let health = match self.link.dir {
                Some(_) => posture.take(health::posture(&ThisHealth::new()).await),
                None => None,
            };
            let request = HeartbeatRequest {
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                report,
                posture: health,
            };
            let token = self.token();
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = self.link.api.heartbeat(token.expose(), &request) => answer,
            };
            match answer {
                Ok(answer) => {
                    posture.told(request.posture);
                    if let Some(ticket) = answer.relay_ticket {
                        self.new_ticket(ticket).await;
                    }
                }
                // The stream tells the person; it is refused for the same reason.
                Err(error) => tracing::debug!(%error, "heartbeat failed"),
            }
        }
    }

    async fn keep_saving(self: Arc<Self>) {
        let stop = self.link.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.map_changed.notified() => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(SAVE_DELAY) => {}
            }
            let Some(dir) = &self.link.dir else { continue };
            let text = self.read_map(Netmap::save);
            if let Err(error) = dir.write(NETMAP_FILE, text.as_bytes()) {
                tracing::warn!(%error, "cannot save the netmap");
            }
        }
    }

    /// Fetches a peer's ML-KEM key, again and again until it is there or nobody needs it.
    async fn fetch_key(self: Arc<Self>, hash: KemKeyHash) {
        if !self.lock_fetching().insert(hash) {
            return;
        }
        let stop = self.link.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.fetch_until_done(hash) => {}
        }
        self.lock_fetching().remove(&hash);
    }

    async fn fetch_until_done(&self, hash: KemKeyHash) {
        let mut backoff = Backoff::default();
        loop {
            let token = self.token();
            let fetched = {
                // Never closed.
                let _turn = self.fetches.acquire().await;
                self.link.api.kem_key(token.expose(), hash).await
            };
            match fetched {
                Ok(key) => return self.to_engine(ControlEvent::KemKey(key)).await,
                Err(error) => {
                    let needed = self.read_map(|map| {
                        map.peers().values().any(|peer| peer.kem_key == Some(hash))
                    });
                    if !needed {
                        return;
                    }
                    if matches!(&error, ControlError::NotOurs { .. }) {
                        tracing::warn!(%error, %hash, "cannot fetch a peer's ML-KEM key");
                    } else {
                        tracing::debug!(%error, %hash, "cannot fetch a peer's ML-KEM key");
                    }
                }
            }
            let pause = backoff.after_failure(std::time::Instant::now(), &mut rand::rng());
            sleep(pause).await;
        }
    }

    fn lock_map(&self) -> std::sync::RwLockWriteGuard<'_, Netmap> {
        self.link
            .netmap
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_fetching(&self) -> std::sync::MutexGuard<'_, BTreeSet<KemKeyHash>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_map<T>(&self, read: impl FnOnce(&Netmap) -> T) -> T {
        read(
            &self
                .link
                .netmap
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// What became of a message.
enum Applied {
    Fine,
    OutOfSync,
    Ended(ErrorBody),
}

/// Whether the machine itself is gone, not only its right to come in.
pub fn is_deleted(error: &ErrorBody) -> bool {
    error.code == ErrorCode::MachineDeleted
}
