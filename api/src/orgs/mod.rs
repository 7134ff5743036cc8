//! Orgs and their members.

mod create;
mod invitations;
mod members;
mod routes;
mod second_factor;
mod secrets;
mod settings;

use ztna_proto::api::Role;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};

pub(crate) use create::{IPV6_BITS, create};
pub(crate) use invitations::{Offer, join, look as look_at_invitation};
pub(crate) use members::{dissolve, take_out};
pub(crate) use routes::routes;
pub(crate) use secrets::{make_missing_keys, open_secret, seal_secret};
pub(crate) use settings::{admits_plain_devices, is_locked_down};

use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// A role as the database holds it.
pub(crate) fn parse_role(text: &str) -> Result<Role, ApiError> {
    match text {
        "owner" => Ok(Role::Owner),
        "admin" => Ok(Role::Admin),
        "auditor" => Ok(Role::Auditor),
        "member" => Ok(Role::Member),
        other => Err(ApiError::Internal(format!("the role {other:?} is unknown"))),
    }
}

pub(crate) fn role_text(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Auditor => "auditor",
        Role::Member => "member",
    }
}

/// What a member wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Look at what concerns every member.
    Belong,
    /// Look at everything.
    Read,
    /// Change the org's machines, keys and rules.
    Manage,
}

impl Right {
    /// Whether a role has it.
    pub(crate) fn given_to(self, role: Role) -> bool {
        match self {
            Self::Belong => true,
            Self::Read => matches!(role, Role::Owner | Role::Admin | Role::Auditor),
            Self::Manage => matches!(role, Role::Owner | Role::Admin),
        }
    }
}

/// Locks the org's row. Whoever changes several rows of an org does it first, as every change takes it
/// sooner or later: no two of them wait for each other, and what was read stays so until the commit.
pub(crate) async fn lock(tx: &Tx<'_>, org: OrgId) -> Result<(), ApiError> {
    tx.query_opt("SELECT FROM orgs WHERE id = $1 FOR UPDATE", &[&org.0])
        .await?;
    Ok(())
}

/// The caller's role in the org of the transaction.
///
/// # Errors
/// `NOT_FOUND` for those who are no members: that the org exists is none of their business.
/// `FORBIDDEN` if the role does not give the right.
pub(crate) async fn authorise(
    tx: &Tx<'_>,
    org: OrgId,
    user: UserId,
    right: Right,
) -> Result<Role, ApiError> {
    let row = tx
        .query_opt(
            "SELECT role FROM members WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::NotFound,
            "you are a member of no org with that id; `GET /api/auth/me` lists yours",
        ));
    };
    let role = parse_role(row.get(0))?;
    if right.given_to(role) {
        return Ok(role);
    }
    Err(refuse(
        ErrorCode::Forbidden,
        format!(
            "the role {} does not allow this; ask an owner or admin of the org",
            role_text(role)
        ),
    ))
}
