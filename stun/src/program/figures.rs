//! Figures for Prometheus.

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Installs the recorder and opens the port; the service that comes back serves `/metrics`.
pub async fn start(
    address: SocketAddr,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let recorder = PrometheusBuilder::new().install_recorder()?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address} for Prometheus; choose another --metrics-listen")
    })?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "figures at /metrics");
    let render = move || async move { ([(header::CONTENT_TYPE, METRICS_TYPE)], recorder.render()) };
    let router = Router::new().route("/metrics", get(render));
    Ok(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = axum::serve(listener, router).into_future() => {}
        }
    })
}
