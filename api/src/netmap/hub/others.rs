//! The other nodes of the deployment: telling them, hearing them, and looking into the database while
//! neither is possible.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use ztna_proto::ids::OrgId;

use super::{Hub, OrgHub};
use crate::http::ApiError;
use crate::kv::Heard;
use crate::netmap::check_report;
use crate::netmap::nodes::{self, Said, Word};
use crate::netmap::written;

/// Words that wait to be told. Beyond that they are dropped: the store is slow or away, and the other
/// nodes look into the database.
const MAX_WAITING: usize = 16_384;
/// Words that are put together, at most, so that what is said of one org goes as one message.
const MAX_BATCH: usize = 1024;
/// While the store is away, or after messages may have been missed, the database is looked into this
/// often …
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// … and this often at any rate: a node may have died between its commit and its word.
const SAFETY_PERIOD: Duration = Duration::from_secs(30);

/// What waits to be told.
pub(super) type Words = mpsc::Sender<(OrgId, Word)>;

impl Hub {
    /// Talks with the other nodes until `stopping`. Words count from this call on, not from the first
    /// poll of the future.
    pub(crate) fn follow(&self, stopping: CancellationToken) -> impl Future<Output = ()> + use<> {
        let (words, waiting) = mpsc::channel(MAX_WAITING);
        // Set once: there is one call.
        let _ = self.0.words.set(words);
        let heard = self.0.kv.listen();
        let hub = self.clone();
        async move {
            let together = async {
                tokio::join!(hub.talk(waiting), hub.listen(heard), hub.look_around());
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = together => {}
            }
        }
    }

    /// Other nodes are told this, as soon as it can be.
    pub(super) fn say(&self, org: OrgId, word: Word) {
        if let Some(words) = self.0.words.get()
            && words.try_send((org, word)).is_err()
        {
            metrics::counter!("ztna_api_node_words_dropped_total").increment(1);
        }
    }

    /// Other nodes are told of these states, if there are any.
    pub(super) fn say_machines(&self, org: OrgId, machines: Vec<Said>) {
        if !machines.is_empty() {
            self.say(org, Word::Machines { machines });
        }
    }

    /// The org is heard of, from before it is read.
    pub(super) async fn subscribe(&self, id: OrgId, org: &Arc<OrgHub>) {
        if !self.0.shared.has_others {
            return;
        }
        let _turn = self.0.subscriptions.lock().await;
        let current = self.find(id).is_some_and(|held| Arc::ptr_eq(&held, org));
        if current && let Err(error) = self.0.kv.subscribe(&nodes::channel(id)).await {
            tracing::debug!(org = %id, %error, "an org's changes elsewhere are looked for in the database");
        }
    }

    /// Takes an org out of memory that nobody uses.
    pub(super) async fn close(&self, id: OrgId, org: &Arc<OrgHub>) {
        // One that is opened again meanwhile subscribes after this.
        let _turn = self.0.subscriptions.lock().await;
        {
            let mut orgs = self.orgs();
            // Two references: the map's and ours. Nobody else is about to use it.
            if Arc::strong_count(org) != 2 || !org.is_idle() {
                return;
            }
            orgs.remove(&id);
        }
        if self.0.shared.has_others
            && let Err(error) = self.0.kv.unsubscribe(&nodes::channel(id)).await
        {
            tracing::debug!(org = %id, %error, "an org that left memory is still heard of");
        }
    }

    async fn talk(&self, mut waiting: mpsc::Receiver<(OrgId, Word)>) {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            for (org, word) in join(std::mem::take(&mut batch)) {
                let sent = match nodes::encode(self.0.me, word) {
                    Ok(bytes) => self.0.kv.publish(&nodes::channel(org), bytes).await,
                    Err(error) => {
                        tracing::error!(%error, "a word for other nodes could not be written");
                        continue;
                    }
                };
                if let Err(error) = sent {
                    tracing::debug!(%org, %error, "other nodes look for this in the database");
                }
            }
        }
    }

    async fn listen(&self, mut heard: broadcast::Receiver<Heard>) {
        loop {
            match heard.recv().await {
                Ok(Heard::Message { channel, message }) => {
                    if let Some(org) = nodes::org_of(&channel)
                        && let Some(word) = nodes::decode(self.0.me, &message)
                    {
                        self.take_word(org, word);
                    }
                }
                Ok(Heard::Gap) | Err(RecvError::Lagged(_)) => {
                    self.0.gap.store(true, Ordering::SeqCst);
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Takes what another node says of an org. If nobody here uses the org, it is no news.
    fn take_word(&self, id: OrgId, word: Word) {
        let Some(org) = self.find(id) else { return };
        match word {
            Word::Changed { seq } => {
                let held = org.state().as_ref().map(super::OrgState::seq);
                if seq.is_none() || held < seq {
                    self.catch_up_soon(id, org);
                }
            }
            Word::Machines { mut machines } => {
                machines
                    .retain(|said| said.report.as_ref().is_none_or(|r| check_report(r).is_ok()));
                self.hear_of(id, &org, machines, true);
            }
            Word::Alive { machines } => {
                if let Some(state) = org.state().as_mut() {
                    state.hear_elsewhere(&machines, Instant::now());
                }
            }
            Word::Unknown => {}
        }
    }

    fn hear_of(&self, id: OrgId, org: &OrgHub, machines: Vec<Said>, answer: bool) {
        let now = Instant::now();
        let (heard, unsaid) = {
            let mut state = org.state();
            let Some(state) = state.as_mut() else { return };
            let heard = state.hear_of(machines, answer, now);
            (heard, state.take_unsaid(now))
        };
        self.say_machines(id, unsaid);
        if let Err(error) = heard {
            tracing::error!(org = %id, %error, "what another node says could not be passed on");
        }
    }

    fn catch_up_soon(&self, id: OrgId, org: Arc<OrgHub>) {
        org.stale.store(true, Ordering::SeqCst);
        let hub = self.clone();
        tokio::spawn(async move {
            if let Err(error) = hub.catch_up(id, &org).await {
                tracing::error!(org = %id, %error, "another node's change could not be read yet");
            }
        });
    }

    /// Looks into the database when words may have been missed.
    async fn look_around(&self) {
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Instant, Timestamp)> = None;
        loop {
            looks.tick().await;
            let missed = self.0.gap.swap(false, Ordering::SeqCst);
            let away = self.0.kv.degraded().is_some();
            let long_ago = last.is_none_or(|(at, _)| at.elapsed() >= SAFETY_PERIOD);
            if !missed && !away && !long_ago {
                continue;
            }
            match self.look(last.map(|(_, at)| at)).await {
                Ok(at) => last = Some((Instant::now(), at)),
                Err(error) => {
                    self.0.gap.store(true, Ordering::SeqCst);
                    tracing::error!(%error, "other nodes' changes could not be looked for; trying again");
                }
            }
        }
    }

    /// Reads what other nodes have written since, for all orgs in memory.
    async fn look(&self, since: Option<Timestamp>) -> Result<Timestamp, ApiError> {
        let orgs: BTreeMap<OrgId, Arc<OrgHub>> = {
            let orgs = self.orgs();
            orgs.iter()
                .map(|(id, org)| (*id, Arc::clone(org)))
                .collect()
        };
        let ids: Vec<OrgId> = orgs.keys().copied().collect();
        let news = written::news(&self.0.db, &ids, since).await?;
        for (id, seq) in news.seqs {
            let Some(org) = orgs.get(&id) else { continue };
            let held = org.state().as_ref().map(super::OrgState::seq);
            if held.is_some_and(|held| held < seq) {
                self.catch_up(id, org).await?;
            }
        }
        for (id, machines) in news.machines {
            if let Some(org) = orgs.get(&id) {
                // What is written here may be our own, of a moment ago.
                self.hear_of(id, org, machines, false);
            }
        }
        Ok(news.at)
    }
}

/// Puts together what is said of each org.
fn join(words: Vec<(OrgId, Word)>) -> Vec<(OrgId, Word)> {
    let mut changed: BTreeMap<OrgId, Option<i64>> = BTreeMap::new();
    let mut machines: BTreeMap<OrgId, Vec<Said>> = BTreeMap::new();
    let mut joined = Vec::new();
    for (org, word) in words {
        match word {
            Word::Changed { seq } => {
                let known = changed.entry(org).or_insert(seq);
                // Without a number it is looked at in any case.
                *known = known.zip(seq).map(|(one, other)| one.max(other));
            }
            Word::Machines { machines: more } => machines.entry(org).or_default().extend(more),
            word => joined.push((org, word)),
        }
    }
    // First: a state of a machine that is not known yet would be of no use.
    let changed = changed.into_iter();
    let changed = changed.map(|(org, seq)| (org, Word::Changed { seq }));
    let machines = machines.into_iter();
    let machines = machines.map(|(org, machines)| (org, Word::Machines { machines }));
    changed.chain(machines).chain(joined).collect()
}
