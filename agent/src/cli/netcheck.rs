//! `ztna netcheck`

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anstyle::Style;
use clap::Args;
use clap::builder::FalseyValueParser;
use ztna_local::{
    Answer, Client, ClientError, NatKind, NetcheckOptions, NetcheckReport, PortMappings,
    RegionDistance, Request,
};

use super::{Json, ui};

/// Tells what this network lets through, and how far the relay regions are
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct NetcheckArgs {
    /// Show the daemon's last check; it makes one every half a minute. Without this, one is made now
    #[arg(long, env = "ZTNA_NETCHECK_LAST", value_parser = FalseyValueParser::new())]
    last: bool,
    #[command(flatten)]
    json: Json,
}

const EXAMPLES: &str = "Examples:
  ztna netcheck
  ztna netcheck --json | jq -r .nearest_derp

Example output:
  good: UDP passes, peers are reached directly wherever their network lets them

  UDP             passes
  IPv4            203.0.113.9:41641
  IPv6            does not pass
  NAT             easy: the same address towards everybody
  port mapping    none (asked for UPnP, NAT-PMP, PCP)
  captive portal  none
  relay TLS       X25519MLKEM768

     REGION  NAME       LATENCY  IPV4     IPV6  HTTPS
  *  ams     Amsterdam  9.10 ms  9.10 ms  -     9.52 ms
     blr     Bengaluru  141 ms   141 ms   -     -

The region marked with * is the one whose relay this machine calls home. HTTPS is measured where UDP
does not pass, and for the nearest region.";

/// Exit status 0 if some region answers.
pub async fn run(socket: &Path, args: NetcheckArgs) -> anyhow::Result<ExitCode> {
    let options = NetcheckOptions { last: args.last };
    let client = Client::connect(socket).await?;
    let report = match client.ask(Request::Netcheck(options)).await? {
        Answer::Netcheck(report) => report,
        _ => return Err(ClientError::Malformed("no report".to_owned()).into()),
    };
    if args.json.wanted {
        ui::json(&report)?;
    } else {
        show(&report)?;
    }
    let is_reached = report
        .regions
        .iter()
        .any(|region| region.latency_ms.is_some());
    Ok(if is_reached {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(report: &NetcheckReport) -> anyhow::Result<()> {
    let style = match (report.udp, report.nat) {
        (true, NatKind::Hard) if report.port_mapping.address.is_none() => ui::WARN,
        (true, _) => ui::GOOD,
        (false, _)
            if report
                .regions
                .iter()
                .any(|region| region.latency_ms.is_some()) =>
        {
            ui::WARN
        }
        (false, _) => ui::BAD,
    };
    ui::line(format_args!("{style}{}{style:#}", report.verdict))?;
    ui::line("")?;
    for (name, text) in facts(report) {
        ui::line(format_args!("{name:<16}{text}"))?;
    }
    if report.regions.is_empty() {
        ui::line("no relay regions: the control plane has told of none")?;
        return Ok(());
    }
    ui::line("")?;
    let heading = ["", "REGION", "NAME", "LATENCY", "IPV4", "IPV6", "HTTPS"];
    let rows = report.regions.iter().map(row).collect();
    Ok(ui::table(&heading, rows)?)
}

fn facts(report: &NetcheckReport) -> Vec<(&'static str, String)> {
    let v4 = match (report.public_ip, report.public_port) {
        (Some(ip), Some(port)) if ip.is_ipv4() => Some(SocketAddr::new(ip, port)),
        _ => None,
    };
    let passes = if report.udp {
        "passes"
    } else {
        "does not pass"
    };
    let portal = match report.captive_portal {
        Some(true) => "found: sign in to this network with a browser",
        Some(false) => "none",
        None => "not known",
    };
    let nat = match report.nat {
        NatKind::None => "none: the outside sees an address of this machine's own",
        NatKind::Easy => "easy: the same address towards everybody",
        NatKind::Hard => "hard: another address towards each destination",
        NatKind::Unknown if report.udp => "kind not known: it takes two STUN services to tell",
        NatKind::Unknown => "not known",
    };
    let tls = report.relay_tls_group.as_deref();
    vec![
        ("UDP", passes.to_owned()),
        ("IPv4", public(report.ipv4, v4)),
        ("IPv6", public(report.ipv6, report.public_ipv6)),
        ("NAT", nat.to_owned()),
        ("port mapping", port_mapping(&report.port_mapping)),
        ("captive portal", portal.to_owned()),
        ("relay TLS", tls.unwrap_or("not known").to_owned()),
    ]
}

fn public(passes: bool, addr: Option<SocketAddr>) -> String {
    match addr {
        Some(addr) if passes => addr.to_string(),
        _ => "does not pass".to_owned(),
    }
}

fn port_mapping(found: &PortMappings) -> String {
    let kinds = [
        ("UPnP", found.upnp),
        ("NAT-PMP", found.nat_pmp),
        ("PCP", found.pcp),
    ];
    let names = |wanted: Option<bool>| -> Vec<&str> {
        let some = kinds.iter().filter(|(_, found)| *found == wanted);
        some.map(|(name, _)| *name).collect()
    };
    match (names(Some(true)), found.address) {
        (offered, Some(addr)) => format!("{addr} (router offers {})", offered.join(", ")),
        (offered, None) if !offered.is_empty() => {
            format!("refused (router offers {})", offered.join(", "))
        }
        _ if names(None).len() == kinds.len() => "not known".to_owned(),
        _ => "none (asked for UPnP, NAT-PMP, PCP)".to_owned(),
    }
}

fn row(region: &RegionDistance) -> (Style, Vec<String>) {
    let cell = |latency: Option<f64>| latency.map_or_else(|| "-".to_owned(), ui::milliseconds);
    let style = match (region.preferred, region.latency_ms) {
        (true, Some(_)) => ui::GOOD,
        (_, None) => ui::DIM,
        _ => Style::new(),
    };
    let cells = vec![
        if region.preferred { "*" } else { "" }.to_owned(),
        region.code.clone(),
        region.name.clone(),
        region
            .latency_ms
            .map_or_else(|| "no answer".to_owned(), ui::milliseconds),
        cell(region.ipv4_ms),
        cell(region.ipv6_ms),
        cell(region.https_ms),
    ];
    (style, cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_words() {
        let mut report = NetcheckReport {
            udp: true,
            ipv4: true,
            public_ip: Some("203.0.113.9".parse().unwrap()),
            public_port: Some(41641),
            nat: NatKind::Hard,
            captive_portal: Some(false),
            relay_tls_group: Some("X25519MLKEM768".to_owned()),
            ..NetcheckReport::default()
        };
        let texts = |report: &NetcheckReport| -> Vec<String> {
            facts(report).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(
            texts(&report),
            [
                "passes",
                "203.0.113.9:41641",
                "does not pass",
                "hard: another address towards each destination",
                "not known",
                "none",
                "X25519MLKEM768"
            ]
        );
        report.port_mapping.pcp = Some(true);
        report.port_mapping.upnp = Some(false);
        assert_eq!(texts(&report)[4], "refused (router offers PCP)");
        report.port_mapping.address = Some("203.0.113.9:41641".parse().unwrap());
        assert_eq!(texts(&report)[4], "203.0.113.9:41641 (router offers PCP)");
        let unknown = NetcheckReport::default();
        assert!(texts(&unknown)[3..].iter().all(|text| text == "not known"));
    }

    #[test]
    fn the_home_region_is_marked_and_a_silent_one_says_so() {
        let mut region = RegionDistance {
            id: ztna_proto::RegionId(1),
            code: "ams".to_owned(),
            name: "Amsterdam".to_owned(),
            latency_ms: Some(9.1),
            ipv4_ms: Some(9.1),
            ipv6_ms: None,
            https_ms: None,
            preferred: true,
        };
        let cells = ["*", "ams", "Amsterdam", "9.10 ms", "9.10 ms", "-", "-"];
        assert_eq!(row(&region).1, cells);
        (region.preferred, region.latency_ms) = (false, None);
        assert_eq!(row(&region).1[3], "no answer");
    }
}
