//! The control plane, put together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use ztna_proto::keys::WgPublicKey;
use ztna_proto::ticket::TicketVerifier;

use crate::config::{Config, Limits, MoreFigures, OnCut};
use crate::dashboard::Dashboard;
use crate::db::{Db, SetupError};
use crate::geoip::GeoIp;
use crate::http::{ApiError, Metrics};
use crate::identity::{Passwords, Providers};
use crate::keys::ServerKeys;
use crate::kv::{FallbackKv, Kv, KvError, MemoryKv};
use crate::mail::{MailError, Mailer};
use crate::netmap::Hub;
use crate::relays::{RevocationFeed, Revocations};
use crate::{
    api_keys, audit, auth_keys, http, identity, machines, netmap, network, orgs, policy, posture,
    realtime, relays, releases,
};

/// How often the hub looks after what time does: silence, expiry, writing down. What a machine has
/// told in the last period, a crash forgets.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// Policies that are compiled at once to be looked at; a large one takes a processor for a while.
const COMPILES: usize = 2;
/// In the time of silence after which ephemeral machines go, it is looked for them so many times.
const SILENCE_LOOKS: u32 = 30;
/// How often leftovers are removed from the database.
const LEFTOVERS_PERIOD: Duration = Duration::from_secs(60 * 60);

/// The control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] SetupError),
    /// The key-value store's address is malformed, or its authorities are.
    #[error("{0}; correct --kv-url or --kv-authorities")]
    Kv(#[from] KvError),
    /// Letters cannot be sent as configured.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl From<ApiError> for StartError {
    fn from(error: ApiError) -> Self {
        Self::Other(error.to_string())
    }
}

/// What every route works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct State(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) kv: Arc<dyn Kv>,
    /// For what machines report and nobody's sign-in hangs on: within one process a store of its own, as whoever
    /// fills one has others' entries go.
    pub(crate) reports: Arc<dyn Kv>,
    /// Turns of those who have a policy compiled to look at it.
    pub(crate) compiles: Semaphore,
    pub(crate) mail: Option<Mailer>,
    pub(crate) hub: Hub,
    pub(crate) keys: ServerKeys,
    pub(crate) passwords: Passwords,
    pub(crate) providers: Providers,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: usize,
    pub(crate) metrics: Metrics,
    pub(crate) more_figures: Option<MoreFigures>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) stopping: CancellationToken,
    pub(crate) probe_period: Duration,
    pub(crate) allow_private_relays: bool,
    pub(crate) geoip: Option<GeoIp>,
    pub(crate) releases: releases::Serving,
    pub(crate) realtime: Arc<realtime::Realtime>,
    pub(crate) realtime_ping: Duration,
    pub(crate) registrations: machines::RegistrationLine,
    pub(crate) posture_clock: posture::Listening,
    pub(crate) ephemeral_silence: Duration,
    pub(crate) started: Instant,
    /// Where machines and browsers find us.
    pub(crate) public_url: String,
    pub(crate) pin: Option<String>,
    pub(crate) dns_suffix: String,
    on_cut: Option<OnCut>,
}

impl Deref for State {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    /// A machine's full DNS name.
    pub(crate) fn dns_name(&self, machine: &str, org_slug: &str) -> String {
        dns_name(machine, org_slug, &self.dns_suffix)
    }

    /// A machine has lost its place, as is committed: a relay beside us cuts its connection, and
    /// those that wait for revocations are told.
    pub(crate) async fn cut(&self, key: WgPublicKey) {
        if let Some(on_cut) = &self.on_cut {
            on_cut(key);
        }
        if let Err(error) = self.revocations.look(&self.db).await {
            tracing::error!(%error, "relays hear of a revocation a moment later");
        }
    }
}

/// `<machine>.<org>.<suffix>`
pub(crate) fn dns_name(machine: &str, org_slug: &str, suffix: &str) -> String {
    format!("{machine}.{org_slug}.{suffix}")
}

/// A running control plane: its router, and the tasks behind it.
pub struct App {
    router: Router,
    state: State,
    tasks: TaskTracker,
    /// Leaves the key-value store when it is dropped.
    _store: DropGuard,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ztna control plane",
        description = "Every answer under /api is an envelope {success, data, error}."
    ),
    // Only parameters name the first, and messages of a WebSocket the others: those bring no schema of their own.
    components(schemas(
        ztna_proto::keys::KemKeyHash,
        ztna_proto::realtime::RealtimeRequest,
        ztna_proto::realtime::RealtimeMessage,
    ))
)]
struct Document;

impl App {
    /// Prepares the database and starts the tasks.
    ///
    /// Requests to the router must carry a [`ztna_tls::ClientAddr`].
    ///
    /// # Errors
    /// The database cannot be used; the message says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let db = Db::open(&config.database).await?;
        relays::upsert(&db, &config.relays).await?;
        let stopping = CancellationToken::new();
        // Others have words for the store when this process stops.
        let store_stopping = CancellationToken::new();
        let store = store_stopping.clone().drop_guard();
        let kv: Arc<dyn Kv> = match &config.kv_url {
            Some(url) => {
                let authorities = config.kv_authorities.as_deref();
                let kv = FallbackKv::start(url, authorities, &config.keys, store_stopping);
                Arc::new(kv.await?)
            }
            None => Arc::new(MemoryKv::default()),
        };
        let mail = match &config.mail {
            Some(mail) => Some(Mailer::start(mail, stopping.clone())?),
            None => None,
        };
        orgs::make_missing_keys(&db, &config.keys).await?;
        let state = State(Arc::new(Inner {
            hub: Hub::new(
                db.clone(),
                Arc::clone(&kv),
                Arc::clone(config.keys.tickets()),
                config.dns_suffix.clone(),
            ),
            db,
            reports: match kv.is_shared() {
                true => Arc::clone(&kv),
                false => Arc::new(MemoryKv::default()),
            },
            compiles: Semaphore::new(COMPILES),
            kv,
            mail,
            keys: config.keys,
            passwords: Passwords::new().await?,
            providers: Providers::new(config.sign_in, &config.public_url)
                .map_err(StartError::Other)?,
            limits: config.limits,
            trusted_proxies: config.trusted_proxies,
            metrics: Metrics::install().map_err(StartError::Other)?,
            more_figures: config.more_figures,
            revocations: Arc::default(),
            stopping,
            probe_period: config.probe_period,
            allow_private_relays: config.allow_private_relays,
            geoip: config.geoip,
            releases: releases::Serving::new(config.releases),
            realtime: Arc::default(),
            realtime_ping: config.realtime_ping,
            registrations: machines::RegistrationLine::default(),
            posture_clock: posture::Listening::start(config.posture_stale),
            ephemeral_silence: config.ephemeral_silence,
            started: Instant::now(),
            public_url: config.public_url.trim_end_matches('/').to_owned(),
            pin: config.pin.filter(|_| config.trusted_proxies == 0),
            dns_suffix: config.dns_suffix,
            on_cut: config.on_cut,
        }));
        let tasks = TaskTracker::new();
        if state.kv.is_shared() {
            tasks.spawn(state.hub.follow(state.stopping.clone()));
        }
        tasks.spawn(look_after(state.clone()));
        tasks.spawn(realtime::follow(state.clone()));
        tasks.spawn(relays::keep_probing(state.clone()));
        tasks.spawn(releases::follow(state.clone()));
        tasks.close();
        Ok(Self {
            router: router(&state, config.dashboard)?,
            state,
            tasks,
            _store: store,
        })
    }

    /// Answers everything that the control plane serves.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The key that relays check tickets with.
    #[must_use]
    pub fn ticket_verifier(&self) -> TicketVerifier {
        self.state.keys.ticket_verifier()
    }

    /// What was revoked, from the oldest ticket's time on, for a relay in the same process.
    #[must_use]
    pub fn revocations(&self) -> RevocationFeed {
        let state = &self.state;
        RevocationFeed::new(
            state.db.clone(),
            Arc::clone(&state.revocations),
            state.stopping.clone(),
        )
    }

    /// Ends streams and tasks, and writes down what is only in memory.
    pub async fn stop(self) {
        self.state.stopping.cancel();
        self.tasks.wait().await;
    }
}

fn router(state: &State, dashboard: Option<Dashboard>) -> Result<Router, StartError> {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(identity::routes())
        .merge(orgs::routes())
        .merge(auth_keys::routes())
        .merge(api_keys::routes())
        .merge(machines::routes())
        .merge(policy::routes())
        .merge(audit::routes())
        .merge(posture::routes())
        .merge(netmap::routes())
        .merge(network::routes())
        .merge(realtime::routes())
        .merge(relays::routes())
        .merge(releases::routes())
        .merge(http::routes())
        .split_for_parts();
    let document = http::complete_document(&document)
        .map_err(|error| StartError::Other(format!("writing the API's document: {error}")))?;
    let router = router
        .route("/api/openapi.json", get(async move || axum::Json(document)))
        .with_state(state.clone());
    Ok(http::wrap(router, dashboard, state.trusted_proxies))
}

async fn look_after(state: State) {
    let mut sweeps = interval(SWEEP_PERIOD);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silences = interval((state.ephemeral_silence / SILENCE_LOOKS).max(SWEEP_PERIOD));
    silences.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leftovers = interval(LEFTOVERS_PERIOD);
    leftovers.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = state.stopping.cancelled() => break,
            _ = sweeps.tick() => {
                if let Err(error) = machines::expire_due(&state).await {
                    tracing::error!(%error, "expired machines could not be ended; trying again");
                }
                if let Err(error) = posture::recheck_due(&state).await {
                    tracing::error!(%error, "machines could not be judged; trying again");
                }
                state.hub.sweep().await;
                if let Err(error) = state.revocations.look(&state.db).await {
                    tracing::error!(%error, "revocations could not be read; trying again");
                }
                state.metrics.upkeep();
            }
            _ = silences.tick() => {
                if let Err(error) = machines::remove_silent(&state).await {
                    tracing::error!(%error, "silent machines could not be removed; trying again");
                }
            }
            _ = leftovers.tick() => {
                if let Err(error) = remove_leftovers(&state).await {
                    tracing::error!(%error, "leftovers could not be removed; trying again");
                }
                if let Err(error) = machines::forget_countries(&state).await {
                    tracing::error!(%error, "machines' countries could not be forgotten; trying again");
                }
                if let Err(error) = audit::cut_due(&state).await {
                    tracing::error!(%error, "old rows of the audit log could not be removed; trying again");
                }
            }
        }
    }
    state.hub.sweep().await;
}

async fn remove_leftovers(state: &State) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    tx.query("SELECT sweep_leftovers()", &[]).await?;
    tx.commit().await
}
