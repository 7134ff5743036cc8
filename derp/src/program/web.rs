//! The program's HTTP service beside the relay: health, metrics, and the relay's own routes.

use std::sync::Arc;

use axum::extract::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use ztna_derp::server::{BootstrapDns, Server, routes};
use ztna_proto::api::Health;
use ztna_tls::ClientAddr;

use super::revocations::Age;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the relay's port serves beside the relay.
pub fn router(bootstrap: Arc<BootstrapDns>) -> Router {
    Router::new()
        .route("/health", get(health))
        .merge(bootstrap.routes())
        .merge(routes())
}

/// Where the numbers come from.
#[derive(Clone)]
pub struct Metrics {
    pub recorder: PrometheusHandle,
    pub server: Arc<Server>,
    pub age: Option<Age>,
}

impl Metrics {
    fn render(&self) -> Response {
        if let Some(age) = &self.age {
            age.publish();
        }
        let text = self.recorder.render() + &self.server.prometheus();
        ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
    }

    /// `/metrics` for whoever reaches the port: one of the operator's own.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/metrics", get(async move || self.render()))
            .route("/health", get(health))
    }

    /// `/metrics` for clients of these networks only: the numbers of a relay that the whole net may
    /// reach are not the whole net's business.
    pub fn routes_for(self, networks: Vec<IpNet>) -> Router {
        let networks: Arc<[IpNet]> = networks.into();
        let metrics = async move |Extension(ClientAddr(address)): Extension<ClientAddr>| {
            let ip = address.ip().to_canonical();
            if !networks.iter().any(|net| net.contains(&ip)) {
                return (StatusCode::FORBIDDEN, "see --metrics-from\n").into_response();
            }
            self.render()
        };
        Router::new().route("/metrics", get(metrics))
    }
}

async fn health() -> Response {
    Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
    .into_response()
}
