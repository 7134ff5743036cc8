//! Every endpoint, as everybody: what the OpenAPI document lists is called as nobody, as every role, as a
//! machine, by API keys, and with the ids of another org. What may come back follows from a few rules
//! ([`rules`]); an endpoint that no rule knows fails the test.

pub mod rules;
mod world;

use std::collections::BTreeMap;

use reqwest::Method;
use rules::{Access, Rule};
use serde_json::Value;
use world::{Caller, Ids, World};

/// A call that was made, and what came back.
struct Answered {
    what: String,
    status: u16,
    body: String,
}

/// What is wrong with the answers.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn expect(&mut self, answered: &Answered, allowed: &[u16], because: &str) {
        if !allowed.contains(&answered.status) {
            let body: String = answered.body.chars().take(200).collect();
            self.0.push(format!(
                "{}: {} instead of {allowed:?} ({because}): {body}",
                answered.what, answered.status
            ));
        }
    }

    /// Whoever is let in gets an answer: not that the call is forbidden, nor a fault of ours.
    fn admitted(&mut self, answered: &Answered) {
        let status = answered.status;
        let code: Value = serde_json::from_str(&answered.body).unwrap_or_default();
        let code = code["error"]["code"].as_str().unwrap_or_default();
        if matches!(code, "UNAUTHORIZED" | "FORBIDDEN") || (status >= 500 && status != 503) {
            let body: String = answered.body.chars().take(200).collect();
            self.0.push(format!(
                "{}: {status}, and the caller may: {body}",
                answered.what
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_is_not_theirs() {
    let world = World::build().await;
    let document = world.document().await;
    let mut findings = Findings::default();
    let (mut combinations, mut endpoints) = (0, 0);
    // Reading first, deletions last, and whoever may do nothing before whoever may.
    let mut calls: Vec<(Method, String, &Value)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            // An org in the query is one in the path.
            let (asks, must) = asks_for_org(operation);
            if asks {
                calls.push((method.clone(), format!("{path}?org={{org}}"), operation));
            }
            if !must {
                calls.push((method, path.clone(), operation));
            }
        }
    }
    calls.sort_by_key(|(method, path, _)| {
        (
            method != Method::GET,
            method == Method::DELETE,
            path.clone(),
        )
    });
    for (method, path, operation) in &calls {
        let Some(rule) = rules::find(method, path, operation) else {
            findings.0.push(format!(
                "{method} {path}: no rule says who may call it; add one to isolation/rules.rs"
            ));
            continue;
        };
        if let Some(unknown) = world.unknown_parameter(path) {
            findings.0.push(format!(
                "{method} {path}: the test has no id for {{{unknown}}}; give World::parameters one"
            ));
            continue;
        }
        endpoints += 1;
        let body = rules::body(method, path, operation, &document);
        for caller in Caller::ALL {
            for &ids in Ids::for_path(path) {
                if !worth_calling(&rule, method, path, caller, ids) {
                    continue;
                }
                let answered = world.call(method, path, caller, ids, body.as_ref()).await;
                combinations += 1;
                judge(&rule, path, caller, ids, &answered, &mut findings);
                for marker in world.secrets_of_others(caller, ids) {
                    if answered.body.contains(&marker) {
                        findings
                            .0
                            .push(format!("{}: gives away {marker:?}", answered.what));
                    }
                }
            }
        }
        compare_missing_and_foreign(&world, method, path, body.as_ref(), &mut findings).await;
    }
    println!("{combinations} combinations of {endpoints} endpoints, callers and ids");
    assert!(combinations > endpoints * 5);
    assert!(findings.0.is_empty(), "\n{}\n", findings.0.join("\n"));
    world.is_as_it_was().await;
}

/// Whether a call takes an org in its query, and whether it has to.
fn asks_for_org(operation: &Value) -> (bool, bool) {
    let parameters = operation["parameters"].as_array();
    let found = parameters
        .into_iter()
        .flatten()
        .find(|parameter| parameter["in"] == "query" && parameter["name"] == "org");
    let required = found.is_some_and(|parameter| parameter["required"] == true);
    (found.is_some(), required)
}

/// What would undo the world that the test stands on is called by those alone who may not.
fn worth_calling(rule: &Rule, method: &Method, path: &str, caller: Caller, ids: Ids) -> bool {
    if caller.is_of_other() && ids == Ids::OtherOrg {
        // To them, it is their own.
        return false;
    }
    let admitted = rule.admits(path, caller, ids);
    if method == Method::GET || !admitted {
        return true;
    }
    // With ids that nothing has, whoever may gets past the check of rights and changes nothing.
    !rule.destructive && (ids != Ids::Own || path.matches('{').count() <= 1)
}

fn judge(
    rule: &Rule,
    path: &str,
    caller: Caller,
    ids: Ids,
    answered: &Answered,
    findings: &mut Findings,
) {
    if answered.status >= 500 && answered.status != 503 {
        findings.expect(answered, &[], "a fault of ours");
        return;
    }
    match rule.access {
        Access::Public => {}
        Access::Person => match caller {
            Caller::Nobody | Caller::Garbage | Caller::Machine | Caller::OtherMachine => {
                findings.expect(answered, &[401], "a person signs in for this");
            }
            Caller::KeyOfOther | Caller::Key | Caller::KeyThatReads | Caller::KeyOfOtherArea => {
                findings.expect(answered, &[401, 403], "no API key does this");
            }
            _ => findings.admitted(answered),
        },
        Access::Machine => match caller {
            Caller::Machine | Caller::OtherMachine => findings.admitted(answered),
            _ => findings.expect(answered, &[401], "a machine's token opens this"),
        },
        Access::Enrol => match caller {
            Caller::Nobody
            | Caller::Garbage
            | Caller::Machine
            | Caller::OtherMachine
            | Caller::Key
            | Caller::KeyThatReads
            | Caller::KeyOfOtherArea
            | Caller::KeyOfOther => {
                findings.expect(answered, &[401], "a person or an auth key enrols");
            }
            _ => findings.admitted(answered),
        },
        Access::MemberOrMachine => match (caller, ids) {
            (Caller::Machine, Ids::Own) => findings.admitted(answered),
            (Caller::Machine | Caller::OtherMachine, _) => {
                findings.expect(answered, &[404], "another org's");
            }
            _ => judge_in_org(rule, path, caller, ids, answered, findings),
        },
        Access::Org(_) => judge_in_org(rule, path, caller, ids, answered, findings),
    }
}

fn judge_in_org(
    rule: &Rule,
    path: &str,
    caller: Caller,
    ids: Ids,
    answered: &Answered,
    findings: &mut Findings,
) {
    match caller {
        Caller::Nobody | Caller::Garbage | Caller::Machine | Caller::OtherMachine => {
            return findings.expect(answered, &[401], "a person or a program calls this");
        }
        _ if !rule.takes_keys && caller.is_key() => {
            return findings.expect(answered, &[401, 403], "no API key does this");
        }
        Caller::Outsider | Caller::KeyOfOther => {
            return findings.expect(answered, &[404], "another org's");
        }
        _ => {}
    }
    if matches!(ids, Ids::OtherOrg | Ids::NoOrg) {
        return findings.expect(answered, &[404], "not the caller's org");
    }
    if !rule.admits(path, caller, ids) {
        let allowed: &[u16] = match ids {
            // What the caller may not touch need not be looked up first, nor last.
            Ids::OtherInOwn | Ids::NoneInOwn => &[403, 404],
            _ => &[403],
        };
        return findings.expect(answered, allowed, "the role or the scope is not enough");
    }
    match ids {
        // Numbers that every org has of its own (versions, regions) name no other org's row.
        Ids::OtherInOwn | Ids::NoneInOwn
            if !path.ends_with("{org}") && !world::has_own_numbers(path) =>
        {
            findings.expect(answered, &[400, 404, 409], "the org has none with that id");
        }
        _ => findings.admitted(answered),
    }
}

/// Whether something exists in another org must not show: to an owner, another org's id and one that
/// nothing has are the same.
async fn compare_missing_and_foreign(
    world: &World,
    method: &Method,
    path: &str,
    body: Option<&Value>,
    findings: &mut Findings,
) {
    if path.matches('{').count() < 2 || world::has_own_numbers(path) {
        return;
    }
    let mut answers: BTreeMap<(u16, String), Ids> = BTreeMap::new();
    for ids in [Ids::OtherInOwn, Ids::NoneInOwn] {
        let answered = world.call(method, path, Caller::Owner, ids, body).await;
        let body = world.without_ids(&answered.body);
        answers.insert((answered.status, body), ids);
    }
    if answers.len() > 1 {
        findings.0.push(format!(
            "{method} {path}: another org's id and no id are told apart: {answers:?}"
        ));
    }
}
