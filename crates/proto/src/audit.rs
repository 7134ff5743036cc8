//! The audit log as it crosses the API.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::ids::UserId;

/// Entries of a page, unless the call asks for fewer.
pub const AUDIT_PAGE: u32 = 100;
/// Most entries of a page.
pub const MAX_AUDIT_PAGE: u32 = 500;
/// Rows of the log that one call looks at. A page of a search that finds little comes back short, with
/// the cursor to go on from.
pub const AUDIT_SCAN: i64 = 100_000;
/// Rows that one call of `…/audit/verify` checks.
pub const AUDIT_VERIFY_PAGE: i64 = 10_000;
/// Days that an org keeps its log, unless it chooses otherwise.
pub const DEFAULT_AUDIT_DAYS: u16 = 365;
/// Fewest days that an org may choose.
pub const MIN_AUDIT_DAYS: u16 = 30;
/// Most days that an org may choose.
pub const MAX_AUDIT_DAYS: u16 = 3650;
/// Longest text of a search, in characters.
pub const MAX_AUDIT_TEXT: usize = 100;

/// What kind of actor did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditActorKind {
    /// A person, signed in.
    User,
    /// A program with an API key, for a person.
    ApiKey,
    /// Somebody who enrolled a machine by an auth key.
    AuthKey,
    /// A machine.
    Machine,
    /// The control plane by itself: expiry, retention.
    System,
    /// Somebody who did not prove to be anybody: a refused sign-in.
    Anonymous,
    /// A kind that is newer than this build.
    #[serde(other)]
    Unknown,
}

/// Who did something.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditActor {
    /// The kind.
    pub kind: AuditActorKind,
    /// The person, key or machine.
    pub id: Option<Uuid>,
    /// Whom an API key acted for.
    pub on_behalf_of: Option<UserId>,
    /// Address, description or name at the time.
    pub name: Option<String>,
}

/// What something was done to.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditTarget {
    /// An id; of a policy its version, of a relay node region and name.
    pub id: Option<String>,
    /// Name, address or description at the time.
    pub name: Option<String>,
}

/// A row of the log. Its number, `seq`, has no gaps; its hash covers the row before.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Number of the row.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: AuditActor,
    /// What, as in `machine.update`, `policy.save`, `session.sign_in`.
    pub action: String,
    /// To what.
    pub target: AuditTarget,
    /// What was changed or deleted: columns and values. Secrets are `[secret]`, what is longer than 2 KiB is its SHA-256.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Box<RawValue>>,
    /// What it was changed into, what was made, or what there is to say.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Box<RawValue>>,
    /// From where. Nothing if the system did it.
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// What the client called itself (`User-Agent`).
    pub client: Option<String>,
    /// By which call, as in `PATCH /api/orgs/{org}/machines/{machine}`.
    pub route: Option<String>,
    /// The call's `X-Request-Id`.
    pub request_id: Option<String>,
    /// SHA-256 of the row and of the hash before it, in hex.
    pub hash: String,
}

/// `GET /api/orgs/{org}/audit`: the newest first.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditPage {
    /// The rows that the filters let through.
    pub entries: Vec<AuditEntry>,
    /// What to send as `cursor` for the next page. Nothing: that was all.
    pub next: Option<i64>,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditFormat {
    /// RFC 4180, with a header; cells that a spreadsheet would take for formulas begin with `'`.
    #[default]
    Csv,
    /// An array of [`AuditEntry`].
    Json,
}

/// `GET` and `PUT /api/orgs/{org}/audit/settings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditSettings {
    /// Days that rows are kept: 30 to 3,650.
    #[schema(minimum = 30, maximum = 3650)]
    pub retention_days: u16,
}

/// `GET /api/orgs/{org}/audit/verify`: whether the log is what was written.
///
/// Whoever can write to the database as its superuser can make a whole new chain. Against that, keep `head`
/// elsewhere from time to time: the row of that number must have that hash for ever.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditVerification {
    /// Whether all rows that were looked at are good.
    pub intact: bool,
    /// The first row that is not.
    pub broken: Option<AuditFault>,
    /// How many rows were looked at.
    pub checked: i64,
    /// What to send as `from` to go on. Nothing: that was all.
    pub next: Option<i64>,
    /// The oldest row that is kept.
    pub begins: i64,
    /// Where the chain ends.
    pub head: AuditMark,
}

/// A row that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct AuditFault {
    /// The row.
    pub seq: i64,
    /// What is wrong with it.
    pub message: String,
}

/// A row and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct AuditMark {
    /// The row.
    pub seq: i64,
    /// Its hash, in hex.
    pub hash: String,
}
