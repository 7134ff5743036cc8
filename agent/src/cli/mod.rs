//! The command line, one file per command.
//!
//! Quiet when all is well; an error is one line that says what happened and what to do next, on
//! standard error. Exit status: 0 done, 1 not done, 2 not a command of ours.

mod acl;
mod browser;
mod completion;
mod daemon;
mod debug;
mod down;
mod here;
#[cfg(target_os = "linux")]
mod install;
mod ip;
mod login;
mod logout;
mod metrics;
mod netcheck;
mod peers;
mod ping;
mod posture;
#[cfg(target_os = "linux")]
mod release_key;
#[cfg(target_os = "linux")]
mod running;
#[cfg(not(target_os = "linux"))]
mod service;
mod session;
mod start;
mod static_peer;
mod status;
mod ui;
#[cfg(target_os = "linux")]
mod uninstall;
mod up;
#[cfg(target_os = "linux")]
mod update;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::FalseyValueParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ztna_local::{Client, DEFAULT_SOCKET, Status};
use ztna_mesh::tunnel::NewWireGuard;

use crate::platform::is_administrator;

/// Joins this machine to a zero-trust WireGuard mesh.
#[derive(Parser)]
#[command(name = "ztna", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, env = "ZTNA_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  sudo ztna up --server https://ztna.example --auth-key ztna-auth-…   join, without a person at hand
  ztna login --server https://ztna.example && sudo ztna up            join, signed in by browser
  ztna status                                                         who is there, and by which path
  ztna ping db-1                                                      is it there, and how fast
  ztna netcheck                                                       what this network lets through";

#[derive(Subcommand)]
enum Command {
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
    Up(up::UpArgs),
    Down(down::DownArgs),
    Status(status::StatusArgs),
    Peers(peers::PeersArgs),
    Ip(ip::IpArgs),
    Ping(ping::PingArgs),
    Netcheck(netcheck::NetcheckArgs),
    Posture(posture::PostureArgs),
    Acl(acl::AclArgs),
    StaticPeer(static_peer::StaticPeerArgs),
    Debug(debug::DebugArgs),
    Metrics(metrics::MetricsArgs),
    #[cfg(target_os = "linux")]
    Install(install::InstallArgs),
    #[cfg(target_os = "linux")]
    Uninstall(uninstall::UninstallArgs),
    #[cfg(target_os = "linux")]
    Update(update::UpdateArgs),
    Completion(completion::CompletionArgs),
    #[cfg(not(target_os = "linux"))]
    Install(service::InstallArgs),
    #[cfg(not(target_os = "linux"))]
    Uninstall(service::UninstallArgs),
    Version(version::VersionArgs),
    Daemon(daemon::DaemonArgs),
}

/// For commands that print data.
#[derive(Args)]
struct Json {
    /// Print JSON
    #[arg(long = "json", env = "ZTNA_JSON", value_parser = FalseyValueParser::new())]
    wanted: bool,
}

/// Which control plane.
#[derive(Args, Clone)]
struct ServerArgs {
    /// The control plane's URL
    #[arg(long, env = "ZTNA_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Pin of its certificate, if it is self-signed
    #[arg(long, env = "ZTNA_SERVER_PIN", value_name = "sha256:…")]
    server_pin: Option<String>,
    /// Allow an http:// URL of another machine: keys and tokens cross the network in the clear
    #[arg(long, env = "ZTNA_ALLOW_HTTP", value_parser = FalseyValueParser::new())]
    allow_http: bool,
}

/// Runs the command that the arguments name.
pub fn main(wireguard: NewWireGuard) -> ExitCode {
    let matches = here::command(Cli::command()).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli, wireguard) {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, wireguard: NewWireGuard) -> anyhow::Result<ExitCode> {
    #[cfg(windows)]
    let cli = match cli.command {
        Command::Daemon(args) if args.service => {
            return daemon::serve(cli.socket, args, wireguard);
        }
        command => Cli { command, ..cli },
    };
    let mut runtime = match &cli.command {
        Command::Daemon(_) => tokio::runtime::Builder::new_multi_thread(),
        Command::Up(up) if up.foreground => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        let socket = &cli.socket;
        match cli.command {
            Command::Login(args) => login::run(args).await,
            Command::Logout(args) => logout::run(socket, args).await,
            Command::Acl(args) => acl::run(args).await,
            Command::StaticPeer(args) => static_peer::run(args).await,
            Command::Up(args) => up::run(socket, args, wireguard).await,
            Command::Down(args) => down::run(socket, args).await,
            Command::Status(args) => status::run(socket, args).await,
            Command::Peers(args) => peers::run(socket, args).await,
            Command::Ip(args) => ip::run(socket, args).await,
            Command::Ping(args) => ping::run(socket, args).await,
            Command::Debug(args) => debug::run(socket, args).await,
            Command::Metrics(args) => metrics::run(socket, args).await,
            Command::Netcheck(args) => netcheck::run(socket, args).await,
            Command::Posture(args) => posture::run(socket, args).await,
            #[cfg(target_os = "linux")]
            Command::Install(args) => install::run(socket, args).await,
            #[cfg(target_os = "linux")]
            Command::Uninstall(args) => uninstall::run(socket, args).await,
            #[cfg(target_os = "linux")]
            Command::Update(args) => update::run(socket, args).await,
            Command::Completion(args) => completion::run(args),
            #[cfg(not(target_os = "linux"))]
            Command::Install(args) => service::install(socket, &args).await,
            #[cfg(not(target_os = "linux"))]
            Command::Uninstall(_) => service::uninstall(),
            Command::Version(args) => version::run(socket, args).await,
            Command::Daemon(args) => daemon::run(socket, args, wireguard).await,
        }
    })
}

/// Refuses whoever may not change this system; `what` does.
fn need_administrator(what: &str) -> anyhow::Result<()> {
    match (is_administrator(), cfg!(windows)) {
        (true, _) => Ok(()),
        (false, true) => {
            bail!("{what} needs an administrator's rights; run it in a terminal of one")
        }
        (false, false) => bail!("{what} needs root; run it with sudo"),
    }
}

/// How things stand, by the daemon's word.
async fn ask_status(socket: &std::path::Path) -> anyhow::Result<Status> {
    Ok(Client::connect(socket).await?.status().await?)
}

#[cfg(test)]
mod tests {
    use ztna_mesh::wireguard::Gotatun;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_every_flag_an_env_twin() {
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.starts_with("Examples:")),
                "{name} has no examples"
            );
            for flag in command.get_opts() {
                let id = flag.get_id().as_str();
                assert!(
                    matches!(id, "help" | "version") || flag.get_env().is_some(),
                    "{name} --{id} has no environment variable"
                );
            }
        }
    }

    #[test]
    fn commands_are_read() {
        let up = Cli::try_parse_from([
            "ztna",
            "up",
            "--server",
            "https://z.example",
            "--auth-key",
            "file:/run/key",
            "--state-dir",
            "/tmp/s",
            "--tun",
            "z1",
            "--port",
            "0",
            "--psk-interval",
            "5",
            "--socket",
            "/tmp/z.sock",
        ])
        .unwrap();
        assert_eq!(up.socket, PathBuf::from("/tmp/z.sock"));
        let Command::Up(up) = up.command else {
            panic!("not up");
        };
        let options = up.daemon.options("/tmp/z.sock".as_ref(), Gotatun::boxed);
        assert_eq!((options.tun.as_str(), options.port), ("z1", 0));
        assert_eq!(
            options.psk_interval,
            Some(std::time::Duration::from_secs(5))
        );
        for wrong in [
            &["ztna"][..],
            &["ztna", "teleport"],
            &["ztna", "ping"],
            &["ztna", "up", "--port", "70000"],
            &["ztna", "up", "--tun", "a/b"],
            &["ztna", "up", "--tun", "longer-than-it-may-be"],
            &["ztna", "ping", "--count", "0", "x"],
        ] {
            let Err(error) = Cli::try_parse_from(wrong) else {
                panic!("{wrong:?} was read");
            };
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
