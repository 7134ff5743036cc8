//! `/api/orgs/{org}/settings`: switches of the whole org.

use std::net::IpAddr;

use axum::extract;
use ipnet::{Ipv4Net, Ipv6Net};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::machines::{
    MAX_KEY_EXPIRY_DAYS, MIN_KEY_EXPIRY_DAYS, OrgSettings, UpdateOrgSettings,
};
use ztna_proto::netmap::PqMode;

use super::create::{IPV6_BITS, check_name};
use super::{Right, authorise};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, User, ok, refuse};
use crate::netmap::{self, Changed};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show, update))
}

/// The org's settings.
#[utoipa::path(get, path = "/api/orgs/{org}/settings", tag = "orgs", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<OrgSettings>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<OrgSettings> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    ok(read(&tx, org).await?)
}

/// Changes the org's settings. Machines are told at once of a new name and of a lockdown.
#[utoipa::path(patch, path = "/api/orgs/{org}/settings", tag = "orgs", params(("org" = OrgId, Path)),
    request_body = UpdateOrgSettings, responses(
    (status = 200, body = Envelope<OrgSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn update(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<UpdateOrgSettings>,
) -> Answer<OrgSettings> {
    let days = MIN_KEY_EXPIRY_DAYS..=MAX_KEY_EXPIRY_DAYS;
    if request
        .key_expiry_days
        .is_some_and(|wanted| !days.contains(&wanted))
    {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`key_expiry_days` may be {MIN_KEY_EXPIRY_DAYS} to {MAX_KEY_EXPIRY_DAYS}; a single machine's expiry can be switched off"
            ),
        ));
    }
    let name = request.name.as_deref().map(check_name).transpose()?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    // Machines know their org's name; a lockdown is a rule.
    let named = name.as_ref().map(|_| Changed::Org);
    let ruled = request.lockdown.map(|_| Changed::Policy);
    for change in [named, ruled].into_iter().flatten() {
        netmap::append_change(&tx, org, change).await?;
    }
    tx.execute(
        "UPDATE orgs SET machine_approval = COALESCE($2, machine_approval),
                key_expiry_seconds = COALESCE($3, key_expiry_seconds),
                name = COALESCE($4, name), lockdown = COALESCE($5, lockdown) WHERE id = $1",
        &[
            &org.0,
            &request.machine_approval,
            &request.key_expiry_days.map(|days| i64::from(days) * DAY),
            &name,
            &request.lockdown,
        ],
    )
    .await?;
    let settings = read(&tx, org).await?;
    tx.commit().await?;
    drop(connection);
    if named.is_some() || ruled.is_some() {
        state.hub.notify(org).await;
    }
    tracing::info!(%org, by = %user, ?settings, "the org's settings were changed");
    ok(settings)
}

async fn read(tx: &Tx<'_>, org: OrgId) -> Result<OrgSettings, ApiError> {
    let row = tx
        .query_one(
            "SELECT machine_approval, key_expiry_seconds, name, slug, lockdown,
                    ipv4_network, masklen(ipv4_network), ipv6_network FROM orgs WHERE id = $1",
            &[&org.0],
        )
        .await?;
    let seconds: i64 = row.get(1);
    let damaged = || ApiError::Internal("an org's networks are damaged".to_owned());
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(5), row.get(7)) else {
        return Err(damaged());
    };
    let bits = u8::try_from(row.get::<_, i32>(6)).map_err(|_| damaged())?;
    Ok(OrgSettings {
        name: row.get(2),
        slug: row.get(3),
        lockdown: row.get(4),
        pq: PqMode::Required,
        ipv4_network: Ipv4Net::new(ipv4, bits).map_err(|_| damaged())?,
        ipv6_network: Ipv6Net::new(ipv6, IPV6_BITS).map_err(|_| damaged())?,
        machine_approval: row.get(0),
        key_expiry_days: u16::try_from((seconds + DAY - 1) / DAY).unwrap_or(u16::MAX),
    })
}

/// Whether nothing passes between the org's machines.
pub(crate) async fn is_locked_down(tx: &Tx<'_>, org: OrgId) -> Result<bool, ApiError> {
    let query = "SELECT lockdown FROM orgs WHERE id = $1";
    Ok(tx.query_one(query, &[&org.0]).await?.get(0))
}
