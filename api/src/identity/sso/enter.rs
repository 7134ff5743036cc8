//! Who somebody is here whom a provider vouches for. The rules stand in the module above.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ztna_proto::api::Role;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::sso::GroupRule;

use super::provider::{ProviderId, Vouched};
use super::settings::{self, Stored};
use crate::app::State;
use crate::audit;
use crate::db::Tx;
use crate::http::{Actor, ApiError, Counted, act_as, refuse};
use crate::mail::Letter;
use crate::netmap::{self, Changed};
use crate::orgs::{self, parse_role, role_text};

/// What came of it.
pub(super) enum Entered {
    /// It is this person.
    As(UserId),
    /// The address has an account; who has it, has to link it.
    Link {
        /// The address.
        email: String,
    },
}

/// Finds or makes the account of somebody whom a provider vouches for. `proved`: the account whose
/// password and second factor were given just now.
pub(super) async fn enter(
    state: &State,
    ip: IpAddr,
    vouched: &Vouched,
    proved: Option<UserId>,
) -> Result<Entered, ApiError> {
    match vouched.provider {
        ProviderId::Google | ProviderId::GitHub => enter_here(state, ip, vouched, proved).await,
        ProviderId::Org(org) => enter_org(state, org, vouched, proved).await,
    }
}

async fn enter_here(
    state: &State,
    ip: IpAddr,
    vouched: &Vouched,
    proved: Option<UserId>,
) -> Result<Entered, ApiError> {
    let provider = vouched.provider.to_string();
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    if let Some(user) = known_here(&tx, vouched).await? {
        return Ok(Entered::As(user));
    }
    let Some(email) = vouched.email.as_ref().filter(|_| vouched.verified) else {
        return Err(refuse(
            ErrorCode::EmailUnconfirmed,
            format!(
                "{} has not verified your address; confirm it there, then sign in again.",
                vouched.provider.name()
            ),
        ));
    };
    let user = match account_of(&tx, email).await? {
        Some(account) if Some(account) == proved => account,
        Some(_) => {
            return Ok(Entered::Link {
                email: email.clone(),
            });
        }
        None => {
            if !is_invited(&tx, email).await? {
                state.providers.check_sign_up()?;
            }
            Counted::by_address(&*state.kv, "sign-ups", state.limits.signup, ip)
                .spend()
                .await?;
            claim(&tx, email).await?
        }
    };
    act_as(Actor::User(user));
    tx.announce().await?;
    tx.enter_person(user).await?;
    tx.execute(
        "INSERT INTO user_identities (provider, subject, user_id) VALUES ($1, $2, $3)",
        &[&provider, &vouched.subject, &user.0],
    )
    .await?;
    tx.commit().await?;
    tell(state, vouched, email);
    tracing::info!(%user, provider, "an account was linked");
    Ok(Entered::As(user))
}

/// Whom a person of one of the deployment's providers was linked to.
async fn known_here(tx: &Tx<'_>, vouched: &Vouched) -> Result<Option<UserId>, ApiError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM lookup_identity($1, $2)",
            &[&vouched.provider.to_string(), &vouched.subject],
        )
        .await?;
    Ok(row.map(|row| UserId(row.get(0))))
}

/// Tells the account's owner of a link, who may not be who made it.
fn tell(state: &State, vouched: &Vouched, email: &str) {
    if let Some(mail) = &state.mail {
        let provider = vouched.provider.name();
        mail.send(email, &Letter::Linked { provider });
    }
}

/// The account of an address, if somebody can sign in to it.
async fn account_of(tx: &Tx<'_>, email: &str) -> Result<Option<UserId>, ApiError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM lookup_account($1) WHERE confirmed",
            &[&email],
        )
        .await?;
    Ok(row.map(|row| UserId(row.get(0))))
}

/// Whether an org has invited an address.
async fn is_invited(tx: &Tx<'_>, email: &str) -> Result<bool, ApiError> {
    let row = tx.query_one("SELECT is_invited($1)", &[&email]).await?;
    Ok(row.get(0))
}

/// Makes an account without a password.
async fn claim(tx: &Tx<'_>, email: &str) -> Result<UserId, ApiError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM claim_address($1, $2)",
            &[&UserId::generate().0, &email],
        )
        .await?;
    match row {
        Some(row) => Ok(UserId(row.get(0))),
        None => Err(refuse(
            ErrorCode::Conflict,
            "Somebody signed up with your address just now. Try again.",
        )),
    }
}

async fn enter_org(
    state: &State,
    org: OrgId,
    vouched: &Vouched,
    proved: Option<UserId>,
) -> Result<Entered, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let stored = lock(&tx, org, vouched).await?;
    if let Some(user) = known(&tx, org, vouched).await? {
        return Ok(Entered::As(user));
    }
    let (user, email) = match first_time(&tx, org, vouched, proved, &stored).await? {
        Joined::As { user, email } => (user, email),
        Joined::Link { email } => return Ok(Entered::Link { email }),
    };
    act_as(Actor::User(user));
    tx.announce().await?;
    // What opens the account concerns every org of the person. The last thing before the commit, for it locks
    // their logs, in order; what the triggers add is in one of them.
    audit::linked(&tx, user, vouched.provider.way()).await?;
    tx.commit().await?;
    tell(state, vouched, &email);
    Ok(Entered::As(user))
}

/// Locks the org: of two first sign-ins at once, the second finds what the first made. Its settings, if the
/// provider that vouches is still its.
async fn lock(tx: &Tx<'_>, org: OrgId, vouched: &Vouched) -> Result<Stored, ApiError> {
    orgs::lock(tx, org).await?;
    let stored = settings::load(tx, org).await?;
    stored
        .filter(|stored| stored.settings.issuer == vouched.issuer)
        .ok_or_else(|| {
            refuse(
                ErrorCode::Unauthorized,
                "Your organisation has changed its sign-in meanwhile. Begin it again.",
            )
        })
}

/// Whom the org's provider's person was linked to.
async fn known(tx: &Tx<'_>, org: OrgId, vouched: &Vouched) -> Result<Option<UserId>, ApiError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM sso_identities WHERE org_id = $1 AND issuer = $2 AND subject = $3",
            &[&org.0, &vouched.issuer, &vouched.subject],
        )
        .await?;
    Ok(row.map(|row| UserId(row.get(0))))
}

/// The last before a session: the identity, which may be minutes old, is still the person's, and what its
/// org's provider says of roles and groups comes to hold.
pub(super) async fn settle(state: &State, vouched: &Vouched, user: UserId) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let ProviderId::Org(org) = vouched.provider else {
        let tx = connection.bare().await?;
        return still(known_here(&tx, vouched).await?, user);
    };
    let tx = connection.org(org).await?;
    let stored = lock(&tx, org, vouched).await?;
    still(known(&tx, org, vouched).await?, user)?;
    act_as(Actor::User(user));
    tx.announce().await?;
    let rules = &stored.settings.group_rules;
    let changed = follow(&tx, org, user, rules, &vouched.groups).await?;
    tx.commit().await?;
    drop(connection);
    if changed {
        state.hub.notify(org).await;
    }
    Ok(())
}

fn still(known: Option<UserId>, user: UserId) -> Result<(), ApiError> {
    if known == Some(user) {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::Unauthorized,
        "The link to your account was ended meanwhile. Begin it again.",
    ))
}

/// What came of a first sign-in by an org's provider.
enum Joined {
    As { user: UserId, email: String },
    Link { email: String },
}

/// Links somebody to their account, new or not, and makes them a member.
async fn first_time(
    tx: &Tx<'_>,
    org: OrgId,
    vouched: &Vouched,
    proved: Option<UserId>,
    stored: &Stored,
) -> Result<Joined, ApiError> {
    let Some(email) = &vouched.email else {
        return Err(refuse(
            ErrorCode::EmailUnconfirmed,
            "Your organisation's sign-in does not tell your address; ask its admin to add the claim `email`.",
        ));
    };
    let invited = tx
        .query_opt(
            "SELECT role FROM invitations WHERE org_id = $1 AND email = $2 AND expires_at > now()",
            &[&org.0, &email],
        )
        .await?;
    let invited = invited.map(|row| parse_role(row.get(0))).transpose()?;
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    let is_ours = tx
        .query_opt(
            "SELECT FROM sso_domains WHERE org_id = $1 AND domain = $2 AND proved_at IS NOT NULL",
            &[&org.0, &domain],
        )
        .await?
        .is_some();
    // A provider makes no owners: such an invitation is for who has its link.
    let may_join = is_ours
        && match invited {
            Some(role) => role != Role::Owner,
            None => stored.settings.create_members,
        };
    let account = account_of(tx, email).await?;
    let is_member = match account {
        Some(user) => is_member(tx, org, user).await?,
        None => false,
    };
    // Before anything is said that tells whether the address has an account.
    if !is_member && !may_join {
        return Err(refuse(
            ErrorCode::Forbidden,
            format!(
                "{email} is no member of the organisation, and its sign-in may not make one of it. If you are \
                 invited, accept the invitation by its link first; else ask an admin to invite the address, or \
                 to prove that its domain is the organisation's."
            ),
        ));
    }
    if !is_member && !vouched.verified {
        return Err(refuse(
            ErrorCode::EmailUnconfirmed,
            "Your organisation's sign-in has not verified your address; confirm it there, then sign in again.",
        ));
    }
    let user = match account {
        Some(user) if Some(user) == proved => user,
        Some(_) => {
            return Ok(Joined::Link {
                email: email.clone(),
            });
        }
        None => claim(tx, email).await?,
    };
    if !is_member {
        let role = invited.unwrap_or(Role::Member);
        tx.execute(
            "INSERT INTO members (org_id, user_id, role) VALUES ($1, $2, $3)",
            &[&org.0, &user.0, &role_text(role)],
        )
        .await?;
        tx.execute(
            "DELETE FROM invitations WHERE org_id = $1 AND email = $2",
            &[&org.0, &email],
        )
        .await?;
    }
    tx.execute(
        "INSERT INTO sso_identities (org_id, issuer, subject, user_id) VALUES ($1, $2, $3, $4)",
        &[&org.0, &vouched.issuer, &vouched.subject, &user.0],
    )
    .await?;
    tracing::info!(%org, %user, "a member was linked to the org's provider");
    Ok(Joined::As {
        user,
        email: email.clone(),
    })
}

async fn is_member(tx: &Tx<'_>, org: OrgId, user: UserId) -> Result<bool, ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM members WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    Ok(row.is_some())
}

/// Gives a member the role and the groups that the provider's groups mean. Whether machines have to hear
/// of it.
async fn follow(
    tx: &Tx<'_>,
    org: OrgId,
    user: UserId,
    rules: &[GroupRule],
    groups: &[String],
) -> Result<bool, ApiError> {
    let row = tx
        .query_one(
            "SELECT role, provider_groups FROM members WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    let before = parse_role(row.get(0))?;
    let groups_before: Vec<String> = row.get(1);
    let role = match role_by(rules, groups) {
        Some(role) if before != Role::Owner => role,
        _ => before,
    };
    let groups = policy_groups(rules, groups);
    if role == before && groups == groups_before {
        return Ok(false);
    }
    tx.execute(
        "UPDATE members SET role = $3, provider_groups = $4 WHERE org_id = $1 AND user_id = $2",
        &[&org.0, &user.0, &role_text(role), &groups],
    )
    .await?;
    let machines = tx
        .query(
            "SELECT id FROM machines WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    for machine in &machines {
        let changed = Changed::Machine(MachineId(machine.get(0)));
        netmap::append_change(tx, org, changed).await?;
    }
    tracing::info!(%org, %user, role = role_text(role), "the provider's groups changed a member");
    Ok(true)
}

/// The highest role of the groups; member if they have none. `None`: the rules speak of no role, and it
/// stays.
fn role_by(rules: &[GroupRule], groups: &[String]) -> Option<Role> {
    let rank = |role: Role| match role {
        Role::Owner | Role::Admin => 2,
        Role::Auditor => 1,
        Role::Member => 0,
    };
    rules.iter().any(|rule| rule.role.is_some()).then(|| {
        let matching = rules.iter().filter(|rule| groups.contains(&rule.group));
        let roles = matching.filter_map(|rule| rule.role);
        let roles = roles.filter(|role| *role != Role::Owner);
        roles.max_by_key(|role| rank(*role)).unwrap_or(Role::Member)
    })
}

fn policy_groups(rules: &[GroupRule], groups: &[String]) -> Vec<String> {
    let matching = rules.iter().filter(|rule| groups.contains(&rule.group));
    let named: BTreeSet<&String> = matching
        .filter_map(|rule| rule.policy_group.as_ref())
        .collect();
    named.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(group: &str, role: Option<Role>, policy_group: Option<&str>) -> GroupRule {
        GroupRule {
            group: group.to_owned(),
            role,
            policy_group: policy_group.map(str::to_owned),
        }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_highest_role_counts_and_nobody_becomes_an_owner() {
        let rules = [
            rule("staff", Some(Role::Member), None),
            rule("audit", Some(Role::Auditor), None),
            rule("it", Some(Role::Admin), None),
            rule("board", Some(Role::Owner), None),
        ];
        let role = |groups: &[&str]| role_by(&rules, &names(groups));
        assert_eq!(role(&["staff", "it", "audit"]), Some(Role::Admin));
        assert_eq!(role(&["audit", "staff"]), Some(Role::Auditor));
        assert_eq!(role(&["board"]), Some(Role::Member));
        assert_eq!(role(&["IT"]), Some(Role::Member));
        assert_eq!(role(&[]), Some(Role::Member));
        let silent = [rule("it", None, Some("it"))];
        assert_eq!(role_by(&silent, &names(&["it"])), None);
    }

    #[test]
    fn groups_are_translated() {
        let rules = [
            rule("Engineering", None, Some("eng")),
            rule("Platform", None, Some("eng")),
            rule("IT", Some(Role::Admin), Some("admins")),
            rule("Sales", None, None),
        ];
        let groups = |list: &[&str]| policy_groups(&rules, &names(list));
        assert_eq!(
            groups(&["Platform", "Engineering", "Sales", "IT"]),
            ["admins", "eng"]
        );
        assert!(groups(&["eng", "Sales"]).is_empty());
    }
}
