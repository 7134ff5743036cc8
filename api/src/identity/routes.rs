//! `/api/auth`.

use axum::extract;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{
    AuthAction, CliCode, LoginRequest, Me, RefreshRequest, Session, SignupRequest,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::SessionId;
use ztna_proto::people::{
    BackupCodes, ChangePasswordRequest, ConfirmResetRequest, DeleteAccountRequest,
    MfaDisableRequest, MfaSetupRequest, MfaVerifyRequest, ResetPasswordRequest, SessionInfo,
    TotpSetup, VerifyEmailRequest,
};

use super::{accounts, cli, deletion, mfa, recovery, sessions};
use crate::app::State;
use crate::http::{
    Answer, ApiError, ClientIp, Device, Empty, Json, Path, SignedIn, User, created, ok, refuse,
};
use crate::orgs;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(signup))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(verify_email))
        .routes(routes!(ask_for_reset))
        .routes(routes!(reset_password))
        .routes(routes!(change_password))
        .routes(routes!(list_sessions, end_other_sessions))
        .routes(routes!(end_session))
        .routes(routes!(delete_account))
        .routes(routes!(mfa_setup))
        .routes(routes!(mfa_verify))
        .routes(routes!(mfa_disable))
        .routes(routes!(action))
}

/// Makes an account. The answer is the same if the address has one.
#[utoipa::path(post, path = "/api/auth/signup", tag = "identity", request_body = SignupRequest, responses(
    (status = 201, body = Envelope<Empty>), (status = 400, body = ErrorBody),
    (status = 401, description = "The invitation is not good any more.", body = ErrorBody),
    (status = 403, description = "Accounts are by invitation here.", body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn signup(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<SignupRequest>,
) -> Answer<Empty> {
    let SignupRequest {
        email,
        password,
        invitation,
    } = request;
    match invitation {
        None => accounts::sign_up(&state, ip, &email, password).await?,
        Some(token) => {
            let offer = orgs::look_at_invitation(&state, ip, &token).await?;
            if accounts::normalise_email(&email)? != offer.email {
                return Err(refuse(
                    ErrorCode::ValidationError,
                    "`email` is not the address that the invitation was sent to; sign up with that one",
                ));
            }
            accounts::sign_up_invited(&state, ip, &offer, password).await?;
        }
    }
    created(Empty {})
}

/// Begins a session. Browsers get the refresh token as a cookie.
#[utoipa::path(post, path = "/api/auth/login", tag = "identity", request_body = LoginRequest, responses(
    (status = 200, body = Envelope<Session>), (status = 401, body = ErrorBody),
    (status = 403, description = "The address is not confirmed, or a second factor's code is missing.", body = ErrorBody), (status = 423, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn login(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    let proof = accounts::check_credentials(
        &state,
        device.ip,
        &request.email,
        request.password,
        request.totp_code.as_deref(),
    )
    .await?;
    let session = sessions::begin(&state, &proof, &device, None).await?;
    Ok(with_cookie(sessions::hand_over(&headers, session)))
}

/// Turns a refresh token into the next session. A token that comes twice ends its family.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "identity", request_body = RefreshRequest, responses(
    (status = 200, body = Envelope<Session>), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
))]
async fn refresh(
    extract::State(state): extract::State<State>,
    device: Device,
    headers: HeaderMap,
    body: Option<Json<RefreshRequest>>,
) -> Result<Response, ApiError> {
    let body = body.and_then(|Json(body)| body.refresh_token);
    let token = sessions::token_of(&headers, body)?;
    let session = sessions::refresh(&state, &token, &device).await?;
    Ok(with_cookie(sessions::hand_over(&headers, session)))
}

/// Ends a session.
#[utoipa::path(post, path = "/api/auth/logout", tag = "identity", request_body = RefreshRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
))]
async fn logout(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Option<Json<RefreshRequest>>,
) -> Result<Response, ApiError> {
    let body = body.and_then(|Json(body)| body.refresh_token);
    let token = sessions::token_of(&headers, body)?;
    sessions::end(&state, &token).await?;
    Ok(with_cookie((sessions::cookie_header("", 0), Empty {})))
}

/// The caller's account and orgs.
#[utoipa::path(get, path = "/api/auth/me", tag = "identity", responses(
    (status = 200, body = Envelope<Me>), (status = 401, body = ErrorBody),
))]
async fn me(extract::State(state): extract::State<State>, User(user): User) -> Answer<Me> {
    ok(accounts::me(&state, user).await?)
}

/// The CLI's sign-in: `cli_complete` (needs an access token) gives a [`CliCode`], `cli_exchange` a
/// [`Session`].
#[utoipa::path(post, path = "/api/auth", tag = "identity", request_body = AuthAction, responses(
    (status = 200, description = "To `cli_complete`; `cli_exchange` answers with a Session.", body = Envelope<CliCode>),
    (status = 401, body = ErrorBody),
))]
async fn action(
    extract::State(state): extract::State<State>,
    caller: Option<SignedIn>,
    device: Device,
    Json(request): Json<AuthAction>,
) -> Result<Response, ApiError> {
    match (request, caller) {
        (AuthAction::CliComplete { challenge }, Some(caller)) => {
            let code = cli::complete(&state, caller.user, caller.session, challenge).await?;
            Ok(axum::Json(Envelope::ok(code)).into_response())
        }
        (AuthAction::CliComplete { .. }, None) => Err(refuse(
            ErrorCode::Unauthorized,
            "`cli_complete` needs an access token; sign in first",
        )),
        (AuthAction::CliExchange { code, verifier }, _) => {
            let session = cli::exchange(&state, &code, &verifier, &device).await?;
            Ok(axum::Json(Envelope::ok(session)).into_response())
        }
    }
}

/// Confirms an account's address by the token that was sent there, and the password.
#[utoipa::path(post, path = "/api/auth/verify-email", tag = "identity", request_body = VerifyEmailRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn verify_email(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<VerifyEmailRequest>,
) -> Answer<Empty> {
    recovery::confirm(&state, ip, &request.token, request.password).await?;
    ok(Empty {})
}

/// Sends a mail to choose a new password. The answer is the same if the address has no account.
#[utoipa::path(post, path = "/api/auth/reset-password", tag = "identity", request_body = ResetPasswordRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 429, body = ErrorBody),
    (status = 503, description = "No mail is sent here.", body = ErrorBody),
))]
async fn ask_for_reset(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<ResetPasswordRequest>,
) -> Answer<Empty> {
    recovery::ask_for_reset(&state, ip, &request.email).await?;
    ok(Empty {})
}

/// Sets a new password by the token of that mail. Every session of the account ends.
#[utoipa::path(post, path = "/api/auth/reset-password/confirm", tag = "identity",
    request_body = ConfirmResetRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn reset_password(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<ConfirmResetRequest>,
) -> Answer<Empty> {
    recovery::reset(&state, ip, &request.token, request.password).await?;
    ok(Empty {})
}

/// Changes the caller's password. Every other session of the account ends.
#[utoipa::path(post, path = "/api/auth/change-password", tag = "identity",
    request_body = ChangePasswordRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn change_password(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<ChangePasswordRequest>,
) -> Answer<Empty> {
    let ChangePasswordRequest {
        current_password,
        password,
    } = request;
    recovery::change_password(
        &state,
        caller.user,
        caller.session,
        current_password,
        password,
    )
    .await?;
    ok(Empty {})
}

/// The caller's sessions.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "identity", responses(
    (status = 200, body = Envelope<Vec<SessionInfo>>), (status = 401, body = ErrorBody),
))]
async fn list_sessions(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
) -> Answer<Vec<SessionInfo>> {
    ok(sessions::list(&state, caller.user, caller.session).await?)
}

/// Ends all of the caller's sessions but this one.
#[utoipa::path(delete, path = "/api/auth/sessions", tag = "identity", responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody),
))]
async fn end_other_sessions(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(caller.user).await?;
    sessions::end_all(&tx, caller.user, Some(caller.session)).await?;
    tx.commit().await?;
    ok(Empty {})
}

/// Ends one of the caller's sessions.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "identity", params(("id" = SessionId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn end_session(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(id): Path<SessionId>,
) -> Answer<Empty> {
    sessions::end_one(&state, user, id).await?;
    ok(Empty {})
}

/// Deletes the caller's account, with memberships, machines, keys and sessions, and orgs that have no
/// other member.
#[utoipa::path(post, path = "/api/auth/delete-account", tag = "identity", request_body = DeleteAccountRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn delete_account(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<DeleteAccountRequest>,
) -> Answer<Empty> {
    let code = request.totp_code.as_deref();
    deletion::delete(&state, caller.user, request.password, code).await?;
    ok(Empty {})
}

/// Begins a second factor: a secret for the caller's authenticator.
#[utoipa::path(post, path = "/api/auth/mfa/setup", tag = "identity", request_body = MfaSetupRequest, responses(
    (status = 200, body = Envelope<TotpSetup>), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn mfa_setup(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<MfaSetupRequest>,
) -> Answer<TotpSetup> {
    ok(mfa::set_up(&state, caller.user, request.password).await?)
}

/// Switches the second factor on, with the authenticator's first code.
#[utoipa::path(post, path = "/api/auth/mfa/verify", tag = "identity", request_body = MfaVerifyRequest, responses(
    (status = 200, body = Envelope<BackupCodes>), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn mfa_verify(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<MfaVerifyRequest>,
) -> Answer<BackupCodes> {
    ok(mfa::activate(&state, caller.user, &request.code).await?)
}

/// Switches the second factor off.
#[utoipa::path(post, path = "/api/auth/mfa/disable", tag = "identity", request_body = MfaDisableRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn mfa_disable(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<MfaDisableRequest>,
) -> Answer<Empty> {
    mfa::disable(&state, caller.user, request.password, &request.code).await?;
    ok(Empty {})
}

fn with_cookie<T: serde::Serialize>((cookie, data): (Option<HeaderValue>, T)) -> Response {
    let mut response = axum::Json(Envelope::ok(data)).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
