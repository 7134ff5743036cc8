//! The page that an invitation leads to: sign in or up with the invited address, and join.

use std::net::IpAddr;

use axum::extract::rejection::FormRejection;
use axum::extract::{self, Form};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::ErrorCode;
use ztna_proto::tokens::InvitationToken;

use super::page::{error_page, page, told};
use super::{accounts, view};
use crate::app::State;
use crate::http::{ApiError, ClientIp, refuse, same_origin};
use crate::orgs::{self, Offer};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, submit))
}

#[derive(Deserialize, ToSchema)]
struct Link {
    #[serde(default)]
    token: String,
}

/// The form of the page. The address is the invitation's.
#[derive(Deserialize, ToSchema)]
struct JoinForm {
    token: String,
    step: JoinStep,
    password: String,
    #[serde(default)]
    code: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum JoinStep {
    SignIn,
    SignUp,
}

async fn offer(
    state: &State,
    ip: IpAddr,
    text: &str,
) -> Result<(InvitationToken, Offer), ApiError> {
    let token: InvitationToken = text.parse().map_err(|_| {
        refuse(
            ErrorCode::ValidationError,
            "This is not the whole link of the invitation; copy it again.",
        )
    })?;
    let offer = orgs::look_at_invitation(state, ip, &token).await?;
    Ok((token, offer))
}

/// What the invitation says, and the form to accept it.
#[utoipa::path(get, path = "/accept-invitation", tag = "pages", params(("token" = String, Query)), responses(
    (status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong."),
    (status = 401, description = "A page that says what is wrong."), (status = 429, description = "A page that says so.")))]
async fn show(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    extract::Query(link): extract::Query<Link>,
) -> Response {
    match offer(&state, ip, &link.token).await {
        Ok((token, offer)) => page(StatusCode::OK, None, |p| {
            view::join(p, &token, &offer, None)
        }),
        Err(error) => error_page(error),
    }
}

/// Signs in, or up, and joins.
#[utoipa::path(post, path = "/accept-invitation", tag = "pages", responses(
    (status = 200, description = "A page."), (status = 400, description = "A page that says what is wrong."),
    (status = 401, description = "A page that says what is wrong."), (status = 429, description = "A page that says so.")))]
async fn submit(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    form: Result<Form<JoinForm>, FormRejection>,
) -> Response {
    let form = same_origin(&headers).and_then(|()| {
        form.map(|Form(form)| form).map_err(|_| {
            refuse(
                ErrorCode::ValidationError,
                "The form is incomplete; open the invitation's link again.",
            )
        })
    });
    let form = match form {
        Ok(form) => form,
        Err(error) => return error_page(error),
    };
    let (token, offer) = match offer(&state, ip, &form.token).await {
        Ok(found) => found,
        Err(error) => return error_page(error),
    };
    let joined = async {
        if matches!(form.step, JoinStep::SignUp) {
            accounts::sign_up_invited(&state, ip, &offer, form.password.clone()).await?;
        }
        let code = Some(form.code.as_str());
        let proof =
            accounts::check_credentials(&state, ip, &offer.email, form.password, code).await?;
        orgs::join(&state, proof.user, &token).await
    };
    match joined.await {
        Ok(org) => {
            let title = format!("You are a member of {}", org.name);
            page(StatusCode::OK, None, |p| {
                view::done(
                    p,
                    &title,
                    "Connect a computer with `ztna login`, then `ztna up`.",
                )
            })
        }
        Err(error) => {
            let (status, body) = told(error);
            page(status, None, |p| {
                view::join(p, &token, &offer, Some(&body.message))
            })
        }
    }
}
