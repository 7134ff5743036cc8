//! `POST /api/register-machine`: a machine joins, or joins again.
//!
//! One transaction: lock the org's row (registrations of one org take turns, [`super::turns`]), use the
//! auth key, allocate addresses, write the machine, append the change under the org's next `seq`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use ztna_proto::api::{MAX_MACHINE_NAME, RegisterRequest, Registered};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{AuthKeyId, MachineId, OrgId, UserId};
use ztna_proto::keys::{KemKeyHash, WgPublicKey};
use ztna_proto::posture::POSTURE_SECONDS;
use ztna_proto::tokens::{AuthKey, MachineToken, TokenHash};

use super::standing::{Standing, disabled};
use super::{address, check_text, normalise_name};
use crate::app::State;
use crate::auth_keys::{self, Terms};
use crate::db::Tx;
use crate::http::{Actor, ApiError, act_as, refuse};
use crate::identity::check_vouched;
use crate::keys::Access;
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};
use crate::{posture, relays};

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

    /// The org that the machine joins, and the key if it is one.
    async fn org(
        &self,
        tx: &Tx<'_>,
        wanted: Option<OrgId>,
    ) -> Result<(OrgId, Option<AuthKeyId>), ApiError> {
        match self {
            Self::Key(key) => {
                let (org, id) = auth_keys::find(tx, key).await?;
                act_as(Actor::AuthKey(id));
                Ok((org, Some(id)))
            }
            Self::User(access) => Ok((org_of(tx, access.user, wanted).await?, None)),
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

/// What is known of the org, its row being locked.
struct Org {
    id: OrgId,
    name: String,
    slug: String,
    networks: address::Networks,
    /// When a sign-in of now ends, if it does.
    key_expires_at: Timestamp,
    /// Whether new machines wait for an admin's word.
    approval: bool,
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

    let (org, key) = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        let (org, key) = sponsor.org(&tx, request.org).await?;
        // Strangers must not wait in the org's line.
        if let Sponsor::User(access) = &sponsor {
            tx.enter_org(org).await?;
            authorise(&tx, org, access.user, Right::Belong).await?;
        }
        (org, key)
    };
    let turn = state.registrations.wait(org).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    if let Sponsor::User(access) = &sponsor {
        authorise(&tx, org, access.user, Right::Belong).await?;
        check_vouched(&tx, org, access.user, access.vouched_by).await?;
    }
    let org = lock_org(&tx, org).await?;
    let user = match sponsor {
        Sponsor::User(access) => Some(access.user),
        Sponsor::Key(_) => None,
    };
    // None depends on another: they go to the database together.
    let terms = async {
        match key {
            Some(key) => auth_keys::consume(&tx, org.id, key).await,
            None => Ok(Terms::default()),
        }
    };
    let (terms, held, known, revoked_until, is_judged) = tokio::try_join!(
        terms,
        has_held(&tx, org.id, user, key),
        find(&tx, org.id, &request.wg_key),
        relays::revoked_until(&tx, &request.wg_key),
        posture::has_policies(&tx, org.id)
    )?;
    let joining = Joining {
        tx: &tx,
        approved: !held && (terms.preapproved || !org.approval),
        preapproved: !held && terms.preapproved,
        org: &org,
        request: &request,
        token: &token,
        user,
        key,
        terms: &terms,
    };
    let machine = match known {
        Some(known) => joining.renew(&joining.prove(&known)?).await?,
        None => {
            let machine = joining.insert(&name).await?;
            if is_judged {
                posture::enter(state, &tx, org.id, machine.id).await?;
            }
            machine
        }
    };
    netmap::append_change(&tx, org.id, Changed::Machine(machine.id)).await?;
    tx.commit().await?;
    drop(connection);
    drop(turn);
    relays::outlast(revoked_until).await;
    state.hub.notify(org.id).await;
    metrics::counter!("ztna_registrations_total").increment(1);
    tracing::info!(org = %org.id, machine = %machine.id, name = machine.name, "a machine was registered");

    Ok(Registered {
        machine_id: machine.id,
        node_key: token,
        dns_name: state.dns_name(&machine.name, &org.slug),
        name: machine.name,
        org: org.id,
        org_name: org.name,
        ipv4: machine.ipv4,
        ipv6: machine.ipv6,
        key_expires_at: machine.key_expires_at,
    })
}

async fn lock_org(tx: &Tx<'_>, org: OrgId) -> Result<Org, ApiError> {
    let query = format!(
        "SELECT name, slug, now() + key_expiry_seconds * interval '1 second', machine_approval, {}
         FROM orgs WHERE id = $1 FOR UPDATE",
        address::Networks::COLUMNS
    );
    let row = tx.query_one(&query, &[&org.0]).await?;
    Ok(Org {
        id: org,
        name: row.get(0),
        slug: row.get(1),
        networks: address::Networks::read(&row, 4)?,
        key_expires_at: row.get(2),
        approval: row.get(3),
    })
}

struct Joining<'a> {
    tx: &'a Tx<'a>,
    org: &'a Org,
    request: &'a RegisterRequest,
    token: &'a MachineToken,
    user: Option<UserId>,
    key: Option<AuthKeyId>,
    terms: &'a Terms,
    /// Whether it joins without an admin's word, if it is new …
    approved: bool,
    /// … and whether the key vouches for one that still waits for it.
    preapproved: bool,
}

/// Whether a machine of this user, or of this key, is held. Until that is seen to, what joins on the same
/// word may be the same machine under another name. One that only waits for its first report does not
/// count: a fleet that joins at once would hold itself up.
pub(super) async fn has_held(
    tx: &Tx<'_>,
    org: OrgId,
    user: Option<UserId>,
    key: Option<AuthKeyId>,
) -> Result<bool, ApiError> {
    let query = format!(
        "SELECT EXISTS (SELECT FROM machines m
             LEFT JOIN machine_posture h ON h.org_id = m.org_id AND h.machine_id = m.id
             WHERE m.org_id = $1 AND (m.user_id = $2 OR m.auth_key_id = $3) AND {}
               AND (m.posture_quarantine IS NULL OR h.report IS NOT NULL
                    OR m.created_at < now() - {POSTURE_SECONDS} * interval '1 second'
                    OR {}))",
        Standing::IS_HELD,
        Standing::IS_HELD_BY_A_PERSON
    );
    let parameters: [&(dyn ToSql + Sync); 3] =
        [&org.0, &user.map(|user| user.0), &key.map(|key| key.0)];
    Ok(tx.query_one(&query, &parameters).await?.get(0))
}

/// The machine that registers again.
struct Previous {
    id: MachineId,
    /// The token by which it proves to be that machine.
    shown: TokenHash,
    tags: Vec<String>,
    key_expiry: bool,
}

/// A machine as the database holds it now.
struct Joined {
    id: MachineId,
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    key_expires_at: Option<Timestamp>,
}

impl Joined {
    /// The columns that [`Joined::read`] reads.
    const COLUMNS: &str = "id, name, ipv4, ipv6, key_expires_at";

    fn read(row: &Row) -> Result<Self, ApiError> {
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(2), row.get(3)) else {
            return Err(ApiError::Internal("a machine has no addresses".to_owned()));
        };
        Ok(Self {
            id: MachineId(row.get(0)),
            name: row.get(1),
            ipv4,
            ipv6,
            key_expires_at: row.get(4),
        })
    }
}

/// The machine that has this WireGuard key already, as [`Joining::prove`] reads it. A static peer has no agent
/// that could register.
async fn find(tx: &Tx<'_>, org: OrgId, wg_key: &WgPublicKey) -> Result<Option<Row>, ApiError> {
    let query = format!(
        "SELECT m.id, m.token_hash, m.previous_token_hash, m.tags, m.key_expiry, m.user_id,
                m.auth_key_id, {}
         FROM machines m WHERE m.org_id = $1 AND m.wg_key = $2
           AND NOT EXISTS (SELECT FROM static_peers s WHERE s.org_id = m.org_id AND s.machine_id = m.id)",
        Standing::COLUMNS
    );
    tx.query_opt(&query, &[&org.0, &wg_key.as_bytes().as_slice()])
        .await
}

impl Joining<'_> {
    /// The machine that has the WireGuard key already, if the caller proves to be it.
    fn prove(&self, row: &Row) -> Result<Previous, ApiError> {
        let proof = self.request.node_key.as_ref().map(|token| token.hash());
        let proven = proof.filter(|hash| {
            row.get::<_, &[u8]>(1) == hash || row.get::<_, Option<&[u8]>>(2) == Some(hash)
        });
        let shown = proven.ok_or_else(conflict)?;
        let standing = Standing::read(row, 7);
        if let Some(reason) = &standing.disabled {
            return Err(disabled(reason));
        }
        if standing.locked.is_some() || standing.wipe.is_some() {
            let message = standing.hold(&self.org.name).map(|hold| hold.message);
            return Err(refuse(
                ErrorCode::MachineLocked,
                message.unwrap_or_default(),
            ));
        }
        // Whose it is decides what else may join while it is held.
        let sponsors = (self.user.map(|user| user.0), self.key.map(|key| key.0));
        if standing.is_held() && sponsors != (row.get(5), row.get(6)) {
            return Err(refuse(
                ErrorCode::MachineLocked,
                format!(
                    "this machine is held out of {}'s network, and until an admin ends that it registers \
                     again only on the word of who enrolled it: the same person, or the same auth key",
                    self.org.name
                ),
            ));
        }
        Ok(Previous {
            id: MachineId(row.get(0)),
            shown,
            tags: row.get(3),
            key_expiry: row.get(4),
        })
    }

    /// The same machine again: id, name and addresses stay, and so does what was decided of it. Tags
    /// stay too, unless the key brings others: a sign-in does not make it somebody's. The token that
    /// it has shown goes on proving who it is, in case the answer with the new one is lost.
    async fn renew(&self, previous: &Previous) -> Result<Joined, ApiError> {
        let tags = match self.terms.tags.as_slice() {
            [] => &previous.tags,
            _ => &self.terms.tags,
        };
        let user = self.user.filter(|_| tags.is_empty());
        let expires = previous.key_expiry && tags.is_empty();
        let query = format!(
            "UPDATE machines SET os = $3, agent_version = $4, kem_key = $5, kem_hash = $6,
                    previous_token_hash = $7, token_hash = $8,
                    user_id = $9, auth_key_id = $10, key_expires_at = $11, expired = false,
                    tags = $12, approved = approved OR $13
             WHERE org_id = $1 AND id = $2
             RETURNING {}",
            Joined::COLUMNS
        );
        let row = self
            .tx
            .query_one(
                &query,
                &[
                    &self.org.id.0,
                    &previous.id.0,
                    &self.request.os,
                    &self.request.agent_version,
                    &self.request.kem_key.as_bytes().as_slice(),
                    &KemKeyHash::of(&self.request.kem_key).as_bytes().as_slice(),
                    &previous.shown.as_slice(),
                    &self.token.hash().as_slice(),
                    &user.map(|user| user.0),
                    &self.key.map(|key| key.0),
                    &expires.then_some(self.org.key_expires_at),
                    tags,
                    &self.preapproved,
                ],
            )
            .await?;
        Joined::read(&row)
    }

    async fn insert(&self, wanted: &str) -> Result<Joined, ApiError> {
        let (name, (ipv4, ipv6)) = tokio::try_join!(
            self.free_name(wanted),
            address::allocate(self.tx, self.org.id, &self.org.networks)
        )?;
        let terms = self.terms;
        let expires = terms.tags.is_empty();
        let query = format!(
            "INSERT INTO machines (org_id, id, name, os, agent_version, wg_key, kem_key, kem_hash,
                    token_hash, ipv4, ipv6, user_id, auth_key_id, key_expires_at, tags, ephemeral, approved)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             RETURNING {}",
            Joined::COLUMNS
        );
        let row = self
            .tx
            .query_one(
                &query,
                &[
                    &self.org.id.0,
                    &MachineId::generate().0,
                    &name,
                    &self.request.os,
                    &self.request.agent_version,
                    &self.request.wg_key.as_bytes().as_slice(),
                    &self.request.kem_key.as_bytes().as_slice(),
                    &KemKeyHash::of(&self.request.kem_key).as_bytes().as_slice(),
                    &self.token.hash().as_slice(),
                    &IpAddr::V4(ipv4),
                    &IpAddr::V6(ipv6),
                    &self.user.map(|user| user.0),
                    &self.key.map(|key| key.0),
                    &expires.then_some(self.org.key_expires_at),
                    &terms.tags,
                    &terms.ephemeral,
                    &self.approved,
                ],
            )
            .await
            // In another org, which this transaction does not see.
            .map_err(|error| match error.violates("machines_wg_key_key") {
                true => conflict(),
                false => error,
            })?;
        Joined::read(&row)
    }

    /// The wanted name, or with the lowest number behind it that is free.
    async fn free_name(&self, wanted: &str) -> Result<String, ApiError> {
        let taken = "SELECT EXISTS (SELECT FROM machines WHERE org_id = $1 AND name = $2)";
        let row = self.tx.query_one(taken, &[&self.org.id.0, &wanted]).await?;
        if !row.get::<_, bool>(0) {
            return Ok(wanted.to_owned());
        }
        // All names that begin so are looked through: what is rare may be slow.
        let rows = self
            .tx
            .query(
                "SELECT name FROM machines WHERE org_id = $1 AND starts_with(name, $2)",
                &[&self.org.id.0, &stem(wanted)],
            )
            .await?;
        let taken: BTreeSet<&str> = rows.iter().map(|row| row.get(0)).collect();
        Ok(first_free(wanted, &taken))
    }
}

/// What every numbered form of a name starts with.
fn stem(wanted: &str) -> &str {
    /// Longest suffix: a dash and as many digits as a machine's number can have.
    const SUFFIX: usize = 11;
    let room = (MAX_MACHINE_NAME - SUFFIX).min(wanted.len());
    wanted[..room].trim_end_matches('-')
}

fn first_free(wanted: &str, taken: &BTreeSet<&str>) -> String {
    if !taken.contains(wanted) {
        return wanted.to_owned();
    }
    let mut number = 1u32;
    loop {
        let suffix = format!("-{number}");
        // A name is ASCII, so any cut is at a character.
        let room = (MAX_MACHINE_NAME - suffix.len()).min(wanted.len());
        let name = format!("{}{suffix}", wanted[..room].trim_end_matches('-'));
        if !taken.contains(name.as_str()) {
            return name;
        }
        number += 1;
    }
}

fn conflict() -> ApiError {
    refuse(
        ErrorCode::RegistrationConflict,
        "a machine with this WireGuard key is enrolled already, and the request does not prove to be \
         that machine; delete it from its org, or run `ztna logout` to make new keys",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_the_lowest_free_number() {
        let taken = BTreeSet::from(["a", "a-1", "a-3"]);
        assert_eq!(first_free("b", &taken), "b");
        assert_eq!(first_free("a", &taken), "a-2");
        let long = "x".repeat(MAX_MACHINE_NAME);
        let taken = BTreeSet::from([long.as_str()]);
        let name = first_free(&long, &taken);
        assert_eq!(name.len(), MAX_MACHINE_NAME);
        assert!(name.ends_with("x-1"));
    }
}
