//! Who listens to which org, and what they are handed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;
use ztna_proto::api::OFFLINE_AFTER_SECONDS;
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::realtime::{MAX_REALTIME_CONNECTIONS, MAX_REALTIME_OF_PERSON};

use super::row::{self, Row};
use crate::app::State;
use crate::http::ApiError;

/// How often it is looked where logs stand.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How often other nodes are told again how many listen here.
const TALLY_PERIOD: Duration = Duration::from_secs(10);
/// What a node has told of its listeners counts for so long: as long as those of one that has died keep others out.
const TALLY_LIFETIME: Duration = Duration::from_secs(30);
/// How often it is looked who is there.
const PRESENCE_PERIOD: Duration = Duration::from_secs(1);
/// Pause after a look that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(2);
/// Rows that are handed out at once. Of more, the last ones; listeners read the others themselves.
const MAX_BATCH: i64 = 200;
/// Batches that wait for a slow listener. What it misses it reads again.
const WAITING: usize = 16;

/// What listeners are handed.
#[derive(Clone)]
pub(super) enum News {
    /// Rows without gaps between them.
    Rows(Arc<Vec<Row>>),
    /// Machines that came or went.
    Presence(Arc<Vec<Came>>),
}

/// A machine came or went.
pub(super) struct Came {
    pub(super) machine: MachineId,
    pub(super) online: bool,
    pub(super) owner: Option<UserId>,
}

/// The orgs that somebody listens to.
#[derive(Default)]
pub(crate) struct Realtime(Mutex<HashMap<OrgId, Arc<Feed>>>);

/// One org.
pub(super) struct Feed {
    news: broadcast::Sender<News>,
    listeners: Mutex<Listeners>,
    /// Who is there, as far as listeners know. `None`: nobody asked.
    presence: tokio::sync::Mutex<Option<BTreeMap<MachineId, bool>>>,
    /// How many listen, as was told last, and when.
    tallied: Mutex<Option<(u64, Instant)>>,
}

#[derive(Default)]
struct Listeners {
    seats: BTreeMap<UserId, usize>,
    /// Of them, those that want to know who is there.
    of_presence: usize,
    /// The last row that was handed out. `None`: nobody has begun to listen.
    told: Option<i64>,
}

impl Feed {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the other nodes how many listen here, and says how many do everywhere.
    async fn tally(&self, state: &State, org: OrgId) -> Result<u64, ApiError> {
        let here = self.listeners().count();
        self.tell(state, org, here).await
    }

    async fn tell(&self, state: &State, org: OrgId, here: u64) -> Result<u64, ApiError> {
        let key = format!("realtime-listeners:{org}");
        let all = state.kv.tally(&key, here, TALLY_LIFETIME).await?;
        *self.tallied() = Some((here, Instant::now()));
        Ok(all)
    }

    fn tallied(&self) -> MutexGuard<'_, Option<(u64, Instant)>> {
        self.tallied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    fn count(&self) -> u64 {
        self.seats.values().map(|seats| *seats as u64).sum()
    }
}

/// Why nobody else may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Org,
    Person,
}

impl Realtime {
    fn feeds(&self) -> MutexGuard<'_, HashMap<OrgId, Arc<Feed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(OrgId, Arc<Feed>)> {
        let feeds = self.feeds();
        let feeds = feeds.iter().map(|(id, feed)| (*id, Arc::clone(feed)));
        feeds.collect()
    }

    fn end_if_empty(&self, org: OrgId) {
        let mut feeds = self.feeds();
        // Seats are taken with the feeds held.
        if feeds
            .get(&org)
            .is_some_and(|feed| feed.listeners().seats.is_empty())
        {
            feeds.remove(&org);
        }
    }

    /// A place among the listeners of this node.
    fn seat(&self, org: OrgId, user: UserId) -> Result<Seat, Full> {
        let mut feeds = self.feeds();
        let feed = feeds.entry(org).or_insert_with(|| {
            Arc::new(Feed {
                news: broadcast::channel(WAITING).0,
                listeners: Mutex::default(),
                presence: tokio::sync::Mutex::default(),
                tallied: Mutex::default(),
            })
        });
        let mut listeners = feed.listeners();
        let all = listeners.count();
        let own = listeners.seats.entry(user).or_default();
        if *own >= MAX_REALTIME_OF_PERSON {
            return Err(Full::Person);
        }
        if all >= MAX_REALTIME_CONNECTIONS as u64 {
            if *own == 0 {
                listeners.seats.remove(&user);
            }
            return Err(Full::Org);
        }
        *own += 1;
        metrics::gauge!("ztna_api_realtime_connections").increment(1);
        drop(listeners);
        Ok(Seat {
            org,
            user,
            feed: Arc::clone(feed),
            hears_presence: false,
        })
    }
}

/// A listener's place; it is given up when dropped.
pub(super) struct Seat {
    org: OrgId,
    user: UserId,
    feed: Arc<Feed>,
    hears_presence: bool,
}

impl Seat {
    /// Takes a place for which the org has room with the listeners at other nodes, too. While the nodes share nothing, each
    /// has room of its own.
    pub(super) async fn take(
        state: &State,
        org: OrgId,
        user: UserId,
    ) -> Result<Result<Self, Full>, ApiError> {
        let seat = match state.realtime.seat(org, user) {
            Ok(seat) => seat,
            Err(full) => return Ok(Err(full)),
        };
        if seat.feed.tally(state, org).await? <= MAX_REALTIME_CONNECTIONS as u64 {
            return Ok(Ok(seat));
        }
        let feed = Arc::clone(&seat.feed);
        drop(seat);
        // What was told for this one keeps nobody else out.
        feed.tally(state, org).await?;
        Ok(Err(Full::Org))
    }

    /// What is handed out from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<News> {
        self.feed.news.subscribe()
    }

    /// The listener knows of everything up to this row.
    pub(super) fn begin_at(&self, seq: i64) {
        self.feed.listeners().told.get_or_insert(seq);
    }

    /// The listener wants to know who is there, or no more. From the return on, every change is handed
    /// out.
    pub(super) async fn hear_presence(
        &mut self,
        state: &State,
        wanted: bool,
    ) -> Result<(), ApiError> {
        if wanted == self.hears_presence {
            return Ok(());
        }
        if !wanted {
            self.hears_presence = false;
            self.feed.listeners().of_presence -= 1;
            return Ok(());
        }
        let mut known = self.feed.presence.lock().await;
        if known.is_none() {
            *known = Some(who_is_there(state, self.org).await?);
        }
        self.hears_presence = true;
        self.feed.listeners().of_presence += 1;
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::gauge!("ztna_api_realtime_connections").decrement(1);
        let mut listeners = self.feed.listeners();
        if self.hears_presence {
            listeners.of_presence -= 1;
        }
        if let Some(own) = listeners.seats.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                listeners.seats.remove(&self.user);
            }
        }
    }
}

/// Looks after the feeds until the control plane stops.
pub(crate) async fn follow(state: State) {
    let mut looks = interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked_who = Instant::now();
    loop {
        tokio::select! {
            () = state.stopping.cancelled() => return leave(&state).await,
            _ = looks.tick() => {}
        }
        let feeds = state.realtime.all();
        if feeds.is_empty() {
            continue;
        }
        let mut result = look(&state, &feeds).await;
        for (org, feed) in &feeds {
            result = result.and(look_after(&state, *org, feed).await);
        }
        if looked_who.elapsed() >= PRESENCE_PERIOD {
            looked_who = Instant::now();
            for (org, feed) in &feeds {
                result = result.and(look_who(&state, *org, feed).await);
            }
        }
        if let Err(error) = result {
            tracing::error!(%error, "listeners could not be told what is new; trying again");
            tokio::time::sleep(FAILED_PAUSE).await;
        }
    }
}

/// Tells other nodes that nobody listens here any more, so that they take who did.
async fn leave(state: &State) {
    for (org, feed) in state.realtime.all() {
        if let Err(error) = feed.tell(state, org, 0).await {
            tracing::debug!(%error, "other nodes hear later that nobody listens here");
        }
    }
}

/// Tells other nodes when others listen than they know of, or the time is near when they forget it. A feed that nobody
/// listens to ends.
async fn look_after(state: &State, org: OrgId, feed: &Feed) -> Result<(), ApiError> {
    let here = feed.listeners().count();
    let told = *feed.tallied();
    if told.is_none_or(|(told, at)| told != here || at.elapsed() >= TALLY_PERIOD) {
        feed.tally(state, org).await?;
    }
    if matches!(*feed.tallied(), Some((0, _))) {
        state.realtime.end_if_empty(org);
    }
    Ok(())
}

/// Hands out rows that are new.
async fn look(state: &State, feeds: &[(OrgId, Arc<Feed>)]) -> Result<(), ApiError> {
    let ids: Vec<Uuid> = feeds.iter().map(|(org, _)| org.0).collect();
    let heads: HashMap<OrgId, i64> = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        let rows = tx
            .query("SELECT org_id, seq FROM lookup_audit_heads($1)", &[&ids])
            .await?;
        rows.iter()
            .map(|row| (OrgId(row.get(0)), row.get(1)))
            .collect()
    };
    for (org, feed) in feeds {
        let told = feed.listeners().told;
        let (Some(told), Some(&head)) = (told, heads.get(org)) else {
            continue;
        };
        if head <= told {
            continue;
        }
        let above = told.max(head - MAX_BATCH);
        let rows = row::read(&state.db, *org, above, head + 1, MAX_BATCH).await?;
        feed.listeners().told = Some(head);
        if !rows.is_empty() {
            // Nobody listens any more: then nobody misses it.
            let _ = feed.news.send(News::Rows(Arc::new(rows)));
        }
    }
    Ok(())
}

/// Hands out who came and who went.
async fn look_who(state: &State, org: OrgId, feed: &Feed) -> Result<(), ApiError> {
    let mut known = feed.presence.lock().await;
    if feed.listeners().of_presence == 0 {
        *known = None;
        return Ok(());
    }
    let now = who_is_there(state, org).await?;
    let Some(before) = known.as_ref() else {
        return Ok(());
    };
    let gone = before
        .iter()
        .filter(|(id, online)| **online && !now.contains_key(id));
    let gone = gone.map(|(id, _)| (*id, false));
    let other = now
        .iter()
        .filter(|(id, online)| before.get(id).copied().unwrap_or_default() != **online);
    let changed: Vec<(MachineId, bool)> = gone
        .chain(other.map(|(id, online)| (*id, *online)))
        .collect();
    if !changed.is_empty() {
        let owners = owners(state, org, &changed).await?;
        let came = changed.iter().map(|(machine, online)| Came {
            machine: *machine,
            online: *online,
            owner: owners.get(machine).copied(),
        });
        let _ = feed.news.send(News::Presence(Arc::new(came.collect())));
    }
    *known = Some(now);
    Ok(())
}

/// Who of an org is there: as the hub knows, and without a hub, as nodes have written it down.
async fn who_is_there(state: &State, org: OrgId) -> Result<BTreeMap<MachineId, bool>, ApiError> {
    let live = state.hub.presence(org);
    if !live.is_empty() {
        return Ok(live
            .into_iter()
            .map(|(id, (online, _))| (id, online))
            .collect());
    }
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let silent = jiff::SignedDuration::from_secs(OFFLINE_AFTER_SECONDS.cast_signed());
    let oldest = Timestamp::now() - silent;
    let rows = tx
        .query(
            "SELECT machine_id, online AND last_seen >= $2 FROM machine_presence WHERE org_id = $1",
            &[&org.0, &oldest],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (MachineId(row.get(0)), row.get(1)))
        .collect())
}

async fn owners(
    state: &State,
    org: OrgId,
    changed: &[(MachineId, bool)],
) -> Result<HashMap<MachineId, UserId>, ApiError> {
    let ids: Vec<Uuid> = changed.iter().map(|(id, _)| id.0).collect();
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let rows = tx
        .query(
            "SELECT id, user_id FROM machines
             WHERE org_id = $1 AND id = ANY ($2) AND user_id IS NOT NULL",
            &[&org.0, &ids],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (MachineId(row.get(0)), UserId(row.get(1))))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_per_org_and_person_and_given_back() {
        let realtime = Realtime::default();
        let org = OrgId::generate();
        let mut seats = Vec::new();
        for _ in 0..MAX_REALTIME_CONNECTIONS / MAX_REALTIME_OF_PERSON {
            let person = UserId::generate();
            for _ in 0..MAX_REALTIME_OF_PERSON {
                seats.push(realtime.seat(org, person).unwrap());
            }
            assert!(matches!(realtime.seat(org, person), Err(Full::Person)));
        }
        let late = UserId::generate();
        assert!(matches!(realtime.seat(org, late), Err(Full::Org)));
        realtime.seat(OrgId::generate(), late).unwrap();
        seats.pop();
        seats.push(realtime.seat(org, late).unwrap());
        assert!(matches!(realtime.seat(org, late), Err(Full::Org)));
        realtime.end_if_empty(org);
        assert_eq!(realtime.feeds().len(), 2);
        drop(seats);
        realtime.end_if_empty(org);
        assert!(!realtime.feeds().contains_key(&org));
    }
}
