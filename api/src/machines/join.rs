//! `/api/join`: what a machine has to know to join.

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{JoinInfo, JoinLine};
use ztna_proto::error::Envelope;

use crate::app::State;
use crate::http::{Answer, ok};

/// Systems that there are agents for, and what makes a command an administrator's there.
const SYSTEMS: [(&str, &str); 3] = [("linux", "sudo "), ("macos", "sudo "), ("windows", "")];

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What a machine has to know of this deployment to join it.
#[utoipa::path(get, path = "/api/join", tag = "machines", responses((status = 200, body = Envelope<JoinInfo>)))]
async fn show(extract::State(state): extract::State<State>) -> Answer<JoinInfo> {
    let server = state.public_url.clone();
    let pin = state.pin.clone();
    let pinned = pin.iter().map(|pin| format!(" --server-pin {pin}"));
    let pinned: String = pinned.collect();
    let lines = SYSTEMS.iter().map(|(os, before)| JoinLine {
        os: (*os).to_owned(),
        line: format!("{before}ztna up --server {server}{pinned}"),
    });
    ok(JoinInfo {
        lines: lines.collect(),
        server,
        pin,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
