//! What happens by mail: an address confirmed, a forgotten password replaced. And a password changed
//! by who knows it.

use std::net::IpAddr;

use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{SessionId, UserId};
use ztna_proto::tokens::MailToken;

use super::accounts::{
    account_by_email, check_own_password, check_password, name_of, normalise_email,
};
use super::sessions;
use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, Counted, refuse};
use crate::mail::Letter;

/// How long the token that confirms an address holds, in seconds.
pub(super) const CONFIRM_SECONDS: i64 = 24 * 60 * 60;
/// How long the token that sets a new password holds, in seconds.
const RESET_SECONDS: i64 = 60 * 60;

/// Whether an address gets one more letter now: strangers name it, and it is not to be flooded.
pub(crate) async fn may_write(state: &State, email: &str) -> Result<bool, ApiError> {
    let key = format!("rate:letters:{}", name_of(email));
    let rate = state.limits.letters;
    Ok(state.kv.increment(&key, rate.window).await? <= rate.count)
}

/// Sends the letter that confirms an address once more.
pub(super) async fn send_again(state: &State, user: UserId, email: &str) -> Result<(), ApiError> {
    let Some(mail) = &state.mail else {
        return Ok(());
    };
    if may_write(state, email).await? {
        let token = store_token(state, user, "confirm", CONFIRM_SECONDS).await?;
        mail.send(email, &Letter::Confirm(token));
    }
    Ok(())
}

/// Confirms the address that a token was sent to, for who knows the password too: otherwise a stranger
/// could sign up with somebody's address, and have its owner confirm the stranger's password.
pub(super) async fn confirm(
    state: &State,
    ip: IpAddr,
    token: &MailToken,
    password: String,
) -> Result<(), ApiError> {
    Counted::by_address(&*state.kv, "confirmations", state.limits.reset, ip)
        .spend()
        .await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let user = take_token(&tx, token, "confirm").await?;
    let row = tx
        .query_one(
            "SELECT a.hash FROM users u, lookup_account(u.email) a WHERE u.id = $1",
            &[&user.0],
        )
        .await?;
    // A wrong password leaves the token good.
    if !state.passwords.verify(password, row.get(0)).await? {
        return Err(refuse(
            ErrorCode::InvalidCredentials,
            "this is not the password that the account was made with; correct it, or sign up again",
        ));
    }
    tx.execute(
        "UPDATE users SET confirmed_at = COALESCE(confirmed_at, now()) WHERE id = $1",
        &[&user.0],
    )
    .await?;
    tx.commit().await?;
    tracing::info!(%user, "an account's address was confirmed");
    Ok(())
}

/// Has a token for a new password sent, if the address has an account. What is done is done after the
/// answer, which so tells nothing.
pub(super) async fn ask_for_reset(state: &State, ip: IpAddr, email: &str) -> Result<(), ApiError> {
    if state.mail.is_none() {
        return Err(refuse(
            ErrorCode::Unavailable,
            "this control plane sends no mail; ask who runs it for a new password",
        ));
    }
    let email = normalise_email(email)?;
    Counted::by_address(&*state.kv, "password resets", state.limits.reset, ip)
        .spend()
        .await?;
    let state = state.clone();
    tokio::spawn(async move {
        if let Err(error) = send_reset(&state, &email).await {
            tracing::error!(%error, "a password reset could not be prepared");
        }
    });
    Ok(())
}

async fn send_reset(state: &State, email: &str) -> Result<(), ApiError> {
    let (Some(mail), Some(account)) = (&state.mail, account_by_email(state, email).await?) else {
        return Ok(());
    };
    if may_write(state, email).await? {
        let token = store_token(state, account.user, "reset", RESET_SECONDS).await?;
        mail.send(email, &Letter::Reset(token));
    }
    Ok(())
}

/// Sets a new password by a token that was sent. It proves the address too. Every session ends, and no
/// provider's word opens the account any more: somebody else may have linked theirs.
pub(super) async fn reset(
    state: &State,
    ip: IpAddr,
    token: &MailToken,
    password: String,
) -> Result<(), ApiError> {
    check_password(&password)?;
    Counted::by_address(&*state.kv, "password resets", state.limits.reset, ip)
        .spend()
        .await?;
    let hash = state.passwords.hash(password).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let user = take_token(&tx, token, "reset").await?;
    let row = tx
        .query_one(
            "UPDATE users SET password_hash = $2, confirmed_at = COALESCE(confirmed_at, now())
             WHERE id = $1 RETURNING email",
            &[&user.0, &hash],
        )
        .await?;
    for unlink in [
        "DELETE FROM user_identities WHERE user_id = $1",
        "DELETE FROM sso_identities WHERE user_id = $1",
    ] {
        tx.execute(unlink, &[&user.0]).await?;
    }
    sessions::end_all(&tx, user, None).await?;
    tx.commit().await?;
    unlock(state, row.get(0)).await?;
    tracing::info!(%user, "a password was reset by mail");
    Ok(())
}

/// Replaces the password of a person who knows it. Every other session ends.
pub(super) async fn change_password(
    state: &State,
    user: UserId,
    keep: SessionId,
    current: String,
    password: String,
) -> Result<(), ApiError> {
    check_password(&password)?;
    check_own_password(state, user, current).await?;
    let hash = state.passwords.hash(password).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    tx.execute(
        "UPDATE users SET password_hash = $2 WHERE id = $1",
        &[&user.0, &hash],
    )
    .await?;
    // A mail that somebody else asked for in time is of no use any more.
    tx.execute(
        "DELETE FROM mail_tokens WHERE user_id = $1 AND purpose = 'reset'",
        &[&user.0],
    )
    .await?;
    sessions::end_all(&tx, user, Some(keep)).await?;
    tx.commit().await?;
    tracing::info!(%user, "a password was changed");
    Ok(())
}

/// Who has just proved to own the address need not wait for the end of a lock.
async fn unlock(state: &State, email: &str) -> Result<(), ApiError> {
    let name = name_of(email);
    state.kv.remove(&format!("login-lock:{name}")).await?;
    state.kv.remove(&format!("login-tries:{name}")).await?;
    Ok(())
}

async fn store_token(
    state: &State,
    user: UserId,
    purpose: &str,
    seconds: i64,
) -> Result<MailToken, ApiError> {
    let token = MailToken::generate(&mut rand::rng());
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    tx.execute(
        "INSERT INTO mail_tokens (user_id, purpose, hash, expires_at)
         VALUES ($1, $2, $3, now() + $4::bigint * interval '1 second')
         ON CONFLICT (user_id, purpose) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at",
        &[&user.0, &purpose, &token.hash().as_slice(), &seconds],
    )
    .await?;
    tx.commit().await?;
    Ok(token)
}

/// Uses a token up, and works on for its person.
async fn take_token(tx: &Tx<'_>, token: &MailToken, purpose: &str) -> Result<UserId, ApiError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM take_mail_token($1, $2)",
            &[&token.hash().as_slice(), &purpose],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::InvalidKey,
            "the link of the mail was used, is too old, or a newer mail took its place; have another mail sent",
        ));
    };
    let user = UserId(row.get(0));
    tx.enter_person(user).await?;
    Ok(user)
}
