//! Tags: names that the policy knows, given by those whom it lists for them.

use std::collections::BTreeSet;

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
    let (email, groups) = person(tx, org, user).await?;
    let giver = Facts {
        user: Some(email),
        role: Some(role),
        groups,
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

/// A member's address, and the groups that the identity provider has them in.
async fn person(
    tx: &Tx<'_>,
    org: OrgId,
    user: UserId,
) -> Result<(String, BTreeSet<String>), ApiError> {
    let row = tx
        .query_one(
            "SELECT u.email, m.provider_groups FROM members m JOIN users u ON u.id = m.user_id
             WHERE m.org_id = $1 AND m.user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    let groups: Vec<String> = row.get(1);
    Ok((row.get(0), groups.into_iter().collect()))
}
