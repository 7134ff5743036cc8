//! `ztna posture`

use std::path::Path;
use std::process::ExitCode;

use anstyle::Style;
use clap::Args;
use jiff::{Timestamp, Unit};
use ztna_local::{Answer, Client, ClientError, PostureStatus, Request};
use ztna_proto::posture::{Known, PostureNotice, PostureReport};

use super::{Json, ui};
use crate::platform::ThisHealth;
use crate::platform::health::posture;

/// Shows what this machine tells its org of its own health, and what the org has against it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PostureArgs {
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna posture
  ztna posture --json | jq -r .report.firewall.state

Example output:
  Debian GNU/Linux 12 (bookworm), version 6.1.0-18-amd64, agent 0.1.0

  disk encryption    yes      dm-crypt under / and /home
  firewall           no       nothing drops incoming packets by default
  screen lock        unknown  each user decides; lock it down for all with dconf
  automatic updates  yes      unattended-upgrades is on
  restart due        no       no update has asked for a restart

What a machine cannot know is unknown, and fails where a policy asks for it.";

/// Exit status 1 if the org has something against this machine.
pub async fn run(socket: &Path, args: PostureArgs) -> anyhow::Result<ExitCode> {
    let status = match Client::connect(socket).await {
        Ok(client) => match client.ask(Request::Posture).await? {
            Answer::Posture(status) => *status,
            _ => return Err(ClientError::Malformed("no posture".to_owned()).into()),
        },
        Err(error) => {
            ui::note(format_args!(
                "{error}; this is what it would find, as far as you may look"
            ));
            PostureStatus {
                report: posture(&ThisHealth::new()).await,
                notices: Vec::new(),
            }
        }
    };
    if args.json.wanted {
        ui::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(match status.notices.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn show(status: &PostureStatus) -> anyhow::Result<()> {
    ui::line(system(&status.report))?;
    ui::line("")?;
    for (style, label, state, detail) in findings(&status.report) {
        ui::line(format_args!(
            "{label:<17}  {style}{state:<7}{style:#}  {detail}"
        ))?;
    }
    for line in notices(&status.notices, Timestamp::now()) {
        ui::line(line)?;
    }
    Ok(())
}

/// One line: what the machine runs.
fn system(report: &PostureReport) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "{}, version {}, agent {}",
        known(&report.os_name),
        known(&report.os_version),
        known(&report.agent_version)
    )
}

fn findings(report: &PostureReport) -> Vec<(Style, &'static str, Known, &str)> {
    let good = |state| match state {
        Known::Yes => ui::GOOD,
        Known::No => ui::BAD,
        Known::Unknown => ui::WARN,
    };
    let findings = [
        ("disk encryption", &report.disk_encryption),
        ("firewall", &report.firewall),
        ("screen lock", &report.screen_lock),
        ("automatic updates", &report.auto_update),
    ];
    let mut rows: Vec<_> = findings
        .into_iter()
        .map(|(label, signal)| {
            (
                good(signal.state),
                label,
                signal.state,
                signal.detail.as_str(),
            )
        })
        .collect();
    let reboot = &report.reboot_pending;
    let style = match reboot.state {
        Known::Yes => ui::WARN,
        Known::No | Known::Unknown => Style::new(),
    };
    rows.push((style, "restart due", reboot.state, &reboot.detail));
    rows
}

/// What the org's posture policies have against this machine, as `ztna status` tells it too.
pub fn notices(notices: &[PostureNotice], now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    for notice in notices {
        let begun = notice.enforced_at <= now;
        let style = if begun { ui::BAD } else { ui::WARN };
        lines.push(format!(
            "{style}posture{style:#}: the policy \"{}\" is not met; {}",
            notice.policy,
            consequence(notice, now)
        ));
        for failure in &notice.failures {
            lines.push(format!("  {}: {}", failure.detail, failure.mend));
        }
    }
    lines
}

/// What follows, and when.
fn consequence(notice: &PostureNotice, now: Timestamp) -> String {
    let left = notice.enforced_at.duration_since(now);
    let begun = !left.is_positive();
    let seconds = left.round(Unit::Second).map_or(0, |left| left.as_secs());
    let until = ui::age(seconds.unsigned_abs());
    match (notice.on_failure.as_str(), begun) {
        ("warn", true) => "nothing follows from it yet".to_owned(),
        ("warn", false) => format!("the org's admins are told in {until}"),
        ("restrict", true) => {
            "until it is, this machine opens no connection to any peer".to_owned()
        }
        ("restrict", false) => format!("in {until} this machine will open no connection any more"),
        ("quarantine", true) => "until it is, this machine is in quarantine".to_owned(),
        ("quarantine", false) => format!("in {until} this machine goes into quarantine"),
        (other, true) => format!("until it is, the org does this: {other}"),
        (other, false) => format!("in {until} the org does this: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use ztna_proto::posture::{PostureFailure, Signal};

    use super::*;

    #[test]
    fn findings_have_a_line_each() {
        let report = PostureReport {
            os_name: Some("Debian GNU/Linux 12".to_owned()),
            firewall: Signal::new(Known::No, "nothing drops"),
            ..PostureReport::default()
        };
        assert_eq!(
            system(&report),
            "Debian GNU/Linux 12, version unknown, agent unknown"
        );
        let rows = findings(&report);
        assert_eq!(rows.len(), 5);
        assert_eq!(
            (rows[1].1, rows[1].2, rows[1].3),
            ("firewall", Known::No, "nothing drops")
        );
        assert_eq!(rows[0].2, Known::Unknown);
    }

    #[test]
    fn notices_say_what_fails_until_when_and_what_to_do() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let notice = |on_failure: &str, minutes: i64| PostureNotice {
            policy: "laptops".to_owned(),
            on_failure: on_failure.to_owned(),
            enforced_at: now + SignedDuration::from_mins(minutes),
            failures: vec![PostureFailure {
                detail: "nothing drops".to_owned(),
                mend: "switch on a firewall".to_owned(),
            }],
        };
        let lines = notices(&[notice("quarantine", 30)], now);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0]
                .contains("\"laptops\" is not met; in 30 min this machine goes into quarantine")
        );
        assert_eq!(lines[1], "  nothing drops: switch on a firewall");
        for (on_failure, minutes, said) in [
            ("restrict", 0, "opens no connection"),
            ("restrict", 5, "in 5 min"),
            ("warn", -5, "nothing follows"),
            ("quarantine", -5, "is in quarantine"),
            ("explode", 5, "in 5 min the org does this: explode"),
        ] {
            let said_now = consequence(&notice(on_failure, minutes), now);
            assert!(said_now.contains(said), "{said_now}");
        }
        assert!(notices(&[], now).is_empty());
    }
}
