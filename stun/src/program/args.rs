//! What `ztna-stun` is told at start.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};

/// Port of STUN on UDP and TCP (RFC 8489 §18.6).
const PORT: u16 = 3478;

const EXAMPLES: &str = "\
Examples:
  On all addresses, UDP and TCP port 3478:
    ztna-stun

  On one IPv4 and one IPv6 address, with figures for Prometheus:
    ztna-stun --listen 192.0.2.1:3478,[2001:db8::1]:3478 --metrics-listen 127.0.0.1:9478

  With behaviour discovery (RFC 5780), on a host with two addresses:
    ztna-stun --listen 192.0.2.1:3478 --alternate 192.0.2.2:3479";

/// STUN server: tells machines the address that the outside sees them at.
///
/// Answers binding requests of RFC 8489, 5389 and 3489, over UDP and TCP, those of Tailscale's
/// clients included. It keeps no state of its clients.
#[derive(Parser)]
#[command(name = "ztna-stun", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address and port to serve at, on UDP and TCP; several with commas, or by giving it again
    /// [default: 0.0.0.0:3478,[::]:3478]. [::] serves IPv6 only
    #[arg(
        long,
        env = "ZTNA_STUN_LISTEN",
        global = true,
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    listen: Vec<SocketAddr>,

    /// Second address and port, for behaviour discovery (RFC 5780): the service answers at both
    /// addresses on both ports. Needs a --listen with an address of the same family; one of each
    /// family at most
    #[arg(
        long,
        env = "ZTNA_STUN_ALTERNATE",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub alternate: Vec<SocketAddr>,

    /// UDP sockets per address, and threads that read them [default: one per core]
    #[arg(long, env = "ZTNA_STUN_WORKERS", value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Answers per second to one IPv4 address or IPv6 /56, twice as many at once; 0: no bound. This
    /// machine's own programs are not limited
    #[arg(long, env = "ZTNA_STUN_RATE", default_value_t = 100, value_name = "N")]
    pub rate: u32,

    /// Address and TCP port for Prometheus, at /metrics; whoever reaches it may read [default: none]
    #[arg(long, env = "ZTNA_STUN_METRICS_LISTEN", value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

/// Other than serving.
#[derive(Clone, Copy, Subcommand)]
pub enum Command {
    /// Asks the service of this machine, at the first address of --listen: it ends with status 0 where it answers,
    /// else with 1
    Health,
}

impl Args {
    /// Where to serve. A machine without IPv6 is served on IPv4, unless IPv6 was asked for.
    pub fn listen(&self) -> Vec<Listen> {
        let asked = |address: &SocketAddr| Listen {
            address: *address,
            required: true,
        };
        if !self.listen.is_empty() {
            return self.listen.iter().map(asked).collect();
        }
        vec![
            asked(&(Ipv4Addr::UNSPECIFIED, PORT).into()),
            Listen {
                address: (Ipv6Addr::UNSPECIFIED, PORT).into(),
                required: false,
            },
        ]
    }
}

/// An address to serve at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    /// The machine must have its family.
    pub required: bool,
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

    #[test]
    fn both_families_by_default() {
        let listen = Args::parse_from(["ztna-stun"]).listen();
        let addresses: Vec<String> = listen.iter().map(|one| one.address.to_string()).collect();
        assert_eq!(addresses, ["0.0.0.0:3478", "[::]:3478"]);
        let one = Args::parse_from(["ztna-stun", "--listen", "[::1]:1,127.0.0.1:2"]).listen();
        assert_eq!(one.len(), 2);
        assert!(one.iter().all(|one| one.required));
    }
}
