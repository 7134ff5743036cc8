//! `POST /api/register-machine`: a machine joins, or joins again.
//!
//! [`register`] finds out on whose word and which org; then the machine waits in the org's [`line`], and
//! with those that wait beside it is written in one transaction ([`joining`]).

mod joining;
mod line;
mod names;

use ztna_proto::api::{RegisterRequest, Registered};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::tokens::{AuthKey, MachineToken};

pub(super) use joining::has_held;
pub(crate) use line::Line;

use self::joining::{Candidate, Word};
use super::{check_text, normalise_name};
use crate::app::State;
use crate::auth_keys;
use crate::db::Tx;
use crate::http::{Actor, ApiError, Call, act_as, refuse};
use crate::keys::Access;
use crate::orgs::{Right, authorise};
use crate::relays;

/// On whose word a machine joins.
enum Sponsor {
    Key(AuthKey),
    User(Access),
}

impl Sponsor {
    fn read(state: &State, bearer: &str) -> Result<Self, ApiError> {
        // A JWT has two dots and no prefix of ours; anything else was meant as an auth key.
        if let Some(access) = state.keys.verify_access(bearer) {
            act_as(Actor::User(access.user));
            return Ok(Self::User(access));
        }
        if bearer.matches('.').count() == 2 && !bearer.starts_with(AuthKey::PREFIX) {
            return Err(refuse(
                ErrorCode::Unauthorized,
                "the access token is not valid or its 15 minutes are over; sign in again with `ztna login`",
            ));
        }
        bearer.parse().map(Self::Key).map_err(|error| {
            refuse(
                ErrorCode::InvalidKey,
                format!("{error}, or have a new one made"),
            )
        })
    }

    /// The org that the machine joins, and on whose word.
    async fn org(self, state: &State, wanted: Option<OrgId>) -> Result<(OrgId, Word), ApiError> {
        let mut connection = state.db.connect().await?;
        match self {
            Self::Key(key) => {
                let (org, id) = auth_keys::find(&connection, &key).await?;
                act_as(Actor::AuthKey(id));
                Ok((org, Word::Key(id)))
            }
            Self::User(access) => {
                let tx = connection.bare().await?;
                let org = org_of(&tx, access.user, wanted).await?;
                // Strangers must not wait in the org's line.
                tx.enter_org(org).await?;
                authorise(&tx, org, access.user, Right::Belong).await?;
                Ok((org, Word::User(access)))
            }
        }
    }
}

/// The org that a person's machine joins: the one named, else the only one.
async fn org_of(tx: &Tx<'_>, user: UserId, wanted: Option<OrgId>) -> Result<OrgId, ApiError> {
    if let Some(org) = wanted {
        return Ok(org);
    }
    tx.enter_person(user).await?;
    let rows = tx
        .query(
            "SELECT o.id, o.name FROM orgs o JOIN members m ON m.org_id = o.id AND m.user_id = $1
             ORDER BY o.name",
            &[&user.0],
        )
        .await?;
    match rows.as_slice() {
        [] => Err(refuse(
            ErrorCode::ValidationError,
            "you are a member of no org yet; create one, or have an owner add you",
        )),
        [only] => Ok(OrgId(only.get(0))),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|row| format!("{} ({})", row.get::<_, String>(1), OrgId(row.get(0))))
                .collect();
            Err(refuse(
                ErrorCode::ValidationError,
                format!(
                    "you are a member of several orgs; name one in `org`: {}",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// Registers a machine.
pub(super) async fn register(
    state: &State,
    bearer: &str,
    request: RegisterRequest,
) -> Result<Registered, ApiError> {
    let name = normalise_name(&request.name)?;
    check_text("os", &request.os)?;
    check_text("agent_version", &request.agent_version)?;
    let sponsor = Sponsor::read(state, bearer)?;
    let token = MachineToken::generate(&mut rand::rng());
    let (org, word) = sponsor.org(state, request.org).await?;
    let candidate = Candidate {
        call: Call::current(),
        word,
        name,
        token: token.hash(),
        request,
    };
    let joined = line::wait(state, org, candidate).await?;
    relays::outlast(joined.revoked_until).await;
    metrics::counter!("ztna_api_registrations_total").increment(1);
    tracing::info!(%org, machine = %joined.id, name = joined.name, "a machine was registered");

    Ok(Registered {
        machine_id: joined.id,
        node_key: token,
        dns_name: state.dns_name(&joined.name, &joined.org_slug),
        name: joined.name,
        org,
        org_name: joined.org_name,
        ipv4: joined.ipv4,
        ipv6: joined.ipv6,
        key_expires_at: joined.key_expires_at,
    })
}

fn conflict() -> ApiError {
    refuse(
        ErrorCode::RegistrationConflict,
        "a machine with this WireGuard key is enrolled already, and the request does not prove to be \
         that machine; delete it from its org, or run `ztna logout` to make new keys",
    )
}
