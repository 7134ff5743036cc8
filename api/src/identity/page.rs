//! The CLI's sign-in in a browser, until the dashboard has its own: plain pages without scripts.
//!
//! `ztna login` opens [`CLI_LOGIN_PATH`] with its port, state and challenge. The person signs in or
//! up, confirms, and is sent back to the CLI with a one-time code. Each step is a form that goes to
//! the same path; the session between the steps is the refresh token's cookie.

use axum::extract::rejection::FormRejection;
use axum::extract::{self, Form};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::Markup;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{CLI_LOGIN_PATH, Me};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::SessionId;

use super::view::{self, Page, SignIn};
use super::{accounts, cli, sessions, sso};
use crate::app::State;
use crate::http::{ApiError, Device, cookie_value, refuse, same_origin};
use crate::orgs;

/// Longest `state`, in characters.
const MAX_STATE: usize = 128;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show, submit))
        .routes(routes!(front))
}

/// What the CLI puts into the address that it opens.
#[derive(Clone, Deserialize, ToSchema)]
pub(super) struct Request {
    #[serde(default)]
    port: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    challenge: String,
}

/// A request that was checked: the CLI's port on this person's own machine, and nothing in it that
/// could mean something in an address or a header.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Checked {
    pub(super) port: u16,
    pub(super) state: String,
    pub(super) challenge: String,
}

impl Request {
    pub(super) fn check(&self) -> Result<Checked, ApiError> {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let port = self.port.parse().ok().filter(|port| *port != 0);
        let state = !self.state.is_empty()
            && self.state.len() <= MAX_STATE
            && self.state.chars().all(unreserved);
        let (Some(port), true, true) = (port, state, cli::is_challenge(&self.challenge)) else {
            return Err(refuse(
                ErrorCode::ValidationError,
                "This address is not one that `ztna login` opens: its port, state or challenge is \
                 missing or malformed. Run `ztna login` again and let it open the browser.",
            ));
        };
        Ok(Checked {
            port,
            state: self.state.clone(),
            challenge: self.challenge.clone(),
        })
    }
}

impl Checked {
    /// The same as the CLI has put it.
    pub(super) fn query(&self) -> String {
        format!(
            "port={}&state={}&challenge={}",
            self.port, self.state, self.challenge
        )
    }

    /// The page's own address.
    pub(super) fn here(&self) -> String {
        format!("{CLI_LOGIN_PATH}?{}", self.query())
    }

    /// Where the CLI waits (RFC 8252 §7.3).
    fn callback(&self, code: &str) -> String {
        format!(
            "http://127.0.0.1:{}/callback?code={code}&state={}",
            self.port, self.state
        )
    }
}

/// A form of the page.
#[derive(Deserialize, ToSchema)]
struct Submission {
    step: Step,
    #[serde(flatten)]
    request: Request,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    /// Of the authenticator, for a person with a second factor.
    #[serde(default)]
    code: String,
    /// Name of the org to make, for a person without one.
    #[serde(default)]
    org: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Step {
    SignIn,
    SignUp,
    Connect,
    SignOut,
}

/// The page that `ztna login` opens: sign in, then connect the computer.
#[utoipa::path(get, path = "/cli-login", tag = "pages", params(
    ("port" = u16, Query), ("state" = String, Query), ("challenge" = String, Query),
), responses((status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong.")))]
async fn show(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    extract::Query(request): extract::Query<Request>,
) -> Response {
    let request = match request.check() {
        Ok(request) => request,
        Err(error) => return error_page(error),
    };
    match signed_in(&state, &headers).await {
        Ok(Some((me, _))) => page(StatusCode::OK, Some(&request), |p| {
            view::connect(p, &request, &me, None)
        }),
        Ok(None) => page(StatusCode::OK, Some(&request), |p| {
            let form = SignIn {
                sign_up: state.providers.sign_up_is_open(),
                recovery: state.mail.is_some(),
                others: sso::others(&state),
                ..SignIn::default()
            };
            view::sign_in(p, &request, &form)
        }),
        Err(error) => error_page(error),
    }
}

/// A form of that page.
#[utoipa::path(post, path = "/cli-login", tag = "pages", responses(
    (status = 303, description = "On to the next step, in the end back to the CLI."),
    (status = 400, description = "A page that says what is wrong."),
    (status = 403, description = "A page that says that accounts are by invitation here.")))]
async fn submit(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    form: Result<Form<Submission>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else {
        return error_page(refuse(
            ErrorCode::ValidationError,
            "The form is incomplete. Run `ztna login` again and let it open the browser.",
        ));
    };
    let request = match same_origin(&headers).and_then(|()| form.request.check()) {
        Ok(request) => request,
        Err(error) => return error_page(error),
    };
    let email = form.email.clone();
    let result = match form.step {
        Step::SignIn => {
            let code = Some(form.code.as_str());
            sign_in(&state, &device, &request, &email, form.password, code).await
        }
        Step::SignUp => sign_up(&state, &device, &request, &email, form.password).await,
        Step::Connect => connect(&state, &headers, &request, &form.org).await,
        Step::SignOut => sign_out(&state, &headers, &request).await,
    };
    match (result, form.step) {
        (Ok(response), _) => response,
        (Err(error), Step::SignIn | Step::SignUp) => {
            let (status, body) = told(error);
            page(status, Some(&request), |p| {
                let form = SignIn {
                    email: &email,
                    fault: Some(&body.message),
                    sign_up: state.providers.sign_up_is_open(),
                    recovery: state.mail.is_some(),
                    others: sso::others(&state),
                    ..SignIn::default()
                };
                view::sign_in(p, &request, &form)
            })
        }
        (Err(error), Step::Connect) => match signed_in(&state, &headers).await {
            Ok(Some((me, _))) => {
                let (status, body) = told(error);
                page(status, Some(&request), |p| {
                    view::connect(p, &request, &me, Some(&body.message))
                })
            }
            Ok(None) | Err(_) => error_page(error),
        },
        (Err(error), Step::SignOut) => error_page(error),
    }
}

async fn sign_in(
    state: &State,
    device: &Device,
    request: &Checked,
    email: &str,
    password: String,
    code: Option<&str>,
) -> Result<Response, ApiError> {
    let proof = accounts::check_credentials(state, device.ip, email, password, code).await?;
    let session = sessions::begin(state, &proof, device, None).await?;
    Ok(on(request, sessions::session_cookie(&session)))
}

async fn sign_up(
    state: &State,
    device: &Device,
    request: &Checked,
    email: &str,
    password: String,
) -> Result<Response, ApiError> {
    accounts::sign_up(state, device.ip, email, password.clone()).await?;
    if state.mail.is_none() {
        return sign_in(state, device, request, email, password, None).await;
    }
    Ok(page(StatusCode::OK, Some(request), |p| {
        let form = SignIn {
            email,
            notice: Some("Open the link of the mail that was sent to you, then sign in here."),
            sign_up: state.providers.sign_up_is_open(),
            recovery: true,
            others: sso::others(state),
            ..SignIn::default()
        };
        view::sign_in(p, request, &form)
    }))
}

async fn connect(
    state: &State,
    headers: &HeaderMap,
    request: &Checked,
    org: &str,
) -> Result<Response, ApiError> {
    let Some((me, session)) = signed_in(state, headers).await? else {
        return Ok(on(request, None));
    };
    if me.orgs.is_empty() {
        orgs::create(state, me.id, org).await?;
    }
    let code = cli::complete(state, me.id, session, request.challenge.clone()).await?;
    Ok(Redirect::to(&request.callback(&code.code)).into_response())
}

async fn sign_out(
    state: &State,
    headers: &HeaderMap,
    request: &Checked,
) -> Result<Response, ApiError> {
    if let Some(token) = cookie_value(headers, sessions::COOKIE) {
        sessions::end(state, &token).await?;
    }
    Ok(on(request, sessions::cookie_header("", 0)))
}

/// The session that the browser holds, and whose it is.
pub(super) async fn signed_in(
    state: &State,
    headers: &HeaderMap,
) -> Result<Option<(Me, SessionId)>, ApiError> {
    let Some(token) = cookie_value(headers, sessions::COOKIE) else {
        return Ok(None);
    };
    match sessions::peek(state, &token).await? {
        Some((user, session)) => Ok(Some((accounts::me(state, user).await?, session))),
        None => Ok(None),
    }
}

/// Back to the page, which shows the next step.
fn on(request: &Checked, cookie: Option<HeaderValue>) -> Response {
    let mut response = Redirect::to(&request.here()).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// What this server is.
#[utoipa::path(get, path = "/", tag = "pages", responses((status = 200, description = "A page.")))]
async fn front() -> Response {
    page(StatusCode::OK, None, view::front)
}

pub(super) fn error_page(error: ApiError) -> Response {
    let (status, body) = told(error);
    page(status, None, |p| view::error(p, &body.message))
}

pub(super) fn told(error: ApiError) -> (StatusCode, ErrorBody) {
    let body = error.into_body();
    let status = StatusCode::from_u16(body.code.status());
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

/// A page with its headers. Forms may go to us, and by redirection to the CLI that waits.
pub(super) fn page(
    status: StatusCode,
    request: Option<&Checked>,
    content: impl FnOnce(&Page) -> Markup,
) -> Response {
    let page = Page::new();
    let cli = request.map_or_else(String::new, |r| format!(" http://127.0.0.1:{}", r.port));
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{}'; form-action 'self'{cli}; base-uri 'none'; \
         frame-ancestors 'none'",
        page.nonce
    );
    let mut response = (status, axum::response::Html(content(&page).into_string())).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // Under `no-referrer`, forms would send `Origin: null` (Fetch, "append a request Origin header").
    response.headers_mut().insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(port: &str, state: &str, challenge: &str) -> Request {
        Request {
            port: port.to_owned(),
            state: state.to_owned(),
            challenge: challenge.to_owned(),
        }
    }

    #[test]
    fn only_requests_of_the_cli_pass() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let good = request("43210", "a-b_c.~1", challenge).check().unwrap();
        assert_eq!(
            good.callback("code"),
            "http://127.0.0.1:43210/callback?code=code&state=a-b_c.~1"
        );
        let long = "s".repeat(MAX_STATE + 1);
        for (port, state, challenge) in [
            ("0", "s", challenge),
            ("65536", "s", challenge),
            ("80@evil.example", "s", challenge),
            ("", "s", challenge),
            ("1", "", challenge),
            ("1", "a&b", challenge),
            ("1", "a\r\nb", challenge),
            ("1", long.as_str(), challenge),
            ("1", "s", ""),
            ("1", "s", "short"),
        ] {
            assert!(
                request(port, state, challenge).check().is_err(),
                "{port} {state}"
            );
        }
    }
}
