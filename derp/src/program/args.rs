//! What `ztna-derp` is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;
use ztna_proto::OrgId;
use ztna_proto::ticket::TicketVerifier;

use super::mesh::MeshArgs;

const EXAMPLES: &str = "\
Examples:
  The control plane's ticket key, on its machine:
    jq -r .ticket_key /var/lib/ztna-api/api.json

  A relay for region 2 with a self-signed certificate (its pin is logged, and in derp.json):
    ztna-derp --region 2 --ticket-key 6a1f… --public-host relay.example.org

  With a certificate of a public authority, on another port:
    ztna-derp --region 2 --ticket-key 6a1f… --listen [::]:8443 \\
        --tls-cert fullchain.pem --tls-key privkey.pem

  Two relays of one region, which hand packets to each other's clients:
    openssl rand -hex 32 > mesh.key    # the same file on both
    ztna-derp --region 2 --ticket-key 6a1f… --mesh-key-file mesh.key \\
        --mesh-with r1.example.org --mesh-with r2.example.org";

/// DERP relay: carries sealed packets between machines that cannot reach each other directly.
///
/// Serves only machines with a ticket of the control plane whose key it is given.
#[derive(Parser)]
#[command(name = "ztna-derp", version, after_help = EXAMPLES)]
pub struct Args {
    /// Address and TCP port to listen on
    #[arg(
        long,
        env = "ZTNA_DERP_LISTEN",
        default_value = "0.0.0.0:443",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// Directory for the relay's key, its self-signed certificate and derp.json; made if missing
    #[arg(
        long,
        env = "ZTNA_DERP_DATA_DIR",
        default_value = "/var/lib/ztna-derp",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,

    /// Region that this relay belongs to; tickets name the regions that they open
    #[arg(long, env = "ZTNA_DERP_REGION", default_value_t = 1, value_name = "N")]
    pub region: u32,

    /// Serve machines of this org only; needed for an org's own region (900 to 999), whose number
    /// another org's region may have too
    #[arg(long, env = "ZTNA_DERP_ORG", value_name = "ORG_ID")]
    pub org: Option<OrgId>,

    /// The control plane's public key for tickets, 64 hex digits: field ticket_key of api.json
    #[arg(long, env = "ZTNA_DERP_TICKET_KEY", value_name = "HEX")]
    pub ticket_key: Option<TicketVerifier>,

    /// Name or address that agents dial [default: this machine's address on its default route]
    #[arg(long, env = "ZTNA_DERP_PUBLIC_HOST", value_name = "NAME_OR_IP")]
    pub public_host: Option<String>,

    /// Certificate chain, PEM, leaf first, instead of a self-signed certificate
    #[arg(
        long,
        env = "ZTNA_DERP_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(
        long,
        env = "ZTNA_DERP_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Bytes per second that one machine may send; its ticket may say less [default: no bound]
    #[arg(long, env = "ZTNA_DERP_CLIENT_RATE", value_name = "BYTES")]
    pub client_rate: Option<std::num::NonZeroU64>,

    /// Connections at a time; more are refused
    #[arg(
        long,
        env = "ZTNA_DERP_MAX_CLIENTS",
        default_value_t = 100_000,
        value_name = "N"
    )]
    pub max_clients: usize,

    /// Relays that form the region together
    #[command(flatten)]
    pub mesh: MeshArgs,

    /// Networks that may read /metrics
    #[arg(
        long,
        env = "ZTNA_DERP_METRICS_FROM",
        default_value = "127.0.0.0/8,::1/128",
        value_delimiter = ',',
        value_name = "CIDR,…"
    )]
    pub metrics_from: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_an_env_twin() {
        let command = Args::command();
        command.clone().debug_assert();
        let generated = ["help", "version"];
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            assert!(arg.get_env().is_some() || generated.contains(&id), "{id}");
        }
    }
}
