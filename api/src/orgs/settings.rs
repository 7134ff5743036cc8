//! `/api/orgs/{org}/settings`: switches of the whole org.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract;
use ipnet::{Ipv4Net, Ipv6Net};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::machines::{
    MAX_IPV4_NETWORK_BITS, MAX_KEY_EXPIRY_DAYS, MIN_KEY_EXPIRY_DAYS, OrgSettings, UpdateOrgSettings,
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
/// Networks that machines' addresses may be from: nobody's on the Internet (RFC 1918 §3, RFC 6598 §7).
const PRIVATE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

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

/// Changes the org's settings. Machines are told at once of a new name and of a lockdown. What is as it was asked for
/// already is no change.
#[utoipa::path(patch, path = "/api/orgs/{org}/settings", tag = "orgs", params(("org" = OrgId, Path)),
    request_body = UpdateOrgSettings, responses(
    (status = 200, body = Envelope<OrgSettings>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
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
    // Whoever enrols, or changes the same, waits.
    let lock = "SELECT FROM orgs WHERE id = $1 FOR UPDATE";
    tx.query_one(lock, &[&org.0]).await?;
    let before = read(&tx, org).await?;
    let new = Differences::of(&before, &request, name);
    if !new.any() {
        return ok(before);
    }
    new.check(&tx, org).await?;
    // Machines know their org's name; a lockdown is a rule.
    let named = new.name.map(|_| Changed::Org);
    let ruled = new.lockdown.map(|_| Changed::Policy);
    for change in [named, ruled].into_iter().flatten() {
        netmap::append_change(&tx, org, change).await?;
    }
    new.write(&tx, org).await?;
    let settings = read(&tx, org).await?;
    tx.commit().await?;
    drop(connection);
    if named.is_some() || ruled.is_some() {
        state.hub.notify(org).await;
    }
    tracing::info!(%org, by = %user, ?settings, "the org's settings were changed");
    ok(settings)
}

/// What a request asks for that is not so yet.
struct Differences<'a> {
    name: Option<&'a str>,
    machine_approval: Option<bool>,
    key_expiry_days: Option<u16>,
    lockdown: Option<bool>,
    pq: Option<PqMode>,
    ipv4_network: Option<Ipv4Net>,
}

impl<'a> Differences<'a> {
    fn of(before: &OrgSettings, request: &UpdateOrgSettings, name: Option<&'a str>) -> Self {
        Self {
            name: name.filter(|name| *name != before.name),
            machine_approval: other(request.machine_approval, before.machine_approval),
            key_expiry_days: other(request.key_expiry_days, before.key_expiry_days),
            lockdown: other(request.lockdown, before.lockdown),
            pq: other(request.pq, before.pq),
            ipv4_network: other(request.ipv4_network, before.ipv4_network),
        }
    }

    fn any(&self) -> bool {
        self.name.is_some()
            || self.machine_approval.is_some()
            || self.key_expiry_days.is_some()
            || self.lockdown.is_some()
            || self.pq.is_some()
            || self.ipv4_network.is_some()
    }

    /// Refuses what would go against what is there. The transaction holds the org's row.
    async fn check(&self, tx: &Tx<'_>, org: OrgId) -> Result<(), ApiError> {
        if let Some(network) = self.ipv4_network {
            check_network(network)?;
            let count = "SELECT count(*) FROM machines WHERE org_id = $1";
            let machines: i64 = tx.query_one(count, &[&org.0]).await?.get(0);
            if machines > 0 {
                return Err(refuse(
                    ErrorCode::Conflict,
                    format!(
                        "an address stays with its machine, and {machines} have theirs already; \
                         choose the network of an org before its first machine, or delete them all"
                    ),
                ));
            }
        }
        if self.pq == Some(PqMode::Required) {
            let count = "SELECT count(*) FROM static_peers WHERE org_id = $1";
            let devices: i64 = tx.query_one(count, &[&org.0]).await?.get(0);
            if devices > 0 {
                return Err(refuse(
                    ErrorCode::Conflict,
                    format!(
                        "{devices} static peers have no post-quantum keys up to their gateways; delete them first"
                    ),
                ));
            }
        }
        Ok(())
    }

    async fn write(&self, tx: &Tx<'_>, org: OrgId) -> Result<(), ApiError> {
        // Addresses begin anew in a new network.
        tx.execute(
            "UPDATE orgs SET machine_approval = COALESCE($2, machine_approval),
                    key_expiry_seconds = COALESCE($3, key_expiry_seconds),
                    name = COALESCE($4, name), lockdown = COALESCE($5, lockdown),
                    pq = COALESCE($6, pq), ipv4_network = COALESCE($7::text::inet, ipv4_network),
                    ipv4_next = CASE WHEN $7 IS NULL THEN ipv4_next ELSE 1 END
             WHERE id = $1",
            &[
                &org.0,
                &self.machine_approval,
                &self.key_expiry_days.map(|days| i64::from(days) * DAY),
                &self.name,
                &self.lockdown,
                &self.pq.map(pq_text),
                &self.ipv4_network.map(|network| network.to_string()),
            ],
        )
        .await?;
        Ok(())
    }
}

/// What is wanted, unless it is so.
fn other<T: PartialEq>(wanted: Option<T>, is: T) -> Option<T> {
    wanted.filter(|wanted| *wanted != is)
}

fn check_network(network: Ipv4Net) -> Result<(), ApiError> {
    let is_private = PRIVATE
        .iter()
        .any(|(address, bits)| Ipv4Net::new_assert(*address, *bits).contains(&network));
    let fault = if network.trunc() != network {
        format!(
            "`ipv4_network` has bits behind its length; write {}",
            network.trunc()
        )
    } else if !is_private {
        "`ipv4_network` is not for machines' own addresses; choose one within 100.64.0.0/10, 10.0.0.0/8, \
         172.16.0.0/12 or 192.168.0.0/16"
            .to_owned()
    } else if network.prefix_len() > MAX_IPV4_NETWORK_BITS {
        format!(
            "`ipv4_network` has too few addresses; choose one of at most /{MAX_IPV4_NETWORK_BITS}"
        )
    } else {
        return Ok(());
    };
    Err(refuse(ErrorCode::ValidationError, fault))
}

fn pq_text(pq: PqMode) -> &'static str {
    match pq {
        PqMode::Required => "required",
        PqMode::Preferred => "preferred",
    }
}

/// Anything unknown is the stricter one.
fn parse_pq(text: &str) -> PqMode {
    match text {
        "preferred" => PqMode::Preferred,
        _ => PqMode::Required,
    }
}

/// Whether devices without the post-quantum handshake may come in.
pub(crate) async fn admits_plain_devices(tx: &Tx<'_>, org: OrgId) -> Result<bool, ApiError> {
    let query = "SELECT pq FROM orgs WHERE id = $1";
    let row = tx.query_one(query, &[&org.0]).await?;
    Ok(parse_pq(row.get(0)) == PqMode::Preferred)
}

async fn read(tx: &Tx<'_>, org: OrgId) -> Result<OrgSettings, ApiError> {
    let row = tx
        .query_one(
            "SELECT machine_approval, key_expiry_seconds, name, slug, lockdown,
                    ipv4_network, masklen(ipv4_network), ipv6_network, pq FROM orgs WHERE id = $1",
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
        pq: parse_pq(row.get(8)),
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
