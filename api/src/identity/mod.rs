//! People: accounts, sessions, and the CLI's sign-in through a browser.
//!
//! A session is an access token (ES256, 15 minutes, kept nowhere) and a refresh token (random, stored
//! hashed, used once, its whole family ended when one comes twice). Browsers hold the refresh token in
//! a `__Host-` cookie that scripts cannot read; other clients get it in the answer.

mod accounts;
mod cli;
mod page;
mod passwords;
mod routes;
mod sessions;
mod view;

pub(crate) use accounts::normalise_email;
pub(crate) use passwords::Passwords;

use utoipa_axum::router::OpenApiRouter;

use crate::app::State;

pub(crate) fn routes() -> OpenApiRouter<State> {
    routes::routes().merge(page::routes())
}
