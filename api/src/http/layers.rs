//! What stands around every route: ids, logs, figures, bounds.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{Instrument, Span};
use uuid::Uuid;
use ztna_proto::error::ErrorCode;

use super::answer::{ApiError, refuse};
use super::call::{Call, RequestId, around};
use super::caller::{is_browser, same_origin};
use super::observe::count_call;
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
    router
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
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(move |request, next| {
            surround(dashboard.clone(), trusted_proxies, request, next)
        }))
}

/// All that stands around a route, as one layer: each layer more copies the whole router for each call.
async fn surround(
    dashboard: Option<Dashboard>,
    trusted_proxies: usize,
    mut request: Request,
    next: Next,
) -> Response {
    let observed = Observed::begin(&mut request);
    let span = observed.span();
    let mut response = match own_pages_only(&request) {
        Ok(()) => {
            let call = Arc::new(Call::read(&request, trusted_proxies));
            let answer = async {
                match dashboard {
                    Some(dashboard) => dashboard::serve(dashboard, request, next).await,
                    None => next.run(request).await,
                }
            };
            let work = around(Some(call), answer).instrument(span.clone());
            bound(work).instrument(span).await
        }
        Err(error) => error.into_response(),
    };
    harden(&mut response);
    observed.end(&mut response);
    response
}

/// Runs a call to its end even if the client hangs up or the time is over: what it has committed, it
/// must pass on to the machines too.
async fn bound(work: impl Future<Output = Response> + Send + 'static) -> Response {
    let work = ToTheEnd(Some(Box::pin(timeout(
        GIVE_UP,
        AssertUnwindSafe(work).catch_unwind(),
    ))));
    match timeout(TIMEOUT, work).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(_))) => ApiError::Internal("a call panicked".to_owned()).into_response(),
        Ok(Err(_)) | Err(_) => refuse(
            ErrorCode::Unavailable,
            "the control plane is too busy to answer; try again in a moment",
        )
        .into_response(),
    }
}

/// Work that, when nobody waits for it any more, goes on as a task.
struct ToTheEnd<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> Future for ToTheEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else {
            return Poll::Pending;
        };
        let answer = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for ToTheEnd<F> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and everything with it.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

/// Refuses what another site's page would have changed. Programs send no `Origin`.
fn own_pages_only(request: &Request) -> Result<(), ApiError> {
    match !request.method().is_safe() && is_browser(request.headers()) {
        true => same_origin(request.headers()),
        false => Ok(()),
    }
}

/// Headers that keep browsers and caches from doing what nobody asked for. A page's own
/// `Content-Security-Policy` stays.
fn harden(response: &mut Response) {
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
}

/// A call that has an id, and is logged and counted. Neither the query nor a header is logged: they may
/// hold secrets.
struct Observed {
    id: String,
    method: Method,
    route: Option<MatchedPath>,
    begin: Instant,
}

impl Observed {
    fn begin(request: &mut Request) -> Self {
        let id = Uuid::now_v7().to_string();
        request.extensions_mut().insert(RequestId(id.clone()));
        Self {
            id,
            method: request.method().clone(),
            route: request.extensions().get().cloned(),
            begin: Instant::now(),
        }
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or("unmatched", MatchedPath::as_str)
    }

    fn span(&self) -> Span {
        tracing::debug_span!("request", id = self.id, method = %self.method, route = self.route())
    }

    fn end(self, response: &mut Response) {
        let status = response.status().as_u16();
        let took = self.begin.elapsed();
        self.span().in_scope(|| {
            tracing::debug!(status, ms = took.as_millis(), "answered");
        });
        count_call(label_of(&self.method), self.route(), status, took);
        if let Ok(id) = HeaderValue::try_from(self.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
}

/// A method as a label of figures. Clients may make methods up; the figures must not grow by that.
fn label_of(method: &Method) -> &'static str {
    let known = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::DELETE, "DELETE"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
    ];
    let label = known.into_iter().find(|(known, _)| known == method);
    label.map_or("other", |(_, label)| label)
}
