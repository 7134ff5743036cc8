//! `ztna-derp check`: does a running relay work, seen from here?

mod front;
mod report;
mod stun;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use report::{Fault, Report};
use ztna_proto::relay::{CertificatePin, RelayNode};

use super::mesh::split_port;

/// Addresses of the host that are tried.
const MAX_ADDRESSES: usize = 8;

/// The flags.
#[derive(Args)]
pub struct CheckArgs {
    /// The relay; port 443 unless named
    #[arg(value_name = "HOST[:PORT]", value_parser = split_port)]
    pub relay: (String, u16),

    /// Pin of a self-signed certificate, as the relay logs it at start [default: one of a public
    /// authority]
    #[arg(
        long,
        env = "ZTNA_DERP_CHECK_PIN",
        value_parser = ztna_tls::parse_pin,
        value_name = "sha256:HEX"
    )]
    pub pin: Option<CertificatePin>,

    /// UDP port of a STUN service on the same host, to be tested too
    #[arg(long, env = "ZTNA_DERP_CHECK_STUN_PORT", value_name = "N")]
    pub stun_port: Option<u16>,

    /// A machine to send packets as, JSON {"private_key": 64 hex digits, "ticket": …}; give it twice,
    /// for two machines of one org. Not needed for a relay that is open to everybody
    #[arg(
        long,
        env = "ZTNA_DERP_CHECK_CLIENT",
        value_delimiter = ',',
        value_name = "FILE"
    )]
    pub client: Vec<PathBuf>,

    /// Print JSON instead of lines for people
    #[arg(long, env = "ZTNA_DERP_CHECK_JSON")]
    pub json: bool,
}

/// Tests step by step; what hangs on a failed step is left out. Fails if a step did.
pub async fn run(args: CheckArgs) -> Result<ExitCode> {
    let mut report = Report::new(args.json);
    steps(&args, &mut report).await;
    report.finish()
}

async fn steps(args: &CheckArgs, report: &mut Report) {
    let (host, port) = &args.relay;
    let Some(addresses) = report.step("DNS", front::resolve(host, *port)).await else {
        return;
    };
    let mut reachable = None;
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        let connected = report.step("TCP", front::reach(address)).await;
        reachable = reachable.or(connected);
    }
    if let Some(address) = reachable {
        relay_steps(args, address, report).await;
    }
    if let Some(stun_port) = args.stun_port {
        match reachable {
            Some(address) => {
                let service = SocketAddr::new(address.ip(), stun_port);
                report.step("STUN", stun::ask(service)).await;
            }
            None => report.skip("STUN", "none of the host's addresses is reachable"),
        }
    }
}

async fn relay_steps(args: &CheckArgs, address: SocketAddr, report: &mut Report) {
    let (host, _) = &args.relay;
    let pin = args.pin.clone().unwrap_or(CertificatePin::WebPki);
    let front = front::Front {
        host: host.clone(),
        address,
        pin: pin.clone(),
    };
    let Some(tls) = report.step("TLS", front.tls()).await else {
        return;
    };
    report.note("key exchange", tls.key_exchange());
    report.note("certificate", tls.certificate(&pin));
    let upgraded = report.step("upgrade", front.upgrade(tls)).await;
    report.step("latency", front.probe()).await;
    if upgraded.is_none() {
        return;
    }
    let node = RelayNode {
        name: host.clone(),
        host: host.clone(),
        addresses: vec![address.ip()],
        derp_port: Some(address.port()),
        stun_port: None,
        quic_port: None,
        http_port: None,
        certificate: pin,
    };
    match traffic::join(node, &args.client).await {
        Ok(traffic::Joined::Pair(mut pair)) => {
            report.step("round trip", pair.round_trip()).await;
            report.step("throughput", pair.throughput()).await;
        }
        Ok(traffic::Joined::NotAdmitted(why)) => {
            for step in ["round trip", "throughput"] {
                report.skip(step, &why);
            }
        }
        Err(fault) => report.note("round trip", Err(fault)),
    }
}

/// What a step that worked has to say, and what it hands on.
struct Done<T> {
    detail: String,
    value: T,
}

/// What a step comes to.
type Outcome<T> = Result<Done<T>, Fault>;
