//! `/health` and `/metrics`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::extract;
use http::{StatusCode, header};
use jiff::Timestamp;
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Health;
use ztna_proto::error::ErrorCode;

use super::answer::{ApiError, refuse};
use super::caller::ClientIp;
use super::figures;
use crate::app::State;

/// Buckets of durations, in seconds.
const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// `/health` and `/metrics` wait this long for the database.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);
/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The process's figures.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<PrometheusHandle>);

impl Metrics {
    /// The recorder is the process's: a second control plane in it shares the first's.
    pub(crate) fn install() -> Result<Self, String> {
        static INSTALLED: OnceLock<Result<Metrics, String>> = OnceLock::new();
        INSTALLED
            .get_or_init(|| {
                let recorder = PrometheusBuilder::new()
                    .set_buckets(&BUCKETS)
                    .map_err(|error| error.to_string())?
                    .build_recorder();
                let handle = recorder.handle();
                metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
                figures::describe();
                Ok(Self(Arc::new(handle)))
            })
            .clone()
    }

    /// Empties the histograms' buffers; to be called now and then.
    pub(crate) fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Counts a call, under the figures of its kind. Kinds are bounded: routes, methods and statuses are.
pub(super) fn count_call(method: &'static str, route: &str, status: u16, took: Duration) {
    type Kinds = HashMap<String, HashMap<(&'static str, u16), (Counter, Histogram)>>;
    // To look a figure up by its labels costs more than to count.
    static KINDS: LazyLock<RwLock<Kinds>> = LazyLock::new(RwLock::default);
    let count = |kinds: &Kinds| {
        let (calls, seconds) = kinds.get(route)?.get(&(method, status))?;
        calls.increment(1);
        seconds.record(took.as_secs_f64());
        Some(())
    };
    let known = count(&KINDS.read().unwrap_or_else(PoisonError::into_inner));
    if known.is_some() {
        return;
    }
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    let figures = (
        metrics::counter!("ztna_api_http_requests_total", &labels),
        metrics::histogram!("ztna_api_http_request_seconds", &labels[..2]),
    );
    let mut kinds = KINDS.write().unwrap_or_else(PoisonError::into_inner);
    let of_route = kinds.entry(route.to_owned()).or_default();
    of_route.insert((method, status), figures);
    count(&kinds);
}

/// How well a node can serve: the one source of what `/health` and `/metrics` say.
pub(super) struct Condition {
    /// Whether the database answers; without it nothing is served.
    pub database: bool,
    /// When the last backup was taken, if there is one and the database answers.
    pub last_backup: Option<Timestamp>,
    /// Parts that it may serve without, and why it does, if so.
    pub parts: [(&'static str, Option<&'static str>); 2],
}

impl Condition {
    async fn of(state: &State) -> Self {
        let check = async {
            let mut connection = state.db.connect().await?;
            let tx = connection.bare().await?;
            let row = tx
                .query_opt("SELECT taken_at FROM last_backup", &[])
                .await?;
            Ok::<_, ApiError>(row.map(|row| row.get(0)))
        };
        let answer = tokio::time::timeout(HEALTH_LIMIT, check).await;
        let answer = answer.ok().and_then(Result::ok);
        Self {
            database: answer.is_some(),
            last_backup: answer.flatten(),
            parts: [
                ("kv", state.kv.degraded()),
                ("releases", state.releases.degraded()),
            ],
        }
    }
}

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(figures))
}

/// Whether the control plane can serve. `status` is `ok`, or `degraded: …` if it serves with less.
#[utoipa::path(get, path = "/health", tag = "operation", responses(
    (status = 200, description = "It can.", body = Health),
    (status = 503, description = "It cannot; `status` says why.", body = Health),
))]
async fn health(extract::State(state): extract::State<State>) -> (StatusCode, axum::Json<Health>) {
    let condition = Condition::of(&state).await;
    let why: Vec<&str> = condition.parts.iter().filter_map(|(_, why)| *why).collect();
    let (code, status) = match (condition.database, why.is_empty()) {
        (true, false) => (StatusCode::OK, format!("degraded: {}", why.join("; "))),
        (true, true) => (StatusCode::OK, "ok".to_owned()),
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer".to_owned(),
        ),
    };
    let health = Health {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    (code, axum::Json(health))
}

/// Figures for Prometheus. Only for addresses that are not on the public internet.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "Prometheus text format.", body = String),
))]
async fn figures(
    ClientIp(ip): ClientIp,
    extract::State(state): extract::State<State>,
) -> Result<([(header::HeaderName, &'static str); 1], String), ApiError> {
    if !is_near(ip) {
        return Err(refuse(
            ErrorCode::Forbidden,
            "figures are only for the server's own network",
        ));
    }
    let condition = Condition::of(&state).await;
    let mut text = state.metrics.0.render();
    text += &figures::of_state(&condition, &state.db.figures());
    if let Some(more) = &state.more_figures {
        text += &more();
    }
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text))
}

fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}
