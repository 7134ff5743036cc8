//! `ztna ping`

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use ztna_local::{Answer, Client, PathKind, PingOptions, Pong, Request};

use super::{Json, ui};

/// Pings a peer through the tunnel and tells by which path each answer comes
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct PingArgs {
    /// Name, DNS name or tailnet address
    peer: String,
    /// Number of requests
    #[arg(short, long, env = "ZTNA_PING_COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=i64::from(PingOptions::MAX_COUNT)))]
    count: u32,
    /// Seconds to wait for each answer
    #[arg(short = 'W', long, env = "ZTNA_PING_TIMEOUT", value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna ping db-1
  ztna ping --count 1 --json 100.64.0.7

Example output:
  db-1 (100.64.0.7) answers #1 in 24 ms through relay lon
  db-1 (100.64.0.7) answers #2 in 1.50 ms directly at 192.0.2.1:41641 (before: through relay lon)
  db-1: 2 of 2 answered in 1.50 ms to 24 ms, 13 ms on average; 1 through relay lon, 1 directly at
  192.0.2.1:41641

With --json, a line for each request, and the summary as the last one.";

/// Exit status 0 if an answer came.
pub async fn run(socket: &Path, args: PingArgs) -> anyhow::Result<ExitCode> {
    let options = PingOptions {
        peer: args.peer,
        count: args.count,
        timeout_ms: u32::try_from(args.timeout.as_millis())?,
    };
    let mut answers = Client::connect(socket)
        .await?
        .call(Request::Ping(options))
        .await?;
    let mut summary = Summary::default();
    let mut before = None;
    while let Answer::Pong(pong) = answers.next().await? {
        summary.count(&pong);
        if args.json.wanted {
            ui::line(serde_json::to_string(&pong)?)?;
            continue;
        }
        let changed = before
            .replace(via(&pong))
            .filter(|before| *before != via(&pong))
            .map_or_else(String::new, |before| format!(" (before: {before})"));
        ui::line(format_args!("{}{changed}", text(&pong)))?;
    }
    if args.json.wanted {
        ui::line(serde_json::json!({ "summary": summary }))?;
    } else {
        ui::line(summary.text())?;
    }
    if summary.answered > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    ui::note(format_args!(
        "no answer: it may be away (`ztna peers {0}`), no path may lead there (`ztna debug paths {0}`), or no rule of \
         the policy lets this machine ping it (`ztna acl test --proto icmp`)",
        summary.peer
    ));
    Ok(ExitCode::FAILURE)
}

/// What all requests came to.
#[derive(Default, Serialize)]
struct Summary {
    peer: String,
    sent: u32,
    answered: u32,
    min_ms: Option<f64>,
    avg_ms: Option<f64>,
    max_ms: Option<f64>,
    /// Answers by the path that they came by.
    paths: BTreeMap<String, u32>,
}

impl Summary {
    fn count(&mut self, pong: &Pong) {
        self.peer.clone_from(&pong.peer);
        self.sent += 1;
        let Some(ms) = pong.latency_ms else { return };
        let before = self.avg_ms.unwrap_or_default() * f64::from(self.answered);
        self.answered += 1;
        self.min_ms = Some(self.min_ms.map_or(ms, |least| least.min(ms)));
        self.max_ms = Some(self.max_ms.map_or(ms, |most| most.max(ms)));
        self.avg_ms = Some((before + ms) / f64::from(self.answered));
        *self.paths.entry(via(pong)).or_default() += 1;
    }

    fn text(&self) -> String {
        let counts = format!("{}: {} of {} answered", self.peer, self.answered, self.sent);
        let (Some(min), Some(avg), Some(max)) = (self.min_ms, self.avg_ms, self.max_ms) else {
            return counts;
        };
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|(path, count)| format!("{count} {path}"))
            .collect();
        format!(
            "{counts} in {} to {}, {} on average; {}",
            ui::milliseconds(min),
            ui::milliseconds(max),
            ui::milliseconds(avg),
            paths.join(", ")
        )
    }
}

fn text(pong: &Pong) -> String {
    let Pong {
        peer, address, seq, ..
    } = pong;
    match pong.latency_ms {
        Some(latency) => format!(
            "{peer} ({address}) answers #{seq} in {} {}",
            ui::milliseconds(latency),
            via(pong)
        ),
        None => format!("{peer} ({address}) does not answer #{seq} {}", via(pong)),
    }
}

fn via(pong: &Pong) -> String {
    match (pong.path, pong.addr, &pong.region_code, pong.region) {
        (PathKind::Direct, Some(addr), ..) => format!("directly at {addr}"),
        (PathKind::Direct, None, ..) => "directly".to_owned(),
        (PathKind::Relay, _, Some(code), _) => format!("through relay {code}"),
        (PathKind::Relay, _, None, Some(region)) => format!("through relay {region}"),
        (PathKind::Relay, ..) => "through a relay".to_owned(),
        (PathKind::None, ..) => "(no path yet)".to_owned(),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let most = f64::from(PingOptions::MAX_TIMEOUT_MS) / 1000.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= most => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("it is a number of seconds, {most} at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct() -> Pong {
        Pong {
            peer: "db-1".to_owned(),
            address: "100.64.0.7".parse().unwrap(),
            seq: 2,
            latency_ms: Some(1.5),
            path: PathKind::Direct,
            addr: Some("192.0.2.1:41641".parse().unwrap()),
            region: None,
            region_code: None,
        }
    }

    fn relayed(latency_ms: Option<f64>) -> Pong {
        Pong {
            latency_ms,
            path: PathKind::Relay,
            addr: None,
            region_code: Some("lon".to_owned()),
            ..direct()
        }
    }

    #[test]
    fn each_line_tells_latency_and_path() {
        assert_eq!(
            text(&direct()),
            "db-1 (100.64.0.7) answers #2 in 1.50 ms directly at 192.0.2.1:41641"
        );
        assert_eq!(
            text(&relayed(None)),
            "db-1 (100.64.0.7) does not answer #2 through relay lon"
        );
    }

    #[test]
    fn the_summary_tells_what_was_lost_and_which_paths_answers_came_by() {
        let mut summary = Summary::default();
        for pong in [relayed(Some(20.0)), relayed(None), direct(), direct()] {
            summary.count(&pong);
        }
        assert_eq!(
            summary.text(),
            "db-1: 3 of 4 answered in 1.50 ms to 20 ms, 7.67 ms on average; \
             2 directly at 192.0.2.1:41641, 1 through relay lon"
        );
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["paths"]["through relay lon"], 1);
        let mut silent = Summary::default();
        silent.count(&relayed(None));
        assert_eq!(silent.text(), "db-1: 0 of 1 answered");
    }
}
