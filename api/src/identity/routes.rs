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

use super::{accounts, cli, sessions};
use crate::app::State;
use crate::http::{Answer, ApiError, ClientIp, Empty, Json, User, created, ok, refuse};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(signup))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(action))
}

/// Makes an account. The answer is the same if the address has one.
#[utoipa::path(post, path = "/api/auth/signup", tag = "identity", request_body = SignupRequest, responses(
    (status = 201, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn signup(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Json(request): Json<SignupRequest>,
) -> Answer<Empty> {
    accounts::sign_up(&state, ip, &request.email, request.password).await?;
    created(Empty {})
}

/// Begins a session. Browsers get the refresh token as a cookie.
#[utoipa::path(post, path = "/api/auth/login", tag = "identity", request_body = LoginRequest, responses(
    (status = 200, body = Envelope<Session>), (status = 401, body = ErrorBody), (status = 423, body = ErrorBody),
    (status = 429, body = ErrorBody),
))]
async fn login(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    let user = accounts::check_credentials(&state, ip, &request.email, request.password).await?;
    let session = sessions::begin(&state, user).await?;
    Ok(with_cookie(sessions::hand_over(&headers, session)))
}

/// Turns a refresh token into the next session. A token that comes twice ends its family.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "identity", request_body = RefreshRequest, responses(
    (status = 200, body = Envelope<Session>), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
))]
async fn refresh(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Option<Json<RefreshRequest>>,
) -> Result<Response, ApiError> {
    let body = body.and_then(|Json(body)| body.refresh_token);
    let token = sessions::token_of(&headers, body)?;
    let session = sessions::refresh(&state, &token).await?;
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
    user: Option<User>,
    Json(request): Json<AuthAction>,
) -> Result<Response, ApiError> {
    match (request, user) {
        (AuthAction::CliComplete { challenge }, Some(User(user))) => {
            let code = cli::complete(&state, user, challenge).await?;
            Ok(axum::Json(Envelope::ok(code)).into_response())
        }
        (AuthAction::CliComplete { .. }, None) => Err(refuse(
            ErrorCode::Unauthorized,
            "`cli_complete` needs an access token; sign in first",
        )),
        (AuthAction::CliExchange { code, verifier }, _) => {
            let session = cli::exchange(&state, &code, &verifier).await?;
            Ok(axum::Json(Envelope::ok(session)).into_response())
        }
    }
}

fn with_cookie<T: serde::Serialize>((cookie, data): (Option<HeaderValue>, T)) -> Response {
    let mut response = axum::Json(Envelope::ok(data)).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
