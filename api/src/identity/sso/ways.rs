//! `/api/auth/ways` and `/api/auth/sso`: what a sign-in page offers.

use axum::extract;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::sso::{MAX_HINT, SIGN_IN_PATH, SignInProvider, SignInWays, SsoDiscovery};

use super::page;
use super::provider::ProviderId;
use crate::app::State;
use crate::http::{Answer, ClientIp, Query, ok, refuse};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(ways))
        .routes(routes!(discover))
}

/// How people sign in here.
#[utoipa::path(get, path = "/api/auth/ways", tag = "identity", responses(
    (status = 200, body = Envelope<SignInWays>),
))]
async fn ways(extract::State(state): extract::State<State>) -> Answer<SignInWays> {
    let there = [
        (ProviderId::Google, state.providers.has_google()),
        (ProviderId::GitHub, state.providers.has_github()),
    ];
    let providers = there.into_iter().filter(|(_, there)| *there);
    ok(SignInWays {
        sign_up: state.providers.sign_up_is_open(),
        mail: state.mail.is_some(),
        providers: providers
            .map(|(provider, _)| SignInProvider {
                id: provider.to_string(),
                name: provider.name().to_owned(),
                start: format!("{SIGN_IN_PATH}/{provider}"),
            })
            .collect(),
    })
}

/// What somebody has typed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Hint {
    /// An e-mail address, its domain, or an org's label.
    #[param(max_length = 320)]
    hint: String,
}

/// Whether there is an org with a sign-in of its own behind it. Of an address the domain alone counts: the answer is the
/// same whether it has an account or not.
#[utoipa::path(get, path = "/api/auth/sso", tag = "identity", params(Hint), responses(
    (status = 200, body = Envelope<SsoDiscovery>), (status = 400, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn discover(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Query(Hint { hint }): Query<Hint>,
) -> Answer<SsoDiscovery> {
    if hint.len() > MAX_HINT {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("`hint` is an e-mail address or an org's label, of at most {MAX_HINT} bytes"),
        ));
    }
    page::spend(&state, ip).await?;
    let named = page::named(&hint);
    // What names no host leads nowhere, and has no place in an address.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let start = match named.chars().all(is_name) && page::find_org(&state, &named).await?.is_some()
    {
        true => Some(format!("{SIGN_IN_PATH}/sso?org={named}")),
        false => None,
    };
    ok(SsoDiscovery { start })
}
