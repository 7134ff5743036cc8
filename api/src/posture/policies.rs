//! `/api/orgs/{org}/posture/policies`

use axum::extract;
use tokio_postgres::Row;
use tokio_postgres::types::Json as Stored;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::document::compare_versions;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, PosturePolicyId, UserId};
use ztna_proto::posture::{
    MAX_GRACE_MINUTES, MAX_POSTURE_NAME, MAX_POSTURE_POLICIES, MAX_POSTURE_SCOPE,
    MAX_POSTURE_SYSTEMS, MAX_POSTURE_TEXT, PosturePolicy, PosturePolicySpec,
};

use super::update;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, created, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{self, Right, authorise};
use crate::text::has_hidden;

/// Longest tag or group that a policy names, in bytes: as in the policy document.
const MAX_LABEL: usize = 260;

/// An org's policies, each with its id.
pub(super) type Policies = Vec<(PosturePolicyId, PosturePolicySpec)>;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, replace, remove))
}

/// The org's policies, for judging.
pub(super) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<Policies, ApiError> {
    let policies = read(tx, org, None).await?.into_iter();
    Ok(policies.map(|policy| (policy.id, policy.policy)).collect())
}

/// Whether the org has posture policies.
pub(crate) async fn has_policies(tx: &Tx<'_>, org: OrgId) -> Result<bool, ApiError> {
    let query = "SELECT EXISTS (SELECT FROM posture_policies WHERE org_id = $1)";
    Ok(tx.query_one(query, &[&org.0]).await?.get(0))
}

/// Whether some policy keeps machines from opening anything.
pub(crate) async fn restrict(tx: &Tx<'_>, org: OrgId) -> Result<bool, ApiError> {
    let row = tx
        .query_one(
            "SELECT EXISTS (SELECT FROM posture_policies WHERE org_id = $1
                 AND spec ->> 'enabled' = 'true' AND spec ->> 'on_failure' <> 'warn')",
            &[&org.0],
        )
        .await?;
    Ok(row.get(0))
}

/// The org's posture policies.
#[utoipa::path(get, path = "/api/orgs/{org}/posture/policies", tag = "posture", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<PosturePolicy>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<PosturePolicy>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    ok(read(&tx, org, None).await?)
}

/// One posture policy.
#[utoipa::path(get, path = "/api/orgs/{org}/posture/policies/{policy}", tag = "posture",
    params(("org" = OrgId, Path), ("policy" = PosturePolicyId, Path)), responses(
    (status = 200, body = Envelope<PosturePolicy>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, PosturePolicyId)>,
) -> Answer<PosturePolicy> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let found = read(&tx, org, Some(id)).await?.pop();
    found.map_or_else(|| Err(no_policy()), ok)
}

/// Adds a posture policy. Machines that it is for are judged at once, by what they reported last.
#[utoipa::path(post, path = "/api/orgs/{org}/posture/policies", tag = "posture", params(("org" = OrgId, Path)),
    request_body = PosturePolicySpec, responses(
    (status = 201, body = Envelope<PosturePolicy>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn add(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(spec): Json<PosturePolicySpec>,
) -> Answer<PosturePolicy> {
    check(&spec)?;
    let id = PosturePolicyId::generate();
    let change = async |tx: &Tx<'_>| {
        let count: i64 = tx
            .query_one(
                "SELECT count(*) FROM posture_policies WHERE org_id = $1",
                &[&org.0],
            )
            .await?
            .get(0);
        if count.unsigned_abs() >= MAX_POSTURE_POLICIES as u64 {
            return Err(refuse(
                ErrorCode::Conflict,
                format!(
                    "an org may have {MAX_POSTURE_POLICIES} posture policies; delete one first"
                ),
            ));
        }
        tx.execute(
            "INSERT INTO posture_policies (org_id, id, name, spec) VALUES ($1, $2, $3, $4)",
            &[&org.0, &id.0, &spec.name, &Stored(&spec)],
        )
        .await
        .map_err(name_taken)
    };
    let stored = changed(&state, org, user, id, change).await?;
    stored.map_or_else(|| Err(no_policy()), created)
}

/// Makes a posture policy say something else. Machines are judged at once; graces that run go on.
#[utoipa::path(put, path = "/api/orgs/{org}/posture/policies/{policy}", tag = "posture",
    params(("org" = OrgId, Path), ("policy" = PosturePolicyId, Path)), request_body = PosturePolicySpec, responses(
    (status = 200, body = Envelope<PosturePolicy>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn replace(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, PosturePolicyId)>,
    Json(spec): Json<PosturePolicySpec>,
) -> Answer<PosturePolicy> {
    check(&spec)?;
    let change = async |tx: &Tx<'_>| {
        tx.execute(
            "UPDATE posture_policies SET name = $3, spec = $4, updated_at = now()
             WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0, &spec.name, &Stored(&spec)],
        )
        .await
        .map_err(name_taken)
    };
    let stored = changed(&state, org, user, id, change).await?;
    stored.map_or_else(|| Err(no_policy()), ok)
}

/// Deletes a posture policy. What followed from it ends at once.
#[utoipa::path(delete, path = "/api/orgs/{org}/posture/policies/{policy}", tag = "posture",
    params(("org" = OrgId, Path), ("policy" = PosturePolicyId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn remove(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, PosturePolicyId)>,
) -> Answer<Empty> {
    let change = async |tx: &Tx<'_>| {
        tx.execute(
            "DELETE FROM posture_policies WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await
    };
    changed(&state, org, user, id, change).await?;
    ok(Empty {})
}

/// Changes the policies, and has every machine judged by what they say then.
async fn changed(
    state: &State,
    org: OrgId,
    user: UserId,
    id: PosturePolicyId,
    change: impl AsyncFnOnce(&Tx<'_>) -> Result<u64, ApiError>,
) -> Result<Option<PosturePolicy>, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    orgs::lock(&tx, org).await?;
    let before = restrict(&tx, org).await?;
    if change(&tx).await? == 0 {
        return Err(no_policy());
    }
    if restrict(&tx, org).await? != before {
        // The rule that holds restricted machines back comes or goes.
        netmap::append_change(&tx, org, Changed::Policy).await?;
    }
    tx.execute(
        "INSERT INTO machine_posture (org_id, machine_id, due_at)
         SELECT org_id, id, now() FROM machines WHERE org_id = $1
         ON CONFLICT (org_id, machine_id) DO UPDATE SET due_at = excluded.due_at",
        &[&org.0],
    )
    .await?;
    let stored = read(&tx, org, Some(id)).await?.pop();
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    update::recheck(state, org).await?;
    tracing::info!(%org, policy = %id, by = %user, "a posture policy was changed");
    Ok(stored)
}

fn name_taken(error: ApiError) -> ApiError {
    match error.violates("posture_policies_org_id_name_key") {
        true => refuse(
            ErrorCode::Conflict,
            "another posture policy of the org has that name; choose another",
        ),
        false => error,
    }
}

fn no_policy() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "the org has no posture policy with that id; list them to see those that there are",
    )
}

async fn read(
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<PosturePolicyId>,
) -> Result<Vec<PosturePolicy>, ApiError> {
    let rows = tx
        .query(
            "SELECT id, spec, created_at, updated_at FROM posture_policies
             WHERE org_id = $1 AND id = COALESCE($2, id) ORDER BY name",
            &[&org.0, &only.map(|id| id.0)],
        )
        .await?;
    rows.iter().map(read_policy).collect()
}

fn read_policy(row: &Row) -> Result<PosturePolicy, ApiError> {
    let Stored(policy) = row.try_get(1).map_err(|error| {
        ApiError::Internal(format!("a stored posture policy cannot be read: {error}"))
    })?;
    Ok(PosturePolicy {
        id: PosturePolicyId(row.get(0)),
        policy,
        created_at: row.get(2),
        updated_at: row.get(3),
    })
}

/// Refuses a policy that says nothing, or what nobody can judge by.
fn check(spec: &PosturePolicySpec) -> Result<(), ApiError> {
    let invalid = |message: String| Err(refuse(ErrorCode::ValidationError, message));
    let length = spec.name.chars().count();
    if !(1..=MAX_POSTURE_NAME).contains(&length) || has_hidden(&spec.name) {
        return invalid(format!(
            "`name` has 1 to {MAX_POSTURE_NAME} characters, none of them invisible; choose another"
        ));
    }
    if spec.grace_minutes > MAX_GRACE_MINUTES {
        return invalid(format!(
            "`grace_minutes` is {}; at most {MAX_GRACE_MINUTES} are possible",
            spec.grace_minutes
        ));
    }
    if spec.scope.len() > MAX_POSTURE_SCOPE {
        return invalid(format!(
            "`scope` names more than {MAX_POSTURE_SCOPE} tags and groups; make two policies of it"
        ));
    }
    let is_label = |label: &String| {
        let name = label
            .strip_prefix("tag:")
            .or_else(|| label.strip_prefix("group:"));
        name.is_some_and(|name| !name.is_empty())
            && label.len() <= MAX_LABEL
            && !has_hidden(label)
            && !label.contains('"')
    };
    if let Some(label) = spec.scope.iter().find(|label| !is_label(label)) {
        return invalid(format!(
            "`scope` names {label:?}; write `tag:NAME` or `group:NAME`, or leave it empty for every machine"
        ));
    }
    let requires = &spec.requires;
    if requires.min_os_version.len() > MAX_POSTURE_SYSTEMS {
        return invalid(format!(
            "`requires.min_os_version` names more than {MAX_POSTURE_SYSTEMS} systems; make two policies of it"
        ));
    }
    let is_version =
        |text: &str| text.len() <= MAX_POSTURE_TEXT && compare_versions(text, text).is_some();
    for (system, version) in &requires.min_os_version {
        let is_name = (1..=MAX_POSTURE_TEXT).contains(&system.len())
            && system
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
        if !is_name || !is_version(version) {
            return invalid(format!(
                "`requires.min_os_version` says {system:?}: {version:?}; write a system in lower case and \
                 a version, as in \"debian\": \"12\""
            ));
        }
    }
    if let Some(version) = requires
        .min_agent_version
        .as_deref()
        .filter(|v| !is_version(v))
    {
        return invalid(format!(
            "`requires.min_agent_version` is {version:?}; write a version, as in \"0.1.0\""
        ));
    }
    let nothing = requires.min_os_version.is_empty()
        && requires.min_agent_version.is_none()
        && !(requires.disk_encryption
            || requires.firewall
            || requires.screen_lock
            || requires.auto_update);
    match nothing {
        true => invalid("`requires` asks for nothing; name at least one thing".to_owned()),
        false => Ok(()),
    }
}
