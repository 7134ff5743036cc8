//! What a provider says of itself (OpenID Connect Discovery 1.0), and its keys; kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::fetch::{Fetcher, NamedBy, call};

/// How long documents and keys are kept.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Keys are fetched anew for a key that is not among them, so often in each [`LIFETIME`] at most: tokens name
/// keys, whoever makes them.
const MAX_REFETCHES: u32 = 5;
/// Issuers that are kept. Beyond it, all are fetched anew.
const MAX_ISSUERS: usize = 1024;
/// Most keys of a provider that are looked at.
const MAX_KEYS: usize = 100;

/// A discovery document, as far as we read it.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// A provider, its endpoints checked.
pub(super) struct Provider {
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) userinfo: Option<Url>,
    /// Whether it wants our secret in the body rather than as basic authentication.
    pub(super) secret_in_body: bool,
    /// Whether it names itself when it sends the browser back (RFC 9207).
    pub(super) names_itself: bool,
    /// Whether it has a scope by which groups are asked for.
    pub(super) knows_groups: bool,
    jwks: Url,
}

struct Kept<T> {
    value: T,
    since: Instant,
}

#[derive(Default)]
struct Entry {
    provider: Option<Kept<Arc<Provider>>>,
    keys: Option<Kept<Vec<Jwk>>>,
    /// Of the keys, since `keys` were fetched because their time was over.
    refetches: u32,
}

/// What is kept of an issuer; locked while it is fetched, so that many sign-ins ask once.
type Shared = Arc<Mutex<Entry>>;

/// Providers and their keys.
#[derive(Default)]
pub(super) struct Directory(SyncMutex<HashMap<(NamedBy, String), Shared>>);

impl Directory {
    fn entry(&self, issuer: &str, by: NamedBy) -> Shared {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ISSUERS {
            entries.clear();
        }
        Arc::clone(entries.entry((by, issuer.to_owned())).or_default())
    }

    /// The provider that an issuer identifier names.
    ///
    /// # Errors
    /// In words that complete "the provider … cannot be used: ".
    pub(super) async fn provider(
        &self,
        fetcher: &Fetcher,
        issuer: &str,
        by: NamedBy,
    ) -> Result<Arc<Provider>, String> {
        let entry = self.entry(issuer, by);
        let mut entry = entry.lock().await;
        if let Some(kept) = &entry.provider
            && kept.since.elapsed() < LIFETIME
        {
            return Ok(Arc::clone(&kept.value));
        }
        let provider = Arc::new(discover(fetcher, issuer, by).await?);
        entry.provider = Some(Kept {
            value: Arc::clone(&provider),
            since: Instant::now(),
        });
        Ok(provider)
    }

    /// The provider's key that a token names, or its only one that fits if it names none.
    ///
    /// # Errors
    /// It has none such, or its keys cannot be read.
    pub(super) async fn key(
        &self,
        fetcher: &Fetcher,
        issuer: &str,
        by: NamedBy,
        fits: impl Fn(&Jwk) -> bool,
    ) -> Result<Jwk, String> {
        let provider = self.provider(fetcher, issuer, by).await?;
        let entry = self.entry(issuer, by);
        let mut entry = entry.lock().await;
        let mut since = Instant::now();
        let mut refetches = 0;
        if let Some(kept) = &entry.keys
            && kept.since.elapsed() < LIFETIME
        {
            let key = only(&kept.value, &fits);
            if key.is_ok() || entry.refetches >= MAX_REFETCHES {
                return key;
            }
            since = kept.since;
            refetches = entry.refetches + 1;
        }
        // Counted before, so that a provider that fails is not asked any more often.
        entry.refetches = refetches;
        let keys = fetch_keys(fetcher, &provider.jwks, by).await?;
        let key = only(&keys, &fits);
        entry.keys = Some(Kept { value: keys, since });
        key
    }
}

fn only(keys: &[Jwk], fits: &impl Fn(&Jwk) -> bool) -> Result<Jwk, String> {
    let mut found = keys.iter().filter(|key| fits(key));
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key.clone()),
        (None, _) => Err("its ID token is signed with a key that it does not publish".to_owned()),
        (Some(_), Some(_)) => {
            Err("its ID token does not say with which of its keys it is signed".to_owned())
        }
    }
}

async fn discover(fetcher: &Fetcher, issuer: &str, by: NamedBy) -> Result<Provider, String> {
    fetcher.check(issuer, by)?;
    // OpenID Connect Discovery 1.0 §4: a slash at the issuer's end is removed first.
    let address = format!(
        "{}/.well-known/openid-configuration",
        issuer.strip_suffix('/').unwrap_or(issuer)
    );
    let document: Document = call(fetcher.client(by).get(address))
        .await
        .map_err(|error| format!("its discovery document cannot be read: {error}"))?;
    // §4.3: exactly.
    if document.issuer != issuer {
        return Err(format!(
            "its discovery document is of the issuer {}",
            super::fetch::words(&document.issuer)
        ));
    }
    let url = |what: &str, text: &str| {
        fetcher
            .check(text, by)
            .map_err(|error| format!("its {what} is not usable: {error}"))
    };
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        let list = list.as_ref();
        list.is_some_and(|list| list.iter().any(|entry| entry == wanted))
    };
    let methods = &document.token_endpoint_auth_methods_supported;
    Ok(Provider {
        authorization: url("authorization endpoint", &document.authorization_endpoint)?,
        token: url("token endpoint", &document.token_endpoint)?,
        userinfo: match &document.userinfo_endpoint {
            Some(text) => Some(url("userinfo endpoint", text)?),
            None => None,
        },
        jwks: url("key set", &document.jwks_uri)?,
        // Basic is what holds where nothing is said (§3).
        secret_in_body: has(methods, "client_secret_post") && !has(methods, "client_secret_basic"),
        names_itself: document.authorization_response_iss_parameter_supported,
        knows_groups: has(&document.scopes_supported, "groups"),
    })
}

/// The keys that we can read; a key of a new kind must not make the others useless.
async fn fetch_keys(fetcher: &Fetcher, jwks: &Url, by: NamedBy) -> Result<Vec<Jwk>, String> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<Value>,
    }
    let keys: Keys = call(fetcher.client(by).get(jwks.clone()))
        .await
        .map_err(|error| format!("its keys cannot be read: {error}"))?;
    let keys = keys.keys.into_iter().take(MAX_KEYS);
    let readable = keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let for_signing = |key: &Jwk| {
        matches!(
            key.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        )
    };
    Ok(readable.filter(for_signing).collect())
}
