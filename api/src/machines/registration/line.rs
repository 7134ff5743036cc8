//! The line of those that register with one org.
//!
//! Registrations of one org exclude each other by the org's row. Here they wait for it where that costs
//! nothing, and not each with a connection to the database, of which then nobody else would get one. Who has
//! waited is written together with others: a fleet that joins at once shares transactions, and their way
//! to the disk.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::OrgId;

use super::joining::{Candidate, Joined, join};
use crate::app::State;
use crate::http::{ApiError, refuse};

/// Registrations that one transaction writes. Others of the org wait for it, with the org's row.
const TOGETHER: usize = 32;
/// Registrations of one org that wait; the next is told to come back.
const WAITING: usize = 10_000;

/// Who waits, by org. An org that is here is being served.
#[derive(Default)]
pub(crate) struct Line(Mutex<HashMap<OrgId, VecDeque<Waiting>>>);

struct Waiting {
    candidate: Candidate,
    tell: oneshot::Sender<Result<Joined, ApiError>>,
}

/// Waits for the org's turn, and joins.
pub(super) async fn wait(
    state: &State,
    org: OrgId,
    candidate: Candidate,
) -> Result<Joined, ApiError> {
    let (tell, told) = oneshot::channel();
    let waiting = Waiting { candidate, tell };
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
            return Err(refuse(
                ErrorCode::Unavailable,
                "too many machines join this org at once; try again in a minute",
            ));
        }
        line.push_back(waiting);
        Ok(false)
    }

    /// The next who may be written together. `None`: nobody waits, and nobody serves the org any more.
    fn take(&self, org: OrgId) -> Option<Vec<Waiting>> {
        let mut lines = self.lock();
        let line = lines.get_mut(&org)?;
        let mut next: Vec<Waiting> = Vec::new();
        for waiting in mem::take(line) {
            let is_gone = waiting.tell.is_closed();
            let fits = next.len() < TOGETHER
                && (next.iter()).all(|other| other.candidate.goes_with(&waiting.candidate));
            match (is_gone, fits) {
                (true, _) => {}
                (false, true) => next.push(waiting),
                (false, false) => line.push_back(waiting),
            }
        }
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
    let error = match join(state, org, candidates).await {
        Ok(joined) => return joined.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if candidates.len() == 1 {
        return vec![Err(error)];
    }
    let body = error.into_body();
    let mut answers = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        answers.push(match body.code {
            ErrorCode::Unavailable => Err(ApiError::Refused(body.clone())),
            _ => join(state, org, slice::from_ref(candidate))
                .await
                .and_then(only),
        });
    }
    answers
}

fn only(joined: Vec<Joined>) -> Result<Joined, ApiError> {
    let lost = || ApiError::Internal("a registration has no outcome".to_owned());
    joined.into_iter().next().ok_or_else(lost)
}
