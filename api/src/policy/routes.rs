//! `/api/orgs/{org}/policy` and its versions.

use axum::extract;
use jiff::Timestamp;
use similar::TextDiff;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::{Document, compile, impact};
use ztna_proto::error::{Envelope, ErrorBody};
use ztna_proto::ids::OrgId;
use ztna_proto::policy::{
    DryRun, DryRunRequest, PolicyDocument, PolicyVersion, PolicyVersionText, PutPolicyRequest,
    RollbackRequest,
};

use super::{change, check, check_version, load_open, read, restricted, warnings};
use crate::app::State;
use crate::http::{Answer, Json, Path, User, ok};
use crate::netmap;
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show, replace))
        .routes(routes!(dry_run))
        .routes(routes!(versions))
        .routes(routes!(version))
        .routes(routes!(rollback))
}

/// The policy in force.
#[utoipa::path(get, path = "/api/orgs/{org}/policy", tag = "policy", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<PolicyDocument>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<PolicyDocument> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let mut stored = read(&tx, org, None).await?;
    if let Ok(document) = Document::parse(&stored.text) {
        stored.warnings = warnings(&state, &document);
    }
    ok(stored)
}

/// Puts another document in force, if it can be read and its own tests pass. Machines are told at
/// once.
#[utoipa::path(put, path = "/api/orgs/{org}/policy", tag = "policy", params(("org" = OrgId, Path)),
    request_body = PutPolicyRequest, responses(
    (status = 200, body = Envelope<PolicyDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn replace(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<PutPolicyRequest>,
) -> Answer<PolicyDocument> {
    let edit = |in_force: PolicyDocument| {
        check_version(&in_force, request.version)?;
        Ok(request.text)
    };
    ok(change(&state, org, user, "written", edit).await?)
}

/// What would happen if the document were put in force: what is wrong with it, which of its tests
/// fail, whom it would connect and cut off. Changes nothing.
#[utoipa::path(post, path = "/api/orgs/{org}/policy/dry-run", tag = "policy", params(("org" = OrgId, Path)),
    request_body = DryRunRequest, responses(
    (status = 200, body = Envelope<DryRun>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn dry_run(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<DryRunRequest>,
) -> Answer<DryRun> {
    let _turn = state.compiles.acquire().await;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let faults = check(&tx, org, &request.text)
        .await?
        .err()
        .unwrap_or_default();
    let Ok(after) = Document::parse(&request.text) else {
        return ok(DryRun {
            faults,
            impact: None,
        });
    };
    // Without a lockdown, which would hide whom the document connects as soon as it ends.
    let before = load_open(&tx, org).await?;
    let after = restricted(&tx, org, after).await?;
    let machines = netmap::facts(&tx, org).await?;
    drop(tx);
    drop(connection);
    // A large org takes a while: not on a thread that serves others.
    let compare = move || {
        let now = Timestamp::now();
        let before = compile(before.into(), machines, now);
        let after = before.with_document(after.into(), now);
        impact(&before, &after)
    };
    let impact = tokio::task::spawn_blocking(compare).await;
    let impact = impact.map_err(|error| crate::http::ApiError::Internal(error.to_string()))?;
    ok(DryRun {
        faults,
        impact: Some(impact),
    })
}

/// The versions that there are, the one in force first.
#[utoipa::path(get, path = "/api/orgs/{org}/policy/versions", tag = "policy", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<PolicyVersion>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn versions(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<PolicyVersion>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let rows = tx
        .query(
            "SELECT p.version, p.at, u.email, p.note
             FROM policy_versions p LEFT JOIN users u ON u.id = p.author_id
             WHERE p.org_id = $1 ORDER BY p.version DESC",
            &[&org.0],
        )
        .await?;
    let versions = rows.iter().map(|row| PolicyVersion {
        version: row.get(0),
        at: row.get(1),
        author: row.get(2),
        note: row.get(3),
    });
    ok(versions.collect())
}

/// A version, and what it changed.
#[utoipa::path(get, path = "/api/orgs/{org}/policy/versions/{version}", tag = "policy",
    params(("org" = OrgId, Path), ("version" = i64, Path)), responses(
    (status = 200, body = Envelope<PolicyVersionText>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn version(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, version)): Path<(OrgId, i64)>,
) -> Answer<PolicyVersionText> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let document = read(&tx, org, Some(version)).await?;
    let before = tx
        .query_opt(
            "SELECT text FROM policy_versions WHERE org_id = $1 AND version = $2::bigint - 1",
            &[&org.0, &version],
        )
        .await?;
    let before: String = before.map(|row| row.get(0)).unwrap_or_default();
    let diff = TextDiff::from_lines(&before, &document.text)
        .unified_diff()
        .header(
            &format!("version {}", version - 1),
            &format!("version {version}"),
        )
        .to_string();
    ok(PolicyVersionText { document, diff })
}

/// Puts an older version's document in force again, as a new version.
#[utoipa::path(post, path = "/api/orgs/{org}/policy/versions/{version}/rollback", tag = "policy",
    params(("org" = OrgId, Path), ("version" = i64, Path)), request_body = RollbackRequest, responses(
    (status = 200, body = Envelope<PolicyDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn rollback(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, version)): Path<(OrgId, i64)>,
    Json(request): Json<RollbackRequest>,
) -> Answer<PolicyDocument> {
    let old = {
        let mut connection = state.db.connect().await?;
        let tx = connection.org(org).await?;
        authorise(&tx, org, user, Right::Manage).await?;
        read(&tx, org, Some(version)).await?
    };
    let edit = |in_force: PolicyDocument| {
        check_version(&in_force, request.version)?;
        Ok(old.text)
    };
    let note = format!("version {version} again");
    ok(change(&state, org, user, &note, edit).await?)
}
