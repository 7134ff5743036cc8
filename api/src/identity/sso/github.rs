//! GitHub: OAuth 2 without ID tokens. Who somebody is, its API tells.

use reqwest::{Method, RequestBuilder, Url, header};
use serde::Deserialize;

use super::fetch::{NamedBy, call};
use super::flow::{Back, Secrets};
use super::oidc::{Tokens, form, refused};
use super::provider::{ProviderId, Providers, Vouched};
use crate::http::ApiError;
use crate::identity::normalise_email;

/// Enough to read addresses, and nothing else.
const SCOPE: &str = "read:user user:email";
/// Version of the API that the calls are written for.
const API_VERSION: &str = "2022-11-28";

fn address(base: &str, path: &str) -> Result<Url, ApiError> {
    let address = format!("{}{path}", base.trim_end_matches('/'));
    Url::parse(&address).map_err(|error| refused(ProviderId::GitHub, &error.to_string()))
}

/// Where the browser is sent.
pub(super) fn authorization_url(providers: &Providers, secrets: &Secrets) -> Result<Url, ApiError> {
    let config = providers.github()?;
    let mut url = address(&config.url, "/login/oauth/authorize")?;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", &providers.redirect_uri(ProviderId::GitHub))
        .append_pair("scope", SCOPE)
        .append_pair("state", &secrets.state)
        .append_pair("code_challenge", &secrets.challenge())
        .append_pair("code_challenge_method", "S256");
    Ok(url)
}

#[derive(Deserialize)]
struct Account {
    /// Never given to another account, unlike the login name.
    id: u64,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

/// Turns what the browser brought back into what GitHub says of the person.
pub(super) async fn redeem(
    providers: &Providers,
    secrets: &Secrets,
    back: &Back,
) -> Result<Vouched, ApiError> {
    let config = providers.github()?;
    let token_url = address(&config.url, "/login/oauth/access_token")?;
    let user_url = address(&config.api_url, "/user")?;
    let emails_url = address(&config.api_url, "/user/emails")?;
    let vouched = async {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", &config.client_id),
            ("client_secret", &config.client_secret),
            ("code", &back.code),
            ("redirect_uri", &providers.redirect_uri(ProviderId::GitHub)),
            ("code_verifier", &secrets.verifier),
        ];
        let http = providers.fetcher.client(NamedBy::Operator);
        // It says what is wrong with status 200 too.
        let tokens: Tokens = call(form(http.post(token_url), &fields)).await?;
        let token = tokens.good()?.access_token.ok_or("it gave no token")?;
        let get = |url: Url| api_call(http, url, &token);
        let account: Account = call(get(user_url)).await?;
        let emails: Vec<Email> = call(get(emails_url)).await?;
        let primary = emails.into_iter().find(|email| email.primary);
        let verified = primary.as_ref().is_some_and(|email| email.verified);
        Ok::<_, String>(Vouched {
            provider: ProviderId::GitHub,
            issuer: String::new(),
            subject: account.id.to_string(),
            email: primary.and_then(|email| normalise_email(&email.email).ok()),
            verified,
            groups: Vec::new(),
        })
    };
    vouched
        .await
        .map_err(|why| refused(ProviderId::GitHub, &why))
}

fn api_call(http: &reqwest::Client, url: Url, token: &str) -> RequestBuilder {
    http.request(Method::GET, url)
        .header(header::ACCEPT, "application/vnd.github+json")
        .header("x-github-api-version", API_VERSION)
        .bearer_auth(token)
}
