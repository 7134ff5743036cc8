//! Sessions: begun, refreshed, ended.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;
use ztna_proto::api::Session;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::UserId;

use crate::app::State;
use crate::http::{ApiError, cookie_value, is_browser, refuse, same_origin};
use crate::keys::ACCESS_TOKEN_SECONDS;

/// How long a refresh token holds, in seconds: 30 days.
const REFRESH_SECONDS: i64 = 30 * 24 * 60 * 60;
/// The cookie that holds a browser's refresh token. The prefix has browsers insist on `Secure`,
/// `Path=/` and no `Domain` (RFC 6265bis §4.1.3.2).
pub(super) const COOKIE: &str = "__Host-refresh_token";

/// A new refresh token and its hash.
fn make_refresh_token() -> (Zeroizing<String>, Vec<u8>) {
    let mut secret = Zeroizing::new([0; 32]);
    rand::Rng::fill_bytes(&mut rand::rng(), secret.as_mut());
    let token = Zeroizing::new(BASE64URL.encode(secret.as_ref()));
    let hash = hash(&token);
    (token, hash)
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// Begins a session.
pub(super) async fn begin(state: &State, user: UserId) -> Result<Session, ApiError> {
    let (token, hash) = make_refresh_token();
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    tx.execute(
        "INSERT INTO refresh_tokens (hash, family, user_id, expires_at)
         VALUES ($1, $2, $3, now() + $4::bigint * interval '1 second')",
        &[&hash, &Uuid::now_v7(), &user.0, &REFRESH_SECONDS],
    )
    .await?;
    tx.commit().await?;
    session(state, user, &token)
}

/// Turns a refresh token into the next session.
pub(super) async fn refresh(state: &State, token: &str) -> Result<Session, ApiError> {
    let (next, next_hash) = make_refresh_token();
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT user_id FROM rotate_refresh_token($1, $2, $3)",
            &[&hash(token), &next_hash, &REFRESH_SECONDS],
        )
        .await?;
    // Also when there is no row: it may have ended a family.
    tx.commit().await?;
    let Some(row) = row else {
        return Err(ended());
    };
    session(state, UserId(row.get(0)), &next)
}

/// Whose refresh token this is, without using it up.
pub(super) async fn peek(state: &State, token: &str) -> Result<Option<UserId>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT user_id FROM lookup_refresh_token($1)",
            &[&hash(token)],
        )
        .await?;
    Ok(row.map(|row| UserId(row.get(0))))
}

/// Ends a session: its refresh token and all that came before it. One that is not good needs no
/// ending.
pub(super) async fn end(state: &State, token: &str) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT user_id, family FROM lookup_refresh_token($1)",
            &[&hash(token)],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let (user, family): (Uuid, Uuid) = (row.get(0), row.get(1));
    tx.enter_person(UserId(user)).await?;
    tx.execute("DELETE FROM refresh_tokens WHERE family = $1", &[&family])
        .await?;
    tx.commit().await
}

/// The refresh token of a call: the body's, else the cookie's, and that only from our own pages.
pub(super) fn token_of(
    headers: &HeaderMap,
    body: Option<String>,
) -> Result<Zeroizing<String>, ApiError> {
    if let Some(token) = body {
        return Ok(Zeroizing::new(token));
    }
    let Some(token) = cookie_value(headers, COOKIE) else {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the call carries no refresh token; sign in again",
        ));
    };
    same_origin(headers)?;
    Ok(Zeroizing::new(token))
}

/// What the client is given: a browser gets the refresh token as a cookie and not in the body.
pub(super) fn hand_over(
    headers: &HeaderMap,
    mut session: Session,
) -> (Option<HeaderValue>, Session) {
    if !is_browser(headers) {
        return (None, session);
    }
    let cookie = cookie_header(&session.refresh_token, REFRESH_SECONDS);
    session.refresh_token = String::new();
    (cookie, session)
}

/// The `Set-Cookie` header of a refresh token; with `seconds` 0, of its removal.
pub(super) fn cookie_header(token: &str, seconds: i64) -> Option<HeaderValue> {
    let cookie = Cookie::build((COOKIE, token))
        .path("/")
        .http_only(true)
        .secure(true)
        .same_site(SameSite::Strict)
        .max_age(cookie::time::Duration::seconds(seconds))
        .build();
    // The token is base64url, so there is nothing in it that a header could not hold.
    HeaderValue::from_str(&cookie.to_string()).ok()
}

/// The `Set-Cookie` header of a session that a page has begun.
pub(super) fn session_cookie(session: &Session) -> Option<HeaderValue> {
    cookie_header(&session.refresh_token, REFRESH_SECONDS)
}

fn session(state: &State, user: UserId, refresh: &str) -> Result<Session, ApiError> {
    let now = Timestamp::now().as_second();
    let access_token = state
        .keys
        .sign_access(user, now)
        .map_err(|error| ApiError::Internal(format!("signing an access token: {error}")))?;
    Ok(Session {
        access_token,
        expires_in: ACCESS_TOKEN_SECONDS.unsigned_abs(),
        refresh_token: refresh.to_owned(),
    })
}

fn ended() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "the session has ended, or its refresh token was used before; sign in again",
    )
}
