//! People: accounts, sessions, and the CLI's sign-in through a browser.
//!
//! A session is an access token (ES256, 15 minutes, kept nowhere) and a refresh token (random, stored
//! hashed, used once, its whole family ended when one comes twice). Browsers hold the refresh token in
//! a `__Host-` cookie that scripts cannot read; other clients get it in the answer.
//!
//! Where mail is sent, an account waits until its address is confirmed, and a forgotten password is
//! replaced by mail ([`recovery`]). [`mfa`] is the second factor. No answer tells whether an address has an account.
//! [`sso`] is sign-in by others: Google, GitHub, and orgs' own providers.

mod accept_page;
mod accounts;
mod cli;
mod deletion;
mod mail_page;
mod mfa;
mod page;
mod passwords;
mod recovery;
mod routes;
mod sessions;
mod sso;
mod view;

pub(crate) use accounts::normalise_email;
pub(crate) use mfa::{SECRET as TOTP_PURPOSE, remove as remove_second_factor};
pub(crate) use passwords::Passwords;
pub(crate) use recovery::may_write;
pub(crate) use sessions::lives as session_lives;
pub(crate) use sso::{
    CLIENT_SECRET_PURPOSE, Providers, admit, check_vouched, reseal_client_secret,
};
pub use sso::{GitHubConfig, GoogleConfig, IssuerRules, SignInConfig, SignInFlags, SignUp};

use utoipa_axum::router::OpenApiRouter;

use crate::app::State;

pub(crate) fn routes() -> OpenApiRouter<State> {
    routes::routes()
        .merge(page::routes())
        .merge(mail_page::routes())
        .merge(accept_page::routes())
        .merge(sso::routes())
}
