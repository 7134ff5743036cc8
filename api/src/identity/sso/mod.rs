//! Sign-in by others: Google and GitHub for the deployment, an OpenID Connect provider for each org that
//! wants one.
//!
//! A provider says who somebody is; what that means here is decided in one place ([`enter`]), by these
//! rules:
//!
//! * Who a provider's person is here hangs on its own name for them (issuer and subject), never on an
//!   address. Addresses change hands, subjects do not.
//! * An account that exists is linked once its own password, and its second factor, were given. No
//!   claim opens it, whoever makes it. Its owner is told by mail, and a password reset ends every link.
//! * An account is made for an address that its provider has verified. An org's provider makes some only
//!   for domains that the org has proved to hold (a DNS record, one org at a time), so nobody finds an
//!   account of theirs made by strangers.
//! * What an org's provider says holds for that org: its members, their roles (owners are never made so)
//!   and their groups, from the second factor on. Who leaves the org is no longer known to its provider.
//! * Of an address outside of those domains an org hears nothing until it is a member's: who is invited
//!   accepts by the invitation's link first.
//! * A second factor is the account's, and asked for whoever vouches for the first.
//! * A session that an org's provider vouched for ends within a day: who was shut out there, is soon out
//!   here. An org may let its members in by such sessions alone ([`only`]).
//!
//! The flow is the authorization code's with PKCE, `state` and `nonce` ([`flow`]), bound to the browser by a
//! cookie. Every provider has its own redirect URI, and one that says that it names itself has to (RFC
//! 9207): no provider gets another's code.

mod config;
mod destination;
mod discovery;
mod domains;
mod enter;
mod fetch;
mod flow;
mod github;
mod id_token;
mod oidc;
mod only;
mod own;
mod page;
mod provider;
mod settings;
mod view;
mod ways;

pub use config::{GitHubConfig, GoogleConfig, SignInConfig, SignInFlags, SignUp};
pub use fetch::IssuerRules;
pub(crate) use only::{admit, check_vouched};
pub(crate) use provider::Providers;
pub(crate) use settings::{SECRET as CLIENT_SECRET_PURPOSE, reseal as reseal_client_secret};
pub(super) use view::{Others, others};

use utoipa_axum::router::OpenApiRouter;

use crate::app::State;

/// Longest subject (OpenID Connect Core 1.0 §2).
const MAX_SUBJECT: usize = 255;

pub(super) fn routes() -> OpenApiRouter<State> {
    settings::routes()
        .merge(domains::routes())
        .merge(own::routes())
        .merge(page::routes())
        .merge(ways::routes())
}
