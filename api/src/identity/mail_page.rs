//! The pages that mails lead to, until the dashboard has its own. What a link does happens when its
//! page is confirmed: programs that look through mail open links too.

use axum::extract::rejection::FormRejection;
use axum::extract::{self, Form};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::ErrorCode;
use ztna_proto::tokens::MailToken;

use super::page::{error_page, page, told};
use super::{recovery, view};
use crate::app::State;
use crate::http::{ApiError, ClientIp, refuse, same_origin};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show_verify, verify))
        .routes(routes!(show_reset, reset))
}

/// What a mail's link carries.
#[derive(Deserialize, ToSchema)]
struct Link {
    #[serde(default)]
    token: String,
}

/// The form that confirms an address.
#[derive(Deserialize, ToSchema)]
struct VerifyForm {
    token: String,
    password: String,
}

/// A form of the page for a new password: with the address, or with token and password.
#[derive(Deserialize, ToSchema)]
struct ResetForm {
    #[serde(default)]
    email: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    password: String,
}

fn read_token(text: &str) -> Result<MailToken, ApiError> {
    text.parse().map_err(|_| {
        refuse(
            ErrorCode::ValidationError,
            "This is not the whole link of the mail; copy it again.",
        )
    })
}

fn read<T>(headers: &HeaderMap, form: Result<Form<T>, FormRejection>) -> Result<T, ApiError> {
    same_origin(headers)?;
    form.map(|Form(form)| form).map_err(|_| {
        refuse(
            ErrorCode::ValidationError,
            "The form is incomplete; open the mail's link again.",
        )
    })
}

/// Asks whether to confirm the address.
#[utoipa::path(get, path = "/verify-email", tag = "pages", params(("token" = String, Query)), responses(
    (status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong.")))]
async fn show_verify(extract::Query(link): extract::Query<Link>) -> Response {
    match read_token(&link.token) {
        Ok(token) => page(StatusCode::OK, None, |p| view::verify(p, &token, None)),
        Err(error) => error_page(error),
    }
}

/// Confirms the address.
#[utoipa::path(post, path = "/verify-email", tag = "pages", responses(
    (status = 200, description = "A page."), (status = 401, description = "A page that says what is wrong.")))]
async fn verify(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    form: Result<Form<VerifyForm>, FormRejection>,
) -> Response {
    let form = read(&headers, form).and_then(|form| Ok((read_token(&form.token)?, form.password)));
    let (token, password) = match form {
        Ok(form) => form,
        Err(error) => return error_page(error),
    };
    match recovery::confirm(&state, ip, &token, password).await {
        Ok(()) => done_page(
            "Your address is confirmed",
            "Go back to where you signed up, and sign in.",
        ),
        Err(error) => {
            let (status, body) = told(error);
            page(status, None, |p| {
                view::verify(p, &token, Some(&body.message))
            })
        }
    }
}

/// Asks for the address of a forgotten password, or with the mail's token for the new password.
#[utoipa::path(get, path = "/reset-password", tag = "pages", params(("token" = Option<String>, Query)), responses(
    (status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong.")))]
async fn show_reset(extract::Query(link): extract::Query<Link>) -> Response {
    if link.token.is_empty() {
        return page(StatusCode::OK, None, |p| view::ask_for_reset(p, None));
    }
    match read_token(&link.token) {
        Ok(token) => page(StatusCode::OK, None, |p| view::reset(p, &token, None)),
        Err(error) => error_page(error),
    }
}

/// Sends the mail, or sets the password.
#[utoipa::path(post, path = "/reset-password", tag = "pages", responses(
    (status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong.")))]
async fn reset(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    form: Result<Form<ResetForm>, FormRejection>,
) -> Response {
    let form = match read(&headers, form) {
        Ok(form) => form,
        Err(error) => return error_page(error),
    };
    if form.token.is_empty() {
        return match recovery::ask_for_reset(&state, ip, &form.email).await {
            Ok(()) => done_page(
                "Look into your mail",
                "If the address has an account, a link to choose a new password is on its way.",
            ),
            Err(error) => {
                let (status, body) = told(error);
                page(status, None, |p| {
                    view::ask_for_reset(p, Some(&body.message))
                })
            }
        };
    }
    let token = match read_token(&form.token) {
        Ok(token) => token,
        Err(error) => return error_page(error),
    };
    match recovery::reset(&state, ip, &token, form.password).await {
        Ok(()) => done_page(
            "Your password is changed",
            "All sessions of the account have ended; sign in with the new password.",
        ),
        Err(error) => {
            let (status, body) = told(error);
            page(status, None, |p| {
                view::reset(p, &token, Some(&body.message))
            })
        }
    }
}

fn done_page(title: &str, text: &str) -> Response {
    page(StatusCode::OK, None, |p| view::done(p, title, text))
}
