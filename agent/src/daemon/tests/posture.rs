//! The machine's health: what the control plane hears of it, and what people are shown.

use ztna_proto::posture::{PostureFailure, PostureNotice};

use super::*;

#[test]
fn health_is_reported_and_what_the_org_has_against_it_is_shown() {
    in_new_namespace(|| async {
        let notice = PostureNotice {
            policy: "laptops".to_owned(),
            on_failure: "restrict".to_owned(),
            enforced_at: jiff::Timestamp::now(),
            failures: vec![PostureFailure {
                detail: "firewall is off".to_owned(),
                mend: "switch it on".to_owned(),
            }],
        };
        let mut org = Org::new();
        org.this.posture = vec![notice.clone()];
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        let Answer::Posture(alone) = machine.ask(Request::Posture).await.unwrap() else {
            panic!("no posture");
        };
        assert!(alone.report.os_version.is_some() && alone.notices.is_empty());

        machine.up(join(&server)).await.unwrap();
        let expected = [notice];
        let told = |status: &Status| status.posture == expected;
        machine.wait_for("the notice", told).await;
        let Answer::Posture(shown) = machine.ask(Request::Posture).await.unwrap() else {
            panic!("no posture");
        };
        assert_eq!(shown.notices, expected);
        let heard = async {
            loop {
                let first = server.state().heartbeats.first().cloned();
                if let Some(heartbeat) = first {
                    return heartbeat;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let heartbeat = timeout(PATIENCE, heard).await.unwrap();
        assert_eq!(heartbeat.posture, Some(shown.report));
    });
}
