//! `/api/orgs/{org}/acl-evaluate`: may this pass, and why.

use std::net::IpAddr;

use axum::extract;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_policy::{Facts, Party, Place, Query, document, evaluate, place_of};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::filter::Protocol;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::policy::{EvaluateRequest, Evaluation};

use super::load;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, User, ok, refuse};
use crate::netmap;
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(ask))
}

/// Whether the policy lets one machine open something towards another: condition by condition, and
/// if nothing allows it, which rule comes closest.
#[utoipa::path(post, path = "/api/orgs/{org}/acl-evaluate", tag = "policy", params(("org" = OrgId, Path)),
    request_body = EvaluateRequest, responses(
    (status = 200, body = Envelope<Evaluation>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
async fn ask(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<EvaluateRequest>,
) -> Answer<Evaluation> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let (protocol, port) = service(&request)?;
    let document = load(&tx, org).await?;
    let machines = Machines::read(&tx, org).await?;
    let (src, place) = machines.find(&request.src)?;
    if place != Place::Own {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`src` is {}, which is no machine's own address; name a machine",
                request.src
            ),
        ));
    }
    let (dst, place) = machines.find(&request.dst)?;
    let query = Query {
        src: src.party(),
        dst: dst.party(),
        place,
        protocol,
        port,
        now: request.at.unwrap_or_else(Timestamp::now),
    };
    ok(Evaluation {
        src: src.name.clone(),
        dst: dst.name.clone(),
        verdict: evaluate(&document, &query),
    })
}

fn service(request: &EvaluateRequest) -> Result<(Protocol, Option<u16>), ApiError> {
    let name = request.protocol.as_deref().unwrap_or("tcp");
    let protocol = document::protocol(name)
        .map_err(|fault| refuse(ErrorCode::ValidationError, format!("`protocol`: {fault}")))?;
    let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::Sctp);
    match (has_ports, request.port) {
        (true, None) => Err(refuse(
            ErrorCode::ValidationError,
            format!("`port` is missing; {name} needs one"),
        )),
        (false, Some(_)) => Err(refuse(
            ErrorCode::ValidationError,
            format!("{name} has no ports; leave `port` out"),
        )),
        (_, port) => Ok((protocol, port)),
    }
}

struct Known {
    id: MachineId,
    name: String,
    facts: Facts,
}

impl Known {
    fn party(&self) -> Party<'_> {
        Party {
            id: Some(self.id),
            facts: &self.facts,
        }
    }
}

struct Machines(Vec<Known>);

impl Machines {
    async fn read(tx: &Tx<'_>, org: OrgId) -> Result<Self, ApiError> {
        let mut names = netmap::names(tx, org).await?;
        let machines = netmap::facts(tx, org).await?.into_iter();
        let known = machines.map(|(id, facts)| Known {
            id,
            name: names.remove(&id).unwrap_or_default(),
            facts,
        });
        Ok(Self(known.collect()))
    }

    /// The machine of a name, an id or an address, and where there the address is.
    fn find(&self, text: &str) -> Result<(&Known, Place), ApiError> {
        let id = text.parse().ok();
        let by_name = self.0.iter().find(|m| m.name == text || Some(m.id) == id);
        if let Some(machine) = by_name {
            return Ok((machine, Place::Own));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let at = self
                .0
                .iter()
                .filter_map(|machine| Some((machine, place_of(&machine.facts, address)?)));
            // A machine's own address before one behind a route.
            let found = at.min_by_key(|(_, place)| *place != Place::Own);
            return found.ok_or_else(|| {
                refuse(
                    ErrorCode::NotFound,
                    format!("{address} is no machine's, and behind no route; name a machine"),
                )
            });
        }
        Err(refuse(
            ErrorCode::NotFound,
            format!("the org has no machine {text:?}; write a name, an id or an address"),
        ))
    }
}
