//! `/bootstrap-dns`: addresses of the names that a client needs before its own DNS works.
//!
//! A client whose resolver is broken asks any relay, which it reaches by address, where its control
//! plane is (`cmd/derper/bootstrap_dns.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::Query;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics::counter;
use rand::seq::SliceRandom;
use serde::Deserialize;
use tokio::net::lookup_host;
use tokio_util::sync::CancellationToken;

/// The names are looked up this often …
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// … and each for so long at most.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Names that are looked up.
pub const MAX_BOOTSTRAP_NAMES: usize = 64;
/// Addresses that are kept of each.
const MAX_ADDRESSES: usize = 32;

type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// The names, and what they resolve to.
pub struct BootstrapDns {
    names: Vec<String>,
    known: RwLock<Addresses>,
}

#[derive(Deserialize)]
struct Question {
    /// A name. Absent, or one that is not on the list: all names.
    #[serde(default)]
    q: String,
}

impl BootstrapDns {
    /// Serves these names, [`MAX_BOOTSTRAP_NAMES`] at most. Nothing is known before
    /// [`BootstrapDns::keep`] runs.
    #[must_use]
    pub fn new(mut names: Vec<String>) -> Arc<Self> {
        names.truncate(MAX_BOOTSTRAP_NAMES);
        Arc::new(Self {
            names,
            known: RwLock::default(),
        })
    }

    /// Looks the names up, now and every ten minutes, until `shutdown` is cancelled. A name that
    /// does not resolve keeps the addresses that it had.
    pub async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        while !self.names.is_empty() {
            for name in &self.names {
                let lookup = lookup_host((name.as_str(), 443));
                let found = tokio::select! {
                    found = tokio::time::timeout(RESOLVE_TIMEOUT, lookup) => found,
                    () = shutdown.cancelled() => return,
                };
                match found.map_err(Into::into).flatten() {
                    Ok(found) => self.learn(name, found.map(|address| address.ip())),
                    Err(error) => tracing::warn!(name, %error, "bootstrap DNS: cannot resolve"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn learn(&self, name: &str, addresses: impl Iterator<Item = IpAddr>) {
        let mut addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), addresses);
    }

    fn answer(&self, name: &str) -> Addresses {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut answer = match known.get(name) {
            Some(addresses) => [(name.to_owned(), addresses.clone())].into(),
            None => known.clone(),
        };
        // Clients try them in order.
        for addresses in answer.values_mut() {
            addresses.shuffle(&mut rand::rng());
        }
        answer
    }

    /// `/bootstrap-dns?q=name`, for the router that goes behind [`super::run`].
    pub fn routes(self: Arc<Self>) -> Router {
        let handler = async move |Query(question): Query<Question>| -> Response {
            counter!("ztna_derp_bootstrap_dns_queries_total").increment(1);
            // Clients ask once; their connection is not worth keeping.
            let headers = [(header::CONNECTION, "close")];
            (headers, Json(self.answer(&question.q))).into_response()
        };
        Router::new().route("/bootstrap-dns", get(handler))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    async fn ask(dns: &Arc<BootstrapDns>, query: &str) -> Addresses {
        let request = Request::get(format!("/bootstrap-dns{query}"))
            .body(Body::empty())
            .unwrap();
        let answer = Arc::clone(dns).routes().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["connection"], "close");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn a_name_is_answered_alone_and_others_with_everything() {
        let dns = BootstrapDns::new(vec!["a.example".into(), "b.example".into()]);
        assert!(ask(&dns, "?q=a.example").await.is_empty());
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        dns.learn("a.example", [ip(1), ip(2), ip(1)].into_iter());
        dns.learn("b.example", [ip(3)].into_iter());
        let mut one = ask(&dns, "?q=a.example").await;
        one.get_mut("a.example").unwrap().sort();
        assert_eq!(one, [("a.example".into(), vec![ip(1), ip(2)])].into());
        for query in ["", "?q=", "?q=other.example"] {
            assert_eq!(ask(&dns, query).await.len(), 2, "{query}");
        }
    }

    #[tokio::test]
    async fn orders_differ() {
        let dns = BootstrapDns::new(vec!["a.example".into()]);
        dns.learn("a.example", (0..20).map(|last| [192, 0, 2, last].into()));
        let first = ask(&dns, "").await;
        assert_eq!(first["a.example"].len(), 20);
        // Twenty addresses have more orders than there are tries.
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(ask(&dns, "").await);
        }
        assert!(others.iter().any(|other| *other != first));
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let dns = BootstrapDns::new(vec!["localhost".into(), "no.such.name.invalid".into()]);
        let stop = CancellationToken::new();
        let keep = tokio::spawn(Arc::clone(&dns).keep(stop.clone()));
        let known = async {
            while ask(&dns, "").await.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), known)
            .await
            .unwrap();
        let local = ask(&dns, "?q=localhost").await;
        assert!(local["localhost"].iter().all(IpAddr::is_loopback));
        stop.cancel();
        keep.await.unwrap();
    }
}
