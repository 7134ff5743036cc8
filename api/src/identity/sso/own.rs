//! `/api/auth/identities`: whom providers know a person by, and the end of that.
//!
//! To end a link takes the account's password, as setting up a second factor does. So what is left is
//! never nothing: who has chosen no password yet, sets one by mail first, and that ends every link.

use axum::extract;
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{OrgId, SessionId, UserId};
use ztna_proto::sso::{OwnIdentity, UnlinkRequest};

use super::provider::ProviderId;
use crate::app::State;
use crate::audit;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Json, SignedIn, ok, refuse};
use crate::identity::{accounts, mfa, sessions};
use crate::mail::Letter;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(unlink))
}

/// Whom providers know the caller by: each can sign the caller in.
#[utoipa::path(get, path = "/api/auth/identities", tag = "identity", responses(
    (status = 200, body = Envelope<Vec<OwnIdentity>>), (status = 401, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
) -> Answer<Vec<OwnIdentity>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(caller.user).await?;
    ok(read(&tx, caller.user).await?)
}

/// Ends one of them, with the password, and the second factor's code if there is one. Every other session
/// ends too: it may have come by this way. An account without a password gets one by mail first.
#[utoipa::path(post, path = "/api/auth/identities/unlink", tag = "identity", request_body = UnlinkRequest, responses(
    (status = 200, body = Envelope<Empty>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn unlink(
    extract::State(state): extract::State<State>,
    caller: SignedIn,
    Json(request): Json<UnlinkRequest>,
) -> Answer<Empty> {
    let user = caller.user;
    let provider: ProviderId = request.provider.parse().map_err(|_| {
        refuse(
            ErrorCode::ValidationError,
            "`provider` is `google`, `github` or an org's id; `GET /api/auth/identities` lists yours",
        )
    })?;
    let email = accounts::check_own_password(&state, user, request.password).await?;
    mfa::check(&state, user, request.totp_code.as_deref()).await?;
    end(&state, user, caller.session, provider, &request.subject).await?;
    if let Some(mail) = &state.mail {
        let provider = provider.name();
        mail.send(&email, &Letter::Unlinked { provider });
    }
    tracing::info!(%user, %provider, "an account was unlinked");
    ok(Empty {})
}

async fn end(
    state: &State,
    user: UserId,
    keep: SessionId,
    provider: ProviderId,
    subject: &str,
) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.person(user).await?;
    let ended = match provider {
        ProviderId::Google | ProviderId::GitHub => {
            tx.execute(
                "DELETE FROM user_identities WHERE user_id = $1 AND provider = $2 AND subject = $3",
                &[&user.0, &provider.to_string(), &subject],
            )
            .await?
        }
        // Under whichever issuer the org's provider was known.
        ProviderId::Org(org) => {
            tx.execute(
                "DELETE FROM sso_identities WHERE user_id = $1 AND org_id = $2 AND subject = $3",
                &[&user.0, &org.0, &subject],
            )
            .await?
        }
    };
    if ended == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "no such identity is linked to your account; `GET /api/auth/identities` lists yours",
        ));
    }
    sessions::end_all(&tx, user, Some(keep)).await?;
    // As with the link: in the logs of all of the person's orgs, locked in their order before the triggers
    // add to one of them.
    audit::unlinked(&tx, user, provider.way()).await?;
    tx.commit().await
}

async fn read(tx: &Tx<'_>, user: UserId) -> Result<Vec<OwnIdentity>, ApiError> {
    let rows = tx
        .query(
            "SELECT provider, NULL::uuid, NULL::text, NULL::text, subject, created_at
             FROM user_identities WHERE user_id = $1
             UNION ALL
             SELECT NULL, i.org_id, o.name, i.issuer, i.subject, i.created_at
             FROM sso_identities i JOIN orgs o ON o.id = i.org_id WHERE i.user_id = $1
             ORDER BY 6, 5",
            &[&user.0],
        )
        .await?;
    let identity = |row: &Row| {
        let org: Option<OrgId> = row.get::<_, Option<uuid::Uuid>>(1).map(OrgId);
        let provider: Option<String> = row.get(0);
        OwnIdentity {
            provider: provider
                .unwrap_or_else(|| org.map(|org| org.to_string()).unwrap_or_default()),
            org_name: row.get(2),
            issuer: row.get(3),
            subject: row.get(4),
            linked_at: row.get(5),
        }
    };
    Ok(rows.iter().map(identity).collect())
}
