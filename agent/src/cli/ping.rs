//! `ztna ping`

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ztna_local::{Answer, Client, PathKind, PingOptions, Pong, Request};

use super::{Json, ui};

/// Pings a peer through the tunnel and tells by which path
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
  ztna ping --count 1 --json 100.64.0.7";

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
    let mut answered = false;
    while let Answer::Pong(pong) = answers.next().await? {
        answered |= pong.latency_ms.is_some();
        if args.json.wanted {
            ui::line(serde_json::to_string(&pong)?)?;
        } else {
            ui::line(text(&pong))?;
        }
    }
    Ok(if answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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

    #[test]
    fn each_line_tells_latency_and_path() {
        let pong = Pong {
            peer: "db-1".to_owned(),
            address: "100.64.0.7".parse().unwrap(),
            seq: 2,
            latency_ms: Some(1.5),
            path: PathKind::Direct,
            addr: Some("192.0.2.1:41641".parse().unwrap()),
            region: None,
            region_code: None,
        };
        assert_eq!(
            text(&pong),
            "db-1 (100.64.0.7) answers #2 in 1.50 ms directly at 192.0.2.1:41641"
        );
        let lost = Pong {
            latency_ms: None,
            path: PathKind::Relay,
            region_code: Some("lon".to_owned()),
            ..pong
        };
        assert_eq!(
            text(&lost),
            "db-1 (100.64.0.7) does not answer #2 through relay lon"
        );
    }
}
