//! Passwords: Argon2id, away from the runtime's threads, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;
use ztna_proto::error::ErrorCode;

use crate::http::{ApiError, refuse};

/// Each hash takes 19 MiB and tens of milliseconds (the crate's default, OWASP's first choice for
/// Argon2id), so this bounds the memory that strangers can make us use.
const AT_A_TIME: usize = 4;
/// A call waits this long for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// Hashes and checks passwords.
#[derive(Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    /// What an unknown account's password is checked against, so that it takes as long.
    decoy: Arc<str>,
}

impl Passwords {
    pub(crate) async fn new() -> Result<Self, ApiError> {
        let unset = Self {
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            decoy: Arc::from(""),
        };
        let mut secret = [0; 32];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut secret);
        let decoy = unset.hash(ztna_proto::keys::hex(&secret)).await?;
        Ok(Self {
            decoy: Arc::from(decoy),
            ..unset
        })
    }

    /// The password as it is stored: a PHC string.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        let password = Zeroizing::new(password);
        self.run(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
                .map_err(|error| ApiError::Internal(format!("hashing a password: {error}")))
        })
        .await?
    }

    /// Whether the password is the one that `stored` was made of. `None`: there is no account, and
    /// the answer is no after the same work.
    pub(crate) async fn verify(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, ApiError> {
        let password = Zeroizing::new(password);
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.to_string());
        let matches = self
            .run(move || {
                let verdict =
                    Argon2::default().verify_password(password.as_bytes(), stored.as_str());
                verdict.is_ok()
            })
            .await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(refuse(
                ErrorCode::Unavailable,
                "too many people sign in at once; try again in a moment",
            ));
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await
            .map_err(|error| ApiError::Internal(format!("a password task: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_match_themselves_and_no_account_matches_nothing() {
        let passwords = Passwords::new().await.unwrap();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let verify = |password: &str, stored: Option<&str>| {
            passwords.verify(password.to_owned(), stored.map(str::to_owned))
        };
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("battery staple", Some(&hash)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
        assert!(!verify("correct horse", Some("damaged")).await.unwrap());
    }
}
