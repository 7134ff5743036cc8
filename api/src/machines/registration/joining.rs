//! The transaction that registers: lock the org's row, use the auth key, allocate names and addresses,
//! write the machines, append the changes under the org's next `seq`s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use ztna_proto::api::RegisterRequest;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{AuthKeyId, MachineId, OrgId, UserId};
use ztna_proto::keys::{KemKeyHash, WgPublicKey};
use ztna_proto::posture::POSTURE_SECONDS;
use ztna_proto::tokens::TokenHash;

use super::{conflict, names};
use crate::app::State;
use crate::auth_keys::{self, Terms};
use crate::db::Tx;
use crate::http::{ApiError, Call, around, refuse};
use crate::identity::check_vouched;
use crate::keys::Access;
use crate::machines::address;
use crate::machines::standing::{Standing, disabled};
use crate::netmap;
use crate::orgs::{Right, authorise};
use crate::{posture, relays};

/// On whose word a machine joins, as was proven.
pub(super) enum Word {
    Key(AuthKeyId),
    User(Access),
}

/// A machine that wants to join.
pub(super) struct Candidate {
    /// The call that it came by, for the audit log.
    pub(super) call: Option<Arc<Call>>,
    pub(super) word: Word,
    /// The name that it wants, normalised.
    pub(super) name: String,
    /// Of the token that it is given.
    pub(super) token: TokenHash,
    pub(super) request: RegisterRequest,
}

impl Candidate {
    /// Whether both can be written by one transaction: new machines on the word of one key, with keys of their own.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        let (one, another) = (&self.request, &other.request);
        let are_new = one.node_key.is_none() && another.node_key.is_none();
        match (&self.word, &other.word) {
            (Word::Key(key), Word::Key(others)) => {
                key == others && are_new && one.wg_key != another.wg_key
            }
            _ => false,
        }
    }

    fn user(&self) -> Option<UserId> {
        match &self.word {
            Word::User(access) => Some(access.user),
            Word::Key(_) => None,
        }
    }

    fn key(&self) -> Option<AuthKeyId> {
        match self.word {
            Word::User(_) => None,
            Word::Key(key) => Some(key),
        }
    }
}

/// A machine as the database holds it now.
pub(super) struct Joined {
    pub(super) id: MachineId,
    pub(super) name: String,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    pub(super) key_expires_at: Option<Timestamp>,
    pub(super) org_name: String,
    pub(super) org_slug: String,
    /// Until when tickets for its key are void, if that lies ahead.
    pub(super) revoked_until: Option<Timestamp>,
}

/// Writes machines that go with each other: all of them or, with an error, none. Where one alone would be
/// refused, or is enrolled already, several are.
pub(super) async fn join(
    state: &State,
    org: OrgId,
    candidates: &[Candidate],
) -> Result<Vec<Joined>, ApiError> {
    let ids: Vec<MachineId> = candidates.iter().map(|_| MachineId::generate()).collect();
    let calls = ids.iter().zip(candidates);
    let calls = calls.filter_map(|(id, it)| Some((*id, Arc::clone(it.call.as_ref()?))));
    let call = Call::shared(calls.collect());
    around(call, write(state, org, candidates, &ids)).await
}

async fn write(
    state: &State,
    org: OrgId,
    candidates: &[Candidate],
    ids: &[MachineId],
) -> Result<Vec<Joined>, ApiError> {
    let Some(first) = candidates.first() else {
        return Ok(Vec::new());
    };
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    if let Word::User(access) = &first.word {
        authorise(&tx, org, access.user, Right::Belong).await?;
        check_vouched(&tx, org, access.user, access.vouched_by).await?;
    }
    let org = lock_org(&tx, org).await?;
    let wg_keys: Vec<WgPublicKey> = candidates.iter().map(|it| it.request.wg_key).collect();
    // None depends on another: they go to the database together.
    let terms = async {
        match first.key() {
            Some(key) => auth_keys::consume(&tx, org.id, key, candidates.len()).await,
            None => Ok(Terms::default()),
        }
    };
    let (terms, held, known, revoked_until, is_judged) = tokio::try_join!(
        terms,
        has_held(&tx, org.id, first.user(), first.key()),
        find(&tx, org.id, &wg_keys),
        relays::revoked_until(&tx, &wg_keys),
        posture::has_policies(&tx, org.id)
    )?;
    let joining = Joining {
        tx: &tx,
        approved: !held && (terms.preapproved || !org.approval),
        preapproved: !held && terms.preapproved,
        org: &org,
        user: first.user(),
        key: first.key(),
        terms: &terms,
        revoked_until,
    };
    let joined = match known.as_slice() {
        [] => joining.insert(candidates, ids).await?,
        [known] if candidates.len() == 1 => vec![joining.renew(first, known).await?],
        _ => return Err(conflict()),
    };
    if is_judged && known.is_empty() {
        for machine in &joined {
            posture::enter(state, &tx, org.id, machine.id).await?;
        }
    }
    let changed: Vec<MachineId> = joined.iter().map(|machine| machine.id).collect();
    netmap::append_machines(&tx, org.id, &changed).await?;
    tx.commit().await?;
    drop(connection);
    // The next of the line need not wait for that.
    let (hub, org) = (state.hub.clone(), org.id);
    tokio::spawn(async move { hub.notify(org).await });
    Ok(joined)
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
    user: Option<UserId>,
    key: Option<AuthKeyId>,
    terms: &'a Terms,
    /// Whether it joins without an admin's word, if it is new …
    approved: bool,
    /// … and whether the key vouches for one that still waits for it.
    preapproved: bool,
    revoked_until: Option<Timestamp>,
}

/// Whether a machine of this user, or of this key, is held. Until that is seen to, what joins on the same
/// word may be the same machine under another name. One that only waits for its first report does not
/// count: a fleet that joins at once would hold itself up. Nor does what posture policies say of a static peer,
/// which cannot report; one that was made for this user counts though its tags make it nobody's.
pub(in crate::machines) async fn has_held(
    tx: &Tx<'_>,
    org: OrgId,
    user: Option<UserId>,
    key: Option<AuthKeyId>,
) -> Result<bool, ApiError> {
    let query = format!(
        "SELECT EXISTS (SELECT FROM machines m
             LEFT JOIN machine_posture h ON h.org_id = m.org_id AND h.machine_id = m.id
             WHERE m.org_id = $1 AND (m.user_id = $2 OR m.auth_key_id = $3) AND {}
               AND ({} OR (NOT EXISTS (SELECT FROM static_peers s
                                       WHERE s.org_id = m.org_id AND s.machine_id = m.id)
                           AND (h.report IS NOT NULL
                                OR m.created_at < now() - {POSTURE_SECONDS} * interval '1 second'))))
         OR EXISTS (SELECT FROM static_peers s
             JOIN machines m ON m.org_id = s.org_id AND m.id = s.machine_id
             WHERE s.org_id = $1 AND s.made_for = $2 AND m.user_id IS NULL AND {})",
        Standing::IS_HELD,
        Standing::IS_HELD_BY_A_PERSON,
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

/// The machines that have one of these WireGuard keys already, as [`Joining::prove`] reads them. A static peer
/// has no agent that could register.
async fn find(tx: &Tx<'_>, org: OrgId, wg_keys: &[WgPublicKey]) -> Result<Vec<Row>, ApiError> {
    let keys: Vec<&[u8]> = wg_keys
        .iter()
        .map(|key| key.as_bytes().as_slice())
        .collect();
    let query = format!(
        "SELECT m.id, m.token_hash, m.previous_token_hash, m.tags, m.key_expiry, m.user_id,
                m.auth_key_id, {}
         FROM machines m WHERE m.org_id = $1 AND m.wg_key = ANY($2)
           AND NOT EXISTS (SELECT FROM static_peers s WHERE s.org_id = m.org_id AND s.machine_id = m.id)",
        Standing::COLUMNS
    );
    tx.query(&query, &[&org.0, &keys]).await
}

impl Joining<'_> {
    /// The columns that [`Joining::read`] reads.
    const COLUMNS: &'static str = "id, name, ipv4, ipv6, key_expires_at";

    fn read(&self, row: &Row) -> Result<Joined, ApiError> {
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(2), row.get(3)) else {
            return Err(ApiError::Internal("a machine has no addresses".to_owned()));
        };
        Ok(Joined {
            id: MachineId(row.get(0)),
            name: row.get(1),
            ipv4,
            ipv6,
            key_expires_at: row.get(4),
            org_name: self.org.name.clone(),
            org_slug: self.org.slug.clone(),
            revoked_until: self.revoked_until,
        })
    }

    /// The machine that has the WireGuard key already, if the caller proves to be it.
    fn prove(&self, candidate: &Candidate, row: &Row) -> Result<Previous, ApiError> {
        let proof = candidate
            .request
            .node_key
            .as_ref()
            .map(|token| token.hash());
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
    async fn renew(&self, candidate: &Candidate, known: &Row) -> Result<Joined, ApiError> {
        let previous = self.prove(candidate, known)?;
        let request = &candidate.request;
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
            Self::COLUMNS
        );
        let row = self
            .tx
            .query_one(
                &query,
                &[
                    &self.org.id.0,
                    &previous.id.0,
                    &request.os,
                    &request.agent_version,
                    &request.kem_key.as_bytes().as_slice(),
                    &KemKeyHash::of(&request.kem_key).as_bytes().as_slice(),
                    &previous.shown.as_slice(),
                    &candidate.token.as_slice(),
                    &user.map(|user| user.0),
                    &self.key.map(|key| key.0),
                    &expires.then_some(self.org.key_expires_at),
                    tags,
                    &self.preapproved,
                ],
            )
            .await?;
        self.read(&row)
    }

    async fn insert(
        &self,
        candidates: &[Candidate],
        ids: &[MachineId],
    ) -> Result<Vec<Joined>, ApiError> {
        let wanted: Vec<&str> = candidates.iter().map(|it| it.name.as_str()).collect();
        let (names, addresses) = tokio::try_join!(
            names::free(self.tx, self.org.id, &wanted),
            address::allocate(self.tx, self.org.id, &self.org.networks, candidates.len())
        )?;
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let requests = || candidates.iter().map(|it| &it.request);
        let os: Vec<&str> = requests().map(|it| it.os.as_str()).collect();
        let versions: Vec<&str> = requests().map(|it| it.agent_version.as_str()).collect();
        let wg_keys: Vec<&[u8]> = requests()
            .map(|it| it.wg_key.as_bytes().as_slice())
            .collect();
        let kem_keys: Vec<&[u8]> = requests()
            .map(|it| it.kem_key.as_bytes().as_slice())
            .collect();
        let kem_hashes: Vec<KemKeyHash> =
            requests().map(|it| KemKeyHash::of(&it.kem_key)).collect();
        let kem_hashes: Vec<&[u8]> = kem_hashes
            .iter()
            .map(|it| it.as_bytes().as_slice())
            .collect();
        let tokens: Vec<&[u8]> = candidates.iter().map(|it| it.token.as_slice()).collect();
        let ipv4: Vec<IpAddr> = addresses.iter().map(|pair| pair.0.into()).collect();
        let ipv6: Vec<IpAddr> = addresses.iter().map(|pair| pair.1.into()).collect();
        let terms = self.terms;
        let expires = terms.tags.is_empty();
        let query = format!(
            "INSERT INTO machines (org_id, id, name, os, agent_version, wg_key, kem_key, kem_hash,
                    token_hash, ipv4, ipv6, user_id, auth_key_id, key_expires_at, tags, ephemeral, approved)
             SELECT $1, new.*, $12, $13, $14, $15, $16, $17
             FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
                    $8::bytea[], $9::bytea[], $10::inet[], $11::inet[]) AS new
             RETURNING {}",
            Self::COLUMNS
        );
        let rows = self
            .tx
            .query(
                &query,
                &[
                    &self.org.id.0,
                    &ids,
                    &names,
                    &os,
                    &versions,
                    &wg_keys,
                    &kem_keys,
                    &kem_hashes,
                    &tokens,
                    &ipv4,
                    &ipv6,
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
        let mut joined = Vec::with_capacity(rows.len());
        for id in ids {
            let row = rows.iter().find(|row| row.get::<_, Uuid>(0) == id);
            let lost = || ApiError::Internal("a machine was not written".to_owned());
            joined.push(self.read(row.ok_or_else(lost)?)?);
        }
        Ok(joined)
    }
}
