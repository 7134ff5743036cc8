//! Tags: names that the policy knows, given by those whom it lists for them.

use ztna_policy::Facts;
use ztna_proto::api::Role;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::machines::MAX_TAGS;

use crate::db::Tx;
use crate::http::{ApiError, refuse};
use crate::policy;

/// What every tag starts with.
pub(crate) const TAG: &str = "tag:";

/// Tags that a member gives, each once: the policy knows them, and has the member give them.
pub(crate) async fn check_tags(
    tx: &Tx<'_>,
    org: OrgId,
    (user, role): (UserId, Role),
    wanted: &[String],
) -> Result<Vec<String>, ApiError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let document = policy::load(tx, org).await?;
    let giver = Facts {
        user: email(tx, user).await?,
        role: Some(role),
        ..Facts::default()
    };
    for tag in wanted {
        let owners = tag
            .strip_prefix(TAG)
            .and_then(|name| document.tag_owners.get(name));
        let Some(owners) = owners else {
            return Err(refuse(
                ErrorCode::ValidationError,
                format!(
                    "{tag:?} is no tag of the org's policy; write tags as `tag:NAME`, and name them in its `tagOwners` first"
                ),
            ));
        };
        let owns = owners.iter().any(|owner| giver.is(None, owner, &document));
        if !owns && !matches!(role, Role::Owner | Role::Admin) {
            return Err(refuse(
                ErrorCode::Forbidden,
                format!(
                    "`tagOwners` of the org's policy does not list you for {tag}; ask an admin"
                ),
            ));
        }
    }
    let mut tags = wanted.to_vec();
    tags.sort();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`tags` names {} tags; at most {MAX_TAGS} are possible",
                tags.len()
            ),
        ));
    }
    Ok(tags)
}

async fn email(tx: &Tx<'_>, user: UserId) -> Result<Option<String>, ApiError> {
    let row = tx
        .query_opt("SELECT email FROM users WHERE id = $1", &[&user.0])
        .await?;
    Ok(row.map(|row| row.get(0)))
}
