//! Listeners without TLS: port 80 for what must be plain, and the operator's own for metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{OriginalUri, Path};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use ztna_derp::server::captive_portal_routes;
use ztna_tls::acme::Challenges;
use ztna_tls::{AcceptLimits, Security, ServerStream, serve, serve_http};

/// Connections of such a listener at a time; more are closed.
const MAX_CONNECTIONS: usize = 1024;
/// A connection ends after this time, whatever it does.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Listens, with a word on what the port is for if it cannot.
pub async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} ({flag}); another program has it, or ports below 1024 need root")
    })
}

/// What port 80 serves: `/generate_204`, the proof that a certificate authority asks for, and for
/// everything else the way to `origin` (`https://host[:port]`).
pub fn router(challenges: Option<Arc<Challenges>>, origin: String) -> Router {
    let proof = async move |Path(token): Path<String>| -> Response {
        match challenges.and_then(|challenges| challenges.http(&token)) {
            Some(proof) => ([(header::CONTENT_TYPE, "text/plain")], proof).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let redirect = async move |method: Method, OriginalUri(uri): OriginalUri| -> Response {
        if method != Method::GET && method != Method::HEAD {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // The configured name and never the request's, which is the sender's to choose.
        let to = format!("{origin}{path}");
        (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
    };
    captive_portal_routes()
        .route("/.well-known/acme-challenge/{token}", get(proof))
        .fallback(redirect)
}

/// Serves a router on a plain listener until `shutdown` is cancelled.
pub async fn run(
    listener: TcpListener,
    router: Router,
    limits: AcceptLimits,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stop = shutdown.clone();
    let handler = move |stream: ServerStream, peer| {
        let (router, stop) = (router.clone(), stop.clone());
        let place = Arc::clone(&places).try_acquire_owned();
        async move {
            let Ok(_place) = place else { return };
            let served = serve_http(stream, peer, router, &stop);
            let _ = tokio::time::timeout(CONNECTION_TIME, served).await;
        }
    };
    serve(listener, Security::Plain, limits, shutdown, handler).await;
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: Method, path: &str) -> Response {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "evil.example").body(Body::empty());
        let router = router(None, "https://relay.example:8443".into());
        router.oneshot(request.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn port_80_leads_to_the_relay_and_nowhere_else() {
        let answer = ask(Method::GET, "/x?y=1").await;
        assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(
            answer.headers()["location"],
            "https://relay.example:8443/x?y=1"
        );
        let answer = ask(Method::GET, "//evil.example/").await;
        let location = answer.headers()["location"].to_str().unwrap();
        assert!(
            location.starts_with("https://relay.example:8443/"),
            "{location}"
        );
        let answer = ask(Method::POST, "/").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn portal_checks_and_unknown_tokens_are_answered_here() {
        let answer = ask(Method::GET, "/generate_204").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let answer = ask(Method::GET, "/.well-known/acme-challenge/token").await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
}
