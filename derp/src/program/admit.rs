//! Who may use the relay, as the operator says.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use reqwest::Url;
use ztna_derp::server::{Admission, OpenAdmission, TicketAdmission};
use ztna_proto::relay::{CertificatePin, ORG_REGIONS};
use ztna_proto::ticket::TicketVerifier;
use ztna_proto::{OrgId, RegionId};

use super::http::trustworthy;
use super::revocations::Revocations;
use super::verify_url::VerifyUrl;

const NO_MODE: &str = "\
who may use this relay is not said. Choose one of:
  --ticket-key HEX   machines that the control plane has given a ticket. The key is in api.json in
                     the data directory of ztna-api, field ticket_key; ztna-server needs no
                     separate relay
  --verify-url URL   machines that this server allows, asked in derper's form
  --open             everybody, at your expense";

const SEVERAL_MODES: &str =
    "--ticket-key, --verify-url and --open exclude each other; give exactly one";

const NO_ORG: &str = "\
--org is missing: region 900 to 999 is an org's own, and without the org's id machines of any other
org with a region of that number would be let in. GET /api/auth/me lists your orgs.";

const API_WITHOUT_TICKETS: &str =
    "--api brings revoked tickets, and needs --ticket-key to check them";

/// The flags.
#[derive(Args)]
pub struct AdmissionArgs {
    /// Serve machines with a ticket of the control plane with this public key, 64 hex digits: field
    /// ticket_key of api.json
    #[arg(long, env = "ZTNA_DERP_TICKET_KEY", value_name = "HEX")]
    pub ticket_key: Option<TicketVerifier>,

    /// Serve machines of this org only; needed for an org's own region (900 to 999), whose number
    /// another org's region may have too
    #[arg(
        long,
        env = "ZTNA_DERP_ORG",
        requires = "ticket_key",
        value_name = "ORG_ID"
    )]
    pub org: Option<OrgId>,

    /// Serve machines that this server allows: it is sent {"NodePublic","Source"} for each and
    /// answers {"Allow":true}. No answer is a no
    #[arg(long, env = "ZTNA_DERP_VERIFY_URL", value_parser = trustworthy, value_name = "URL")]
    pub verify_url: Option<Url>,

    /// Serve everybody. Strangers' traffic passes at your expense
    #[arg(long, env = "ZTNA_DERP_OPEN")]
    pub open: bool,

    /// The control plane, whose revocations of tickets take effect at once; without it they hold
    /// until they expire, a day at most
    #[arg(long, env = "ZTNA_DERP_API", value_parser = trustworthy, value_name = "URL")]
    pub api: Option<Url>,

    /// The control plane's self-signed certificate [default: one of a public authority]
    #[arg(
        long,
        env = "ZTNA_DERP_API_PIN",
        requires = "api",
        value_parser = ztna_tls::parse_pin,
        value_name = "sha256:HEX"
    )]
    pub api_pin: Option<CertificatePin>,
}

/// What the flags amount to.
pub enum Mode {
    Ticket {
        verifier: TicketVerifier,
        org: Option<OrgId>,
        api: Option<(Url, CertificatePin)>,
    },
    VerifyUrl(Url),
    Open,
}

impl AdmissionArgs {
    /// The one mode that was chosen for a relay of this region, or what is wrong.
    pub fn mode(&self, region: u32) -> Result<Mode, &'static str> {
        let mode = match (self.ticket_key, &self.verify_url, self.open) {
            (Some(_), None, false) if ORG_REGIONS.contains(&region) && self.org.is_none() => {
                return Err(NO_ORG);
            }
            (Some(verifier), None, false) => {
                let pin = self.api_pin.clone().unwrap_or(CertificatePin::WebPki);
                let api = self.api.clone().map(|url| (url, pin));
                let org = self.org;
                return Ok(Mode::Ticket { verifier, org, api });
            }
            (None, Some(url), false) => Mode::VerifyUrl(url.clone()),
            (None, None, true) => Mode::Open,
            (None, None, false) => return Err(NO_MODE),
            _ => return Err(SEVERAL_MODES),
        };
        match self.api {
            Some(_) => Err(API_WITHOUT_TICKETS),
            None => Ok(mode),
        }
    }
}

impl Mode {
    /// Who decides, and whose revocations are followed.
    pub fn admission(self, region: RegionId) -> Result<(Arc<dyn Admission>, Option<Revocations>)> {
        Ok(match self {
            Self::Ticket { verifier, org, api } => {
                let revocations = api
                    .map(|(url, pin)| Revocations::new(&url, &pin, verifier))
                    .transpose()?;
                if revocations.is_none() {
                    tracing::info!("no --api: a revoked ticket holds until it expires");
                }
                let admission = TicketAdmission::with_system_clock(verifier, region).for_org(org);
                (Arc::new(admission), revocations)
            }
            Self::VerifyUrl(url) => {
                tracing::info!(%url, "clients are admitted by --verify-url");
                (Arc::new(VerifyUrl::new(url)?), None)
            }
            Self::Open => {
                tracing::warn!("--open: this relay carries everybody's packets");
                (Arc::new(OpenAdmission), None)
            }
        })
    }
}
