//! `up`: from whatever there is to a tunnel that is up, step by step.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use ztna_local::{
    Answer, Caller, DaemonState, Failure, FailureKind, Progress, Replies, Step, StepState,
    UpOptions,
};
use ztna_proto::ErrorBody;

use super::network::{Offer, exit_fault};
use super::register::{has_credential, register};
use super::report;
use super::session::Session;
use super::state::{State, Wanted};
use super::supervisor::{Core, Supervisor, ended_message, failed, held};
use crate::control::{Api, Server};
use crate::platform::{Unsupported, can_steer, check_forwarding, user_id};

/// How long the control plane may take to answer.
const CONTROL_WAIT: Duration = Duration::from_secs(15);
/// How long a relay may take to admit this machine.
const RELAY_WAIT: Duration = Duration::from_secs(8);
/// How long the network's settings may take.
const NETWORK_WAIT: Duration = Duration::from_secs(10);
/// How often the relay is looked at.
const RELAY_POLL: Duration = Duration::from_millis(50);

/// Tells a client how far `up` has come. A client that is gone does not stop it.
struct Steps<'a>(&'a mut Replies);

impl Steps<'_> {
    async fn tell(&mut self, step: Step, state: StepState, message: impl Into<String>) {
        let progress = Progress {
            step,
            state,
            message: message.into(),
        };
        tracing::info!(step = ?progress.step, state = ?progress.state, "{}", progress.message);
        let _ = self.0.send(&Answer::Progress(progress)).await;
    }
}

/// What the control plane said to a tunnel that came up.
enum Control {
    Synced,
    /// It is away, and the map on disk does meanwhile.
    Away(String),
    /// It does not know this registration any more.
    Ended(ErrorBody),
    /// It keeps this machine out of the network, and why.
    Held(DaemonState, String),
}

impl Supervisor {
    pub(super) async fn up(
        self: &Arc<Self>,
        options: UpOptions,
        caller: Caller,
        replies: &mut Replies,
    ) -> Result<(), Failure> {
        let mut steps = Steps(replies);
        let mut ended = false;
        loop {
            let session = self.bring_up(&options, caller, ended, &mut steps).await?;
            let url = session_url(self).await;
            let begun = format!("connecting to the control plane {url}");
            steps.tell(Step::Control, StepState::Started, begun).await;
            match wait_for_control(&session).await? {
                Control::Synced => {
                    let peers = session.read_map(|map| map.peers().len());
                    let peers = match peers {
                        1 => "1 peer".to_owned(),
                        count => format!("{count} peers"),
                    };
                    let done = format!("connected to the control plane {url}: {peers}");
                    steps.tell(Step::Control, StepState::Done, done).await;
                    tell_network(&session, &mut steps).await;
                    return wait_for_relay(&session, &mut steps).await;
                }
                Control::Away(error) => {
                    let warning = format!("working from the saved map: {error}");
                    steps.tell(Step::Control, StepState::Warning, warning).await;
                    return Ok(());
                }
                // The registration is what was asked for, and it stands.
                Control::Held(DaemonState::Pending, message) => {
                    let told = format!("connected to the control plane {url}; {message}");
                    steps.tell(Step::Control, StepState::Warning, told).await;
                    return Ok(());
                }
                Control::Held(_, message) => {
                    return Err(Failure::new(FailureKind::Failed, message));
                }
                // One more try, if there is something to register anew with.
                Control::Ended(error) if has_credential(&options) && !ended => {
                    let mut core = self.core.lock().await;
                    self.registration_ended(&mut core, &error).await;
                    ended = true;
                }
                Control::Ended(error) => {
                    let mut core = self.core.lock().await;
                    self.registration_ended(&mut core, &error).await;
                    return Err(Failure::new(FailureKind::NeedsLogin, ended_message(&error)));
                }
            }
        }
    }

    /// A registered machine with a tunnel.
    async fn bring_up(
        self: &Arc<Self>,
        options: &UpOptions,
        caller: Caller,
        ended: bool,
        steps: &mut Steps<'_>,
    ) -> Result<Arc<Session>, Failure> {
        let mut core = self.core.lock().await;
        let core = &mut *core;
        core.follow();
        let prefs = core.state.network.with(options)?;
        if prefs.accept_routes || prefs.exit_node.is_some() {
            can_steer().map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
        }
        if !prefs.advertise.is_empty() {
            check_forwarding()
                .await
                .map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
        }
        if let (Some(session), Some(_)) = (&core.session, &options.exit_node)
            && session.view().borrow().synced
            && let Some(fault) = session.read_map(|map| exit_fault(&prefs, map))
        {
            return Err(Failure::new(
                FailureKind::BadRequest,
                format!("{fault}; what held before still does"),
            ));
        }
        let server = wanted_server(&core.state, options)?;
        set_operator(&mut core.state, options, caller)?;
        if core.state.machine.is_some() && core.state.server.as_ref() != Some(&server) {
            // The same place with another pin: the tunnel has to connect anew.
            if let Some(session) = core.session.take() {
                session.stop().await;
            }
            core.state.server = Some(server.clone());
        }

        let refused = matches!(core.problem, Some((DaemonState::NeedsLogin, _)));
        let over = ended || core.deleted || refused;
        if options.renew && !has_credential(options) {
            return Err(Failure::new(
                FailureKind::NeedsLogin,
                "nothing to sign in with; run `ztna login` first, or give an auth key with --auth-key",
            ));
        }
        if core.deleted && !has_credential(options) {
            let message = core.problem.as_ref().map(|(_, message)| message.clone());
            return Err(Failure::new(
                FailureKind::NeedsLogin,
                message.unwrap_or_default(),
            ));
        }
        let renewed = !over && options.renew && core.session.is_some();
        if core.state.machine.is_none() || ((over || options.renew) && has_credential(options)) {
            let begun = format!("registering with {}", server.origin());
            steps.tell(Step::Register, StepState::Started, begun).await;
            self.register(core, options, server).await?;
            if let (true, Some(session), Some(machine)) =
                (renewed, &core.session, &core.state.machine)
            {
                session.renewed(machine.token.clone());
            }
            steps
                .tell(Step::Register, StepState::Done, registered(&core.state))
                .await;
        } else {
            if let Some(message) = other_name(&core.state, options) {
                steps
                    .tell(Step::Register, StepState::Warning, message)
                    .await;
            }
            steps
                .tell(Step::Register, StepState::Done, registered(&core.state))
                .await;
        }

        core.state.network = prefs;
        let session = match &core.session {
            Some(session) => {
                session.set_prefs(&core.state.network);
                Arc::clone(session)
            }
            None => self.start_session(core).await?,
        };
        core.state.wanted = Wanted::Up;
        core.state.save(&self.dir).map_err(failed)?;
        self.publish(core);
        if let Some(machine) = &core.state.machine {
            let done = format!(
                "tunnel device {} is up: {} {}",
                self.options.tun, machine.ipv4, machine.ipv6
            );
            steps.tell(Step::Tunnel, StepState::Done, done).await;
        }
        for warning in session.warnings() {
            steps.tell(Step::Tunnel, StepState::Warning, warning).await;
        }
        Ok(session)
    }

    /// Registers and remembers it. What was remembered before is lost only once the new
    /// registration is on disk.
    async fn register(
        &self,
        core: &mut Core,
        options: &UpOptions,
        server: Server,
    ) -> Result<(), Failure> {
        let api = Api::new(server.clone()).map_err(|error| failed(error.into()))?;
        if options.hostname.is_some() {
            core.state.hostname.clone_from(&options.hostname);
        }
        // The keys go to disk before the control plane hears of them: after a crash in between,
        // the same machine asks again, not another one.
        core.state.save(&self.dir).map_err(failed)?;
        register(&api, &mut core.state, options, core.deleted).await?;
        core.state.server = Some(server);
        core.deleted = false;
        core.problem = None;
        core.state.save(&self.dir).map_err(failed)?;
        self.publish(core);
        Ok(())
    }
}

/// The control plane that is meant: the options', else the one that is remembered.
fn wanted_server(state: &State, options: &UpOptions) -> Result<Server, Failure> {
    let bad = |error: crate::control::ServerError| {
        Failure::new(FailureKind::BadRequest, error.to_string())
    };
    let pin = options.server_pin.as_deref();
    let Some(known) = &state.server else {
        let Some(url) = &options.server else {
            return Err(Failure::new(
                FailureKind::NeedsLogin,
                "no control plane is known yet; name it: `sudo ztna up --server https://HOST \
                 --auth-key KEY`",
            ));
        };
        return Server::parse(url, pin, options.allow_http).map_err(bad);
    };
    let url = options.server.as_deref().unwrap_or(known.origin());
    let named = Server::parse(url, pin, options.allow_http || known.allow_http()).map_err(bad)?;
    if named.same_place(known) {
        if pin.is_some() {
            return Ok(named);
        }
        return Ok(known.clone());
    }
    if let Some(machine) = &state.machine {
        return Err(Failure::new(
            FailureKind::Failed,
            format!(
                "this machine is registered with {} as {}; to move it to {}, run `sudo ztna \
                 logout --forget` first",
                known.origin(),
                machine.dns_name,
                named.origin()
            ),
        ));
    }
    Ok(named)
}

/// Only root names the operator: who may change things could otherwise pass that on.
fn set_operator(state: &mut State, options: &UpOptions, caller: Caller) -> Result<(), Failure> {
    let Some(name) = &options.operator else {
        return Ok(());
    };
    if cfg!(windows) && !name.is_empty() {
        let error = Unsupported {
            what: "an operator beside administrators (--operator)",
        };
        return Err(Failure::new(FailureKind::BadRequest, error.to_string()));
    }
    if Some(caller.uid) == state.operator && caller.uid != 0 {
        return Err(Failure::new(
            FailureKind::NotPermitted,
            "only root may name the operator; use sudo",
        ));
    }
    if name.is_empty() {
        state.operator = None;
        return Ok(());
    }
    let by_number = name.parse().ok();
    let Some(uid) = by_number.or_else(|| user_id(name)) else {
        return Err(Failure::new(
            FailureKind::BadRequest,
            format!("there is no user {name:?} on this machine; check --operator"),
        ));
    };
    state.operator = Some(uid);
    Ok(())
}

fn registered(state: &State) -> String {
    match &state.machine {
        Some(machine) => format!("registered as {} in {}", machine.dns_name, machine.org_name),
        None => "not registered".to_owned(),
    }
}

/// What is to be said if another name is wanted than the machine has.
fn other_name(state: &State, options: &UpOptions) -> Option<String> {
    let wanted = options.hostname.as_deref()?;
    let machine = state.machine.as_ref()?;
    (machine.name != wanted).then(|| {
        format!(
            "the machine stays {}: it has its name already; an admin of the org can change it",
            machine.name
        )
    })
}

async fn session_url(supervisor: &Supervisor) -> String {
    let core = supervisor.core.lock().await;
    core.state
        .server
        .as_ref()
        .map(|server| server.origin().to_owned())
        .unwrap_or_default()
}

async fn wait_for_control(session: &Session) -> Result<Control, Failure> {
    let mut view = session.view();
    let until = Instant::now() + CONTROL_WAIT;
    loop {
        let now = view.borrow_and_update().clone();
        if let Some(error) = now.ended {
            return Ok(Control::Ended(error));
        }
        if let Some(error) = now.engine_failed.or(now.interface_error) {
            return Err(Failure::new(FailureKind::Failed, error));
        }
        if let Some(message) = now.disabled {
            return Ok(Control::Held(DaemonState::Disabled, message));
        }
        if now.connected && now.synced {
            let hold = session.read_map(|map| map.this().and_then(|this| this.hold.clone()));
            return Ok(match hold {
                Some(hold) => Control::Held(held(hold.kind), hold.message),
                None => Control::Synced,
            });
        }
        let has_map = session.read_map(|map| map.this().is_some());
        if let (Some(error), true) = (&now.error, has_map) {
            return Ok(Control::Away(error.clone()));
        }
        match timeout_at(until, view.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                return Err(Failure::new(
                    FailureKind::Failed,
                    "the tunnel was taken down meanwhile",
                ));
            }
            Err(_) => {
                let error = now
                    .error
                    .unwrap_or_else(|| "the control plane sent no map".to_owned());
                return Err(Failure::new(
                    FailureKind::Failed,
                    format!("{error} (the daemon goes on trying; `ztna down` stops it)"),
                ));
            }
        }
    }
}

/// Tells what became of this machine's part in the network, if it has any.
async fn tell_network(session: &Session, steps: &mut Steps<'_>) {
    let mut seen = session.network();
    let wanted = session.prefs();
    let settled = timeout_at(
        Instant::now() + NETWORK_WAIT,
        seen.wait_for(|view| view.prefs == wanted && view.offer != Offer::Pending),
    );
    let view = match settled.await {
        Ok(Ok(view)) => view.clone(),
        // What is not done yet shows in `ztna status`.
        _ => return,
    };
    for warning in &view.warnings {
        steps.tell(Step::Network, StepState::Warning, warning).await;
    }
    let status = session.read_map(|map| report::network(&view, map));
    for line in status.lines() {
        steps.tell(Step::Network, StepState::Done, line).await;
    }
}

async fn wait_for_relay(session: &Session, steps: &mut Steps<'_>) -> Result<(), Failure> {
    let none = session.read_map(|map| map.relays().regions.is_empty());
    if none {
        let warning = "the org has no relay: peers behind NATs that cannot be opened stay out of \
                       reach";
        steps.tell(Step::Relay, StepState::Warning, warning).await;
        return Ok(());
    }
    let until = Instant::now() + RELAY_WAIT;
    loop {
        let status = session.engine().status().await;
        if status.relay_connected {
            let name = session.read_map(|map| {
                let region = status.home_region?;
                map.relays()
                    .regions
                    .get(&region)
                    .map(|region| format!("{} ({})", region.name, region.code))
            });
            let done = format!("connected to the relay {}", name.unwrap_or_default());
            steps
                .tell(Step::Relay, StepState::Done, done.trim_end())
                .await;
            return Ok(());
        }
        if Instant::now() >= until {
            let why = status
                .relay_error
                .unwrap_or_else(|| "none has answered".to_owned());
            let warning = format!("no relay yet: {why}; direct paths work, and it goes on trying");
            steps.tell(Step::Relay, StepState::Warning, warning).await;
            return Ok(());
        }
        sleep(RELAY_POLL).await;
    }
}
