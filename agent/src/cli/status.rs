//! `ztna status`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use ztna_local::{DaemonState, Status};

use super::{Json, ask_status, peers, posture, ui};

/// Tells how things stand: this machine, control plane, relay, peers
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna status
  ztna status --json | jq '.peers[] | select(.path.kind == \"relay\") | .name'";

/// Exit status 0 if the daemon answered, whatever it said.
pub async fn run(socket: &Path, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let status = ask_status(socket).await?;
    if args.json.wanted {
        ui::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) -> anyhow::Result<()> {
    if let Some(this) = &status.this {
        ui::line(format_args!(
            "{}  {}  {}  in {}",
            this.dns_name, this.ipv4, this.ipv6, this.org_name
        ))?;
    }
    let (style, state) = match status.state {
        DaemonState::Running => (ui::GOOD, "running"),
        DaemonState::Starting => (ui::WARN, "starting"),
        DaemonState::Stopped => (ui::DIM, "stopped"),
        DaemonState::Pending => (ui::WARN, "pending"),
        DaemonState::Quarantined => (ui::BAD, "quarantined"),
        DaemonState::Locked => (ui::BAD, "locked"),
        DaemonState::Disabled => (ui::BAD, "disabled"),
        DaemonState::NeedsLogin if status.this.is_some() => (ui::WARN, "registration over"),
        DaemonState::NeedsLogin => (ui::WARN, "not registered"),
        DaemonState::Error => (ui::BAD, "error"),
    };
    if status.message.is_empty() {
        ui::line(format_args!("{style}{state}{style:#}  {}", links(status)))?;
    } else {
        ui::line(format_args!("{style}{state}{style:#}: {}", status.message))?;
    }
    for line in status.network.lines() {
        ui::line(line)?;
    }
    for warning in &status.warnings {
        ui::line(format_args!("{0}warning{0:#}: {warning}", ui::WARN))?;
    }
    for line in posture::notices(&status.posture, jiff::Timestamp::now()) {
        ui::line(line)?;
    }
    if !status.peers.is_empty() {
        ui::line("")?;
        peers::table(&status.peers.iter().collect::<Vec<_>>())?;
    } else if status.state == DaemonState::Running {
        ui::line(match status.posture.is_empty() {
            true => "no peers: the org's policy joins no other machine with this one",
            false => {
                "no peers: until its posture is mended, or the org's policy joins none with this machine"
            }
        })?;
    }
    Ok(())
}

/// Control plane and relay.
fn links(status: &Status) -> String {
    let control = if status.control.connected {
        "connected"
    } else {
        "away"
    };
    let url = status.control.url.as_deref().unwrap_or_default();
    let relay = match (&status.relay.home_code, status.relay.connected) {
        (Some(code), true) => {
            let by = status.relay.transport.map(|by| format!(" by {by}"));
            let latency = status.relay.home_latency_ms.map(ui::milliseconds);
            let latency = latency.map(|latency| format!(" ({latency})"));
            let [by, latency] = [by, latency].map(Option::unwrap_or_default);
            format!("relay {code}{by}{latency}")
        }
        (Some(code), false) => format!("relay {code} away"),
        (None, _) => "no relay".to_owned(),
    };
    format!("control plane {url} {control}, {relay}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_local::{ControlStatus, RelayStatus, RelayTransport};

    #[test]
    fn the_links_are_one_line() {
        let mut status = Status {
            control: ControlStatus {
                url: Some("https://z.example".to_owned()),
                connected: true,
                ..ControlStatus::default()
            },
            relay: RelayStatus {
                home_code: Some("lon".to_owned()),
                connected: true,
                ..RelayStatus::default()
            },
            ..Status::default()
        };
        assert_eq!(
            links(&status),
            "control plane https://z.example connected, relay lon"
        );
        status.relay.home_latency_ms = Some(12.34);
        assert!(links(&status).ends_with(", relay lon (12 ms)"));
        status.relay.transport = Some(RelayTransport::Quic);
        assert!(links(&status).ends_with(", relay lon by QUIC (12 ms)"));
        status.relay = RelayStatus::default();
        status.control.connected = false;
        assert_eq!(
            links(&status),
            "control plane https://z.example away, no relay"
        );
    }
}
