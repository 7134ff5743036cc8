//! The authorization code flow at an OpenID Connect provider.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::{RequestBuilder, Url, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use ztna_proto::error::ErrorCode;
use ztna_proto::sso::MAX_GROUP_NAME;

use super::discovery::Provider;
use super::fetch::{call, words};
use super::flow::{Back, Secrets};
use super::id_token::{self, Expected};
use super::provider::{Client, ProviderId, Providers, Vouched};
use crate::http::{ApiError, refuse};
use crate::identity::normalise_email;

/// What is asked for; `groups` too where the provider knows that scope.
const SCOPE: &str = "openid email profile";
/// Most groups of a person that are looked at.
const MAX_GROUPS: usize = 1000;

/// Refuses what a provider did, in words that complete "the provider … cannot be used: ".
pub(super) fn refused(provider: ProviderId, why: &str) -> ApiError {
    let who = match provider {
        ProviderId::Org(_) => "tell an admin of your organisation",
        ProviderId::Google | ProviderId::GitHub => "tell who runs this control plane",
    };
    refuse(
        ErrorCode::Unauthorized,
        format!(
            "Signing in with {} did not work: {why}. Try again; if it stays so, {who}.",
            provider.name()
        ),
    )
}

/// Where the browser is sent.
pub(super) async fn authorization_url(
    providers: &Providers,
    provider: ProviderId,
    client: &Client,
    secrets: &Secrets,
) -> Result<Url, ApiError> {
    let found = discover(providers, provider, client).await?;
    let scope = match client.groups_claim.is_some() && found.knows_groups {
        true => format!("{SCOPE} groups"),
        false => SCOPE.to_owned(),
    };
    let mut url = found.authorization.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.id)
        .append_pair("redirect_uri", &providers.redirect_uri(provider))
        .append_pair("scope", &scope)
        .append_pair("state", &secrets.state)
        .append_pair("nonce", &secrets.nonce)
        .append_pair("code_challenge", &secrets.challenge())
        .append_pair("code_challenge_method", "S256");
    Ok(url)
}

async fn discover(
    providers: &Providers,
    provider: ProviderId,
    client: &Client,
) -> Result<std::sync::Arc<Provider>, ApiError> {
    let directory = &providers.directory;
    let found = directory
        .provider(&providers.fetcher, &client.issuer, client.by)
        .await;
    found.map_err(|why| refused(provider, &why))
}

/// Turns what the browser brought back into what the provider says of the person.
pub(super) async fn redeem(
    providers: &Providers,
    provider: ProviderId,
    client: &Client,
    secrets: &Secrets,
    back: &Back,
) -> Result<Vouched, ApiError> {
    let found = discover(providers, provider, client).await?;
    // RFC 9207 §2.4.
    let named = match &back.iss {
        Some(iss) => iss == &client.issuer,
        None => !found.names_itself,
    };
    if !named {
        return Err(refused(
            provider,
            "the answer that the browser brought is of another provider",
        ));
    }
    let vouched = async {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &back.code),
            ("redirect_uri", &providers.redirect_uri(provider)),
            ("code_verifier", &secrets.verifier),
        ];
        let http = providers.fetcher.client(client.by);
        let request = http.post(found.token.clone());
        let tokens: Tokens = call(with_secret(request, &fields, client, &found)).await?;
        let tokens = tokens.good()?;
        let id_token = tokens.id_token.ok_or("it gave no ID token")?;
        let header = id_token::header(&id_token)?;
        let key = providers
            .directory
            .key(&providers.fetcher, &client.issuer, client.by, |key| {
                id_token::fits(key, &header)
            })
            .await?;
        let expected = Expected {
            issuer: &client.issuer,
            client_id: &client.id,
            nonce: &secrets.nonce,
        };
        let claims = id_token::check(&id_token, &header, &key, &expected, Timestamp::now())?;
        let mut said = claims.other;
        let lacks = |name: &str| !said.contains_key(name);
        let more = lacks("email") || client.groups_claim.as_deref().is_some_and(lacks);
        if more && let (Some(url), Some(token)) = (&found.userinfo, &tokens.access_token) {
            let request = http.get(url.clone()).bearer_auth(token);
            let info: Map<String, Value> = call(request).await?;
            // OpenID Connect Core 1.0 §5.3.2: it may be of somebody else.
            if info.get("sub").and_then(Value::as_str) != Some(&claims.sub) {
                return Err("it speaks of somebody else at its userinfo endpoint".to_owned());
            }
            // What is signed goes first.
            for (name, value) in info {
                said.entry(name).or_insert(value);
            }
        }
        Ok::<_, String>(Vouched {
            provider,
            issuer: client.issuer.clone(),
            subject: claims.sub,
            email: said
                .get("email")
                .and_then(Value::as_str)
                .and_then(|email| normalise_email(email).ok()),
            verified: is_verified(said.get("email_verified"), client.trust_email),
            groups: client
                .groups_claim
                .as_ref()
                .map_or_else(Vec::new, |claim| groups_of(said.get(claim))),
        })
    };
    vouched.await.map_err(|why| refused(provider, &why))
}

/// A provider that says no is believed, whatever the org says of it.
fn is_verified(claim: Option<&Value>, trusted: bool) -> bool {
    match claim {
        Some(Value::Bool(verified)) => *verified,
        // Some write it so.
        Some(Value::String(text)) => text == "true",
        Some(_) => false,
        None => trusted,
    }
}

fn groups_of(claim: Option<&Value>) -> Vec<String> {
    let list = match claim {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => &[],
    };
    let names = list.iter().filter_map(Value::as_str);
    let names = names.filter(|name| name.chars().count() <= MAX_GROUP_NAME);
    let names: BTreeSet<&str> = names.take(MAX_GROUPS).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The token endpoint's answer.
#[derive(Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    pub(super) access_token: Option<String>,
    #[serde(default)]
    pub(super) id_token: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

impl Tokens {
    pub(super) fn good(self) -> Result<Self, String> {
        match &self.error {
            None => Ok(self),
            Some(error) => {
                let more = self.error_description.as_deref().unwrap_or_default();
                Err(words(&format!("it says {error} {more}"))
                    .trim_end()
                    .to_owned())
            }
        }
    }
}

fn with_secret(
    request: RequestBuilder,
    fields: &[(&str, &str)],
    client: &Client,
    found: &Provider,
) -> RequestBuilder {
    if found.secret_in_body {
        let secret = [
            ("client_id", client.id.as_str()),
            ("client_secret", client.secret.as_str()),
        ];
        return form(request, &[fields, &secret].concat());
    }
    // RFC 6749 §2.3.1: both are encoded first.
    let encoded = |text: &str| encode(&[("", text)])[1..].to_owned();
    let password = encoded(&client.secret);
    form(request, fields).basic_auth(encoded(&client.id), Some(password))
}

/// A body of fields, as forms send it.
pub(super) fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    request
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(encode(fields))
}

fn encode(fields: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("x:", fields);
    url.ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_encoded() {
        let fields = [("a", "b c&d"), ("e", "ü+/=")];
        assert_eq!(encode(&fields), "a=b+c%26d&e=%C3%BC%2B%2F%3D");
        assert_eq!(encode(&[("", "a:b")]), "=a%3Ab");
    }

    #[test]
    fn an_address_is_verified_if_the_provider_says_so() {
        for (claim, trusted, verified) in [
            (Some(json!(true)), false, true),
            (Some(json!("true")), false, true),
            (Some(json!(false)), true, false),
            (Some(json!("false")), true, false),
            (Some(json!(1)), true, false),
            (Some(json!(null)), true, false),
            (None, false, false),
            (None, true, true),
        ] {
            assert_eq!(is_verified(claim.as_ref(), trusted), verified, "{claim:?}");
        }
    }

    #[test]
    fn groups_come_as_a_list_or_alone() {
        assert_eq!(groups_of(Some(&json!(["b", "a", 1, "b"]))), ["a", "b"]);
        assert_eq!(groups_of(Some(&json!("a"))), ["a"]);
        assert!(groups_of(Some(&json!({"a": 1}))).is_empty());
        assert!(groups_of(Some(&json!(["x".repeat(MAX_GROUP_NAME + 1)]))).is_empty());
        assert!(groups_of(None).is_empty());
    }
}
