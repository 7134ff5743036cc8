//! Accounts: made, signed in to, locked.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use ztna_proto::api::{MAX_PASSWORD, MIN_PASSWORD, Me, OrgMembership};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::keys::hex;
use ztna_proto::tokens::MailToken;

use super::mfa::{self, Factor};
use super::recovery::{self, CONFIRM_SECONDS};
use super::sessions::{Proof, Way};
use crate::app::State;
use crate::audit;
use crate::http::{ApiError, Counted, refuse};
use crate::mail::Letter;
use crate::orgs::{self, Offer};

/// Longest e-mail address (RFC 5321 §4.5.3.1.3, less the brackets).
const MAX_EMAIL: usize = 254;

/// An address in the form that is stored: trimmed, in lower case.
///
/// # Errors
/// It is no address that mail could be sent to.
pub(crate) fn normalise_email(text: &str) -> Result<String, ApiError> {
    let email = text.trim().to_ascii_lowercase();
    let well_formed = email.len() <= MAX_EMAIL
        && email.chars().all(|c| c.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@')
        });
    if well_formed {
        return Ok(email);
    }
    Err(refuse(
        ErrorCode::ValidationError,
        "`email` is not an e-mail address of the form name@host; correct it",
    ))
}

pub(super) fn check_password(password: &str) -> Result<(), ApiError> {
    if password.chars().count() >= MIN_PASSWORD && password.len() <= MAX_PASSWORD {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::ValidationError,
        format!(
            "`password` needs {MIN_PASSWORD} characters or more, and at most {MAX_PASSWORD} bytes; choose another"
        ),
    ))
}

/// An address as the store's keys name it.
pub(super) fn name_of(email: &str) -> String {
    hex(&Sha256::digest(email.as_bytes()))
}

/// Makes an account. If the address has one already, only its owner is told, by mail: the caller
/// cannot tell. Where mail is sent, the account waits for its address to be confirmed.
///
/// # Errors
/// `FORBIDDEN` if accounts are by invitation here.
pub(crate) async fn sign_up(
    state: &State,
    ip: IpAddr,
    email: &str,
    password: String,
) -> Result<(), ApiError> {
    state.providers.check_sign_up()?;
    let email = normalise_email(email)?;
    check_password(&password)?;
    Counted::by_address(&*state.kv, "sign-ups", state.limits.signup, ip)
        .spend()
        .await?;
    let hash = state.passwords.hash(password).await?;
    let token = MailToken::generate(&mut rand::rng());
    let to_confirm = state.mail.as_ref().map(|_| &token);
    let waiting = store(state, &email, &hash, to_confirm).await?;
    if let Some(mail) = &state.mail
        && recovery::may_write(state, &email).await?
    {
        let letter = match waiting {
            true => Letter::Confirm(token),
            false => Letter::Exists,
        };
        mail.send(&email, &letter);
    }
    Ok(())
}

/// Makes an account for the address that an invitation was sent to: it is confirmed by that. One that is there stays as
/// it is.
pub(super) async fn sign_up_invited(
    state: &State,
    ip: IpAddr,
    offer: &Offer,
    password: String,
) -> Result<(), ApiError> {
    check_password(&password)?;
    Counted::by_address(&*state.kv, "sign-ups", state.limits.signup, ip)
        .spend()
        .await?;
    let hash = state.passwords.hash(password).await?;
    store(state, &offer.email, &hash, None).await?;
    Ok(())
}

/// Whether the account waits for its address to be confirmed by the token.
async fn store(
    state: &State,
    email: &str,
    hash: &str,
    token: Option<&MailToken>,
) -> Result<bool, ApiError> {
    let token_hash = token.map(|token| token.hash().to_vec());
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_one(
            "SELECT waiting FROM sign_up($1, $2, $3, $4, $5)",
            &[
                &UserId::generate().0,
                &email,
                &hash,
                &token_hash,
                &CONFIRM_SECONDS,
            ],
        )
        .await?;
    tx.commit().await?;
    Ok(row.get(0))
}

/// Whose address, password and (if the account asks for one) code these are. Ten failures lock the
/// account for a while, known or not.
pub(crate) async fn check_credentials(
    state: &State,
    ip: IpAddr,
    email: &str,
    password: String,
    code: Option<&str>,
) -> Result<Proof, ApiError> {
    let by_address = Counted::by_address(&*state.kv, "failed sign-ins", state.limits.login, ip);
    by_address.check().await?;
    let email = normalise_email(email)?;
    if password.len() > MAX_PASSWORD {
        return Err(wrong());
    }
    // A database that does not answer is nobody's failed try.
    let account = account_by_email(state, &email).await?;
    let known = account.as_ref().map(|account| account.user);
    let tries = count_try(state, &email, known).await?;

    let stored = account.as_ref().and_then(|account| account.hash.clone());
    let right = state.passwords.verify(password, stored).await?;
    let Some(account) = account else {
        by_address.count().await?;
        return Err(wrong());
    };
    if !right {
        audit::refused(state, account.user, "wrong password");
        by_address.count().await?;
        return Err(wrong());
    }
    if !account.confirmed {
        recovery::send_again(state, account.user, &email).await?;
        return Err(refuse(
            ErrorCode::EmailUnconfirmed,
            "the account's address is not confirmed yet; open the link of the mail that was sent there",
        ));
    }
    let factor = take_code(state, &by_address, account.user, code).await?;
    state.kv.remove(&tries).await?;
    Ok(Proof {
        user: account.user,
        way: Way::Password(factor),
    })
}

/// Checks the second factor of a person whom a provider vouches for. Failures count as those with a password
/// do, and together with them.
pub(super) async fn check_code(
    state: &State,
    ip: IpAddr,
    user: UserId,
    code: Option<&str>,
) -> Result<Factor, ApiError> {
    let by_address = Counted::by_address(&*state.kv, "failed sign-ins", state.limits.login, ip);
    by_address.check().await?;
    let email = me(state, user).await?.email;
    let tries = count_try(state, &email, Some(user)).await?;
    let factor = take_code(state, &by_address, user, code).await?;
    state.kv.remove(&tries).await?;
    Ok(factor)
}

/// Counts a try at an account, known or not, before it is checked, so that many at once do not all get
/// theirs. What they are counted under; it is removed once one is right.
async fn count_try(state: &State, email: &str, known: Option<UserId>) -> Result<String, ApiError> {
    let name = name_of(email);
    let (tries, lock) = (format!("login-tries:{name}"), format!("login-lock:{name}"));
    if state.kv.get(&lock).await?.is_some() {
        return Err(locked(state));
    }
    let limit = state.limits.account;
    if state.kv.increment(&tries, limit.window).await? <= limit.count {
        return Ok(tries);
    }
    state
        .kv
        .set(&lock, Vec::new(), state.limits.lockout)
        .await?;
    state.kv.remove(&tries).await?;
    if let Some(user) = known {
        audit::refused(state, user, "too many failures: locked");
    }
    Err(locked(state))
}

/// A wrong code is a failed sign-in like a wrong password: who knows the one may not try the other any
/// faster.
async fn take_code(
    state: &State,
    by_address: &Counted<'_>,
    user: UserId,
    code: Option<&str>,
) -> Result<Factor, ApiError> {
    let passed = mfa::check(state, user, code).await;
    if let Err(ApiError::Refused(body)) = &passed
        && body.code == ErrorCode::InvalidCredentials
    {
        audit::refused(state, user, "wrong code");
        by_address.count().await?;
    }
    passed
}

/// Checks the password of a person who is signed in, before something that a stolen session must not do.
/// The account's address.
pub(super) async fn check_own_password(
    state: &State,
    user: UserId,
    password: String,
) -> Result<String, ApiError> {
    spend_try(state, user).await?;
    let email = me(state, user).await?.email;
    let account = account_by_email(state, &email).await?;
    let stored = account.and_then(|account| account.hash);
    if state.passwords.verify(password, stored).await? {
        return Ok(email);
    }
    Err(refuse(
        ErrorCode::InvalidCredentials,
        "this is not the account's password; correct it, or have it reset by mail",
    ))
}

/// Tries at the password, or a first code, of somebody who is signed in.
pub(super) async fn spend_try(state: &State, user: UserId) -> Result<(), ApiError> {
    let limit = state.limits.credentials;
    Counted::by_user(&*state.kv, "checks of password or code", limit, user)
        .spend()
        .await
}

fn wrong() -> ApiError {
    refuse(
        ErrorCode::InvalidCredentials,
        "e-mail address and password do not match an account; correct them, or sign up",
    )
}

fn locked(state: &State) -> ApiError {
    refuse(
        ErrorCode::AccountLocked,
        format!(
            "too many failed sign-ins to this account; try again in {} minutes",
            state.limits.lockout.as_secs().div_ceil(60)
        ),
    )
}

/// An account as sign-in needs it.
pub(crate) struct Account {
    pub(crate) user: UserId,
    /// The stored password, if one was chosen.
    pub(crate) hash: Option<String>,
    /// Whether it may be used.
    pub(crate) confirmed: bool,
}

/// The account of an address.
pub(crate) async fn account_by_email(
    state: &State,
    email: &str,
) -> Result<Option<Account>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT user_id, hash, confirmed FROM lookup_account($1)",
            &[&email],
        )
        .await?;
    Ok(row.map(|row| Account {
        user: UserId(row.get(0)),
        hash: row.get(1),
        confirmed: row.get(2),
    }))
}

/// The account and its orgs.
pub(crate) async fn me(state: &State, user: UserId) -> Result<Me, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let row = tx
        .query_opt("SELECT email FROM users WHERE id = $1", &[&user.0])
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the account is there no longer; sign up again",
        ));
    };
    let mfa = mfa::is_on(&tx, user).await?;
    let orgs = tx
        .query(
            "SELECT o.id, o.name, o.slug, m.role FROM orgs o
             JOIN members m ON m.org_id = o.id AND m.user_id = $1 ORDER BY o.name, o.id",
            &[&user.0],
        )
        .await?;
    let membership = |row: &tokio_postgres::Row| {
        Ok::<_, ApiError>(OrgMembership {
            id: OrgId(row.get(0)),
            name: row.get(1),
            slug: row.get(2),
            role: orgs::parse_role(row.get(3))?,
        })
    };
    Ok(Me {
        id: user,
        email: row.get(0),
        mfa,
        orgs: orgs.iter().map(membership).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_or_refused() {
        assert_eq!(normalise_email(" A@B.example ").unwrap(), "a@b.example");
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "ü@b", "a@b\n"] {
            // A line end at the end is white space, and trimmed.
            assert_eq!(normalise_email(bad).is_err(), bad != "a@b\n", "{bad:?}");
        }
        assert!(normalise_email(&format!("{}@b", "a".repeat(260))).is_err());
    }

    #[test]
    fn passwords_count_characters() {
        assert!(check_password("äöüäöüäöüäöü").is_ok());
        assert!(check_password("elevenchars").is_err());
        assert!(check_password(&"a".repeat(MAX_PASSWORD + 1)).is_err());
    }
}
