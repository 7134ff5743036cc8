//! When the machine's health is reported: at start, when it changes, and now and then.

use std::time::Duration;

use tokio::time::Instant;
use ztna_proto::api::HEARTBEAT_SECONDS;
use ztna_proto::posture::{POSTURE_SECONDS, PostureReport};

/// After so long the same is reported again.
const PERIOD: Duration = Duration::from_secs(POSTURE_SECONDS);
/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);

/// What the control plane was told last.
#[derive(Default)]
pub struct PostureTurn {
    told: Option<(PostureReport, Instant)>,
}

impl PostureTurn {
    /// The report, if it is due. A heartbeat comes each minute, so one that would be due before the next
    /// one goes with this.
    pub fn take(&self, now: PostureReport) -> Option<PostureReport> {
        let heard = self
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == now && at.elapsed() < PERIOD - BEAT);
        (!heard).then_some(now)
    }

    /// A report, if it was one, has arrived.
    pub fn told(&mut self, report: Option<PostureReport>) {
        if let Some(report) = report {
            self.told = Some((report, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kernel: &str) -> PostureReport {
        PostureReport {
            os_version: Some(kernel.to_owned()),
            ..PostureReport::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_go_at_start_on_change_and_in_time() {
        let mut turn = PostureTurn::default();
        assert_eq!(turn.take(report("6.1")), Some(report("6.1")));
        // The heartbeat was lost.
        assert!(turn.take(report("6.1")).is_some());
        turn.told(Some(report("6.1")));
        assert!(turn.take(report("6.1")).is_none());
        turn.told(None);
        assert!(turn.take(report("6.2")).is_some());
        tokio::time::advance(PERIOD - BEAT - Duration::from_millis(1)).await;
        assert!(turn.take(report("6.1")).is_none());
        // The next heartbeat would be too late.
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(turn.take(report("6.1")).is_some());
    }
}
