//! API keys: programs that act for a person within one org.
//!
//! A key can do what its scopes name and its maker's role allows, whichever is less, and ends when its
//! maker leaves the org. Scopes are held here, against the path and method of the call, and nowhere
//! else: a route that is added falls under them without knowing. What concerns a person alone
//! (sessions, password, API keys) no key can do.

mod routes;

pub(crate) use routes::routes;

use axum::extract::MatchedPath;
use http::request::Parts;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{ApiKeyId, OrgId, UserId};
use ztna_proto::tokens::ApiKey;

use crate::app::State;
use crate::http::{Actor, ApiError, act_as, refuse};

/// What scopes can be limited to: the part of the path after the org.
const AREAS: [&str; 9] = [
    "audit",
    "auth-keys",
    "dns",
    "machines",
    "members",
    "policy",
    "posture",
    "relays",
    "settings",
];

/// Whether a text is a scope: `read`, `write`, or one of them for an area, as in `machines:read`.
fn is_scope(text: &str) -> bool {
    let (area, access) = match text.split_once(':') {
        Some((area, access)) => (Some(area), access),
        None => (None, text),
    };
    matches!(access, "read" | "write") && area.is_none_or(|area| AREAS.contains(&area))
}

/// Whether one of the scopes covers a call. `write` covers reading too.
fn covers(scopes: &[String], area: &str, writes: bool) -> bool {
    scopes.iter().any(|scope| {
        let (of, access) = match scope.split_once(':') {
            Some((of, access)) => (of, access),
            None => (area, scope.as_str()),
        };
        of == area && (access == "write" || (access == "read" && !writes))
    })
}

/// The area of a path under an org, if keys may go there.
fn area_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api/orgs/{org}/")?;
    if rest == "machines/{machine}/reach" {
        return Some("policy");
    }
    match rest.split('/').next()? {
        "api-keys" => None,
        "invitations" => Some("members"),
        "acl-evaluate" => Some("policy"),
        "connections" | "gateways" | "machine-facets" | "routes" | "static-peers" => {
            Some("machines")
        }
        area => Some(area),
    }
}

/// The person that a key acts for in this call.
///
/// # Errors
/// `UNAUTHORIZED` if the key is not good, `NOT_FOUND` in another org, `FORBIDDEN` beyond its scopes,
/// `RATE_LIMITED`.
pub(crate) async fn authenticate(
    state: &State,
    parts: &Parts,
    key: &ApiKey,
) -> Result<UserId, ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let row = tx
        .query_opt(
            "SELECT org_id, id, user_id, scopes, stale FROM lookup_api_key($1)",
            &[&key.hash().as_slice()],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the API key is unknown, revoked or expired; have a new one made",
        ));
    };
    let (org, id, user) = (OrgId(row.get(0)), ApiKeyId(row.get(1)), UserId(row.get(2)));
    act_as(Actor::ApiKey { id, of: user });
    let limit = state.limits.api_key;
    let calls = state
        .kv
        .increment(&format!("rate:api-key:{id}"), limit.window)
        .await?;
    if calls > limit.count {
        return Err(refuse(
            ErrorCode::RateLimited,
            format!(
                "an API key may make {} calls a minute; slow down",
                limit.count
            ),
        ));
    }
    let route = parts.extensions.get::<MatchedPath>();
    let area = route.and_then(|route| area_of(route.as_str()));
    let Some(area) = area else {
        return Err(refuse(
            ErrorCode::Forbidden,
            "API keys do not work for this call; sign in as a person",
        ));
    };
    // `/api/orgs/{org}/…`
    if parts.uri.path().split('/').nth(3) != Some(&org.to_string()) {
        return Err(refuse(
            ErrorCode::NotFound,
            "the API key is of no org with that id",
        ));
    }
    let scopes: Vec<String> = row.get(3);
    if !covers(&scopes, area, !parts.method.is_safe()) {
        return Err(refuse(
            ErrorCode::Forbidden,
            format!("the API key's scopes do not cover this call; it needs one for `{area}`"),
        ));
    }
    if row.get(4) {
        tx.enter_org(org).await?;
        tx.execute(
            "UPDATE api_keys SET last_used_at = now() WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
        tx.commit().await?;
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_their_form() {
        for good in [
            "read",
            "write",
            "machines:read",
            "auth-keys:write",
            "policy:write",
        ] {
            assert!(is_scope(good), "{good}");
        }
        for bad in [
            "",
            "admin",
            "read:machines",
            "machines",
            "machines:",
            ":read",
            "api-keys:read",
            "machines:read:x",
        ] {
            assert!(!is_scope(bad), "{bad}");
        }
    }

    #[test]
    fn scopes_cover_what_they_name() {
        // Scopes, area, writes, covered.
        let cases: &[(&[&str], &str, bool, bool)] = &[
            (&["read"], "machines", false, true),
            (&["read"], "machines", true, false),
            (&["write"], "policy", true, true),
            (&["write"], "policy", false, true),
            (&["machines:read"], "machines", false, true),
            (&["machines:read"], "machines", true, false),
            (&["machines:read"], "policy", false, false),
            (&["machines:write"], "machines", false, true),
            (&["machines:write"], "policy", true, false),
            (&["policy:read", "machines:write"], "policy", false, true),
            (&["policy:read", "machines:write"], "policy", true, false),
            (&[], "machines", false, false),
        ];
        for (scopes, area, writes, covered) in cases {
            let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
            assert_eq!(
                covers(&scopes, area, *writes),
                *covered,
                "{scopes:?} {area}"
            );
        }
    }

    #[test]
    fn keys_stay_within_an_org_and_away_from_keys() {
        assert_eq!(
            area_of("/api/orgs/{org}/machines/{machine}"),
            Some("machines")
        );
        assert_eq!(area_of("/api/orgs/{org}/invitations"), Some("members"));
        // It tells what the policy says.
        let reach = "/api/orgs/{org}/machines/{machine}/reach";
        assert_eq!(area_of(reach), Some("policy"));
        for path in ["/api/orgs", "/api/auth/me", "/api/orgs/{org}/api-keys/{id}"] {
            assert_eq!(area_of(path), None, "{path}");
        }
    }
}
