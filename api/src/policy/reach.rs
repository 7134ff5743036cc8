//! `/api/orgs/{org}/machines/{machine}/reach`: whom a machine reaches, who reaches it, and by which rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::compile;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, RuleId};
use ztna_proto::policy::{MAX_REACH, MAX_REACH_RULES, Reach, ReachList, ReachMachine, ReachRule};

use super::load;
use crate::app::State;
use crate::http::{Answer, ApiError, Path, User, ok, refuse};
use crate::netmap;
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Whom a machine may open something towards, and who towards it, each with the rules that allow it. A machine that is
/// not in the network reaches nobody.
#[utoipa::path(get, path = "/api/orgs/{org}/machines/{machine}/reach", tag = "policy",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<Reach>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, machine)): Path<(OrgId, MachineId)>,
) -> Answer<Reach> {
    let _turn = state.compiles.acquire().await;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let there = "SELECT FROM machines WHERE org_id = $1 AND id = $2";
    if tx.query_opt(there, &[&org.0, &machine.0]).await?.is_none() {
        return Err(refuse(
            ErrorCode::NotFound,
            "the org has no machine with that id",
        ));
    }
    let document = load(&tx, org).await?;
    let names = netmap::names(&tx, org).await?;
    let facts = netmap::facts(&tx, org).await?;
    drop(tx);
    drop(connection);
    // A large org takes a while: not on a thread that serves others.
    let found = tokio::task::spawn_blocking(move || {
        let compiled = compile(document, facts, Timestamp::now());
        let reaches = list(&names, &compiled.reaches(machine));
        let reached_by = list(&names, &compiled.reached_by(machine));
        let named = reaches.machines.iter().chain(&reached_by.machines);
        let named: BTreeSet<RuleId> = named
            .flat_map(|other| other.rules.iter().copied())
            .collect();
        let rules = compiled.document().rules.iter();
        let rules = rules.filter(|rule| named.contains(&rule.id));
        Reach {
            rules: rules
                .map(|rule| ReachRule {
                    rule: rule.id,
                    name: rule.name.clone(),
                    description: rule.description.clone(),
                    at: rule.at,
                })
                .collect(),
            reaches,
            reached_by,
        }
    });
    ok(found
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?)
}

fn list(
    names: &BTreeMap<MachineId, String>,
    found: &BTreeMap<MachineId, Arc<BTreeSet<RuleId>>>,
) -> ReachList {
    let name = |id: &MachineId| names.get(id).map_or("", String::as_str);
    let mut first: Vec<_> = found.iter().collect();
    first.sort_by_key(|(id, _)| name(id));
    let named = first.into_iter().take(MAX_REACH);
    ReachList {
        count: found.len().try_into().unwrap_or(u64::MAX),
        machines: named
            .map(|(id, rules)| ReachMachine {
                id: *id,
                name: name(id).to_owned(),
                rules: rules.iter().take(MAX_REACH_RULES).copied().collect(),
            })
            .collect(),
    }
}
