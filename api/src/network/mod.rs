//! What an org's network has beside machines: the networks behind them, and names.

mod dns;
mod routes;

pub(crate) use dns::load as dns;
pub(crate) use routes::tailnet;

use utoipa_axum::router::OpenApiRouter;

use crate::app::State;

pub(crate) fn routes() -> OpenApiRouter<State> {
    routes::routes().merge(dns::routes())
}
