//! `ztna-derp health`: does the relay of this machine serve? For images, which have no other program to ask with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::Url;
use serde::Deserialize;
use ztna_proto::api::Health;
use ztna_proto::relay::CertificatePin;

use super::{READY_FILE, http};

/// A relay that takes longer is not well.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The flags.
#[derive(Args)]
pub struct HealthArgs {
    /// The relay's data directory, with its derp.json
    #[arg(
        long,
        env = "ZTNA_DERP_DATA_DIR",
        default_value = "/var/lib/ztna-derp",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
}

/// Of `derp.json`, how the relay is reached from here.
#[derive(Deserialize)]
struct Ready {
    host: String,
    listen: SocketAddr,
    tls: bool,
    pin: Option<String>,
    metrics: Option<SocketAddr>,
}

impl Ready {
    /// The address to ask, the certificate that proves it, and where a name in it is on this machine.
    fn place(&self) -> Result<(Url, CertificatePin, SocketAddr)> {
        let listen = local(self.metrics.unwrap_or(self.listen));
        let (scheme, host) = match (self.metrics, &self.pin) {
            (None, None) if self.tls => ("https", self.host.clone()),
            (None, _) if self.tls => ("https", listen.ip().to_string()),
            _ => ("http", listen.ip().to_string()),
        };
        let host = match host.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => host,
        };
        let pin = match &self.pin {
            Some(pin) => ztna_tls::parse_pin(pin)?,
            None => CertificatePin::WebPki,
        };
        let url = format!("{scheme}://{host}:{}/health", listen.port());
        Ok((url.parse()?, pin, listen))
    }
}

/// Fails unless the relay says that it is well.
pub async fn run(args: &HealthArgs) -> Result<()> {
    let path = args.data_dir.join(READY_FILE);
    let ready = read(&path)?;
    let (url, pin, place) = ready.place()?;
    let client = http::client_at(&pin, TIMEOUT, &ready.host, place)?;
    let answer = client.get(url.clone()).send().await;
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let body = http::body(answer, MAX_ANSWER)
        .await
        .with_context(|| format!("the relay at {url} is not well"))?;
    let health: Health = serde_json::from_slice(&body)
        .with_context(|| format!("what answers at {url} is no relay of ztna"))?;
    tracing::info!(
        status = health.status,
        version = health.version,
        "{url} serves"
    );
    Ok(())
}

fn read(path: &Path) -> Result<Ready> {
    let text = std::fs::read(path).with_context(|| {
        format!(
            "cannot read {}, which a relay writes when it is ready; name its --data-dir",
            path.display()
        )
    })?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what a relay writes", path.display()))
}

/// The same port on this machine.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_asked_on_this_machine_in_each_of_its_ways() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let place = |listen: &str, tls, pin: Option<&String>, metrics: Option<&str>| {
            let ready = Ready {
                host: "relay.example.org".to_owned(),
                listen: listen.parse().unwrap(),
                tls,
                pin: pin.cloned(),
                metrics: metrics.map(|address| address.parse().unwrap()),
            };
            let (url, _, at) = ready.place().unwrap();
            format!("{url} {at}")
        };
        for (found, expected) in [
            (
                place("[::]:443", true, Some(&pin), None),
                "https://[::1]/health [::1]:443",
            ),
            (
                place("0.0.0.0:8443", true, None, None),
                "https://relay.example.org:8443/health 127.0.0.1:8443",
            ),
            (
                place("127.0.0.1:3340", false, None, None),
                "http://127.0.0.1:3340/health 127.0.0.1:3340",
            ),
            (
                place("[::]:443", true, Some(&pin), Some("0.0.0.0:9100")),
                "http://127.0.0.1:9100/health 127.0.0.1:9100",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
