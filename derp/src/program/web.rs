//! The program's HTTP service beside the relay: health, metrics, and the relay's own routes.

use std::sync::Arc;

use axum::extract::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use ztna_derp::server::routes;
use ztna_proto::api::Health;
use ztna_tls::ClientAddr;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes. `/metrics` answers clients of `metrics_from` only: the numbers of a relay that the
/// whole net may reach are not the whole net's business.
pub fn router(recorder: PrometheusHandle, metrics_from: Vec<IpNet>) -> Router {
    let metrics_from: Arc<[IpNet]> = metrics_from.into();
    let metrics = move |Extension(ClientAddr(address)): Extension<ClientAddr>| async move {
        let ip = address.ip().to_canonical();
        if !metrics_from.iter().any(|net| net.contains(&ip)) {
            return (StatusCode::FORBIDDEN, "see --metrics-from\n").into_response();
        }
        ([(header::CONTENT_TYPE, METRICS_TYPE)], recorder.render()).into_response()
    };
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .merge(routes())
}

async fn health() -> Response {
    Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
    .into_response()
}
