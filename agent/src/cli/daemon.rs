//! `ztna daemon`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ztna_mesh::tunnel::NewWireGuard;

use crate::daemon::{Daemon, LOG_FILE, Options, RESOLV_CONF, init_log};
#[cfg(windows)]
use crate::platform::private_folder;
use crate::platform::{STATE_DIR, TUN_NAME, leave_terminal};

/// Runs the daemon in the foreground, as systemd wants it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct DaemonArgs {
    #[command(flatten)]
    pub daemon: DaemonFlags,
    /// Leave the terminal and log to the state folder
    #[arg(long, hide = true, env = "ZTNA_DETACHED", value_parser = clap::builder::FalseyValueParser::new())]
    pub detached: bool,
    /// Run as the service that the system's service manager has started
    #[cfg(windows)]
    #[arg(long, hide = true, env = "ZTNA_SERVICE", value_parser = clap::builder::FalseyValueParser::new())]
    pub service: bool,
}

const EXAMPLES: &str = "Examples:
  sudo ztna daemon
  sudo RUST_LOG=debug ztna daemon --state-dir /tmp/ztna --tun ztna1 --port 0";

/// Settings of a daemon, for the commands that may start one.
#[derive(Args, Clone)]
pub struct DaemonFlags {
    /// The daemon's folder: keys, registration, saved map, log
    #[arg(
        long,
        env = "ZTNA_STATE_DIR",
        value_name = "DIR",
        default_value = STATE_DIR
    )]
    pub state_dir: PathBuf,
    /// Name of the tunnel device
    #[arg(long, env = "ZTNA_TUN", value_name = "NAME", default_value = TUN_NAME, value_parser = device_name)]
    pub tun: String,
    /// UDP port of the tunnel; 0: any
    #[arg(long, env = "ZTNA_PORT", default_value_t = PORT)]
    pub port: u16,
    /// Ask the router for no port of its own (PCP, NAT-PMP, UPnP)
    #[arg(long, env = "ZTNA_NO_PORT_MAPPING", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_port_mapping: bool,
    /// Do not look for peers on this machine's own links by multicast, and do not be found so
    #[arg(long, env = "ZTNA_NO_LAN_DISCOVERY", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_lan_discovery: bool,
    /// File that names this machine's nameservers, for programs that do not ask systemd-resolved
    #[cfg(target_os = "linux")]
    #[arg(long, env = "ZTNA_RESOLV_CONF", value_name = "FILE", default_value = RESOLV_CONF)]
    pub resolv_conf: PathBuf,
    /// Length of a preshared key's epoch
    #[arg(long, env = "ZTNA_PSK_INTERVAL", value_name = "SECONDS", hide = true, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub psk_interval: Option<u64>,
}

/// UDP port of the tunnel, if nothing else is said.
const PORT: u16 = 41641;

impl DaemonFlags {
    /// Those of its settings that are not what a daemon has anyway, by their flags.
    pub fn special(&self) -> Vec<&'static str> {
        let flags = [
            ("--state-dir", self.state_dir != Path::new(STATE_DIR)),
            ("--tun", self.tun != TUN_NAME),
            ("--port", self.port != PORT),
            ("--no-port-mapping", self.no_port_mapping),
            ("--no-lan-discovery", self.no_lan_discovery),
        ];
        let special = flags.into_iter().filter(|(_, is)| *is);
        special.map(|(flag, _)| flag).collect()
    }

    /// As the daemon takes them.
    pub fn options(&self, socket: &Path, wireguard: NewWireGuard) -> Options {
        Options {
            state_dir: self.state_dir.clone(),
            socket: socket.to_owned(),
            tun: self.tun.clone(),
            port: self.port,
            port_mapping: !self.no_port_mapping,
            lan_discovery: !self.no_lan_discovery,
            #[cfg(target_os = "linux")]
            resolv_conf: self.resolv_conf.clone(),
            #[cfg(not(target_os = "linux"))]
            resolv_conf: RESOLV_CONF.into(),
            psk_interval: self.psk_interval.map(Duration::from_secs),
            wireguard,
        }
    }

    /// As a command line.
    pub fn args(&self) -> Vec<std::ffi::OsString> {
        let mut args: Vec<std::ffi::OsString> = vec![
            "--state-dir".into(),
            self.state_dir.clone().into(),
            "--tun".into(),
            self.tun.clone().into(),
            "--port".into(),
            self.port.to_string().into(),
        ];
        #[cfg(target_os = "linux")]
        args.extend(["--resolv-conf".into(), self.resolv_conf.clone().into()]);
        if self.no_port_mapping {
            args.push("--no-port-mapping".into());
        }
        if self.no_lan_discovery {
            args.push("--no-lan-discovery".into());
        }
        if let Some(seconds) = self.psk_interval {
            args.extend(["--psk-interval".into(), seconds.to_string().into()]);
        }
        args
    }
}

/// An interface name as Linux takes it: at most 15 bytes, no slash, colon or blank
/// (`dev_valid_name` of net/core/dev.c).
fn device_name(text: &str) -> Result<String, String> {
    let fine = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|c| c.is_ascii_graphic() && !matches!(c, b'/' | b':' | b'%'));
    if !fine {
        return Err("a device name has 1 to 15 letters, digits, '-' or '_'".to_owned());
    }
    Ok(text.to_owned())
}

/// Runs the daemon as the service that this process was started for.
#[cfg(windows)]
pub fn serve(
    socket: PathBuf,
    args: DaemonArgs,
    wireguard: NewWireGuard,
) -> anyhow::Result<ExitCode> {
    crate::platform::service::run(Box::new(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let options = args.daemon.options(&socket, wireguard);
            // The log comes first: nobody reads anything else of a service.
            private_folder(&options.state_dir)?;
            init_log(Some(&options.state_dir.join(LOG_FILE)))?;
            Daemon::start(options).await?.run().await
        })
    }))?;
    Ok(ExitCode::SUCCESS)
}

pub async fn run(
    socket: &Path,
    args: DaemonArgs,
    wireguard: NewWireGuard,
) -> anyhow::Result<ExitCode> {
    let options = args.daemon.options(socket, wireguard);
    if !args.detached {
        init_log(None)?;
        Daemon::start(options).await?.run().await?;
        return Ok(ExitCode::SUCCESS);
    }
    // A child of `ztna up` is no leader of a process group, so this succeeds.
    leave_terminal()?;
    logged(options).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a daemon that logs to its folder.
async fn logged(options: Options) -> anyhow::Result<()> {
    let log = options.state_dir.join(LOG_FILE);
    // The log comes second, since its folder comes with the daemon; until then standard error is
    // a pipe to `ztna up`, which shows what went wrong.
    let daemon = Daemon::start(options).await?;
    init_log(Some(&log))?;
    // Nobody reads standard error any more.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a fault of ztna's own"),
    ));
    daemon.run().await
}
