//! A sign-in between the browser's leaving and its return.
//!
//! What is remembered of it lies in the store for one-time codes, under the hash of `state`, and belongs
//! to the browser that holds the cookie: nobody can be signed in to somebody else's account by a link.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::UserId;
use ztna_proto::keys::hex;

use super::destination::Destination;
use super::provider::{ProviderId, Vouched, client};
use super::{github, oidc};
use crate::app::State;
use crate::http::{ApiError, cookie_value, refuse};

/// A person has so long at the provider, and then for password or code.
const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// The cookie that tells the browser again. Lax, for the provider sends it back from another site.
const COOKIE: &str = "__Host-sign_in";
/// Random bytes of every secret here (RFC 7636 §4.1 recommends 32).
const SECRET_LEN: usize = 32;

fn random() -> String {
    let mut secret = [0; SECRET_LEN];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut secret);
    BASE64URL.encode(secret)
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// What a sign-in is recognised by.
#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
pub(super) struct Secrets {
    pub(super) state: String,
    pub(super) nonce: String,
    /// RFC 7636 §4.1.
    pub(super) verifier: String,
}

impl Secrets {
    fn generate() -> Self {
        Self {
            state: random(),
            nonce: random(),
            verifier: random(),
        }
    }

    /// RFC 7636 §4.2, S256.
    pub(super) fn challenge(&self) -> String {
        BASE64URL.encode(Sha256::digest(self.verifier.as_bytes()))
    }
}

/// The browser's secret; one for all of its tabs.
pub(super) struct Browser(String);

impl Browser {
    /// The one that calls, if it has a secret.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = cookie_value(headers, COOKIE)?;
        let well_formed = BASE64URL
            .decode(&value)
            .is_ok_and(|bytes| bytes.len() == SECRET_LEN);
        well_formed.then_some(Self(value))
    }

    /// The `Set-Cookie` header.
    pub(super) fn cookie(&self) -> Option<HeaderValue> {
        let cookie = Cookie::build((COOKIE, self.0.as_str()))
            .path("/")
            .http_only(true)
            .secure(true)
            .same_site(SameSite::Lax)
            .build();
        HeaderValue::from_str(&cookie.to_string()).ok()
    }
}

#[derive(Serialize, Deserialize)]
struct Attempt {
    provider: ProviderId,
    /// Hash of the browser's secret.
    browser: String,
    secrets: Secrets,
    destination: Destination,
}

/// What the browser brings back (RFC 6749 §4.1.2, RFC 9207 §2).
pub(super) struct Back {
    pub(super) code: String,
    pub(super) iss: Option<String>,
}

/// Begins a sign-in: where the browser is to go.
pub(super) async fn begin(
    state: &State,
    browser: &Browser,
    provider: ProviderId,
    destination: Destination,
) -> Result<Url, ApiError> {
    let secrets = Secrets::generate();
    let providers = &state.providers;
    let url = match provider {
        ProviderId::GitHub => github::authorization_url(providers, &secrets)?,
        ProviderId::Google | ProviderId::Org(_) => {
            let client = client(state, provider).await?;
            oidc::authorization_url(providers, provider, &client, &secrets).await?
        }
    };
    let key = attempt_key(&secrets.state);
    let attempt = Attempt {
        provider,
        browser: hash(&browser.0),
        secrets,
        destination,
    };
    store(state, &key, &attempt).await?;
    Ok(url)
}

/// Ends a sign-in at the provider: what it says of the person, and for what it was begun. Right or wrong,
/// `sent` works once.
pub(super) async fn finish(
    state: &State,
    headers: &HeaderMap,
    provider: ProviderId,
    sent: &str,
    back: Result<Back, String>,
) -> Result<(Vouched, Destination, Browser), ApiError> {
    let over = || {
        refuse(
            ErrorCode::Unauthorized,
            "This sign-in was not begun in this browser, was finished before, or its 10 minutes are over. \
             Begin it again.",
        )
    };
    let stored = state.kv.take(&attempt_key(sent)).await?;
    let attempt: Option<Attempt> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let (Some(attempt), Some(browser)) = (attempt, Browser::of(headers)) else {
        return Err(over());
    };
    let own = bool::from(
        attempt
            .browser
            .as_bytes()
            .ct_eq(hash(&browser.0).as_bytes()),
    );
    // A provider that sends browsers to another one's place wants that one's codes.
    if !own || attempt.provider != provider {
        return Err(over());
    }
    let back = back.map_err(|why| oidc::refused(provider, &why))?;
    let providers = &state.providers;
    let vouched = match provider {
        ProviderId::GitHub => github::redeem(providers, &attempt.secrets, &back).await?,
        ProviderId::Google | ProviderId::Org(_) => {
            let client = client(state, provider).await?;
            oidc::redeem(providers, provider, &client, &attempt.secrets, &back).await?
        }
    };
    Ok((vouched, attempt.destination, browser))
}

/// Somebody whom a provider vouches for, and who has to show more.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Names it in its form. Random, so that what is shown is for what the form shows, whatever other
    /// sign-ins another site's page has this browser begin meanwhile.
    pub(super) id: String,
    pub(super) vouched: Vouched,
    pub(super) destination: Destination,
    pub(super) need: Need,
}

/// What is missing.
#[derive(Serialize, Deserialize)]
pub(super) enum Need {
    /// Password, and code if the account has a second factor, of the account to be linked.
    Account {
        /// Its address.
        email: String,
    },
    /// The second factor's code of the account that is linked.
    Code(UserId),
    /// Nothing, unless the browser holds the session of another account.
    Nothing(UserId),
}

impl Waiting {
    /// Keeps it for the browser.
    pub(super) async fn keep(
        state: &State,
        browser: &Browser,
        vouched: Vouched,
        destination: Destination,
        need: Need,
    ) -> Result<Self, ApiError> {
        let waiting = Self {
            id: random(),
            vouched,
            destination,
            need,
        };
        store(state, &waiting_key(browser, &waiting.id), &waiting).await?;
        Ok(waiting)
    }

    /// What the browser waits for by that id, if anything.
    pub(super) async fn of(
        state: &State,
        browser: &Browser,
        id: &str,
    ) -> Result<Option<Self>, ApiError> {
        let stored = state.kv.get(&waiting_key(browser, id)).await?;
        Ok(stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Nobody waits any more. Whether somebody did: of two at once, one does.
    pub(super) async fn end(&self, state: &State, browser: &Browser) -> Result<bool, ApiError> {
        let ended = state.kv.take(&waiting_key(browser, &self.id)).await?;
        Ok(ended.is_some())
    }
}

fn attempt_key(state: &str) -> String {
    format!("sign-in:{}", hash(state))
}

fn waiting_key(browser: &Browser, id: &str) -> String {
    format!("sign-in-waits:{}:{}", hash(&browser.0), hash(id))
}

async fn store<T: Serialize>(state: &State, key: &str, value: &T) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(value).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(state.kv.set(key, bytes, LIFETIME).await?)
}

impl Default for Browser {
    /// A new one.
    fn default() -> Self {
        Self(random())
    }
}
