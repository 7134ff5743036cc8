//! Requests and answers about a person's own account: confirmed address, password, sessions,
//! second factor.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::SessionId;
use crate::tokens::MailToken;

/// `GET`, in a browser: where the mail that confirms an address leads. Query: `token`.
pub const VERIFY_EMAIL_PATH: &str = "/verify-email";
/// `GET`, in a browser: where the mail about a forgotten password leads. Query: `token`; without one,
/// the page asks for the address and sends that mail.
pub const RESET_PASSWORD_PATH: &str = "/reset-password";

/// `POST /api/auth/verify-email`: confirms an account's address. It takes the password too: who has the
/// address must not confirm an account that a stranger made with it.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyEmailRequest {
    /// The token of the mail.
    pub token: MailToken,
    /// The password that was chosen at sign-up.
    pub password: String,
}

/// `POST /api/auth/reset-password`: sends a mail, if the address has an account. The answer is the same
/// if not.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPasswordRequest {
    /// The account's address.
    pub email: String,
}

/// `POST /api/auth/reset-password/confirm`: sets the password, and ends every session of the account.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmResetRequest {
    /// The token of the mail.
    pub token: MailToken,
    /// The new password.
    pub password: String,
}

/// `POST /api/auth/change-password`: ends every other session of the account.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    /// The password of now.
    pub current_password: String,
    /// The new one.
    pub password: String,
}

/// An entry of `GET /api/auth/sessions`. `DELETE …/sessions/{id}` ends one, `DELETE …/sessions` all
/// but the caller's. The session's access token, 15 minutes at most, lives on.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SessionInfo {
    /// The session.
    pub id: SessionId,
    /// When somebody signed in.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Timestamp,
    /// When it was refreshed last.
    #[schema(value_type = String, format = DateTime)]
    pub refreshed_at: Timestamp,
    /// From where, at that time.
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// What the client calls itself (`User-Agent`).
    pub client: String,
    /// Whether it is the caller's.
    pub current: bool,
}

/// `POST /api/auth/mfa/setup`. Answer: [`TotpSetup`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaSetupRequest {
    /// The account's password.
    pub password: String,
}

/// A new TOTP secret (RFC 6238: SHA-1, six digits, 30 seconds), shown this once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct TotpSetup {
    /// The secret in base 32, to be typed.
    pub secret: String,
    /// The same as an `otpauth://` URL, to be shown as a QR code.
    pub url: String,
}

/// `POST /api/auth/mfa/verify`: switches the second factor on. Answer: [`BackupCodes`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaVerifyRequest {
    /// A code of the authenticator.
    pub code: String,
}

/// Ten codes that each stand in for the authenticator once, shown this once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct BackupCodes {
    /// As in `1a2b3-c4d5e`.
    pub backup_codes: Vec<String>,
}

/// `POST /api/auth/mfa/disable`: switches the second factor off.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MfaDisableRequest {
    /// The account's password.
    pub password: String,
    /// A code of the authenticator, or a backup code.
    pub code: String,
}

/// `POST /api/auth/delete-account`: for good, with everything that is the person's.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteAccountRequest {
    /// The account's password.
    pub password: String,
    /// Code of the authenticator, or a backup code, for an account with a second factor.
    #[serde(default)]
    pub totp_code: Option<String>,
}
