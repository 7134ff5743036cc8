//! What clients may use, as the operator says, and says anew while the relay runs.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use ztna_derp::server::{Limits, Server};
use ztna_tls::{AcceptLimits, AddressRate};

/// Longest rate file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The flags.
#[derive(Args)]
pub struct LimitArgs {
    /// Bytes per second that one machine may send; its ticket may say less [default: no bound]
    #[arg(
        long,
        env = "ZTNA_DERP_CLIENT_RATE",
        conflicts_with = "rate_config",
        value_name = "BYTES"
    )]
    pub client_rate: Option<NonZeroU64>,

    /// JSON file with derper's PerClientRateLimitBytesPerSec and PerClientRateBurstBytes, and
    /// PerOrgRateLimitBytesPerSec and PerOrgRateBurstBytes; read again on SIGHUP
    #[arg(long, env = "ZTNA_DERP_RATE_CONFIG", value_name = "FILE")]
    pub rate_config: Option<PathBuf>,

    /// Connections at a time; more are refused
    #[arg(
        long,
        env = "ZTNA_DERP_MAX_CLIENTS",
        default_value_t = 100_000,
        value_name = "N"
    )]
    pub max_clients: usize,

    /// New connections per second of one address (IPv6: one /64)
    #[arg(
        long,
        env = "ZTNA_DERP_ACCEPT_RATE",
        default_value = "50",
        value_name = "N"
    )]
    pub accept_rate: NonZeroU32,

    /// New connections of one address at once
    #[arg(
        long,
        env = "ZTNA_DERP_ACCEPT_BURST",
        default_value = "500",
        value_name = "N"
    )]
    pub accept_burst: NonZeroU32,
}

/// The file. Absent or 0: no bound, or the usual burst.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateConfig {
    #[serde(rename = "PerClientRateLimitBytesPerSec")]
    client_rate: u64,
    #[serde(rename = "PerClientRateBurstBytes")]
    client_burst: u64,
    #[serde(rename = "PerOrgRateLimitBytesPerSec")]
    org_rate: u64,
    #[serde(rename = "PerOrgRateBurstBytes")]
    org_burst: u64,
}

impl RateConfig {
    fn read(path: &Path) -> Result<Self> {
        let read = || {
            let size = std::fs::metadata(path)?.len();
            ensure!(size <= MAX_FILE, "more than {MAX_FILE} bytes");
            Ok(serde_json::from_slice(&std::fs::read(path)?)?)
        };
        read().with_context(|| format!("cannot use the rate limits in {}", path.display()))
    }
}

impl LimitArgs {
    /// The limits as they are now.
    pub fn limits(&self) -> Result<Limits> {
        let usual = Limits {
            clients: self.max_clients,
            bytes_per_second: self.client_rate.map(Into::into),
            ..Limits::default()
        };
        let Some(path) = &self.rate_config else {
            return Ok(usual);
        };
        let rates = RateConfig::read(path)?;
        let given = |number: u64| Some(number).filter(|number| *number > 0);
        Ok(Limits {
            bytes_per_second: given(rates.client_rate),
            burst: given(rates.client_burst).unwrap_or(usual.burst),
            org_bytes_per_second: given(rates.org_rate),
            org_burst: given(rates.org_burst).unwrap_or(usual.org_burst),
            ..usual
        })
    }

    /// What strangers may ask of a port. A proxy has one address for all.
    pub fn accept(&self, behind_proxy: bool) -> AcceptLimits {
        let rate = AddressRate {
            per_second: self.accept_rate.get().into(),
            burst: self.accept_burst.get().into(),
            ..AddressRate::default()
        };
        AcceptLimits {
            per_address: (!behind_proxy).then_some(rate),
            ..AcceptLimits::default()
        }
    }

    /// Reads the file again at every notice, until `shutdown` is cancelled. A broken one changes
    /// nothing.
    pub async fn follow(
        self,
        server: Arc<Server>,
        again: Arc<Notify>,
        shutdown: CancellationToken,
    ) {
        while shutdown
            .run_until_cancelled(again.notified())
            .await
            .is_some()
        {
            match self.limits() {
                Ok(limits) => {
                    server.set_limits(limits);
                    tracing::info!(?limits, "limits read anew");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the limits stay as they were");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(json: &str) -> Result<Limits> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rates.json");
        std::fs::write(&path, json).unwrap();
        let args = ["x", "--rate-config", path.to_str().unwrap()];
        Cli::parse_from(args).limits.limits()
    }

    #[test]
    fn the_file_is_derpers_and_more() {
        let usual = Limits::default();
        let derper = r#"{"PerClientRateLimitBytesPerSec": 1000, "PerClientRateBurstBytes": 70000}"#;
        let got = limits(derper).unwrap();
        assert_eq!(got.bytes_per_second, Some(1000));
        assert_eq!(got.burst, 70_000);
        assert_eq!(got.org_bytes_per_second, None);
        let ours = r#"{"PerOrgRateLimitBytesPerSec": 5, "PerOrgRateBurstBytes": 0}"#;
        let got = limits(ours).unwrap();
        assert_eq!(got.org_bytes_per_second, Some(5));
        assert_eq!(got.org_burst, usual.org_burst);
        assert_eq!(limits("{}").unwrap(), usual);
        for wrong in [
            "",
            "7",
            r#"{"PerClientRate": 1}"#,
            r#"{"PerClientRateBurstBytes": -1}"#,
        ] {
            let error = format!("{:#}", limits(wrong).unwrap_err());
            assert!(error.contains("rates.json"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_not_bounded_by_its_address() {
        let args = Cli::parse_from(["x", "--accept-rate", "3", "--accept-burst", "4"]).limits;
        assert_eq!(args.accept(true).per_address, None);
        let rate = args.accept(false).per_address.unwrap();
        assert_eq!((rate.per_second, rate.burst), (3.0, 4.0));
    }
}
