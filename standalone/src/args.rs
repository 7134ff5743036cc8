//! What `ztna-server` is told at start. Nothing has to be.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::backup::Command;

const EXAMPLES: &str = "\
Examples:
  With everything at its default:
    ztna-server

  On another port, under a name that agents dial:
    ztna-server --listen 0.0.0.0:8443 --public-host vpn.example.org

  With a certificate of a public authority:
    ztna-server --public-host vpn.example.org --tls-cert fullchain.pem --tls-key privkey.pem

  Every night, while it runs:
    ztna-server backup /var/backups/ztna";

/// A whole ztna deployment on one machine: control plane, relay, STUN, database.
///
/// Agents join with the URL and the pin that it logs when it is ready.
#[derive(Parser)]
#[command(name = "ztna-server", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Directory for database, keys and certificate; made if missing
    #[arg(
        long,
        global = true,
        env = "ZTNA_DATA_DIR",
        default_value = "/var/lib/ztna-server",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,

    /// Address and TCP port of control plane and relay [default: 0.0.0.0:443, or 0.0.0.0:8443 where
    /// 443 is not permitted]
    #[arg(long, env = "ZTNA_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Address and UDP port of the relay's QUIC transport [default: those of --listen]
    #[arg(
        long,
        env = "ZTNA_QUIC_LISTEN",
        conflicts_with = "no_quic",
        value_name = "ADDR:PORT"
    )]
    pub quic_listen: Option<SocketAddr>,

    /// Relay over TCP only
    #[arg(long, env = "ZTNA_NO_QUIC")]
    pub no_quic: bool,

    /// Address and port of the STUN service, on UDP and TCP
    #[arg(
        long,
        env = "ZTNA_STUN_LISTEN",
        default_value = "0.0.0.0:3478",
        value_name = "ADDR:PORT"
    )]
    pub stun_listen: SocketAddr,

    /// Name or address that agents dial [default: this machine's address on its default route]
    #[arg(long, env = "ZTNA_PUBLIC_HOST", value_name = "NAME_OR_IP")]
    pub public_host: Option<String>,

    /// Certificate chain, PEM, leaf first, instead of a self-signed certificate
    #[arg(long, env = "ZTNA_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, env = "ZTNA_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// A running PostgreSQL (15 or newer) to use instead of an own one, postgres://user@host/name
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,

    /// File that holds it, in its place
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL_FILE",
        conflicts_with = "database_url",
        value_name = "FILE"
    )]
    pub database_url_file: Option<PathBuf>,

    #[command(flatten)]
    pub mail: ztna_api::MailFlags,

    /// What links in letters, and addresses that browsers are sent back to, start with [default: the scheme, host and port that agents dial]
    #[arg(long, env = "ZTNA_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// What machine names end in, after the org's label
    #[arg(
        long,
        env = "ZTNA_DNS_SUFFIX",
        default_value = "ztna.internal",
        value_name = "NAME"
    )]
    pub dns_suffix: String,

    /// Database of the countries that addresses are in, in the MaxMind DB format (GeoLite2-Country.mmdb), for rules that ask
    /// for the country of a source. All nodes need the same [default: no country is known]
    #[arg(long, env = "ZTNA_GEOIP", value_name = "FILE")]
    pub geoip: Option<PathBuf>,

    /// Folder with the built dashboard, to serve beside the API [default: none is served]
    #[arg(long, env = "ZTNA_DASHBOARD_DIR", value_name = "DIR")]
    pub dashboard: Option<PathBuf>,

    /// Folder with releases of the agent (manifest.json, and a folder for each version) [default: none are served]
    #[arg(long, env = "ZTNA_RELEASES_DIR", value_name = "DIR")]
    pub releases: Option<PathBuf>,

    /// Public key that releases have to be signed with, in PEM [default: signatures are left to machines to check]
    #[arg(
        long,
        env = "ZTNA_RELEASE_KEY",
        value_name = "FILE",
        requires = "releases"
    )]
    pub release_key: Option<PathBuf>,

    /// Probe orgs' own relays that are not on the public internet. Say false where strangers may
    /// sign up: they would learn what answers in this server's own network
    #[arg(
        long,
        env = "ZTNA_ALLOW_PRIVATE_RELAYS",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub allow_private_relays: bool,

    #[command(flatten)]
    pub sign_in: ztna_api::SignInFlags,
}

impl Args {
    /// Whether somebody else runs the database.
    pub fn has_database(&self) -> bool {
        self.database_url.is_some() || self.database_url_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_an_env_twin() {
        let command = Args::command();
        command.clone().debug_assert();
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let generated = ["help", "version"].contains(&id);
            assert!(arg.get_env().is_some() || generated, "{id}");
        }
    }
}
