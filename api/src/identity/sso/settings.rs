//! `/api/orgs/{org}/sso`: an org's provider.

use axum::extract;
use tokio_postgres::Row;
use tokio_postgres::types::Json as Sql;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;
use ztna_policy::document::is_group_name;
use ztna_proto::api::Role;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::sso::{GroupRule, MAX_GROUP_NAME, MAX_GROUP_RULES, PutSsoRequest, SsoSettings};

use super::fetch::NamedBy;
use super::provider::ProviderId;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Counted, Empty, Json, Path, User, ok, refuse};
use crate::keys::ServerKeys;
use crate::orgs::{self, Right, authorise, seal_secret};
use crate::text::has_hidden;

/// Longest issuer identifier, in bytes.
const MAX_ISSUER: usize = 512;
/// Longest client id, in bytes.
const MAX_CLIENT_ID: usize = 255;
/// Longest client secret, in bytes.
const MAX_SECRET: usize = 1024;
/// Longest name of a claim, in bytes.
const MAX_CLAIM: usize = 128;
/// What the secret is sealed for.
pub(crate) const SECRET: &str = "oidc client secret";

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, replace, remove))
}

/// An org's provider as it is stored.
pub(super) struct Stored {
    pub(super) settings: PutSsoRequest,
    /// Sealed.
    pub(super) client_secret: Vec<u8>,
    updated_at: jiff::Timestamp,
}

/// The provider of the transaction's org.
pub(super) async fn load(tx: &Tx<'_>, org: OrgId) -> Result<Option<Stored>, ApiError> {
    let row = tx
        .query_opt(
            "SELECT issuer, client_id, client_secret, groups_claim, group_rules, create_members, required,
                 trust_email, updated_at FROM sso_providers WHERE org_id = $1",
            &[&org.0],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<Stored, ApiError> {
    let Sql(group_rules) = row.try_get(4)?;
    Ok(Stored {
        settings: PutSsoRequest {
            issuer: row.get(0),
            client_id: row.get(1),
            client_secret: None,
            groups_claim: row.get(3),
            group_rules,
            create_members: row.get(5),
            required: row.get(6),
            trust_email: row.get(7),
        },
        client_secret: row.get(2),
        updated_at: row.get(8),
    })
}

/// Seals under the org's own key what was sealed under one derived from the master key.
pub(crate) async fn reseal(tx: &Tx<'_>, keys: &ServerKeys, org: OrgId) -> Result<(), ApiError> {
    let query = "SELECT client_secret FROM sso_providers WHERE org_id = $1 FOR UPDATE";
    let Some(row) = tx.query_opt(query, &[&org.0]).await? else {
        return Ok(());
    };
    let Ok(secret) = open_secret(tx, keys, org, row.get(0)).await else {
        tracing::warn!(%org, "the client secret of the org's provider does not open; somebody has to enter it again");
        return Ok(());
    };
    let sealed = seal_secret(tx, keys, org, SECRET, secret.as_bytes()).await?;
    tx.execute(
        "UPDATE sso_providers SET client_secret = $2 WHERE org_id = $1",
        &[&org.0, &sealed],
    )
    .await?;
    Ok(())
}

/// Opens the client secret of an org's provider.
pub(super) async fn open_secret(
    tx: &Tx<'_>,
    keys: &ServerKeys,
    org: OrgId,
    sealed: &[u8],
) -> Result<Zeroizing<String>, ApiError> {
    let opened = orgs::open_secret(tx, keys, org, SECRET, sealed).await?;
    match std::str::from_utf8(&opened) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(ApiError::Internal("a client secret is no text".to_owned())),
    }
}

fn shown(state: &State, org: OrgId, stored: Stored) -> SsoSettings {
    let settings = stored.settings;
    SsoSettings {
        issuer: settings.issuer,
        client_id: settings.client_id,
        groups_claim: settings.groups_claim,
        group_rules: settings.group_rules,
        create_members: settings.create_members,
        required: settings.required,
        trust_email: settings.trust_email,
        redirect_uri: state.providers.redirect_uri(ProviderId::Org(org)),
        updated_at: stored.updated_at,
    }
}

fn none() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "the org has no identity provider; `PUT` of the same path sets one up",
    )
}

/// The org's identity provider.
#[utoipa::path(get, path = "/api/orgs/{org}/sso", tag = "sso", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<SsoSettings>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<SsoSettings> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let stored = load(&tx, org).await?.ok_or_else(none)?;
    ok(shown(&state, org, stored))
}

/// Sets the org's identity provider up, or changes it. It is asked for its discovery document at once. With
/// another issuer, people are linked anew.
#[utoipa::path(put, path = "/api/orgs/{org}/sso", tag = "sso", params(("org" = OrgId, Path)),
    request_body = PutSsoRequest, responses(
    (status = 200, body = Envelope<SsoSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn replace(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(mut request): Json<PutSsoRequest>,
) -> Answer<SsoSettings> {
    let secret = request.client_secret.take().map(Zeroizing::new);
    check(&request, secret.as_ref().map(|secret| secret.as_str()))?;
    {
        let mut connection = state.db.connect().await?;
        let tx = connection.org(org).await?;
        authorise(&tx, org, user, Right::Manage).await?;
    }
    let limit = state.limits.credentials;
    Counted::by_user(&*state.kv, "changes of a provider", limit, user)
        .spend()
        .await?;
    let providers = &state.providers;
    let found = providers
        .directory
        .provider(&providers.fetcher, &request.issuer, NamedBy::Org)
        .await;
    if let Err(why) = found {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!("the provider `issuer` names cannot be used: {why}; correct it"),
        ));
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let before = load(&tx, org).await?;
    let sealed = match (secret, before) {
        (Some(secret), _) => seal_secret(&tx, &state.keys, org, SECRET, secret.as_bytes()).await?,
        // The secret goes to nobody but whom it was entered for.
        (None, Some(before))
            if before.settings.issuer == request.issuer
                && before.settings.client_id == request.client_id =>
        {
            before.client_secret
        }
        (None, _) => {
            return Err(refuse(
                ErrorCode::ValidationError,
                "`client_secret` is missing; another issuer or client needs its own",
            ));
        }
    };
    tx.execute(
        "INSERT INTO sso_providers (org_id, issuer, client_id, client_secret, groups_claim, group_rules,
             create_members, required, trust_email)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (org_id) DO UPDATE SET issuer = excluded.issuer, client_id = excluded.client_id,
             client_secret = excluded.client_secret, groups_claim = excluded.groups_claim,
             group_rules = excluded.group_rules, create_members = excluded.create_members,
             required = excluded.required, trust_email = excluded.trust_email, updated_at = now()",
        &[
            &org.0,
            &request.issuer,
            &request.client_id,
            &sealed,
            &request.groups_claim,
            &Sql(&request.group_rules),
            &request.create_members,
            &request.required,
            &request.trust_email,
        ],
    )
    .await?;
    let stored = load(&tx, org).await?.ok_or_else(none)?;
    tx.commit().await?;
    tracing::info!(%org, by = %user, issuer = stored.settings.issuer, "an identity provider was set up");
    ok(shown(&state, org, stored))
}

/// Ends sign-in by the org's provider. Accounts and memberships stay; who has no password yet chooses one
/// by "forgotten password".
#[utoipa::path(delete, path = "/api/orgs/{org}/sso", tag = "sso", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn remove(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let gone = tx
        .execute("DELETE FROM sso_providers WHERE org_id = $1", &[&org.0])
        .await?;
    if gone == 0 {
        return Err(none());
    }
    tx.execute("DELETE FROM sso_identities WHERE org_id = $1", &[&org.0])
        .await?;
    tx.commit().await?;
    tracing::info!(%org, by = %user, "an identity provider was removed");
    ok(Empty {})
}

fn check(request: &PutSsoRequest, secret: Option<&str>) -> Result<(), ApiError> {
    let bad = |message: String| Err(refuse(ErrorCode::ValidationError, message));
    let texts = [
        ("issuer", request.issuer.as_str(), MAX_ISSUER),
        ("client_id", request.client_id.as_str(), MAX_CLIENT_ID),
        ("client_secret", secret.unwrap_or("-"), MAX_SECRET),
        ("groups_claim", request.groups_claim.as_str(), MAX_CLAIM),
    ];
    for (name, text, longest) in texts {
        if text.is_empty() || text.len() > longest || has_hidden(text) {
            return bad(format!(
                "`{name}` needs 1 to {longest} characters; correct it"
            ));
        }
    }
    if request.group_rules.len() > MAX_GROUP_RULES {
        return bad(format!(
            "`group_rules` may have {MAX_GROUP_RULES} entries; shorten it"
        ));
    }
    for rule in &request.group_rules {
        check_rule(rule)?;
    }
    Ok(())
}

fn check_rule(rule: &GroupRule) -> Result<(), ApiError> {
    let bad = |message: String| Err(refuse(ErrorCode::ValidationError, message));
    let group = &rule.group;
    let length = group.chars().count();
    if length == 0 || length > MAX_GROUP_NAME || has_hidden(group) {
        return bad(format!(
            "`group` of a rule needs 1 to {MAX_GROUP_NAME} characters; correct it"
        ));
    }
    if rule.role == Some(Role::Owner) {
        return bad(format!(
            "the rule for {group} would make owners, whom owners alone make; choose another role"
        ));
    }
    match &rule.policy_group {
        Some(name) if !is_group_name(name) => bad(format!(
            "`{name}` is no name of a group of the policy; write it as there, without `group:`"
        )),
        _ => Ok(()),
    }
}
