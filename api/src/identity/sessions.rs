//! Sessions: begun, refreshed, ended.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;
use ztna_proto::api::Session;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, SessionId, UserId};
use ztna_proto::people::SessionInfo;

use super::mfa::Factor;
use crate::app::State;
use crate::audit;
use crate::db::Tx;
use crate::http::{ApiError, Device, cookie_value, is_browser, refuse, same_origin};
use crate::keys::{ACCESS_TOKEN_SECONDS, Access};

/// How long a refresh token holds, in seconds: 30 days.
const REFRESH_SECONDS: i64 = 30 * 24 * 60 * 60;
/// How long a session holds that an org's provider vouched for, in seconds: who is shut out there, is out
/// here a day later at the latest.
const VOUCHED_SECONDS: i64 = 24 * 60 * 60;
/// The cookie that holds a browser's refresh token. The prefix has browsers insist on `Secure`,
/// `Path=/` and no `Domain` (RFC 6265bis §4.1.3.2).
pub(super) const COOKIE: &str = "__Host-refresh_token";

/// The word of an org's provider for a session.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) struct Vouch {
    org: OrgId,
    /// When the session ends.
    until: Timestamp,
}

impl Vouch {
    /// Given just now.
    pub(super) fn now(org: OrgId) -> Self {
        Self {
            org,
            until: Timestamp::now() + SignedDuration::from_secs(VOUCHED_SECONDS),
        }
    }
}

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

/// How somebody signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Password(Factor),
    /// By the word of a provider.
    Provider(&'static str, Factor),
    /// The CLI, by the code that a browser's session gave it.
    Cli,
}

impl Way {
    /// As the audit log names it.
    fn name(self) -> String {
        let (first, factor) = match self {
            Self::Password(factor) => ("password", factor),
            Self::Provider(provider, factor) => (provider, factor),
            Self::Cli => ("code for the CLI", Factor::None),
        };
        let second = match factor {
            Factor::None => "",
            Factor::Totp => " and code",
            Factor::BackupCode => " and backup code",
        };
        format!("{first}{second}")
    }
}

/// Who has signed in, and how.
pub(crate) struct Proof {
    pub(super) user: UserId,
    pub(super) way: Way,
}

impl Proof {
    /// What was given besides the first factor.
    pub(super) fn factor(&self) -> Factor {
        match self.way {
            Way::Password(factor) | Way::Provider(_, factor) => factor,
            Way::Cli => Factor::None,
        }
    }
}

/// Begins a session.
pub(super) async fn begin(
    state: &State,
    proof: &Proof,
    device: &Device,
    vouch: Option<Vouch>,
) -> Result<Session, ApiError> {
    let user = proof.user;
    let id = SessionId::generate();
    let (token, hash) = make_refresh_token();
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    // LEAST ignores NULL.
    let row = tx
        .query_one(
            "INSERT INTO refresh_tokens (hash, family, user_id, expires_at, ip, client, vouched_by, ends_at)
             VALUES ($1, $2, $3, LEAST(now() + $4::bigint * interval '1 second', $8::timestamptz), $5, $6, $7, $8)
             RETURNING GREATEST(extract(epoch FROM expires_at - now()), 0)::bigint",
            &[
                &hash,
                &id.0,
                &user.0,
                &REFRESH_SECONDS,
                &device.ip,
                &device.client,
                &vouch.map(|vouch| vouch.org.0),
                &vouch.map(|vouch| vouch.until),
            ],
        )
        .await?;
    audit::signed_in(&tx, user, id, &proof.way.name()).await?;
    tx.commit().await?;
    let access = Access {
        user,
        session: id,
        vouched_by: vouch.map(|vouch| vouch.org),
    };
    session(state, access, &token, row.get(0))
}

/// The word of a provider that a session carries.
///
/// # Errors
/// `UNAUTHORIZED` if the session has ended.
pub(super) async fn vouch_of(
    state: &State,
    user: UserId,
    id: SessionId,
) -> Result<Option<Vouch>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let row = tx
        .query_opt(
            "SELECT vouched_by, ends_at FROM refresh_tokens
             WHERE user_id = $1 AND family = $2 AND used_at IS NULL AND expires_at > now()",
            &[&user.0, &id.0],
        )
        .await?
        .ok_or_else(ended)?;
    let (org, until): (Option<Uuid>, Option<Timestamp>) = (row.get(0), row.get(1));
    Ok(org.zip(until).map(|(org, until)| Vouch {
        org: OrgId(org),
        until,
    }))
}

/// Whether a session of the transaction's person has not ended.
pub(crate) async fn lives(tx: &Tx<'_>, user: UserId, id: SessionId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM refresh_tokens
             WHERE user_id = $1 AND family = $2 AND used_at IS NULL AND expires_at > now()",
            &[&user.0, &id.0],
        )
        .await?;
    Ok(row.is_some())
}

/// Turns a refresh token into the next session.
pub(super) async fn refresh(
    state: &State,
    token: &str,
    device: &Device,
) -> Result<Session, ApiError> {
    let (next, next_hash) = make_refresh_token();
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    // A token that comes twice ends its session, which the audit log tells.
    tx.announce().await?;
    let row = tx
        .query_opt(
            "SELECT user_id, family, vouched_by, seconds_left FROM rotate_refresh_token($1, $2, $3, $4, $5)",
            &[
                &hash(token),
                &next_hash,
                &REFRESH_SECONDS,
                &device.ip,
                &device.client,
            ],
        )
        .await?;
    // Also when there is no row: it may have ended a family.
    tx.commit().await?;
    let Some(row) = row else {
        return Err(ended());
    };
    let access = Access {
        user: UserId(row.get(0)),
        session: SessionId(row.get(1)),
        vouched_by: row.get::<_, Option<Uuid>>(2).map(OrgId),
    };
    session(state, access, &next, row.get(3))
}

/// Whose refresh token this is and of which session, without using it up.
pub(super) async fn peek(
    state: &State,
    token: &str,
) -> Result<Option<(UserId, SessionId)>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT user_id, family FROM lookup_refresh_token($1)",
            &[&hash(token)],
        )
        .await?;
    Ok(row.map(|row| (UserId(row.get(0)), SessionId(row.get(1)))))
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

/// A person's sessions, the one used last first.
pub(super) async fn list(
    state: &State,
    user: UserId,
    current: SessionId,
) -> Result<Vec<SessionInfo>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let rows = tx
        .query(
            "SELECT family, began_at, created_at, ip, client FROM refresh_tokens
             WHERE user_id = $1 AND used_at IS NULL AND expires_at > now()
             ORDER BY created_at DESC, family",
            &[&user.0],
        )
        .await?;
    let info = |row: &tokio_postgres::Row| SessionInfo {
        id: SessionId(row.get(0)),
        began_at: row.get(1),
        refreshed_at: row.get(2),
        ip: row.get(3),
        client: row.get(4),
        current: SessionId(row.get(0)) == current,
    };
    Ok(rows.iter().map(info).collect())
}

/// Ends one session of a person.
///
/// # Errors
/// `NOT_FOUND` if it is none of theirs.
pub(super) async fn end_one(state: &State, user: UserId, id: SessionId) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let ended = tx
        .execute(
            "DELETE FROM refresh_tokens WHERE user_id = $1 AND family = $2",
            &[&user.0, &id.0],
        )
        .await?;
    if ended == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "you have no session with that id; `GET /api/auth/sessions` lists yours",
        ));
    }
    tx.commit().await
}

/// Ends a person's sessions, all or all but one, within their transaction.
pub(super) async fn end_all(
    tx: &Tx<'_>,
    user: UserId,
    keep: Option<SessionId>,
) -> Result<(), ApiError> {
    tx.execute(
        "DELETE FROM refresh_tokens WHERE user_id = $1 AND family IS DISTINCT FROM $2",
        &[&user.0, &keep.map(|id| id.0)],
    )
    .await?;
    Ok(())
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

/// `left`: seconds until the session ends if nobody refreshes it.
fn session(state: &State, access: Access, refresh: &str, left: i64) -> Result<Session, ApiError> {
    let now = Timestamp::now().as_second();
    let seconds = ACCESS_TOKEN_SECONDS.min(left);
    let access_token = state
        .keys
        .sign_access(access, now, seconds)
        .map_err(|error| ApiError::Internal(format!("signing an access token: {error}")))?;
    Ok(Session {
        access_token,
        expires_in: seconds.unsigned_abs(),
        refresh_token: refresh.to_owned(),
    })
}

fn ended() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "the session has ended, or its refresh token was used before; sign in again",
    )
}
