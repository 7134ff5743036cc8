//! What stands around every route: ids, logs, figures, bounds.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;
use tracing::Instrument;
use uuid::Uuid;
use ztna_proto::error::ErrorCode;

use super::answer::{ApiError, refuse};
use super::call::{RequestId, announce};
use super::caller::{is_browser, same_origin};
use crate::dashboard::{self, Dashboard};

/// Largest body of a call, in bytes. A registration, the largest there is, has 2 KiB; a policy of
/// a thousand rules some 200 KiB.
const MAX_BODY: usize = 512 * 1024;
/// A call is answered within this time.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A call that goes on without anybody waiting ends after this time: its body may never come.
const GIVE_UP: Duration = Duration::from_secs(60);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layers around the router.
pub(crate) fn wrap(router: Router, dashboard: Option<Dashboard>, trusted_proxies: usize) -> Router {
    let router = router
        .fallback(async || {
            refuse(
                ErrorCode::NotFound,
                "there is no such path here; /api/openapi.json lists them all",
            )
        })
        .method_not_allowed_fallback(async || {
            let refusal = refuse(
                ErrorCode::ValidationError,
                "this path does not take that method; /api/openapi.json lists what it takes",
            );
            (StatusCode::METHOD_NOT_ALLOWED, refusal)
        });
    let router = match dashboard {
        Some(dashboard) => router.layer(from_fn(move |request, next| {
            dashboard::serve(dashboard.clone(), request, next)
        })),
        None => router,
    };
    router
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(own_pages_only))
        .layer(from_fn(move |request, next| {
            announce(trusted_proxies, request, next)
        }))
        .layer(from_fn(bound))
        .layer(from_fn(harden))
        .layer(from_fn(observe))
}

/// Runs a call to its end even if the client hangs up or the time is over: what it has committed, it
/// must pass on to the machines too.
async fn bound(request: Request, next: Next) -> Response {
    let call = timeout(GIVE_UP, next.run(request)).in_current_span();
    match timeout(TIMEOUT, tokio::spawn(call)).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(panic)) => ApiError::Internal(panic.to_string()).into_response(),
        Ok(Ok(Err(_))) | Err(_) => refuse(
            ErrorCode::Unavailable,
            "the control plane is too busy to answer; try again in a moment",
        )
        .into_response(),
    }
}

/// Refuses what another site's page would have changed. Programs send no `Origin`.
async fn own_pages_only(request: Request, next: Next) -> Response {
    if !request.method().is_safe()
        && is_browser(request.headers())
        && let Err(error) = same_origin(request.headers())
    {
        return error.into_response();
    }
    next.run(request).await
}

/// Headers that keep browsers and caches from doing what nobody asked for. A page's own
/// `Content-Security-Policy` stays.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Gives the request an id, logs it, and counts it. Neither the query nor a header is logged: they
/// may hold secrets.
async fn observe(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::debug_span!("request", %id, %method, route);
    let begin = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let took = begin.elapsed();
    span.in_scope(|| {
        tracing::debug!(status = status.as_u16(), ms = took.as_millis(), "answered");
    });
    let labels = [
        ("method", label_of(&method).to_owned()),
        ("route", route),
        ("status", status.as_u16().to_string()),
    ];
    metrics::counter!("ztna_http_requests_total", &labels).increment(1);
    metrics::histogram!("ztna_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A method as a label of figures. Clients may make methods up; the figures must not grow by that.
fn label_of(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    match known.contains(method) {
        true => method.as_str(),
        false => "other",
    }
}
