//! `ztna ip`

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use clap::builder::FalseyValueParser;
use serde_json::json;

use super::{Json, ask_status, peers, ui};

/// Prints the tailnet addresses of this machine or of a peer
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct IpArgs {
    /// Name, DNS name or address of a peer
    peer: Option<String>,
    /// IPv4 only
    #[arg(short = '4', long, env = "ZTNA_IPV4", conflicts_with = "ipv6", value_parser = FalseyValueParser::new())]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, env = "ZTNA_IPV6", value_parser = FalseyValueParser::new())]
    ipv6: bool,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna ip
  ztna ip -4 db-1
  scp report.pdf \"$(ztna ip -4 laptop)\":";

pub async fn run(socket: &Path, args: IpArgs) -> anyhow::Result<ExitCode> {
    let status = ask_status(socket).await?;
    let (ipv4, ipv6) = match &args.peer {
        Some(peer) => {
            let peer = peers::find(&status, peer)?;
            (peer.ipv4, peer.ipv6)
        }
        None => match &status.this {
            Some(this) => (this.ipv4, this.ipv6),
            None => bail!("{}", status.message),
        },
    };
    if args.json.wanted {
        ui::json(&json!({ "ipv4": ipv4, "ipv6": ipv6 }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.ipv6 {
        ui::line(ipv4)?;
    }
    if !args.ipv4 {
        ui::line(ipv6)?;
    }
    Ok(ExitCode::SUCCESS)
}
