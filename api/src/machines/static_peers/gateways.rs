//! Machines that carry static peers.

use std::net::Ipv6Addr;

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::static_peers::{Gateway, GatewayRequest};

use super::is_static;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Json, Path, User, ok, refuse};
use crate::machines::{demand_machine, routes::no_machine};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};

/// Longest name of a host (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set, unset))
}

/// The machines that carry static peers.
#[utoipa::path(get, path = "/api/orgs/{org}/gateways", tag = "machines", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<Gateway>>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<Gateway>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Belong).await?;
    ok(read(&state, &tx, org, None).await?)
}

/// Has a machine carry static peers: its agent listens for devices with plain WireGuard.
#[utoipa::path(put, path = "/api/orgs/{org}/machines/{machine}/gateway", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), request_body = GatewayRequest, responses(
    (status = 200, body = Envelope<Gateway>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn set(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
    Json(request): Json<GatewayRequest>,
) -> Answer<Gateway> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let port = check_endpoint(&request.endpoint)?;
    let listen_port = request.listen_port.unwrap_or(port);
    if listen_port == 0 {
        return Err(refuse(
            ErrorCode::ValidationError,
            "`listen_port` is 0; devices have to know the port, so name one",
        ));
    }
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    demand_machine(&tx, org, id).await?;
    if is_static(&tx, org, id).await? {
        return Err(refuse(
            ErrorCode::ValidationError,
            "a static peer has no agent, so it carries no other; name a machine with an agent",
        ));
    }
    tx.execute(
        "INSERT INTO gateways (org_id, machine_id, endpoint, listen_port) VALUES ($1, $2, $3, $4)
         ON CONFLICT (org_id, machine_id) DO UPDATE SET endpoint = $3, listen_port = $4",
        &[&org.0, &id.0, &request.endpoint, &i32::from(listen_port)],
    )
    .await?;
    let gateway = read(&state, &tx, org, Some(id)).await?.pop();
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, endpoint = request.endpoint, "a machine is a gateway");
    gateway.map_or_else(|| Err(no_machine()), ok)
}

/// Has a machine carry static peers no more. Those that it carried are offline until they have another.
#[utoipa::path(delete, path = "/api/orgs/{org}/machines/{machine}/gateway", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn unset(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    tx.execute(
        "UPDATE static_peers SET gateway_id = NULL WHERE org_id = $1 AND gateway_id = $2",
        &[&org.0, &id.0],
    )
    .await?;
    let done = tx
        .execute(
            "DELETE FROM gateways WHERE org_id = $1 AND machine_id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    if done == 0 {
        return Err(refuse(
            ErrorCode::NotFound,
            "the org has no gateway with that id; `GET /api/orgs/{org}/gateways` lists them",
        ));
    }
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, "a machine is no gateway any more");
    ok(Empty {})
}

async fn read(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<MachineId>,
) -> Result<Vec<Gateway>, ApiError> {
    let rows = tx
        .query(
            "SELECT g.machine_id, m.name, g.endpoint, g.listen_port,
                    (SELECT count(*) FROM static_peers s WHERE s.org_id = $1 AND s.gateway_id = g.machine_id)
             FROM gateways g JOIN machines m ON m.org_id = g.org_id AND m.id = g.machine_id
             WHERE g.org_id = $1 AND g.machine_id = COALESCE($2, g.machine_id) ORDER BY m.name",
            &[&org.0, &only.map(|id| id.0)],
        )
        .await?;
    let present = state.hub.presence(org);
    let gateways = rows.iter().map(|row| {
        let machine = MachineId(row.get(0));
        Gateway {
            machine,
            name: row.get(1),
            endpoint: row.get(2),
            listen_port: u16::try_from(row.get::<_, i32>(3)).unwrap_or_default(),
            online: present.get(&machine).is_some_and(|(online, _)| *online),
            static_peers: u32::try_from(row.get::<_, i64>(4)).unwrap_or(u32::MAX),
        }
    });
    Ok(gateways.collect())
}

/// The port of an endpoint, which stands in devices' configurations as it is.
fn check_endpoint(endpoint: &str) -> Result<u16, ApiError> {
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            (1..=MAX_HOST).contains(&host.len())
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        }
    };
    endpoint
        .rsplit_once(':')
        .filter(|(host, _)| is_host(host))
        // Not `+1`, which is a number to the standard library and none to WireGuard.
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|(_, port)| port.parse().ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            refuse(
                ErrorCode::ValidationError,
                "`endpoint` is not where devices could reach a machine; write `host:port`, as in \
                 `vpn.example.com:51820` or `[2001:db8::1]:51820`",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_and_nothing_else() {
        for (good, port) in [
            ("vpn.example.com:51820", 51820),
            ("192.0.2.1:1", 1),
            ("[2001:db8::1]:65535", 65535),
        ] {
            assert_eq!(check_endpoint(good).unwrap(), port);
        }
        for bad in [
            "",
            "vpn.example.com",
            "vpn.example.com:0",
            "vpn.example.com:65536",
            "vpn.example.com:+51820",
            "vpn.example.com:-1",
            ":51820",
            "2001:db8::1:51820",
            "[192.0.2.1]:51820",
            "[::1:51820",
            "a b:1",
            "vpn.example.com:1\nPostUp = reboot",
            "vpn\n.example.com:1",
        ] {
            assert!(check_endpoint(bad).is_err(), "{bad:?}");
        }
    }
}
