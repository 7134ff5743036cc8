//! What `ztna-derp` is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ipnet::IpNet;

use super::admit::AdmissionArgs;
use super::check::CheckArgs;
use super::health::HealthArgs;
use super::limits::LimitArgs;
use super::mesh::MeshArgs;
use super::tls::TlsArgs;

const EXAMPLES: &str = "\
Examples:
  The control plane's ticket key, on its machine:
    jq -r .ticket_key /var/lib/ztna-api/api.json

  A relay for region 2 with a self-signed certificate (its pin is logged, and in derp.json), which
  cuts off revoked machines at once:
    ztna-derp --region 2 --ticket-key 6a1f… --public-host relay.example.org \\
        --api https://vpn.example.org

  With a certificate of Let's Encrypt, and port 80 for captive-portal checks:
    ztna-derp --region 2 --ticket-key 6a1f… --acme-domain relay.example.org --http-listen [::]:80

  With a certificate of one's own, on another port:
    ztna-derp --region 2 --ticket-key 6a1f… --listen [::]:8443 \\
        --tls-cert fullchain.pem --tls-key privkey.pem

  Behind Caddy on the same machine, whose block for the relay's name has
        reverse_proxy 127.0.0.1:3340 {
            header_up -Derp-Fast-Start
        }
  as Caddy upgrades nothing that is not answered, which this header asks for:
    ztna-derp --region 2 --ticket-key 6a1f… --listen 127.0.0.1:3340 --no-tls \\
        --trusted-proxy 127.0.0.1/32 --public-host relay.example.org

  For stock Tailscale clients of a headscale, in place of derper:
    ztna-derp --verify-url https://headscale.example.org/verify --acme-domain relay.example.org

  Two relays of one region, which hand packets to each other's clients:
    openssl rand -hex 32 > mesh.key    # the same file on both
    ztna-derp --region 2 --ticket-key 6a1f… --mesh-key-file mesh.key \\
        --mesh-with r1.example.org --mesh-with r2.example.org

  Does a relay work, seen from here?
    ztna-derp check relay.example.org";

/// DERP relay: carries sealed packets between machines that cannot reach each other directly.
///
/// Serves only whom it is told to: machines with a ticket of a control plane, those that a server
/// allows, or everybody.
#[derive(Parser)]
#[command(
    name = "ztna-derp",
    version,
    after_help = EXAMPLES,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Other than serving.
#[derive(Subcommand)]
pub enum Command {
    /// Tests a running relay from outside
    Check(CheckArgs),
    /// Asks the relay of this machine whether it serves: it ends with status 0 where it does, else with 1
    Health(HealthArgs),
}

/// The relay's flags.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Address and TCP port to listen on
    #[arg(
        long,
        env = "ZTNA_DERP_LISTEN",
        default_value = "0.0.0.0:443",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// Address and UDP port for clients by QUIC [default: those of --listen]
    #[arg(
        long,
        env = "ZTNA_DERP_QUIC_LISTEN",
        conflicts_with = "no_quic",
        value_name = "ADDR:PORT"
    )]
    pub quic_listen: Option<SocketAddr>,

    /// Take clients by TCP only
    #[arg(long, env = "ZTNA_DERP_NO_QUIC")]
    pub no_quic: bool,

    /// Address and TCP port without TLS, 80 if it is to be of use: captive-portal checks, ACME's
    /// http-01, redirection [default: none]
    #[arg(long, env = "ZTNA_DERP_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<SocketAddr>,

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

    /// Name or address that agents dial [default: this machine's address on its default route]
    #[arg(long, env = "ZTNA_DERP_PUBLIC_HOST", value_name = "NAME_OR_IP")]
    pub public_host: Option<String>,

    /// Names whose addresses /bootstrap-dns tells clients whose own DNS does not work
    #[arg(
        long,
        env = "ZTNA_DERP_BOOTSTRAP_DNS_NAMES",
        value_delimiter = ',',
        value_name = "NAME,…"
    )]
    pub bootstrap_dns_names: Vec<String>,

    /// Own address and port for /metrics, without TLS, for whoever reaches it [default: none; then
    /// --listen serves /metrics to --metrics-from]
    #[arg(long, env = "ZTNA_DERP_METRICS_LISTEN", value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Networks that may read /metrics at --listen
    #[arg(
        long,
        env = "ZTNA_DERP_METRICS_FROM",
        default_value = "127.0.0.0/8,::1/128",
        value_delimiter = ',',
        value_name = "CIDR,…"
    )]
    pub metrics_from: Vec<IpNet>,

    /// Who may use the relay
    #[command(flatten)]
    pub admission: AdmissionArgs,

    /// Certificates
    #[command(flatten)]
    pub tls: TlsArgs,

    /// What clients may use
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Relays that form the region together
    #[command(flatten)]
    pub mesh: MeshArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_has_an_env_twin() {
        let command = Cli::command();
        command.clone().debug_assert();
        let generated = ["help", "version"];
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            assert!(arg.get_env().is_some() || generated.contains(&id), "{id}");
        }
        for subcommand in command.get_subcommands() {
            for arg in subcommand.get_arguments() {
                let id = arg.get_id().as_str();
                let named = arg.get_long().is_none() || arg.get_env().is_some();
                assert!(named || generated.contains(&id), "{id}");
            }
        }
    }

    #[test]
    fn one_mode_and_no_more() {
        let mode = |flags: &[&str]| {
            let cli = Cli::try_parse_from([&["ztna-derp"], flags].concat()).unwrap();
            cli.serve.admission.mode(cli.serve.region).err()
        };
        let key = "00".repeat(32);
        let ticket = ["--ticket-key", &key];
        let verify = ["--verify-url", "https://x.example/"];
        let api = ["--api", "https://x.example/"];
        for good in [&ticket[..], &verify, &["--open"], &[ticket, api].concat()] {
            assert_eq!(mode(good), None, "{good:?}");
        }
        for bad in [
            &[][..],
            &[&ticket[..], &["--open"]].concat(),
            &[ticket, verify].concat(),
            &[&["--open"], &verify[..]].concat(),
            &[&["--open"], &api[..]].concat(),
            &[&ticket[..], &["--region", "900"]].concat(),
        ] {
            assert!(mode(bad).is_some(), "{bad:?}");
        }
        let plain = ["ztna-derp", "--verify-url", "http://verify.example/"];
        assert!(Cli::try_parse_from(plain).is_err());
    }
}
