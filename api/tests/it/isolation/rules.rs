//! Who may call what, as rules with their exceptions; and bodies that get past a call's own checks.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::world::{Caller, Ids};

/// Who may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody. What it gives away is nobody's.
    Public,
    /// A person who has signed in; no program.
    Person,
    /// A machine, by its token.
    Machine,
    /// A person, or who has an auth key.
    Enrol,
    /// A member of the org in the query, or a machine of it.
    MemberOrMachine,
    /// A member with that right in the org of the path or the query.
    Org(Right),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Belong,
    Read,
    Manage,
    Own,
}

pub struct Rule {
    pub access: Access,
    /// Whether API keys may, as far as their scopes go.
    pub takes_keys: bool,
    /// Whether the call only reads, as far as its method says.
    pub safe: bool,
    /// Ends what the test stands on, when done by somebody who may.
    pub destructive: bool,
}

/// Everything outside of `/api/orgs/{org}/…` that is no page.
const ELSEWHERE: &[(&str, &str, Access)] = &[
    ("GET", "/health", Access::Public),
    ("GET", "/metrics", Access::Public),
    ("POST", "/api/auth/signup", Access::Public),
    ("GET", "/api/auth/ways", Access::Public),
    // That a domain, or an org, has a sign-in of its own: people have to find it.
    ("GET", "/api/auth/sso", Access::Public),
    ("POST", "/api/auth/login", Access::Public),
    ("POST", "/api/auth/refresh", Access::Public),
    ("POST", "/api/auth/logout", Access::Public),
    ("POST", "/api/auth/reset-password", Access::Public),
    ("POST", "/api/auth/reset-password/confirm", Access::Public),
    ("POST", "/api/auth/verify-email", Access::Public),
    // A code is its own credential; to get one takes a session, and no key.
    ("POST", "/api/auth", Access::Person),
    ("GET", "/api/auth/me", Access::Person),
    ("GET", "/api/auth/identities", Access::Person),
    ("POST", "/api/auth/identities/unlink", Access::Person),
    ("GET", "/api/auth/sessions", Access::Person),
    ("DELETE", "/api/auth/sessions", Access::Person),
    ("DELETE", "/api/auth/sessions/{id}", Access::Person),
    ("POST", "/api/auth/change-password", Access::Person),
    ("POST", "/api/auth/delete-account", Access::Person),
    ("POST", "/api/auth/mfa/setup", Access::Person),
    ("POST", "/api/auth/mfa/verify", Access::Person),
    ("POST", "/api/auth/mfa/disable", Access::Person),
    ("POST", "/api/accept-invitation", Access::Person),
    // Its token is its own credential.
    ("POST", "/api/invitations/preview", Access::Public),
    // The server's address, and the pin of a certificate that everybody is shown.
    ("GET", "/api/join", Access::Public),
    ("GET", "/install.ps1", Access::Public),
    ("GET", "/install.sh", Access::Public),
    ("GET", "/api/client-version", Access::Public),
    ("GET", "/api/releases/{version}/{file}", Access::Public),
    ("POST", "/api/orgs", Access::Person),
    ("POST", "/api/register-machine", Access::Enrol),
    ("POST", "/api/machine-heartbeat", Access::Machine),
    ("PUT", "/api/machine-routes", Access::Machine),
    ("PUT", "/api/machine-connections", Access::Machine),
    ("POST", "/api/machine-wiped", Access::Machine),
    ("GET", "/api/machine-stream", Access::Machine),
    (
        "POST",
        "/api/machine-static-peers/{machine}",
        Access::Machine,
    ),
    ("GET", "/api/kem-keys/{hash}", Access::Machine),
    // Hashes of keys, and whether relays answer.
    ("GET", "/api/relays/revocations", Access::Public),
    ("GET", "/api/derp-health", Access::Public),
    // Beside the deployment's, the org's own relays.
    ("GET", "/api/derp-health?org={org}", Access::MemberOrMachine),
    ("GET", "/api/realtime?org={org}", Access::Org(Right::Belong)),
];

/// Within an org `GET` takes the right to read, everything else the right to manage. But for these.
const EXCEPTIONS: &[(&str, &str, Right)] = &[
    ("GET", "/machines", Right::Belong),
    ("GET", "/machines/{machine}", Right::Belong),
    // Of their own machines.
    ("GET", "/machines/{machine}/connections", Right::Belong),
    ("GET", "/machine-facets", Right::Belong),
    ("GET", "/settings", Right::Belong),
    // Of their own machines.
    ("GET", "/posture/machines", Right::Belong),
    ("GET", "/posture/machines/{machine}", Right::Belong),
    // Their own; another's is not found.
    ("DELETE", "/machines/{machine}", Right::Belong),
    ("GET", "/members", Right::Belong),
    // Members leave.
    ("DELETE", "/members/{user}", Right::Manage),
    ("GET", "/relays", Right::Belong),
    ("GET", "/dns", Right::Belong),
    ("GET", "/gateways", Right::Belong),
    // Of their own devices; another's is not found.
    ("GET", "/static-peers", Right::Belong),
    ("POST", "/static-peers", Right::Belong),
    ("POST", "/static-peers/{machine}/keys", Right::Belong),
    ("PUT", "/audit/settings", Right::Own),
    ("DELETE", "/members/{user}/second-factor", Right::Own),
    // Questions.
    ("POST", "/policy/dry-run", Right::Read),
    ("POST", "/acl-evaluate", Right::Read),
];

/// The rule for an endpoint.
pub fn find(method: &Method, path: &str, operation: &Value) -> Option<Rule> {
    let own = |rules: &[(&str, &str, Right)], path: &str| {
        let found = rules
            .iter()
            .find(|(m, p, _)| *m == method.as_str() && *p == path);
        found.map(|(_, _, right)| *right)
    };
    let destructive = matches!(
        (method.as_str(), path),
        ("DELETE", "/api/auth/sessions" | "/api/orgs/{org}")
            // Asks the provider, which is not there.
            | ("PUT", "/api/orgs/{org}/sso")
            | (
                "POST",
                "/api/auth/delete-account" | "/api/auth/change-password"
            )
    );
    let rule = |access| Rule {
        access,
        takes_keys: !path.contains("/api-keys")
            && !path.ends_with("/second-factor")
            && !path.contains("?org="),
        safe: *method == Method::GET,
        destructive,
    };
    if let Some(rest) = path.strip_prefix("/api/orgs/{org}/") {
        let default = match *method == Method::GET {
            true => Right::Read,
            false => Right::Manage,
        };
        let right = own(EXCEPTIONS, &format!("/{rest}"));
        return Some(rule(Access::Org(right.unwrap_or(default))));
    }
    // Pages are for everybody; who may go on, their forms ask.
    if operation["tags"] == json!(["pages"]) && !path.starts_with("/api/") {
        return Some(rule(Access::Public));
    }
    let found = ELSEWHERE
        .iter()
        .find(|(m, p, _)| *m == method.as_str() && *p == path);
    found.map(|(_, _, access)| rule(*access))
}

impl Rule {
    /// Whether the caller gets past the check of rights, where the ids name the caller's org.
    pub fn admits(&self, path: &str, caller: Caller, ids: Ids) -> bool {
        let right = match self.access {
            Access::Public => return true,
            Access::Person => return caller.is_person(),
            Access::Machine => return matches!(caller, Caller::Machine | Caller::OtherMachine),
            Access::Enrol => return caller.is_person(),
            Access::MemberOrMachine => Right::Belong,
            Access::Org(right) => right,
        };
        if matches!(ids, Ids::OtherOrg | Ids::NoOrg) || (caller.is_key() && !self.takes_keys) {
            return false;
        }
        let reads = matches!(right, Right::Belong | Right::Read);
        match caller {
            Caller::Owner | Caller::Key => true,
            Caller::Admin => right != Right::Own,
            Caller::Auditor => reads,
            Caller::Member => right == Right::Belong,
            Caller::KeyThatReads => self.safe,
            Caller::KeyOfOtherArea => self.safe && path.starts_with("/api/orgs/{org}/relays"),
            _ => false,
        }
    }
}

/// A body that a call takes: what its schema says, or what is written here where the schema cannot say it.
pub fn body(method: &Method, path: &str, operation: &Value, document: &Value) -> Option<Value> {
    let content = operation["requestBody"]["content"].as_object()?;
    let written = match (method.as_str(), path) {
        ("POST", "/api/auth") => {
            json!({"action": "cli_complete", "challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"})
        }
        ("POST", "/api/orgs/{org}/api-keys") => json!({"scopes": ["read"], "expires_in_days": 1}),
        ("POST", "/api/orgs/{org}/invitations") => {
            json!({"email": "guest@example.com", "role": "member"})
        }
        ("POST", "/api/orgs/{org}/policy/rules") => {
            json!({"section": "acls", "rule": {"action": "deny", "src": ["*"], "dst": ["*:25"]}})
        }
        ("PUT", "/api/orgs/{org}/policy") => json!({"version": 9999, "text": "{}"}),
        ("PUT", "/api/orgs/{org}/relays/{region}") => crate::relays::region(900, "own"),
        ("PATCH", "/api/orgs/{org}/machines/{machine}") => json!({"name": "renamed"}),
        ("POST", "/api/orgs/{org}/posture/policies")
        | ("PUT", "/api/orgs/{org}/posture/policies/{policy}") => posture_policy("disk"),
        ("PUT", "/api/orgs/{org}/sso") => {
            json!({"issuer": "https://idp.example.com", "client_id": "a", "client_secret": "b"})
        }
        ("POST", "/api/orgs/{org}/sso/domains") => json!({"domain": "example.com"}),
        ("PUT", "/api/orgs/{org}/audit/settings") => json!({"retention_days": 365}),
        ("PUT", "/api/orgs/{org}/machines/{machine}/gateway") => {
            json!({"endpoint": "vpn.example.com:51820"})
        }
        ("POST", "/api/machine-static-peers/{machine}") => {
            let guest = crate::common::client::machine("guest");
            json!({"wg_key": guest.wg_key, "kem_key": guest.kem_key, "agent_version": "0.1.0"})
        }
        ("POST", "/api/orgs/{org}/static-peers/{machine}/keys") => json!({}),
        ("POST", "/api/register-machine") => {
            serde_json::to_value(crate::common::client::machine("guest")).unwrap()
        }
        ("POST", "/api/orgs/{org}/machines/{machine}/actions") => json!({"action": "approve"}),
        ("POST", "/api/orgs/{org}/acl-evaluate") => json!({"src": "a", "dst": "b", "port": 22}),
        _ => sample(&content.get("application/json")?["schema"], document, 0),
    };
    Some(written)
}

/// A posture policy that only warns.
pub fn posture_policy(name: &str) -> Value {
    json!({"name": name, "requires": {"firewall": true}, "on_failure": "warn", "grace_minutes": 5})
}

/// A value that a schema allows: what is required, the first of what there is to choose from.
fn sample(schema: &Value, document: &Value, depth: usize) -> Value {
    assert!(depth < 20, "a schema without end");
    let next = |schema: &Value| sample(schema, document, depth + 1);
    if let Some(reference) = schema["$ref"].as_str() {
        return next(document.pointer(reference.trim_start_matches('#')).unwrap());
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(first) = schema[several].as_array().and_then(|all| all.first()) {
            return next(first);
        }
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in all {
            if let Value::Object(part) = next(part) {
                whole.extend(part);
            }
        }
        return Value::Object(whole);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match kind {
        Some("string") => match schema["format"].as_str() {
            Some("uuid") => json!(uuid::Uuid::now_v7()),
            Some("date-time") => json!("2030-01-01T00:00:00Z"),
            _ => json!("text"),
        },
        Some("integer" | "number") => schema["minimum"].as_i64().unwrap_or(1).max(1).into(),
        Some("boolean") => json!(false),
        Some("array") => json!([]),
        _ => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = required.iter().map(|name| {
                let name = name.as_str().unwrap();
                (name.to_owned(), next(&schema["properties"][name]))
            });
            Value::Object(fields.collect())
        }
    }
}
