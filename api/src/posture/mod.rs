//! Posture: what machines tell of their health, what an org asks for, and what follows.
//!
//! Each machine has one row with its latest report, what rules see of it ([`attributes`]) and what the
//! org's posture policies say ([`judge`]). Where that becomes another (a report, time, a changed policy)
//! it is a change in the org's log like any other, and peers' views follow ([`update`]); a report
//! that changes nothing is none. What is not known, and what is too old, opens nothing.

mod attributes;
mod judge;
mod policies;
mod results;
mod update;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use ztna_proto::error::ErrorCode;
use ztna_proto::posture::{
    Known, MAX_POSTURE_TEXT, PostureNotice, PostureReport, PostureResult, PostureStanding,
};

use crate::app::State;
use crate::http::{ApiError, refuse};

pub(crate) use policies::{has_policies, restrict};
pub(crate) use update::{accept, enter, recheck_due};

/// Machines that have just come to hear a control plane again have so long to report, before their
/// last reports count as old: two heartbeats.
const SETTLING: Duration = Duration::from_secs(120);

pub(crate) fn routes() -> OpenApiRouter<State> {
    policies::routes().merge(results::routes())
}

/// How long reports count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    stale_after: SignedDuration,
    /// Nobody could report to this process before.
    listens_since: Timestamp,
}

impl Clock {
    /// The clock of a process that begins to serve now.
    pub(crate) fn start(stale_after: Duration) -> Self {
        let stale_after = SignedDuration::try_from(stale_after).unwrap_or(SignedDuration::MAX);
        Self {
            stale_after,
            listens_since: Timestamp::now(),
        }
    }

    /// Until when the silence of a machine that is not heard is nobody's fault: a report's time, of
    /// which none passes while nobody could listen.
    fn excuses_until(&self, reported_at: Timestamp) -> Timestamp {
        later(reported_at.max(self.listens_since), self.stale_after)
    }

    /// How a machine stands. `fails`: whether any policy that is for it does; `None`: none is.
    pub(crate) fn standing(
        &self,
        fails: Option<bool>,
        reported_at: Option<Timestamp>,
        now: Timestamp,
    ) -> PostureStanding {
        let counts = reported_at.is_some_and(|at| now < self.counts_until(at));
        match (fails, counts) {
            (None, _) => PostureStanding::None,
            (Some(true), _) => PostureStanding::Failing,
            (Some(false), false) => PostureStanding::Stale,
            (Some(false), true) => PostureStanding::Passing,
        }
    }

    /// Until when a report counts.
    fn counts_until(&self, reported_at: Timestamp) -> Timestamp {
        let settling = SignedDuration::try_from(SETTLING).unwrap_or(SignedDuration::MAX);
        let settled = later(self.listens_since, settling.min(self.stale_after));
        later(reported_at, self.stale_after).max(settled)
    }
}

/// The clock of this process, which begins anew when it comes back from where it could not listen: the
/// database was away, or the process stood still.
#[derive(Debug)]
pub(crate) struct Listening(Mutex<(Clock, Timestamp)>);

impl Listening {
    pub(crate) fn start(stale_after: Duration) -> Self {
        let clock = Clock::start(stale_after);
        Self(Mutex::new((clock, clock.listens_since)))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The database has answered at `now`, which it is asked to each second.
    fn is_served(&self, now: Timestamp) {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, served_at) = &mut *listening;
        let settling = SignedDuration::try_from(SETTLING).unwrap_or(SignedDuration::MAX);
        if now > later(*served_at, settling) {
            clock.listens_since = now;
        }
        *served_at = now;
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Refuses a report with texts that are too long, or not to be shown.
pub(crate) fn check(report: &PostureReport) -> Result<(), ApiError> {
    let bad =
        |text: &str| text.chars().count() > MAX_POSTURE_TEXT || text.chars().any(char::is_control);
    match report.texts().find(|(_, text)| bad(text)) {
        None => Ok(()),
        Some((field, _)) => Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`posture.{field}` may have {MAX_POSTURE_TEXT} characters, none of them invisible; \
                 shorten it"
            ),
        )),
    }
}

/// What a machine is told of the policies that it fails.
pub(crate) fn notices(results: &[PostureResult]) -> Vec<PostureNotice> {
    let failing = results.iter().filter_map(|result| {
        let failed = result
            .checks
            .iter()
            .filter(|check| check.passed != Known::Yes);
        let failures = failed.map(|check| ztna_proto::posture::PostureFailure {
            detail: check.detail.clone(),
            mend: check.mend.clone(),
        });
        Some(PostureNotice {
            policy: result.name.clone(),
            on_failure: result.on_failure.to_string(),
            enforced_at: result.enforced_at?,
            failures: failures.collect(),
        })
    });
    failing.collect()
}
