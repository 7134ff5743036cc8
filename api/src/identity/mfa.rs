//! The second factor: codes of an authenticator (TOTP, RFC 6238: SHA-1, six digits, 30 seconds, one
//! step either way), and ten backup codes for the day on which it is lost.
//!
//! A code is taken once, and none that is older than the last: the database holds the time step of the
//! last one, so this also holds over restarts and between nodes.

use jiff::Timestamp;
use rand::RngExt;
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::UserId;
use ztna_proto::people::{BackupCodes, TotpSetup};

use super::accounts::{check_own_password, spend_try};
use super::sessions;
use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// What authenticators show as the name of the service.
const ISSUER: &str = "ztna";
/// Bytes of a secret: as many as a SHA-1 has (RFC 4226 §4, R6).
const SECRET_LEN: usize = 20;
/// What secrets are sealed for.
pub(crate) const SECRET: &str = "totp";
/// What backup codes are hashed for.
const BACKUP: &str = "backup code";
/// How many backup codes a person gets.
const BACKUP_CODES: usize = 10;
/// Characters of a backup code, without the dash in its middle: 50 bits.
const BACKUP_LEN: usize = 10;
/// Letters and digits that are not mistaken for each other (Crockford's base 32, in lower case).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The second factor that a sign-in was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// The account asks for none.
    None,
    Totp,
    BackupCode,
}

/// Makes a secret and shows it; sign-in asks for codes once one has been given to [`activate`].
pub(super) async fn set_up(
    state: &State,
    user: UserId,
    password: String,
) -> Result<TotpSetup, ApiError> {
    let email = check_own_password(state, user, password).await?;
    let mut secret = Zeroizing::new([0; SECRET_LEN]);
    rand::Rng::fill_bytes(&mut rand::rng(), secret.as_mut());
    let totp = totp(secret.as_ref(), &email)?;
    let sealed = state.keys.sealer().seal(user.0, SECRET, secret.as_ref())?;
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let stored = tx
        .execute(
            "INSERT INTO totp_secrets AS old (user_id, secret) VALUES ($1, $2)
             ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, last_step = 0
             WHERE old.active_at IS NULL",
            &[&user.0, &sealed],
        )
        .await?;
    if stored == 0 {
        return Err(refuse(
            ErrorCode::Conflict,
            "the account has a second factor already; disable it first",
        ));
    }
    tx.commit().await?;
    let url = totp
        .to_url()
        .map_err(|error| ApiError::Internal(format!("the URL of a TOTP secret: {error}")))?;
    Ok(TotpSetup {
        secret: totp.secret().to_base32(),
        url,
    })
}

/// Switches the second factor on, with the first code. The backup codes are shown this once.
pub(super) async fn activate(
    state: &State,
    user: UserId,
    code: &str,
) -> Result<BackupCodes, ApiError> {
    spend_try(state, user).await?;
    let codes = Zeroizing::new(make_backup_codes());
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let row = tx
        .query_opt(
            "SELECT secret FROM totp_secrets WHERE user_id = $1 AND active_at IS NULL",
            &[&user.0],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::Conflict,
            "there is no second factor to confirm; `POST /api/auth/mfa/setup` begins one",
        ));
    };
    let secret = state.keys.sealer().open(user.0, SECRET, row.get(0))?;
    if !take_code(&tx, user, &secret, code).await? {
        return Err(wrong_code());
    }
    tx.execute(
        "UPDATE totp_secrets SET active_at = now() WHERE user_id = $1",
        &[&user.0],
    )
    .await?;
    for code in codes.iter() {
        let hash = hash_backup(state, user, code)?.swap_remove(0);
        tx.execute(
            "INSERT INTO backup_codes (user_id, hash) VALUES ($1, $2)",
            &[&user.0, &hash.as_slice()],
        )
        .await?;
    }
    tx.commit().await?;
    tracing::info!(%user, "a second factor was switched on");
    Ok(BackupCodes {
        backup_codes: codes.to_vec(),
    })
}

/// Switches the second factor off, with the password and a last code.
pub(super) async fn disable(
    state: &State,
    user: UserId,
    password: String,
    code: &str,
) -> Result<(), ApiError> {
    check_own_password(state, user, password).await?;
    check(state, user, Some(code)).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    tx.execute("DELETE FROM totp_secrets WHERE user_id = $1", &[&user.0])
        .await?;
    tx.commit().await?;
    tracing::info!(%user, "a second factor was switched off");
    Ok(())
}

/// Takes the second factor of the transaction's person off, without any proof, and ends their sessions.
/// Whether there was one.
pub(crate) async fn remove(tx: &Tx<'_>, user: UserId) -> Result<bool, ApiError> {
    let gone = tx
        .execute(
            "DELETE FROM totp_secrets WHERE user_id = $1 AND active_at IS NOT NULL",
            &[&user.0],
        )
        .await?;
    sessions::end_all(tx, user, None).await?;
    Ok(gone == 1)
}

/// Whether sign-in has to ask a person for a code.
pub(super) async fn wanted(state: &State, user: UserId) -> Result<bool, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    is_on(&tx, user).await
}

/// Whether a person has a second factor.
pub(super) async fn is_on(tx: &Tx<'_>, user: UserId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM totp_secrets WHERE user_id = $1 AND active_at IS NOT NULL",
            &[&user.0],
        )
        .await?;
    Ok(row.is_some())
}

/// Checks the code of a person who has given the right password, and uses it up. Who has no second
/// factor needs none.
///
/// # Errors
/// `MFA_REQUIRED` without a code, `INVALID_CREDENTIALS` with a wrong or used one.
pub(super) async fn check(
    state: &State,
    user: UserId,
    code: Option<&str>,
) -> Result<Factor, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let row = tx
        .query_opt(
            "SELECT secret FROM totp_secrets WHERE user_id = $1 AND active_at IS NOT NULL",
            &[&user.0],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Factor::None);
    };
    let Some(code) = code.map(str::trim).filter(|code| !code.is_empty()) else {
        return Err(refuse(
            ErrorCode::MfaRequired,
            "the account has a second factor; send the authenticator's code, or a backup code, as `totp_code`",
        ));
    };
    let secret = state.keys.sealer().open(user.0, SECRET, row.get(0))?;
    let factor = if take_code(&tx, user, &secret, code).await? {
        Factor::Totp
    } else if take_backup(state, &tx, user, code).await? {
        Factor::BackupCode
    } else {
        return Err(wrong_code());
    };
    tx.commit().await?;
    Ok(factor)
}

fn wrong_code() -> ApiError {
    refuse(
        ErrorCode::InvalidCredentials,
        "the code is wrong, or was used before; wait for the authenticator's next one",
    )
}

/// Takes a code of the authenticator, unless it or a later one was taken before.
async fn take_code(tx: &Tx<'_>, user: UserId, secret: &[u8], code: &str) -> Result<bool, ApiError> {
    let now = Timestamp::now().as_second().unsigned_abs();
    let Some(step) = totp(secret, "")?.check(code, now) else {
        return Ok(false);
    };
    let taken = tx
        .execute(
            "UPDATE totp_secrets SET last_step = $2 WHERE user_id = $1 AND last_step < $2",
            &[&user.0, &i64::try_from(step).unwrap_or(i64::MAX)],
        )
        .await?;
    Ok(taken == 1)
}

/// Takes a backup code.
async fn take_backup(
    state: &State,
    tx: &Tx<'_>,
    user: UserId,
    code: &str,
) -> Result<bool, ApiError> {
    let hashes = hash_backup(state, user, code)?;
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    let taken = tx
        .execute(
            "DELETE FROM backup_codes WHERE user_id = $1 AND hash = ANY($2)",
            &[&user.0, &hashes],
        )
        .await?;
    if taken == 1 {
        tracing::info!(%user, "a backup code was used");
    }
    Ok(taken == 1)
}

/// Under each master key, the current one first. People may leave the dash out, and write capitals.
fn hash_backup(state: &State, user: UserId, code: &str) -> Result<Vec<[u8; 32]>, ApiError> {
    let plain: Zeroizing<String> = Zeroizing::new(
        code.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .take(BACKUP_LEN + 1)
            .collect(),
    );
    state
        .keys
        .sealer()
        .keyed_hashes(user.0, BACKUP, plain.as_bytes())
}

fn make_backup_codes() -> Vec<String> {
    let mut rng = rand::rng();
    let mut half = || -> String {
        (0..BACKUP_LEN / 2)
            .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
            .collect()
    };
    (0..BACKUP_CODES)
        .map(|_| format!("{}-{}", half(), half()))
        .collect()
}

fn totp(secret: &[u8], account: &str) -> Result<Totp, ApiError> {
    Builder::new()
        .with_secret(Secret::from(secret))
        .with_issuer(Some(ISSUER))
        // Neither part of the label may hold a colon.
        .with_account_name(account.replace(':', ""))
        .build()
        .map_err(|error| ApiError::Internal(format!("a TOTP secret: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B: SHA-1; our six digits are the last of its eight.
        let totp = totp(b"12345678901234567890", "").unwrap();
        for (time, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(totp.generate(time).to_string(), code[2..]);
            assert_eq!(totp.check(&code[2..], time), Some(time / 30));
            // One step either way, and no further.
            assert_eq!(totp.check(&code[2..], time + 30), Some(time / 30));
            assert_eq!(totp.check(&code[2..], time + 60), None);
        }
        assert_eq!(totp.check("", 59), None);
    }

    #[test]
    fn backup_codes_differ_and_have_their_form() {
        let codes = make_backup_codes();
        let set: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(set.len(), BACKUP_CODES);
        for code in &codes {
            assert_eq!(code.len(), BACKUP_LEN + 1);
            assert_eq!(code.as_bytes()[BACKUP_LEN / 2], b'-');
        }
    }
}
