//! `GET /api/relays/revocations`: whose relay tickets are void.
//!
//! Whatever ends a machine's right appends here, in its own transaction ([`append`]). Relays wait
//! for news with long calls; the process that revoked wakes its own at once, others look into the
//! database every second.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, Query};
use axum::response::{IntoResponse, Response};
use http::header;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::revocation::{
    MAX_REVOCATIONS, MAX_REVOCATIONS_WAIT_SECONDS, Revocation, RevocationList, WgKeyHash,
};
use ztna_proto::ticket::TICKET_LIFETIME;

use crate::app::State;
use crate::db::{Db, Tx};
use crate::http::{ApiError, ClientIp, Counted, Seats, refuse};

/// Writers of the list take turns under this advisory lock. Any number of ours.
const LOCK: i64 = 0x7a74_6e61_7265_766f;
/// Revocations reach this far ahead of the moment: the last ticket of a machine may be signed while
/// the transaction that ends it commits, on another clock.
const REVOKED_AHEAD: SignedDuration = SignedDuration::from_secs(1);
/// Relays that wait at a time, in all …
const MAX_WAITERS: usize = 1024;
/// … and from one address.
const MAX_WAITERS_PER_ADDRESS: usize = 16;

/// Voids the tickets that a machine was given until now. Call it last in the transaction, which
/// must hold its org's row: writers of all orgs take turns until they commit.
pub(crate) async fn append(tx: &Tx<'_>, key: &WgPublicKey) -> Result<(), ApiError> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let at = Timestamp::now()
        .checked_add(REVOKED_AHEAD)
        .unwrap_or(Timestamp::MAX);
    tx.execute(
        "INSERT INTO relay_revocations (key_hash, at) VALUES ($1, $2)",
        &[&WgKeyHash::of(key).as_bytes().as_slice(), &at],
    )
    .await?;
    Ok(())
}

/// Until when tickets of any of these keys are void, if that lies ahead.
pub(crate) async fn revoked_until(
    tx: &Tx<'_>,
    keys: &[WgPublicKey],
) -> Result<Option<Timestamp>, ApiError> {
    let hashes: Vec<WgKeyHash> = keys.iter().map(WgKeyHash::of).collect();
    let hashes: Vec<&[u8]> = hashes.iter().map(|it| it.as_bytes().as_slice()).collect();
    let row = tx
        .query_one(
            "SELECT max(at) FROM relay_revocations WHERE key_hash = ANY($1) AND at > $2",
            &[&hashes, &Timestamp::now()],
        )
        .await?;
    Ok(row.get(0))
}

/// Waits until the tickets that a key is given are newer than what [`revoked_until`] says.
pub(crate) async fn outlast(until: Option<Timestamp>) {
    if let Some(until) = until {
        let left = until.duration_since(Timestamp::now());
        let left = left.clamp(SignedDuration::ZERO, REVOKED_AHEAD);
        tokio::time::sleep(left.unsigned_abs()).await;
    }
}

/// What was revoked after a number, as it stands now.
async fn read(db: &Db, after: u64) -> Result<RevocationList, ApiError> {
    let mut connection = db.connect().await?;
    let tx = connection.bare().await?;
    let issued_at = Timestamp::now();
    let row = tx
        .query_one(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM relay_revocations_seq_seq",
            &[],
        )
        .await?;
    let last: i64 = row.get(0);
    // A number that was never given out: the database is not the one that the relay knew.
    let since = i64::try_from(after).ok().filter(|after| *after <= last);
    let since = since.unwrap_or(0);
    let oldest = issued_at
        .checked_sub(TICKET_LIFETIME)
        .unwrap_or(Timestamp::MIN);
    let most = i64::try_from(MAX_REVOCATIONS).unwrap_or(i64::MAX);
    let rows = tx
        .query(
            "SELECT seq, key_hash, at FROM relay_revocations WHERE seq > $1 AND at > $2
             ORDER BY seq LIMIT $3",
            &[&since, &oldest, &most],
        )
        .await?;
    let entries = rows.iter().map(|row| {
        let hash = row.get::<_, &[u8]>(1).try_into();
        let hash = hash.map_err(|_| ApiError::Internal("a stored key hash is damaged".into()))?;
        Ok(Revocation {
            key_hash: WgKeyHash(hash),
            at: row.get(2),
        })
    });
    Ok(RevocationList {
        seq: rows.last().map_or(since, |row| row.get(0)).unsigned_abs(),
        issued_at,
        since: since.unsigned_abs(),
        entries: entries.collect::<Result<_, ApiError>>()?,
    })
}

/// Wakes those who wait for news, and bounds how many they are.
pub(crate) struct Revocations {
    /// The last number that this process knows of.
    news: watch::Sender<i64>,
    waiting: Arc<Seats>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            news: watch::Sender::new(0),
            waiting: Seats::new(MAX_WAITERS, MAX_WAITERS_PER_ADDRESS),
        }
    }
}

impl Revocations {
    /// Looks for news: after a revocation of this process's own, and every second for others'.
    pub(crate) async fn look(&self, db: &Db) -> Result<(), ApiError> {
        let mut connection = db.connect().await?;
        let tx = connection.bare().await?;
        let row = tx
            .query_one("SELECT COALESCE(max(seq), 0) FROM relay_revocations", &[])
            .await?;
        let last: i64 = row.get(0);
        self.news
            .send_if_modified(|known| std::mem::replace(known, last) != last);
        Ok(())
    }

    /// What came after a number: at once if there is something, else when there is, else an empty
    /// list after `wait` or at the end of the process.
    async fn after(
        &self,
        db: &Db,
        after: u64,
        wait: Duration,
        stopping: &CancellationToken,
    ) -> Result<RevocationList, ApiError> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let list = read(db, after).await?;
            let anew = list.since != after;
            if anew || !list.entries.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(list);
            }
            tokio::select! {
                // The sender lives as long as we do.
                _ = news.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = stopping.cancelled() => return Ok(list),
            }
        }
    }
}

/// The revocations as a relay in the same process follows them.
pub struct RevocationFeed {
    db: Db,
    revocations: Arc<Revocations>,
    stopping: CancellationToken,
    after: u64,
}

/// The revocations cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the revoked machines cannot be read: {0}")]
pub struct RevocationFeedError(#[from] ApiError);

impl RevocationFeed {
    pub(crate) fn new(db: Db, revocations: Arc<Revocations>, stopping: CancellationToken) -> Self {
        Self {
            db,
            revocations,
            stopping,
            after: 0,
        }
    }

    /// What was revoked since the last call; nothing if there is no news within `wait`. Call it with
    /// no wait until it is empty, and all is known. `None`: the control plane stops.
    ///
    /// # Errors
    /// The database does not answer. The next call asks for the same again.
    pub async fn next(
        &mut self,
        wait: Duration,
    ) -> Result<Option<Vec<Revocation>>, RevocationFeedError> {
        if self.stopping.is_cancelled() {
            return Ok(None);
        }
        let list = self
            .revocations
            .after(&self.db, self.after, wait, &self.stopping)
            .await?;
        self.after = list.seq;
        Ok(Some(list.entries))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Ask {
    /// `seq` of the list before; 0 for everything.
    #[serde(default)]
    after: u64,
    /// Seconds to wait for news, at most 25.
    #[serde(default)]
    wait: u64,
}

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(revocations))
}

/// Whose relay tickets are void: a list signed with the ticket key, by hashes of WireGuard keys. It
/// comes at once if there is news after `after`, else when there is, else empty after `wait`, or
/// sooner if too many wait already: ask at most once a second.
#[utoipa::path(get, path = "/api/relays/revocations", tag = "relays", params(Ask), responses(
    (status = 200, description = "base64url(JSON) \".\" base64url(signature)", body = String, content_type = "text/plain"),
    (status = 400, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn revocations(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    query: Result<Query<Ask>, extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(ask) = query.map_err(|rejection| {
        refuse(
            ErrorCode::ValidationError,
            format!(
                "ask with ?after=NUMBER&wait=SECONDS: {}",
                rejection.body_text()
            ),
        )
    })?;
    let calls = "calls for revocations";
    Counted::by_address(&*state.kv, calls, state.limits.revocations, ip)
        .spend()
        .await?;
    // Who finds no place is answered at once: a relay that cannot wait can still ask often.
    let waiter = state.revocations.waiting.take(ip);
    let wait = match waiter {
        Some(_) => Duration::from_secs(ask.wait.min(MAX_REVOCATIONS_WAIT_SECONDS)),
        None => Duration::ZERO,
    };
    let list = state
        .revocations
        .after(&state.db, ask.after, wait, &state.stopping)
        .await?;
    let text = state.keys.tickets().sign_revocations(&list);
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
