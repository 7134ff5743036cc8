//! The line of those that register with one org.
//!
//! Registrations of one org exclude each other by the org's row. Here they wait for it where that costs
//! nothing, and not each with a connection to the database, of which then nobody else would get one. Who has
//! waited is written together with others: a fleet that joins at once shares transactions, and their way
//! to the disk.

use std::collections::{HashMap, VecDeque};
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;

use super::joining::{Candidate, Joined, join};
use crate::app::State;
use crate::http::{ApiError, refuse};

/// Registrations that one transaction writes. Others of the org wait for it, with the org's row.
const TOGETHER: usize = 32;
/// Registrations of one org that wait; the next is told to come back.
const WAITING: usize = 10_000;
/// Who has waited longer is told to come back: agents give up after 20 s, and one that is registered without
/// hearing of it cannot prove later that it is the same.
const PATIENCE: Duration = Duration::from_secs(15);
/// One transaction, with what must follow it, takes no longer; a server that vanishes would hold the line up.
const LIMIT: Duration = Duration::from_secs(30);

/// Who waits, by org. An org that is here is being served.
#[derive(Default)]
pub(crate) struct Line(Mutex<HashMap<OrgId, VecDeque<Waiting>>>);

struct Waiting {
    candidate: Candidate,
    since: Instant,
    tell: oneshot::Sender<Result<Joined, ApiError>>,
}

impl Waiting {
    /// Answers who has waited for too long.
    fn patient(self) -> Option<Self> {
        if self.since.elapsed() < PATIENCE {
            return Some(self);
        }
        let _ = self.tell.send(Err(busy()));
        None
    }
}

fn busy() -> ApiError {
    refuse(
        ErrorCode::Unavailable,
        "too many machines join this org at once; try again in a minute",
    )
}

/// Waits for the org's turn, and joins.
pub(super) async fn wait(
    state: &State,
    org: OrgId,
    candidate: Candidate,
) -> Result<Joined, ApiError> {
    let (tell, told) = oneshot::channel();
    let since = Instant::now();
    let waiting = Waiting {
        candidate,
        since,
        tell,
    };
    if state.registrations.enter(org, waiting)? {
        tokio::spawn(serve(state.clone(), org));
    }
    let gone = |_| ApiError::Internal("a registration was left in its line".to_owned());
    told.await.map_err(gone)?
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, HashMap<OrgId, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody serves the org yet.
    fn enter(&self, org: OrgId, waiting: Waiting) -> Result<bool, ApiError> {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(&org) else {
            lines.insert(org, VecDeque::from([waiting]));
            return Ok(true);
        };
        if line.len() >= WAITING {
            return Err(busy());
        }
        line.push_back(waiting);
        Ok(false)
    }

    /// The next who may be written together. `None`: nobody waits, and nobody serves the org any more.
    fn take(&self, org: OrgId) -> Option<Vec<Waiting>> {
        let mut lines = self.lock();
        let line = lines.get_mut(&org)?;
        let mut next: Vec<Waiting> = Vec::new();
        let mut others = Vec::new();
        while next.len() < TOGETHER
            && let Some(waiting) = line.pop_front()
        {
            let fits = next
                .iter()
                .all(|it| it.candidate.goes_with(&waiting.candidate));
            match waiting.patient() {
                Some(waiting) if fits => next.push(waiting),
                Some(waiting) => others.push(waiting),
                None => {}
            }
        }
        for waiting in others.into_iter().rev() {
            line.push_front(waiting);
        }
        // In one order everywhere: two orgs' transactions may write the same keys, of which one is refused.
        next.sort_by_key(|it| *it.candidate.request.wg_key.as_bytes());
        if next.is_empty() {
            lines.remove(&org);
            return None;
        }
        Some(next)
    }
}

/// Serves an org until nobody waits.
async fn serve(state: State, org: OrgId) {
    let _leave = Leave(&state.registrations, org);
    while let Some(next) = state.registrations.take(org) {
        let (candidates, tell): (Vec<_>, Vec<_>) = next
            .into_iter()
            .map(|waiting| (waiting.candidate, waiting.tell))
            .unzip();
        let answers = together(&state, org, &candidates).await;
        for (tell, answer) in tell.into_iter().zip(answers) {
            // Who has left meanwhile is registered none the less, as when an answer is lost on its way.
            let _ = tell.send(answer);
        }
    }
}

/// Should serving an org end in a panic, its line ends too: who waits in it is told, and the next who comes
/// is served.
struct Leave<'a>(&'a Line, OrgId);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().remove(&self.1);
        }
    }
}

/// The answer to each: from one transaction or, where that fails for what may concern only some of them,
/// from one for each.
async fn together(
    state: &State,
    org: OrgId,
    candidates: &[Candidate],
) -> Vec<Result<Joined, ApiError>> {
    let error = match in_time(state, org, candidates).await {
        Ok(joined) => return joined.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if candidates.len() == 1 {
        return vec![Err(error)];
    }
    // The key's faults concern all of them, as it is the same; so does a database that is away.
    let concerns_all = |body: &ErrorBody| {
        use ErrorCode::{InvalidKey, KeyExpired, Unavailable};
        matches!(body.code, InvalidKey | KeyExpired | Unavailable)
    };
    let mut body = error.into_body();
    let mut answers = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        if concerns_all(&body) {
            answers.push(Err(ApiError::Refused(body.clone())));
            continue;
        }
        let joined = in_time(state, org, slice::from_ref(candidate)).await;
        let answer = joined.and_then(only).map_err(ApiError::into_body);
        if let Err(refusal) = &answer
            && concerns_all(refusal)
        {
            body = refusal.clone();
        }
        answers.push(answer.map_err(ApiError::Refused));
    }
    answers
}

async fn in_time(
    state: &State,
    org: OrgId,
    candidates: &[Candidate],
) -> Result<Vec<Joined>, ApiError> {
    let late = |_| {
        tracing::error!(%org, "registrations were given up: the database does not answer");
        Err(busy())
    };
    timeout(LIMIT, join(state, org, candidates))
        .await
        .unwrap_or_else(late)
}

fn only(joined: Vec<Joined>) -> Result<Joined, ApiError> {
    let lost = || ApiError::Internal("a registration has no outcome".to_owned());
    joined.into_iter().next().ok_or_else(lost)
}
