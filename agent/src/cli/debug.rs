//! `ztna debug`

use std::path::Path;
use std::process::ExitCode;

use anstyle::Style;
use clap::{Args, Subcommand};
use ztna_local::{
    Answer, CandidateOrigin, CandidateState, CandidateStatus, Client, ClientError, PathKind,
    PathsOptions, PathsReport, Request,
};

use super::{Json, ui};

/// Shows what decisions rest on
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Subcommand)]
enum DebugCommand {
    Paths(PathsArgs),
}

/// Tells every address where a peer may be, and why packets go to this one and not another
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PathsArgs {
    /// Name, DNS name, tailnet address or id of the peer
    peer: String,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna debug paths db-1
  ztna debug paths db-1 --json | jq -r .why

Example output:
  db-1: directly at 192.168.1.7:41641, 0.41 ms
  direct: 192.168.1.7:41641 answered 0.3 s ago; of 3 candidates 1 more answer, and none is better

     CANDIDATE            FROM   PINGED     ANSWERED   LATENCY  POINTS  STATE    WHY
  *  192.168.1.7:41641    local  0.3 s ago  0.3 s ago  0.41 ms  20      in use   it answers, and …
     203.0.113.9:41641    STUN   5.1 s ago  5.1 s ago  0.80 ms  0       standby  it answers, and is …
     10.8.0.1:41641       local  5.1 s ago  never      -        20      silent   it has not answered: …

POINTS are for the kind of address; being faster by one per cent is worth as much as one point.";

pub async fn run(socket: &Path, args: DebugArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DebugCommand::Paths(args) => paths(socket, args).await,
    }
}

async fn paths(socket: &Path, args: PathsArgs) -> anyhow::Result<ExitCode> {
    let request = Request::Paths(PathsOptions { peer: args.peer });
    let report = match Client::connect(socket).await?.ask(request).await? {
        Answer::Paths(report) => report,
        _ => return Err(ClientError::Malformed("no report of paths".to_owned()).into()),
    };
    if args.json.wanted {
        ui::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(report: &PathsReport) -> std::io::Result<()> {
    let style = match report.path.kind {
        PathKind::Direct => ui::GOOD,
        PathKind::Relay => ui::WARN,
        PathKind::None => ui::BAD,
    };
    let offline = if report.online { "" } else { " (offline)" };
    let peer = &report.peer;
    ui::line(format_args!(
        "{style}{peer}{style:#}{offline}: {}",
        way(report)
    ))?;
    ui::line(&report.why)?;
    if let Some(heard) = &report.heard {
        let (at, ago) = (
            via(
                heard.addr.map(|addr| addr.to_string()),
                heard.region_code.as_deref(),
            ),
            ago(Some(heard.ms_ago)),
        );
        ui::line(format_args!("its last packet came {at} {ago}"))?;
    }
    if report.candidates.is_empty() {
        return ui::line("no candidates: the control plane has told of none");
    }
    ui::line("")?;
    let heading = [
        "",
        "CANDIDATE",
        "FROM",
        "PINGED",
        "ANSWERED",
        "LATENCY",
        "POINTS",
        "STATE",
        "WHY",
    ];
    ui::table(&heading, report.candidates.iter().map(row).collect())
}

fn way(report: &PathsReport) -> String {
    let path = &report.path;
    let latency = path
        .latency_ms
        .map_or_else(String::new, |ms| format!(", {}", ui::milliseconds(ms)));
    match path.kind {
        PathKind::None => "no path".to_owned(),
        _ => {
            let at = via(
                path.addr.map(|addr| addr.to_string()),
                path.region_code.as_deref(),
            );
            format!("{at}{latency}")
        }
    }
}

/// The way in words.
fn via(addr: Option<String>, region: Option<&str>) -> String {
    match (addr, region) {
        (Some(addr), _) => format!("directly at {addr}"),
        (None, Some(code)) => format!("through relay {code}"),
        (None, None) => "through a relay".to_owned(),
    }
}

fn row(candidate: &CandidateStatus) -> (Style, Vec<String>) {
    let (style, mark, state) = match candidate.state {
        CandidateState::InUse => (ui::GOOD, "*", "in use"),
        CandidateState::Doubted => (ui::WARN, "*", "doubted"),
        CandidateState::Standby => (Style::new(), "", "standby"),
        CandidateState::Silent => (ui::DIM, "", "silent"),
        CandidateState::Untried => (ui::DIM, "", "untried"),
        CandidateState::Refused => (ui::DIM, "", "refused"),
    };
    let from = match candidate.origin {
        CandidateOrigin::Local => "local",
        CandidateOrigin::Tunnel => "tunnel",
        CandidateOrigin::Stun => "STUN",
        CandidateOrigin::PortMapped => "router",
        CandidateOrigin::Call => "call",
        CandidateOrigin::Ping => "ping",
        CandidateOrigin::Pong => "pong",
        CandidateOrigin::Data => "data",
        CandidateOrigin::Other => "other",
    };
    let cells = vec![
        mark.to_owned(),
        candidate.addr.to_string(),
        from.to_owned(),
        ago(candidate.pinged_ms_ago),
        ago(candidate.answered_ms_ago),
        candidate
            .latency_ms
            .map_or_else(|| "-".to_owned(), ui::milliseconds),
        candidate.points.to_string(),
        state.to_owned(),
        candidate.why.clone(),
    ];
    (style, cells)
}

fn ago(millis: Option<u64>) -> String {
    match millis {
        None => "never".to_owned(),
        Some(millis) if millis < 10_000 => format!("{:.1} s ago", millis as f64 / 1000.0),
        Some(millis) => format!("{} ago", ui::age(millis / 1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_local::PathStatus;

    #[test]
    fn ways_and_times_are_words() {
        let mut report = PathsReport::default();
        assert_eq!(way(&report), "no path");
        report.path = PathStatus {
            kind: PathKind::Direct,
            addr: Some("192.0.2.1:7".parse().unwrap()),
            latency_ms: Some(0.41),
            ..PathStatus::default()
        };
        assert_eq!(way(&report), "directly at 192.0.2.1:7, 0.41 ms");
        report.path = PathStatus {
            kind: PathKind::Relay,
            region_code: Some("lon".to_owned()),
            ..PathStatus::default()
        };
        assert_eq!(way(&report), "through relay lon");
        assert_eq!(ago(None), "never");
        assert_eq!(ago(Some(340)), "0.3 s ago");
        assert_eq!(ago(Some(180_000)), "3 min ago");
    }
}
