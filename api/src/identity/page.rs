//! Pages.
use crate::app::State;
use utoipa_axum::router::OpenApiRouter;
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
}
