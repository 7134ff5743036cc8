//! Static peers and their keys, as people make them.

use std::net::IpAddr;

use axum::extract;
use tokio_postgres::types::ToSql;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Role;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::keys::{KEM_PUBLIC_KEY_LEN, KemKeyHash, KemPublicKey, WgPrivateKey, WgPublicKey};
use ztna_proto::machines::MachineState;
use ztna_proto::static_peers::{
    CreateStaticPeer, MAX_STATIC_PEERS, MAX_STATIC_PEERS_OF_PERSON, PresharedKey, RotateStaticPeer,
    STATIC_OS, StaticPeer, StaticPeerConfig,
};
use ztna_proto::tokens::MachineToken;

use super::config::Settings;
use super::preshared_key_purpose;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Json, Path, Person, User, created, ok, refuse};
use crate::machines::authenticate::wg_key;
use crate::machines::registration::has_held;
use crate::machines::routes::no_machine;
use crate::machines::standing::Standing;
use crate::machines::view::read_machines;
use crate::machines::{address, check_tags, normalise_name};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, admits_plain_devices, authorise, seal_secret};
use crate::{network, posture};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(rotate))
}

/// The org's static peers. Members see their own.
#[utoipa::path(get, path = "/api/orgs/{org}/static-peers", tag = "machines", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<StaticPeer>>), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<StaticPeer>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user);
    ok(read(&state, &tx, org, None, own).await?)
}

/// Lets a device without an agent join through a gateway. The answer shows, this once, what it is configured
/// with.
#[utoipa::path(post, path = "/api/orgs/{org}/static-peers", tag = "machines", params(("org" = OrgId, Path)),
    request_body = CreateStaticPeer, responses(
    (status = 201, body = Envelope<StaticPeerConfig>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn create(
    extract::State(state): extract::State<State>,
    User(caller): User,
    Path(org): Path<OrgId>,
    Json(request): Json<CreateStaticPeer>,
) -> Answer<StaticPeerConfig> {
    let name = normalise_name(&request.name)?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, caller, Right::Belong).await?;
    let is_admin = matches!(role, Role::Owner | Role::Admin);
    let user = request.user.unwrap_or(caller);
    if user != caller {
        authorise(&tx, org, caller, Right::Manage).await?;
        demand_member(&tx, org, user).await?;
    }
    let id = MachineId::generate();
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    if !admits_plain_devices(&tx, org).await? {
        return Err(refuse(
            ErrorCode::Forbidden,
            "the org demands post-quantum keys on every tunnel (`pq` is `required`), and a plain WireGuard device has \
             none up to its gateway; an admin can set `pq` to `preferred` in the org's settings",
        ));
    }
    let tags = check_tags(&tx, org, (caller, role), &request.tags).await?;
    let gateway = Gateway::find(&tx, org, request.gateway).await?;
    gateway.demand_room(&tx, org).await?;
    // One with tags that an admin makes for nobody is the org's.
    let is_orgs = is_admin && !tags.is_empty() && request.user.is_none();
    if !is_orgs {
        demand_few(&tx, org, user).await?;
    }
    let approved = approves(&tx, org, user, is_admin).await?;
    insert(
        &tx,
        org,
        &New {
            id,
            name: &name,
            tags: &tags,
            user: tags.is_empty().then_some(user),
            approved,
        },
    )
    .await?;
    let keys = Keys::choose(request.public_key, request.preshared_key);
    let sealed = keys.sealed(&tx, &state, org, id).await?;
    tx.execute(
        "INSERT INTO static_peers (org_id, machine_id, gateway_id, public_key, preshared_key, made_for)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            &org.0,
            &id.0,
            &gateway.id.0,
            &keys.public.as_bytes().as_slice(),
            &sealed,
            &(!is_orgs).then_some(user.0),
        ],
    )
    .await
    .map_err(key_taken)?;
    posture::enter(&state, &tx, org, id).await?;
    let answer = answer(&state, &tx, org, id, &gateway, &keys).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %caller, gateway = %gateway.id, "a static peer was made");
    created(answer)
}

/// New keys for a static peer, and another gateway if one is named. What its device was configured with
/// before is of no use from then on. It may be another device: where new machines wait for approval, one that
/// a member gives new keys waits again. Its sign-in is renewed, unless an API key asks, which signs nobody in.
#[utoipa::path(post, path = "/api/orgs/{org}/static-peers/{machine}/keys", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), request_body = RotateStaticPeer, responses(
    (status = 200, body = Envelope<StaticPeerConfig>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn rotate(
    extract::State(state): extract::State<State>,
    Person { user, signed_in }: Person,
    Path((org, id)): Path<(OrgId, MachineId)>,
    Json(request): Json<RotateStaticPeer>,
) -> Answer<StaticPeerConfig> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let is_admin = matches!(role, Role::Owner | Role::Admin);
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    let query = format!(
        "SELECT s.gateway_id, {} FROM static_peers s
         JOIN machines m ON m.org_id = s.org_id AND m.id = s.machine_id
         WHERE s.org_id = $1 AND s.machine_id = $2 AND ($3 OR m.user_id = $4)",
        Standing::COLUMNS
    );
    let parameters: [&(dyn ToSql + Sync); 4] = [&org.0, &id.0, &is_admin, &user.0];
    let row = tx
        .query_opt(&query, &parameters)
        .await?
        .ok_or_else(no_machine)?;
    let standing = Standing::read(&row, 1);
    if !is_admin && standing.is_held() {
        return Err(refuse(
            ErrorCode::Forbidden,
            "the static peer is quarantined, locked or disabled; an admin of its org can end that",
        ));
    }
    if standing.expired && !signed_in {
        return Err(refuse(
            ErrorCode::Forbidden,
            "the static peer's sign-in has expired, and an API key cannot renew it; sign in as a person and give \
             it new keys",
        ));
    }
    let before: Option<MachineId> = row.get::<_, Option<_>>(0).map(MachineId);
    let Some(wanted) = request.gateway.or(before) else {
        return Err(refuse(
            ErrorCode::ValidationError,
            "the static peer's gateway is gone; name another one in `gateway`",
        ));
    };
    let gateway = Gateway::find(&tx, org, wanted).await?;
    if before != Some(wanted) {
        gateway.demand_room(&tx, org).await?;
    }
    let keys = Keys::choose(request.public_key, request.preshared_key);
    let sealed = keys.sealed(&tx, &state, org, id).await?;
    tx.execute(
        "UPDATE static_peers SET gateway_id = $3, public_key = $4, preshared_key = $5, revision = revision + 1
         WHERE org_id = $1 AND machine_id = $2",
        &[
            &org.0,
            &id.0,
            &gateway.id.0,
            &keys.public.as_bytes().as_slice(),
            &sealed,
        ],
    )
    .await
    .map_err(key_taken)?;
    if signed_in {
        tx.execute(
            "UPDATE machines m
             SET expired = false, key_expires_at = now() + o.key_expiry_seconds * interval '1 second'
             FROM orgs o WHERE o.id = m.org_id AND m.org_id = $1 AND m.id = $2 AND m.key_expiry AND m.tags = '{}'",
            &[&org.0, &id.0],
        )
        .await?;
    }
    // New keys may be another device's, and a machine with other keys is another machine.
    if !is_admin && !approves(&tx, org, user, false).await? {
        tx.execute(
            "UPDATE machines SET approved = false WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    }
    let answer = answer(&state, &tx, org, id, &gateway, &keys).await?;
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, gateway = %gateway.id, "a static peer has new keys");
    ok(answer)
}

/// What a device is known by, and what is shown of it once.
struct Keys {
    public: WgPublicKey,
    private: Option<WgPrivateKey>,
    preshared: Option<PresharedKey>,
}

impl Keys {
    fn choose(given: Option<WgPublicKey>, preshared: bool) -> Self {
        let mut rng = rand::rng();
        let private = given.is_none().then(|| WgPrivateKey::generate(&mut rng));
        let made = private.as_ref().map(WgPrivateKey::public);
        Self {
            public: given.or(made).unwrap_or(WgPublicKey([0; 32])),
            private,
            preshared: preshared.then(|| PresharedKey::generate(&mut rng)),
        }
    }

    async fn sealed(
        &self,
        tx: &Tx<'_>,
        state: &State,
        org: OrgId,
        id: MachineId,
    ) -> Result<Option<Vec<u8>>, ApiError> {
        let Some(key) = &self.preshared else {
            return Ok(None);
        };
        let purpose = preshared_key_purpose(id);
        let sealed = seal_secret(tx, &state.keys, org, &purpose, key.expose().as_slice()).await?;
        Ok(Some(sealed))
    }
}

fn key_taken(error: ApiError) -> ApiError {
    match error.violates("static_peers_org_id_public_key_key") {
        true => refuse(
            ErrorCode::Conflict,
            "another static peer of the org has this `public_key`; each device needs a key of its own",
        ),
        false => error,
    }
}

/// A gateway that may carry a peer.
struct Gateway {
    id: MachineId,
    name: String,
    key: WgPublicKey,
    endpoint: String,
}

impl Gateway {
    async fn find(tx: &Tx<'_>, org: OrgId, id: MachineId) -> Result<Self, ApiError> {
        let row = tx
            .query_opt(
                "SELECT m.name, m.wg_key, g.endpoint FROM gateways g
                 JOIN machines m ON m.org_id = g.org_id AND m.id = g.machine_id
                 WHERE g.org_id = $1 AND g.machine_id = $2",
                &[&org.0, &id.0],
            )
            .await?;
        let row = row.ok_or_else(|| {
            refuse(
                ErrorCode::ValidationError,
                "`gateway` is no gateway of the org; `GET /api/orgs/{org}/gateways` lists them, and \
                 `PUT /api/orgs/{org}/machines/{machine}/gateway` makes a machine one",
            )
        })?;
        Ok(Self {
            id,
            name: row.get(0),
            key: wg_key(row.get(1))?,
            endpoint: row.get(2),
        })
    }

    async fn demand_room(&self, tx: &Tx<'_>, org: OrgId) -> Result<(), ApiError> {
        let row = tx
            .query_one(
                "SELECT count(*) FROM static_peers WHERE org_id = $1 AND gateway_id = $2",
                &[&org.0, &self.id.0],
            )
            .await?;
        let carried: i64 = row.get(0);
        match usize::try_from(carried).is_ok_and(|carried| carried < MAX_STATIC_PEERS) {
            true => Ok(()),
            false => Err(refuse(
                ErrorCode::Conflict,
                format!(
                    "the gateway {} carries {MAX_STATIC_PEERS} static peers, which is all it may; name another",
                    self.name
                ),
            )),
        }
    }
}

/// Whether a device of this person joins at once. It does not while a machine of theirs is held, nor where new
/// machines wait for approval, unless who may approve it adds it.
async fn approves(tx: &Tx<'_>, org: OrgId, user: UserId, is_admin: bool) -> Result<bool, ApiError> {
    if has_held(tx, org, Some(user), None).await? {
        return Ok(false);
    }
    let query = "SELECT machine_approval FROM orgs WHERE id = $1";
    let waits: bool = tx.query_one(query, &[&org.0]).await?.get(0);
    Ok(is_admin || !waits)
}

/// Refuses one more than a person may have.
async fn demand_few(tx: &Tx<'_>, org: OrgId, user: UserId) -> Result<(), ApiError> {
    let row = tx
        .query_one(
            "SELECT count(*) FROM static_peers s
             JOIN machines m ON m.org_id = s.org_id AND m.id = s.machine_id
             WHERE s.org_id = $1 AND (m.user_id = $2 OR m.user_id IS NULL AND s.made_for = $2)",
            &[&org.0, &user.0],
        )
        .await?;
    let count: i64 = row.get(0);
    match usize::try_from(count).is_ok_and(|count| count < MAX_STATIC_PEERS_OF_PERSON) {
        true => Ok(()),
        false => Err(refuse(
            ErrorCode::Conflict,
            format!(
                "that would be more than the {MAX_STATIC_PEERS_OF_PERSON} static peers that one person may have \
                 in an org; delete one, or have an admin make one with a tag"
            ),
        )),
    }
}

async fn demand_member(tx: &Tx<'_>, org: OrgId, user: UserId) -> Result<(), ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM members WHERE org_id = $1 AND user_id = $2",
            &[&org.0, &user.0],
        )
        .await?;
    row.map(drop).ok_or_else(|| {
        refuse(
            ErrorCode::ValidationError,
            "`user` is no member of the org; `GET /api/orgs/{org}/members` lists them",
        )
    })
}

struct New<'a> {
    id: MachineId,
    name: &'a str,
    tags: &'a [String],
    user: Option<UserId>,
    approved: bool,
}

/// The machine, detached: its keys and token are nobody's until its gateway brings some. The transaction
/// holds the org's row.
async fn insert(tx: &Tx<'_>, org: OrgId, new: &New<'_>) -> Result<(), ApiError> {
    let query = format!(
        "SELECT {} FROM orgs WHERE id = $1",
        address::Networks::COLUMNS
    );
    let row = tx.query_one(&query, &[&org.0]).await?;
    let networks = address::Networks::read(&row, 0)?;
    let (ipv4, ipv6) = address::allocate_one(tx, org, &networks).await?;
    let nobodys = WgPrivateKey::generate(&mut rand::rng()).public();
    let nobodys_token = MachineToken::generate(&mut rand::rng()).hash();
    let no_kem_key = KemPublicKey::try_from([0; KEM_PUBLIC_KEY_LEN].as_slice())
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    tx.execute(
        "INSERT INTO machines (org_id, id, name, os, agent_version, wg_key, kem_key, kem_hash, token_hash,
                ipv4, ipv6, user_id, key_expires_at, tags, approved, detached)
         SELECT $1, $2, $3, $4, '', $5, $6, $7, $8, $9, $10, $11,
                CASE WHEN cardinality($12::text[]) = 0 THEN now() + o.key_expiry_seconds * interval '1 second' END,
                $12, $13, true
         FROM orgs o WHERE o.id = $1",
        &[
            &org.0,
            &new.id.0,
            &new.name,
            &STATIC_OS,
            &nobodys.as_bytes().as_slice(),
            &no_kem_key.as_bytes().as_slice(),
            &KemKeyHash::of(&no_kem_key).as_bytes().as_slice(),
            &nobodys_token.as_slice(),
            &IpAddr::V4(ipv4),
            &IpAddr::V6(ipv6),
            &new.user.map(|user| user.0),
            &new.tags,
            &new.approved,
        ],
    )
    .await
    .map_err(|error| match error.violates("machines_org_id_name_key") {
        true => refuse(
            ErrorCode::Conflict,
            "another machine of the org has that name; choose another",
        ),
        false => error,
    })?;
    Ok(())
}

async fn answer(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    gateway: &Gateway,
    keys: &Keys,
) -> Result<StaticPeerConfig, ApiError> {
    let peer = read(state, tx, org, Some(id), None).await?.pop();
    let peer = peer.ok_or_else(no_machine)?;
    let written = Settings {
        dns_name: &peer.machine.dns_name,
        ipv4: peer.machine.ipv4,
        ipv6: peer.machine.ipv6,
        private_key: keys.private.as_ref(),
        preshared_key: keys.preshared.as_ref(),
        gateway_name: &gateway.name,
        gateway_key: &gateway.key,
        endpoint: &gateway.endpoint,
        networks: &network::tailnet(tx, org).await?,
    }
    .write()?;
    Ok(StaticPeerConfig {
        notice: notice(keys),
        peer,
        config: written.config,
        qr_svg: written.qr_svg,
        qr_text: written.qr_text,
    })
}

fn notice(keys: &Keys) -> String {
    let shown = match keys.private {
        Some(_) => "The private key is shown this once and kept nowhere.",
        None => "Put the device's own private key into the configuration.",
    };
    let hop = match keys.preshared {
        Some(_) => {
            "Between device and gateway it is WireGuard with a preshared key that does not change; \
             everything behind the gateway is post-quantum."
        }
        None => {
            "Between device and gateway it is classic WireGuard, which a quantum computer could open later \
             (ask for `preshared_key` against that); everything behind the gateway is post-quantum."
        }
    };
    format!("{shown} {hop}")
}

/// Static peers of the org by name: one or all, of one person or everybody.
async fn read(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    only: Option<MachineId>,
    of: Option<UserId>,
) -> Result<Vec<StaticPeer>, ApiError> {
    let query = format!(
        "SELECT s.machine_id, s.public_key, s.preshared_key IS NOT NULL, s.gateway_id, m.name,
                NOT m.approved OR m.expired OR {}
         FROM static_peers s LEFT JOIN machines m ON m.org_id = s.org_id AND m.id = s.gateway_id
         WHERE s.org_id = $1 AND s.machine_id = COALESCE($2, s.machine_id)",
        Standing::IS_HELD
    );
    let rows = tx.query(&query, &[&org.0, &only.map(|id| id.0)]).await?;
    let machines = read_machines(state, tx, org, only, of).await?;
    let present = state.hub.presence(org);
    let mut peers = Vec::new();
    for machine in machines {
        let Some(row) = rows.iter().find(|row| MachineId(row.get(0)) == machine.id) else {
            continue;
        };
        let gateway = row.get::<_, Option<_>>(3).map(MachineId);
        let gateway_name: Option<String> = row.get(4);
        let is_there = gateway.is_some_and(|id| present.get(&id).is_some_and(|(there, _)| *there));
        let message = match (&gateway_name, row.get::<_, Option<bool>>(5)) {
            _ if machine.life.state == MachineState::Pending => None,
            (None, _) => {
                Some("its gateway is gone; name another one as you give it new keys".to_owned())
            }
            (Some(name), Some(true)) => Some(format!(
                "its gateway {name} is not in the network; what holds that one has to end, or name another"
            )),
            (Some(name), _) if !is_there => Some(format!("its gateway {name} is offline")),
            (Some(name), _) if !machine.online => {
                Some(format!("its gateway {name} has not taken it up"))
            }
            _ => None,
        };
        peers.push(StaticPeer {
            public_key: wg_key(row.get(1))?,
            preshared_key: row.get(2),
            gateway,
            gateway_name,
            message,
            machine,
        });
    }
    Ok(peers)
}
