//! `/api/orgs/{org}/policy/rules`: single rules of the document. Comments and layout of the rest stay
//! as they are.

use axum::extract;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::{Fault, Rule, add_rule, in_force, remove_rule, replace_rule, rule_fields};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, RuleId};
use ztna_proto::policy::{AddRuleRequest, PolicyDocument, PolicyRule, PutRuleRequest};

use super::{change, parse, read, refused};
use crate::app::State;
use crate::http::{Answer, ApiError, Json, Path, User, created, ok, refuse};
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(replace, remove))
}

/// The rules of the policy in force.
#[utoipa::path(get, path = "/api/orgs/{org}/policy/rules", tag = "policy", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<PolicyRule>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<PolicyRule>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let stored = read(&tx, org, None).await?;
    let document = parse(&stored.text)?;
    let now = Timestamp::now();
    let rules = document.rules.iter().map(|rule| PolicyRule {
        id: rule.id,
        section: rule.section,
        at: rule.at,
        in_force: in_force(rule, now),
        rule: rule_fields(&stored.text, rule).unwrap_or_default(),
    });
    ok(rules.collect())
}

/// Adds a rule. Machines are told at once.
#[utoipa::path(post, path = "/api/orgs/{org}/policy/rules", tag = "policy", params(("org" = OrgId, Path)),
    request_body = AddRuleRequest, responses(
    (status = 201, body = Envelope<PolicyDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn add(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<AddRuleRequest>,
) -> Answer<PolicyDocument> {
    let edit =
        |in_force: PolicyDocument| edited(add_rule(&in_force.text, request.section, &request.rule));
    created(change(&state, org, user, "a rule added", edit).await?)
}

/// Makes a rule say something else. Machines are told at once.
#[utoipa::path(put, path = "/api/orgs/{org}/policy/rules/{rule}", tag = "policy",
    params(("org" = OrgId, Path), ("rule" = RuleId, Path)), request_body = PutRuleRequest, responses(
    (status = 200, body = Envelope<PolicyDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn replace(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, RuleId)>,
    Json(request): Json<PutRuleRequest>,
) -> Answer<PolicyDocument> {
    let edit = |in_force: PolicyDocument| {
        let rule = find(&in_force.text, id)?;
        edited(replace_rule(&in_force.text, &rule, &request.rule))
    };
    ok(change(&state, org, user, "a rule changed", edit).await?)
}

/// Removes a rule. Machines are told at once.
#[utoipa::path(delete, path = "/api/orgs/{org}/policy/rules/{rule}", tag = "policy",
    params(("org" = OrgId, Path), ("rule" = RuleId, Path)), responses(
    (status = 200, body = Envelope<PolicyDocument>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn remove(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, RuleId)>,
) -> Answer<PolicyDocument> {
    let edit = |in_force: PolicyDocument| {
        let rule = find(&in_force.text, id)?;
        edited(remove_rule(&in_force.text, &rule))
    };
    ok(change(&state, org, user, "a rule removed", edit).await?)
}

fn find(text: &str, id: RuleId) -> Result<Rule, ApiError> {
    let document = parse(text)?;
    let mut rules = document.rules.into_iter();
    rules.find(|rule| rule.id == id).ok_or_else(|| {
        refuse(
            ErrorCode::NotFound,
            "the policy has no rule of that id (any more); a rule without an `id` of its own gets \
             another when it changes. List the rules again",
        )
    })
}

fn edited(result: Result<String, Fault>) -> Result<String, ApiError> {
    result.map_err(|fault| refused(&[fault]))
}
