//! Carries out what clients ask. One change at a time; reading never waits for a change.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use ztna_local::{
    Answer, Caller, DaemonState, Failure, FailureKind, NetcheckOptions, NetcheckReport,
    PostureStatus, Replies, Request, Service, Status, ThisMachine, VERSION, VersionAnswer,
};
use ztna_proto::ErrorBody;
use ztna_proto::machines::HoldKind;

use super::backoff::Backoff;
use super::link::{self, LinkView, NETMAP_FILE, TICKET_FILE};
use super::network::remove_leftovers;
use super::session::Session;
use super::state::{Keys, State, Wanted};
use super::state_dir::StateDir;
use super::{Options, netcheck, report};
use crate::control::{Api, Server};
use crate::platform::health::posture;
use crate::platform::{ThisHealth, resident_memory};

/// A network check that was asked for is there by then, or never: one that is begun anew by a change of
/// network on the way takes as long again.
const NETCHECK_TIME: Duration = Duration::from_secs(12);

/// The daemon's mind.
pub struct Supervisor {
    pub(super) options: Options,
    /// What a person should know of the process.
    warning: Option<String>,
    pub(super) dir: Arc<StateDir>,
    /// Held for as long as a change takes.
    pub(super) core: Mutex<Core>,
    /// What readers see.
    view: RwLock<View>,
    pub(super) end: CancellationToken,
}

/// What changes change.
pub struct Core {
    pub state: State,
    pub session: Option<Arc<Session>>,
    /// Why the tunnel is not as it is wanted.
    pub problem: Option<(DaemonState, String)>,
    /// The control plane says that this machine was deleted: its keys must not come back.
    pub deleted: bool,
}

impl Core {
    /// Remembers what the control plane has changed of this machine since it was registered: its name,
    /// say.
    pub(super) fn follow(&mut self) {
        let (Some(session), Some(machine)) = (&self.session, &mut self.state.machine) else {
            return;
        };
        session.read_map(|map| {
            if let Some(this) = map.this() {
                machine.follow(this);
            }
        });
    }
}

#[derive(Default)]
struct View {
    server: Option<Server>,
    this: Option<ThisMachine>,
    operator: Option<u32>,
    session: Option<Arc<Session>>,
    problem: Option<(DaemonState, String)>,
}

impl Supervisor {
    /// A supervisor of a daemon that is down. `warning`: what a person should know of the process.
    #[must_use]
    pub fn new(
        options: Options,
        dir: StateDir,
        state: State,
        warning: Option<String>,
    ) -> Arc<Self> {
        let core = Core {
            state,
            session: None,
            problem: None,
            deleted: false,
        };
        let supervisor = Self {
            options,
            warning,
            dir: Arc::new(dir),
            view: RwLock::default(),
            core: Mutex::new(core),
            end: CancellationToken::new(),
        };
        if let Ok(core) = supervisor.core.try_lock() {
            supervisor.publish(&core);
        }
        Arc::new(supervisor)
    }

    /// Brings the tunnel up if it was up when the daemon ended last.
    pub fn resume(self: &Arc<Self>) {
        let supervisor = Arc::clone(self);
        tokio::spawn(async move {
            {
                let core = supervisor.core.lock().await;
                // What a daemon that was killed left behind keeps everything out of other ways for as
                // long as the tunnel is wanted.
                if core.state.wanted == Wanted::Down || core.state.machine.is_none() {
                    remove_leftovers(&supervisor.dir).await;
                }
            }
            supervisor.keep_trying().await;
        });
    }

    /// Waits until a client asks the daemon to end.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Takes the tunnel down without forgetting that it is wanted.
    pub async fn end(&self) {
        self.end.cancel();
        let mut core = self.core.lock().await;
        if let Some(session) = core.session.take() {
            session.stop().await;
        }
        self.publish(&core);
    }

    /// Shows readers what there is now.
    pub(super) fn publish(&self, core: &Core) {
        let view = View {
            server: core.state.server.clone(),
            this: report::registered(&core.state),
            operator: core.state.operator,
            session: core.session.clone(),
            problem: core.problem.clone(),
        };
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Brings the tunnel up with the registration that there is.
    pub(super) async fn start_session(
        self: &Arc<Self>,
        core: &mut Core,
    ) -> Result<Arc<Session>, Failure> {
        let (Some(server), Some(machine)) = (&core.state.server, &core.state.machine) else {
            return Err(Failure::new(FailureKind::NeedsLogin, NOT_REGISTERED));
        };
        let started = async {
            let api = Api::new(server.clone()).map_err(|error| error.to_string())?;
            let (keys, prefs) = (&core.state.keys, &core.state.network);
            Session::start(&self.options, &self.dir, api, keys, machine, prefs)
                .await
                .map_err(|error| error.to_string())
        }
        .await;
        match started {
            Ok(session) => {
                let session = Arc::new(session);
                core.session = Some(Arc::clone(&session));
                core.problem = None;
                self.publish(core);
                tokio::spawn(Arc::clone(self).watch(Arc::clone(&session)));
                Ok(session)
            }
            Err(message) => {
                core.problem = Some((DaemonState::Error, message.clone()));
                self.publish(core);
                Err(Failure::new(FailureKind::Failed, message))
            }
        }
    }

    /// Takes the tunnel down because the control plane ended the registration.
    pub(super) async fn registration_ended(&self, core: &mut Core, error: &ErrorBody) {
        if let Some(session) = core.session.take() {
            session.stop().await;
        }
        if link::is_deleted(error) {
            core.deleted = true;
            if let Err(error) = self.remove_saved() {
                tracing::warn!(%error, "cannot remove what the org told");
            }
        }
        core.problem = Some((DaemonState::NeedsLogin, ended_message(error)));
        self.publish(core);
    }

    /// Tries until the tunnel is up or not wanted.
    async fn keep_trying(self: &Arc<Self>) {
        let mut backoff = Backoff::default();
        loop {
            {
                let mut core = self.core.lock().await;
                let due = core.state.wanted == Wanted::Up
                    && core.state.machine.is_some()
                    && core.session.is_none()
                    && !self.end.is_cancelled();
                if !due {
                    return;
                }
                match self.start_session(&mut core).await {
                    Ok(_) => return,
                    Err(error) => tracing::error!(%error, "cannot bring the tunnel up"),
                }
            }
            let pause = backoff.after_failure(Instant::now(), &mut rand::rng());
            tokio::select! {
                () = self.end.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits until a session cannot go on, and does what follows from it.
    ///
    /// Boxed, since what follows may start a session, which is watched.
    fn watch(self: Arc<Self>, session: Arc<Session>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.watch_until_over(session).await })
    }

    async fn watch_until_over(self: Arc<Self>, session: Arc<Session>) {
        let mut view = session.view();
        let seen = view
            .wait_for(|view| {
                view.ended.is_some() || view.wipe.is_some() || view.engine_failed.is_some()
            })
            .await
            .map(|view| view.clone());
        // The session was stopped.
        let Ok(LinkView {
            ended,
            wipe,
            engine_failed,
            ..
        }) = seen
        else {
            return;
        };
        let mut core = self.core.lock().await;
        let current = core.session.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, &session)) {
            return;
        }
        if let Some(error) = ended {
            self.registration_ended(&mut core, &error).await;
            return;
        }
        core.session = None;
        session.stop().await;
        if let Some(why) = wipe {
            drop(core);
            return self.wipe(why).await;
        }
        let message = engine_failed.unwrap_or_default();
        tracing::error!(error = message, "the tunnel broke");
        core.problem = Some((DaemonState::Error, format!("the tunnel broke: {message}")));
        self.publish(&core);
        drop(core);
        self.keep_trying().await;
    }

    async fn down(&self) -> Result<(), Failure> {
        let mut core = self.core.lock().await;
        core.follow();
        core.state.wanted = Wanted::Down;
        core.state.save(&self.dir).map_err(failed)?;
        core.problem = None;
        match core.session.take() {
            Some(session) => session.stop().await,
            None => remove_leftovers(&self.dir).await,
        }
        self.publish(&core);
        Ok(())
    }

    /// Takes the tunnel down and forgets keys, registration and map. The server stays known.
    async fn forget(&self) -> Result<(), Failure> {
        self.down().await?;
        let mut core = self.core.lock().await;
        core.state.machine = None;
        core.state.keys = Keys::generate();
        core.state.hostname = None;
        core.deleted = false;
        core.state.save(&self.dir).map_err(failed)?;
        self.remove_saved().map_err(|error| failed(error.into()))?;
        self.publish(&core);
        Ok(())
    }

    /// Removes what is on disk of the org.
    pub(super) fn remove_saved(&self) -> std::io::Result<()> {
        self.dir.remove(NETMAP_FILE)?;
        self.dir.remove(TICKET_FILE)
    }

    /// How things stand.
    pub(super) async fn status(&self) -> Status {
        let (session, mut status) = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            let (state, message) = view.describe();
            let mut status = report::base(state, message, view.server.as_ref());
            status.this.clone_from(&view.this);
            status.warnings.extend(self.warning.clone());
            (view.session.clone(), status)
        };
        if let Some(session) = session {
            report::add_session(&mut status, &session, &self.options.tun).await;
        }
        status.totals.memory_bytes = resident_memory();
        status
    }

    async fn netcheck(&self, options: NetcheckOptions) -> Result<NetcheckReport, Failure> {
        let session = self.session()?;
        let engine = session.engine();
        let report = if options.last {
            engine.status().await.netcheck
        } else {
            let checked = timeout(NETCHECK_TIME, engine.netcheck()).await;
            checked.ok().flatten()
        };
        let report = report.ok_or_else(|| {
            Failure::new(
                FailureKind::Failed,
                "no network check was completed; try again in a few seconds",
            )
        })?;
        let home = engine.status().await.home_region;
        Ok(session.read_map(|map| netcheck::told(&report, map.relays(), home)))
    }

    /// What this machine tells of its health, and what the org has against it.
    async fn posture(&self) -> PostureStatus {
        let notices = self
            .session()
            .ok()
            .and_then(|session| session.read_map(|map| Some(map.this()?.posture.clone())));
        PostureStatus {
            report: posture(&ThisHealth::new()).await,
            notices: notices.unwrap_or_default(),
        }
    }

    /// The tunnel that is up.
    pub(super) fn session(&self) -> Result<Arc<Session>, Failure> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let session = view.session.clone();
        session.ok_or_else(|| Failure::new(FailureKind::NotRunning, TUNNEL_DOWN))
    }
}

const NOT_REGISTERED: &str = "this machine is not registered; run `sudo ztna up --server URL --auth-key KEY`, or sign in \
     with `ztna login`";
const TUNNEL_DOWN: &str = "the tunnel is down; bring it up with `sudo ztna up`";

impl View {
    fn describe(&self) -> (DaemonState, String) {
        if let Some(session) = &self.session {
            let view = session.view().borrow().clone();
            if let Some(message) = view.disabled {
                return (DaemonState::Disabled, message);
            }
            return session.read_map(|map| match map.this() {
                None => (DaemonState::Starting, view.error.unwrap_or_default()),
                Some(this) => match &this.hold {
                    None => (DaemonState::Running, String::new()),
                    Some(hold) => (held(hold.kind), hold.message.clone()),
                },
            });
        }
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        if self.this.is_none() {
            return (DaemonState::NeedsLogin, NOT_REGISTERED.to_owned());
        }
        (DaemonState::Stopped, TUNNEL_DOWN.to_owned())
    }
}

/// How a machine that is kept out of the network stands.
pub(super) fn held(kind: HoldKind) -> DaemonState {
    match kind {
        HoldKind::Pending => DaemonState::Pending,
        HoldKind::Quarantined => DaemonState::Quarantined,
        HoldKind::Locked | HoldKind::Wipe => DaemonState::Locked,
    }
}

/// Why the registration is over, and what to do.
pub(super) fn ended_message(error: &ErrorBody) -> String {
    let message = error.message.trim_end_matches('.');
    if message.contains(';') {
        return message.to_owned();
    }
    format!(
        "{message}; register this machine again with `sudo ztna up --auth-key KEY` or `ztna login`"
    )
}

/// An error as a client is told of it: one line, the cause at the end.
pub(super) fn failed(error: anyhow::Error) -> Failure {
    Failure::new(FailureKind::Failed, format!("{error:#}"))
}

/// A step that has no answer of its own.
fn done(result: Result<(), Failure>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(failure) => Answer::Failed(failure),
    }
}

/// The supervisor as the socket sees it.
pub struct Door(pub Arc<Supervisor>);

impl Service for Door {
    fn operator(&self) -> Option<u32> {
        let view = self.0.view.read().unwrap_or_else(PoisonError::into_inner);
        view.operator
    }

    async fn serve(&self, request: Request, caller: Caller, replies: &mut Replies) -> Answer {
        let Self(supervisor) = self;
        match request {
            Request::Status => Answer::Status(Box::new(supervisor.status().await)),
            Request::Posture => Answer::Posture(Box::new(supervisor.posture().await)),
            Request::Version => Answer::Version(VersionAnswer {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: VERSION,
                pid: std::process::id(),
            }),
            Request::Ping(options) => done(supervisor.ping(options, replies).await),
            Request::Netcheck(options) => match supervisor.netcheck(options).await {
                Ok(report) => Answer::Netcheck(Box::new(report)),
                Err(failure) => Answer::Failed(failure),
            },
            Request::Paths(options) => match supervisor.paths(options).await {
                Ok(report) => Answer::Paths(Box::new(report)),
                Err(failure) => Answer::Failed(failure),
            },
            Request::Up(options) => {
                tracing::info!(uid = caller.uid, "up");
                match supervisor.up(options, caller, replies).await {
                    Ok(()) => Answer::Status(Box::new(supervisor.status().await)),
                    Err(failure) => Answer::Failed(failure),
                }
            }
            Request::Down => {
                tracing::info!(uid = caller.uid, "down");
                done(supervisor.down().await)
            }
            Request::Forget => {
                tracing::info!(uid = caller.uid, "forget the registration");
                done(supervisor.forget().await)
            }
            Request::Shutdown => {
                tracing::info!(uid = caller.uid, "end of the daemon");
                supervisor.end().await;
                Answer::Done
            }
        }
    }
}
