//! Calls to providers, bounded in every way: an org names hosts, and must not have us knock at what only
//! we can reach (see [`crate::relays::is_public`]), nor keep us busy.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::net::lookup_host;
use ztna_proto::relay::CertificatePin;
use ztna_tls::{KeyExchange, client_config};

use crate::relays::is_public;
use crate::text::is_hidden;

/// A connection comes about within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call is answered within this time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read. Discovery documents and key sets have a few KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// Longest part of a provider's own words that is passed on, in characters.
const MAX_WORDS: usize = 200;

/// Where an org's provider may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct IssuerRules {
    /// On addresses that are not on the public internet too. Not where strangers may sign up: they would
    /// learn what answers in the server's own network.
    pub allow_private: bool,
    /// Behind `http://` too. For tests: what comes that way, anybody on the way may have written.
    pub allow_http: bool,
}

/// Who named the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NamedBy {
    /// The operator: it is where it is.
    Operator,
    /// An org: the rules of the deployment hold.
    Org,
}

/// Makes calls. Follows no redirection: it would lead around what was checked.
pub(super) struct Fetcher {
    rules: IssuerRules,
    anywhere: reqwest::Client,
    public: reqwest::Client,
}

impl Fetcher {
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(rules: IssuerRules) -> Result<Self, String> {
        let builder = || {
            let tls = client_config(&CertificatePin::WebPki, KeyExchange::PreferPostQuantum);
            let tls = tls.map_err(|error| error.to_string())?;
            Ok::<_, String>(
                reqwest::Client::builder()
                    .tls_backend_preconfigured(tls.as_ref().clone())
                    .user_agent(concat!("ztna/", env!("CARGO_PKG_VERSION")))
                    .redirect(redirect::Policy::none())
                    .no_proxy()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(TIMEOUT),
            )
        };
        let made = |error: reqwest::Error| error.to_string();
        Ok(Self {
            rules,
            anywhere: builder()?.build().map_err(made)?,
            public: builder()?.dns_resolver(PublicOnly).build().map_err(made)?,
        })
    }

    /// A URL that we, or a browser, may be sent to on the word of who named it.
    ///
    /// # Errors
    /// It is none, or may not be called; in words that complete "… is not usable: ".
    pub(super) fn check(&self, text: &str, by: NamedBy) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}"))?;
        let usable = match url.scheme() {
            "https" => true,
            "http" => by == NamedBy::Operator || self.rules.allow_http,
            _ => false,
        };
        if !usable {
            return Err("it is not https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user name".to_owned());
        }
        // Names are checked as they are resolved; addresses never are.
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        if let Ok(ip) = literal
            && !self.may_reach(ip, by)
        {
            return Err(format!(
                "{ip} is not on the public internet, where providers have to be unless who runs this server starts it with \
                 --allow-private-issuers"
            ));
        }
        Ok(url)
    }

    fn may_reach(&self, ip: IpAddr, by: NamedBy) -> bool {
        by == NamedBy::Operator || self.rules.allow_private || is_public(ip)
    }

    /// A client for calls to a URL that was checked.
    pub(super) fn client(&self, by: NamedBy) -> &reqwest::Client {
        match by == NamedBy::Operator || self.rules.allow_private {
            true => &self.anywhere,
            false => &self.public,
        }
    }
}

/// Resolves names to addresses on the public internet; the connection goes to these very addresses.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|found| is_public(found.ip())).collect();
            if public.is_empty() {
                return Err("none of its addresses is on the public internet".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Sends a call and reads its answer, whatever its status.
///
/// # Errors
/// There is none within the bounds, or it is not the JSON that is wanted; in words for people.
pub(super) async fn call<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, String> {
    let response = request.send().await.map_err(|error| reason(&error))?;
    let status = response.status();
    let body = read(response).await?;
    serde_json::from_slice(&body)
        .map_err(|_| format!("its answer, of status {status}, is not the JSON that is expected"))
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong at the bottom, without the URL, which may hold a code.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut bottom: &dyn std::error::Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    words(&bottom.to_string())
}

/// What somebody else wrote, fit to be shown.
pub(super) fn words(text: &str) -> String {
    text.chars()
        .filter(|c| !is_hidden(*c))
        .take(MAX_WORDS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_rules_allow_is_called() {
        let strict = Fetcher::new(IssuerRules::default()).unwrap();
        let org = |text: &str| strict.check(text, NamedBy::Org);
        assert!(org("https://idp.example.com/tenant").is_ok());
        assert!(org("https://8.8.8.8/").is_ok());
        for bad in [
            "http://idp.example.com",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.0.0.1:8443/",
            "https://user@idp.example.com/",
            "file:///etc/passwd",
            "idp.example.com",
            "",
        ] {
            assert!(org(bad).is_err(), "{bad}");
        }
        for good in ["http://127.0.0.1:9000", "https://10.0.0.1"] {
            assert!(strict.check(good, NamedBy::Operator).is_ok(), "{good}");
        }
        let lax = IssuerRules {
            allow_private: true,
            allow_http: true,
        };
        let lax = Fetcher::new(lax).unwrap();
        assert!(lax.check("http://127.0.0.1:9000", NamedBy::Org).is_ok());
        assert!(lax.check("ftp://127.0.0.1", NamedBy::Org).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_called() {
        let strict = Fetcher::new(IssuerRules::default()).unwrap();
        let request = strict.client(NamedBy::Org).get("https://localhost:1/");
        let error = call::<serde_json::Value>(request).await.unwrap_err();
        assert!(
            error.contains("not on the public internet") || error.contains("none of its addresses"),
            "{error}"
        );
    }
}
