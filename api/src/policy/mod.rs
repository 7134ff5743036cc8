//! An org's policy: one document with its versions, calls that change it, and questions about it.

mod evaluate;
mod groups;
mod reach;
mod routes;
mod rules;

use std::sync::Arc;

use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use ztna_policy::{Document, Fault, People, Person};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::policy::{PolicyDocument, PolicyVersion};

use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{self, Right, authorise, parse_role};
use crate::posture;

/// Versions that are kept of each org's policy, the one in force among them.
const KEPT_VERSIONS: i64 = 200;

pub(crate) fn routes() -> OpenApiRouter<State> {
    routes::routes()
        .merge(rules::routes())
        .merge(groups::routes())
        .merge(evaluate::routes())
        .merge(reach::routes())
}

/// The org's policy, for the hub: with what its posture policies, and its lockdown, add to it.
pub(crate) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<Arc<Document>, ApiError> {
    let document = load_open(tx, org).await?;
    Ok(Arc::new(match orgs::is_locked_down(tx, org).await? {
        true => document.locked_down(),
        false => document,
    }))
}

/// The org's policy as it is without a lockdown.
async fn load_open(tx: &Tx<'_>, org: OrgId) -> Result<Document, ApiError> {
    let stored = read(tx, org, None).await?;
    let document = Document::parse(&stored.text).map_err(|fault| {
        ApiError::Internal(format!("the policy of org {org} cannot be read: {fault}"))
    })?;
    restricted(tx, org, document).await
}

/// The document with what the org's posture policies add to it.
async fn restricted(tx: &Tx<'_>, org: OrgId, document: Document) -> Result<Document, ApiError> {
    Ok(match posture::restrict(tx, org).await? {
        true => document.restricting(),
        false => document,
    })
}

/// Makes the text the org's policy in force, unchecked. Callers hold the org's row.
pub(crate) async fn store(
    tx: &Tx<'_>,
    org: OrgId,
    author: UserId,
    note: &str,
    text: &str,
) -> Result<PolicyDocument, ApiError> {
    let version: i64 = tx
        .query_one(
            "INSERT INTO policy_versions (org_id, version, text, author_id, note)
             SELECT $1, COALESCE(max(version), 0) + 1, $2, $3, $4 FROM policy_versions WHERE org_id = $1
             RETURNING version",
            &[&org.0, &text, &author.0, &note],
        )
        .await?
        .get(0);
    tx.execute(
        "DELETE FROM policy_versions WHERE org_id = $1 AND version <= $2",
        &[&org.0, &(version - KEPT_VERSIONS)],
    )
    .await?;
    read(tx, org, Some(version)).await
}

const VERSION: &str = "SELECT p.version, p.at, u.email, p.note, p.text
    FROM policy_versions p LEFT JOIN users u ON u.id = p.author_id WHERE p.org_id = $1";

/// A version of the policy, or the one in force.
async fn read(tx: &Tx<'_>, org: OrgId, version: Option<i64>) -> Result<PolicyDocument, ApiError> {
    let row = match version {
        Some(version) => {
            let query = format!("{VERSION} AND p.version = $2");
            tx.query_opt(&query, &[&org.0, &version]).await?
        }
        None => {
            let query = format!("{VERSION} ORDER BY p.version DESC LIMIT 1");
            tx.query_opt(&query, &[&org.0]).await?
        }
    };
    let row = row.ok_or_else(|| {
        refuse(
            ErrorCode::NotFound,
            "the policy has no such version (any more); \
             `GET /api/orgs/{org}/policy/versions` lists those that there are",
        )
    })?;
    Ok(PolicyDocument {
        info: PolicyVersion {
            version: row.get(0),
            at: row.get(1),
            author: row.get(2),
            note: row.get(3),
        },
        text: row.get(4),
        warnings: Vec::new(),
    })
}

/// The org's people, as far as a policy's tests ask for them.
async fn people(tx: &Tx<'_>, org: OrgId) -> Result<People, ApiError> {
    let rows = tx
        .query(
            "SELECT u.email, m.role, m.provider_groups FROM members m JOIN users u ON u.id = m.user_id WHERE m.org_id = $1",
            &[&org.0],
        )
        .await?;
    let people = rows.iter().map(|row| {
        let person = Person {
            role: parse_role(row.get(1))?,
            groups: row.get::<_, Vec<String>>(2).into_iter().collect(),
        };
        Ok((row.get(0), person))
    });
    people.collect()
}

/// A document that is in force, or was.
fn parse(text: &str) -> Result<Document, ApiError> {
    Document::parse(text)
        .map_err(|fault| ApiError::Internal(format!("a stored policy cannot be read: {fault}")))
}

/// What keeps a text from being the org's policy. `Ok`: nothing does.
async fn check(
    tx: &Tx<'_>,
    org: OrgId,
    text: &str,
) -> Result<Result<Document, Vec<Fault>>, ApiError> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(fault) => return Ok(Err(vec![fault])),
    };
    let people = people(tx, org).await?;
    let passed = document.run_tests(&people, Timestamp::now());
    Ok(passed.map(|()| document))
}

/// Changes the policy: `edit` makes a new text of the one in force. Machines are told at once.
async fn change(
    state: &State,
    org: OrgId,
    user: UserId,
    note: &str,
    edit: impl FnOnce(PolicyDocument) -> Result<String, ApiError>,
) -> Result<PolicyDocument, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    // Locks the org: of two changes at once, the second sees what the first made.
    netmap::append_change(&tx, org, Changed::Policy).await?;
    let text = edit(read(&tx, org, None).await?)?;
    let document = match check(&tx, org, &text).await? {
        Ok(document) => document,
        Err(faults) => return Err(refused(&faults)),
    };
    let mut stored = store(&tx, org, user, note, &text).await?;
    stored.warnings = warnings(state, &document);
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    Ok(stored)
}

/// What the document's rules ask for that is never known here.
fn warnings(state: &State, document: &Document) -> Vec<String> {
    let blind = state.geoip.is_none() && document.asks_for_country();
    let warning = "a rule asks for the country of its source, and this control plane knows none: the condition is \
                   never met until its operator gives it a database of addresses (--geoip)";
    blind.then(|| warning.to_owned()).into_iter().collect()
}

/// Refuses a document.
fn refused(faults: &[Fault]) -> ApiError {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    refuse(
        ErrorCode::ValidationError,
        format!("the policy stays as it is: {}", faults.join("\n")),
    )
}

/// Refuses a change that was made of another version than the one in force.
fn check_version(in_force: &PolicyDocument, expected: i64) -> Result<(), ApiError> {
    let version = in_force.info.version;
    if version == expected {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::Conflict,
        format!(
            "the policy is at version {version}, and the change was made of version {expected}; \
             read it again and make the change there"
        ),
    ))
}
