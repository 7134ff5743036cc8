//! Error codes of the API, and the envelope that every answer under `/api` has.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $status:literal,)*) => {
        /// What went wrong, for programs. The message beside it is for people.
        ///
        /// Sent as SCREAMING_SNAKE_CASE. A code that this build does not know reads as
        /// [`ErrorCode::InternalError`].
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
        )]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// Our fault, or a code newer than this build.
            #[serde(other)]
            InternalError,
        }

        impl ErrorCode {
            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::InternalError => 500,
                }
            }
        }
    };
}

codes! {
    /// A field's value is not acceptable; the message names the field.
    ValidationError => 400,
    /// The body is not the JSON that the call takes.
    InvalidJson => 400,
    /// No credential, or one that is not valid (any more).
    Unauthorized => 401,
    /// E-mail and password do not match an account.
    InvalidCredentials => 401,
    /// The password is right, and the account's address is not confirmed yet.
    EmailUnconfirmed => 403,
    /// The password is right, and the account has a second factor: its code is missing.
    MfaRequired => 403,
    /// Too many failed sign-ins; wait.
    AccountLocked => 423,
    /// The credential is valid and does not allow this.
    Forbidden => 403,
    /// A browser call from another origin.
    CsrfRejected => 403,
    /// Nothing here by that id, or not in your org.
    NotFound => 404,
    /// What you change was changed, or exists already.
    Conflict => 409,
    /// The address has an open invitation into the org.
    DuplicateInvitation => 409,
    /// Already a member of the org.
    AlreadyMember => 409,
    /// The invitation is for another address.
    EmailMismatch => 403,
    /// Too many calls; the message says when to come back.
    RateLimited => 429,
    /// The auth key, the invitation, or the token of a mail is unknown, used up or revoked.
    InvalidKey => 401,
    /// A one-shot auth key that has enrolled its machine.
    KeyUsed => 403,
    /// The auth key's or machine's time is over.
    KeyExpired => 403,
    /// The machine waits for an admin's approval.
    PendingApproval => 403,
    /// The machine is locked: no sign-in opens it.
    MachineLocked => 403,
    /// The machine was switched off.
    MachineDisabled => 403,
    /// The machine's keys are in use by another machine.
    RegistrationConflict => 409,
    /// The machine was deleted from its org.
    MachineDeleted => 410,
    /// The org has no free address left.
    AddressesExhausted => 507,
    /// The agent is older than the control plane serves.
    UpgradeRequired => 426,
    /// The control plane cannot serve right now; try again.
    Unavailable => 503,
}

/// The error of an answer.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{message}")]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened, to what, and what to do next.
    pub message: String,
}

impl ErrorBody {
    /// An error with its message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The envelope of every answer under `/api`: `{"success", "data", "error"}`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Envelope<T> {
    /// Whether `data` holds the answer; if not, `error` says why.
    pub success: bool,
    /// The answer.
    pub data: Option<T>,
    /// What went wrong.
    pub error: Option<ErrorBody>,
}

impl<T> Envelope<T> {
    /// An answer.
    pub fn ok(data: T) -> Self {
        Self {
            success: true,
            data: Some(data),
            error: None,
        }
    }

    /// A refusal.
    #[must_use]
    pub fn err(error: ErrorBody) -> Self {
        Self {
            success: false,
            data: None,
            error: Some(error),
        }
    }

    /// The answer or the error that came.
    ///
    /// # Errors
    /// The answer's error; `INTERNAL_ERROR` if the envelope holds neither data nor error.
    pub fn into_result(self) -> Result<T, ErrorBody> {
        match (self.data, self.error) {
            (Some(data), None) => Ok(data),
            (_, Some(error)) => Err(error),
            (None, None) => Err(ErrorBody::new(
                ErrorCode::InternalError,
                "the server's answer holds neither data nor an error",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_screaming_and_unknown_ones_are_tolerated() {
        assert_eq!(
            serde_json::to_string(&ErrorCode::KeyUsed).unwrap(),
            "\"KEY_USED\""
        );
        let unknown: ErrorCode = serde_json::from_str("\"FROM_THE_FUTURE\"").unwrap();
        assert_eq!(unknown, ErrorCode::InternalError);
    }

    #[test]
    fn envelope_gives_data_or_error() {
        assert_eq!(Envelope::ok(3).into_result(), Ok(3));
        let error = ErrorBody::new(ErrorCode::NotFound, "no machine `x`");
        assert_eq!(Envelope::<u8>::err(error.clone()).into_result(), Err(error));
    }
}
