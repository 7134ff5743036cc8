//! The end of an account.

use ztna_proto::api::Role;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};

use super::{accounts, mfa};
use crate::app::State;
use crate::http::{ApiError, name_actor, refuse};
use crate::orgs;

/// Deletes a person's account, memberships, machines, keys and sessions; and orgs that have no other
/// member.
///
/// # Errors
/// `CONFLICT` if the person is the only owner of an org that others are members of.
pub(super) async fn delete(
    state: &State,
    user: UserId,
    password: String,
    code: Option<&str>,
) -> Result<(), ApiError> {
    let email = accounts::check_own_password(state, user, password).await?;
    // When the audit log is written, the account is gone.
    name_actor(&email);
    mfa::check(state, user, code).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let mut removals = Vec::new();
    // In one order for everybody: two people who leave at once do not wait for each other.
    let orgs = tx
        .query(
            "SELECT org_id FROM members WHERE user_id = $1 ORDER BY org_id",
            &[&user.0],
        )
        .await?;
    for row in &orgs {
        let org = OrgId(row.get(0));
        tx.enter_org(org).await?;
        let others: i64 = tx
            .query_one(
                "SELECT count(*) FROM members WHERE org_id = $1 AND user_id <> $2",
                &[&org.0, &user.0],
            )
            .await?
            .get(0);
        if others > 0 {
            let removed = orgs::take_out(&tx, org, user, Role::Owner).await;
            removals.push((org, removed.map_err(handed_over)?));
        } else {
            removals.push((org, orgs::dissolve(&tx, org).await?));
        }
    }
    tx.execute("DELETE FROM users WHERE id = $1", &[&user.0])
        .await?;
    // After the last org's row is held: writers of all orgs take turns from here until they commit.
    for (_, removed) in &removals {
        removed.append(&tx).await?;
    }
    tx.commit().await?;
    drop(connection);
    for (org, removed) in removals {
        removed.tell(state, org).await;
    }
    tracing::info!(%user, "an account was deleted");
    Ok(())
}

/// Which org it is, the person sees in their list; what to do, here.
fn handed_over(error: ApiError) -> ApiError {
    match error {
        ApiError::Refused(body) if body.code == ErrorCode::Conflict => refuse(
            ErrorCode::Conflict,
            "you are the only owner of an org that has other members; make one of them an owner first",
        ),
        other => other,
    }
}
