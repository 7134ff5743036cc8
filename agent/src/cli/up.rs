//! `ztna up`

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::FalseyValueParser;
use ipnet::IpNet;
use ztna_local::{
    Answer, Answers, Client, ClientError, Progress, Request, START, Secret, StepState, UpOptions,
};
use ztna_mesh::tunnel::NewWireGuard;
use ztna_proto::keys::KeyError;
use ztna_proto::network::check_routes;
use ztna_proto::tokens::AuthKey;

use super::daemon::DaemonFlags;
use super::{ServerArgs, session, start, ui};
use crate::control::Server;
use crate::daemon::{Daemon, init_log};
use crate::platform::is_administrator;

/// Joins the tailnet if need be and brings the tunnel up
///
/// Starts the daemon if none runs, tells each step, and returns when the tunnel is up. Running it
/// again is harmless.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Auth key to join with, or file:PATH of a file that holds it
    #[arg(
        long,
        env = "ZTNA_AUTH_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    auth_key: Option<String>,
    /// Sign in again, so that this machine's sign-in ends later; the tunnel stays up
    #[arg(long, env = "ZTNA_RENEW", value_parser = FalseyValueParser::new())]
    renew: bool,
    /// Org to join, if you signed in and are a member of several: its name, label or id
    #[arg(long, env = "ZTNA_ORG")]
    org: Option<String>,
    /// Name of this machine in the org; the system's by default
    #[arg(long, env = "ZTNA_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,
    /// User who may use `ztna up`, `down` and `logout --forget` without root; empty: nobody
    #[arg(long, env = "ZTNA_OPERATOR", value_name = "USER")]
    operator: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Stay, log to standard error, and take the tunnel down on Ctrl-C
    #[arg(long, env = "ZTNA_FOREGROUND", value_parser = FalseyValueParser::new())]
    pub foreground: bool,
    #[command(flatten)]
    pub daemon: DaemonFlags,
}

/// This machine's part in the network; what is not said stays as it was.
#[derive(Args)]
struct NetworkArgs {
    /// Offer to route these networks for others, with commas between; empty: none
    #[arg(long, env = "ZTNA_ADVERTISE_ROUTES", value_name = "NETWORKS")]
    advertise_routes: Option<String>,
    /// Offer to carry others' internet traffic
    #[arg(long, env = "ZTNA_ADVERTISE_EXIT_NODE", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    advertise_exit_node: Option<bool>,
    /// Send to the networks that other machines route
    #[arg(long, env = "ZTNA_ACCEPT_ROUTES", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    accept_routes: Option<bool>,
    /// Send everything else through this machine: its name or address; empty: none
    #[arg(long, env = "ZTNA_EXIT_NODE", value_name = "NAME")]
    exit_node: Option<String>,
    /// Have this machine's programs know the tailnet's names; by default they do
    #[arg(long, env = "ZTNA_ACCEPT_DNS", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    accept_dns: Option<bool>,
}

impl NetworkArgs {
    /// Puts what was said into the options.
    fn fill(&self, options: &mut UpOptions) -> anyhow::Result<()> {
        options.advertise_routes = self
            .advertise_routes
            .as_deref()
            .map(read_networks)
            .transpose()?;
        options.advertise_exit_node = self.advertise_exit_node;
        options.accept_routes = self.accept_routes;
        options.exit_node.clone_from(&self.exit_node);
        options.accept_dns = self.accept_dns;
        Ok(())
    }
}

/// Networks with commas between. An address alone is a network of one.
fn read_networks(text: &str) -> anyhow::Result<Vec<IpNet>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let network = |part: &str| {
        let address = part.parse::<IpAddr>().map(IpNet::from).ok();
        let network = part.parse().ok().or(address);
        network.with_context(|| {
            format!("{part:?} in --advertise-routes is no network; write it like 10.0.0.0/24")
        })
    };
    let networks: Vec<IpNet> = parts.map(network).collect::<anyhow::Result<_>>()?;
    check_routes(&networks, &[])?;
    Ok(networks)
}

const EXAMPLES: &str = "Examples:
  sudo ztna up                                                  again, or after `ztna login`
  sudo ztna up --server https://ztna.example --auth-key ztna-auth-…
  sudo ztna up --server https://10.0.0.1:8443 --server-pin sha256:… --auth-key file:/run/key
  sudo ztna up --renew                                          before the sign-in ends, after `ztna login`
  sudo ztna up --operator \"$USER\"                               from then on without sudo
  sudo ztna up --advertise-routes 10.0.0.0/24,192.168.7.0/24    route them for others
  sudo ztna up --accept-routes                                  reach what others route
  sudo ztna up --exit-node office                               everything through it; \"\": not
  sudo ztna up --foreground                                     in a container";

/// Longest file that an auth key is read from, in bytes.
const MAX_KEY_FILE: u64 = 4096;

pub async fn run(socket: &Path, args: UpArgs, wireguard: NewWireGuard) -> anyhow::Result<ExitCode> {
    let auth_key = args.auth_key.as_deref().map(read_auth_key).transpose()?;
    if let Some(url) = &args.server.server {
        // Told before anything is started.
        Server::parse(
            url,
            args.server.server_pin.as_deref(),
            args.server.allow_http,
        )?;
    }
    // Nothing is started for what makes no sense.
    args.network.fill(&mut UpOptions::default())?;
    if args.foreground {
        return foreground(socket, args, auth_key, wireguard).await;
    }
    let (client, started) = match Client::connect(socket).await {
        Ok(client) => {
            let special = args.daemon.special();
            if !special.is_empty() {
                ui::note(format_args!(
                    "{0}warning{0:#}: a daemon runs already, with settings of its own; {1} counts for one that this \
                     command starts",
                    ui::WARN,
                    special.join(", ")
                ));
            }
            (client, false)
        }
        Err(ClientError::NotRunning(_)) => {
            if !is_administrator() {
                bail!("no ztna daemon is running, and only root can start one; run {START}");
            }
            let client = start::detached(socket, &args.daemon).await?;
            (client, true)
        }
        Err(error) => return Err(error.into()),
    };
    let result = bring_up(socket, client, &args, auth_key).await;
    if result.is_err() && started {
        dismiss(socket).await;
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Runs the daemon in this process.
async fn foreground(
    socket: &Path,
    args: UpArgs,
    auth_key: Option<AuthKey>,
    wireguard: NewWireGuard,
) -> anyhow::Result<ExitCode> {
    init_log(None)?;
    let daemon = Daemon::start(args.daemon.options(socket, wireguard)).await?;
    let mut daemon = tokio::spawn(daemon.run());
    let up = async {
        let client = Client::connect(socket).await?;
        bring_up(socket, client, &args, auth_key).await
    };
    tokio::select! {
        up = up => {
            if let Err(error) = up {
                let _ = call(socket, Request::Shutdown).await;
                daemon.await??;
                return Err(error);
            }
        }
        ended = &mut daemon => {
            ended??;
            return Ok(ExitCode::SUCCESS);
        }
    }
    daemon.await??;
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(
    socket: &Path,
    client: Client,
    args: &UpArgs,
    auth_key: Option<AuthKey>,
) -> anyhow::Result<()> {
    let mut options = UpOptions {
        server: args.server.server.clone(),
        server_pin: args.server.server_pin.clone(),
        allow_http: args.server.allow_http,
        auth_key: auth_key.map(|key| Secret::new(key.expose().to_owned())),
        hostname: args.hostname.clone(),
        operator: args.operator.clone(),
        renew: args.renew,
        ..UpOptions::default()
    };
    args.network.fill(&mut options)?;
    if options.auth_key.is_none() {
        let status = super::ask_status(socket).await?;
        session::offer(&mut options, &status, args.org.as_deref()).await?;
    }
    let answers = client.call(Request::Up(options)).await?;
    follow(answers).await
}

/// Shows the steps until the last one.
async fn follow(answers: Answers) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let last = answers.last(|progress| steps.show(&progress)).await;
    steps.finish()?;
    match last? {
        Answer::Status(_) => Ok(()),
        _ => bail!("the ztna daemon's answer is not understood; restart it"),
    }
}

/// Steps on standard output: a line each once they are done; on a terminal also the one that is
/// on its way, which the next line replaces.
#[derive(Default)]
struct Steps {
    on_its_way: bool,
    broken: Option<std::io::Error>,
}

impl Steps {
    fn show(&mut self, progress: &Progress) {
        if let Err(error) = self.print(progress) {
            self.broken.get_or_insert(error);
        }
    }

    fn print(&mut self, progress: &Progress) -> std::io::Result<()> {
        let Progress { state, message, .. } = progress;
        if !ui::on_terminal() {
            return match state {
                // What follows says the same, and that it is done.
                StepState::Started => Ok(()),
                StepState::Done => ui::line(message),
                StepState::Warning => ui::line(format_args!("warning: {message}")),
            };
        }
        self.wipe()?;
        match state {
            StepState::Started => {
                self.on_its_way = true;
                ui::fleeting(format_args!("{0}… {message}{0:#}", ui::DIM))
            }
            StepState::Done => ui::line(format_args!("{0}✓{0:#} {message}", ui::GOOD)),
            StepState::Warning => ui::line(format_args!("{0}!{0:#} {message}", ui::WARN)),
        }
    }

    fn wipe(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.on_its_way) {
            ui::wipe()?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.wipe()
            .and(self.broken.map_or(Ok(()), Err))
            .context("cannot print the steps")
    }
}

/// Ends a daemon that this command started and that has nothing to do: it is registered nowhere.
async fn dismiss(socket: &Path) {
    let registered = super::ask_status(socket)
        .await
        .is_ok_and(|status| status.this.is_some());
    if !registered {
        // The command fails for a reason of its own, which is what the person has to read.
        let _ = call(socket, Request::Shutdown).await;
    }
}

async fn call(socket: &Path, request: Request) -> anyhow::Result<()> {
    match Client::connect(socket).await?.ask(request).await {
        // A daemon that ends may not find the time to say so.
        Ok(_) | Err(ClientError::Ended) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The auth key, or what is in the file that is named instead.
fn read_auth_key(text: &str) -> anyhow::Result<AuthKey> {
    let Some(path) = text.strip_prefix("file:").map(PathBuf::from) else {
        return parse(text).context("the auth key is malformed");
    };
    let content = zeroize::Zeroizing::new({
        let mut content = String::new();
        let file = std::fs::File::open(&path)
            .with_context(|| format!("cannot read the auth key's file {}", path.display()))?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_KEY_FILE), &mut content)
            .with_context(|| format!("cannot read the auth key's file {}", path.display()))?;
        content
    });
    parse(&content).with_context(|| format!("{} holds no auth key", path.display()))
}

/// The form that a key should have, without saying once more that this is none.
fn parse(text: &str) -> anyhow::Result<AuthKey> {
    text.trim().parse().map_err(|error| match error {
        KeyError::Form { expected, .. } => anyhow::anyhow!("expected {expected}"),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_keys_come_from_the_argument_or_a_file() {
        let key = AuthKey::generate(&mut rand::rng());
        assert!(read_auth_key(key.expose()).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{}\n", key.expose())).unwrap();
        let read = read_auth_key(&format!("file:{}", path.display())).unwrap();
        assert_eq!(read.expose(), key.expose());
    }

    #[test]
    fn networks_are_read_and_nonsense_is_told_with_the_next_step() {
        let texts = |text: &str| -> Vec<String> {
            let networks = read_networks(text).unwrap();
            networks.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            texts("10.0.0.0/24, fd00::/64"),
            ["10.0.0.0/24", "fd00::/64"]
        );
        assert_eq!(texts("10.0.0.9"), ["10.0.0.9/32"]);
        assert!(texts("").is_empty());
        for (bad, part) in [
            ("10.0.0/24", "is no network"),
            ("10.0.0.1/24", "write 10.0.0.0/24"),
        ] {
            let error = read_networks(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn malformed_keys_and_missing_files_are_one_line() {
        let message = |text: &str| {
            let Err(error) = read_auth_key(text) else {
                panic!("{text} was taken for an auth key");
            };
            format!("{error:#}")
        };
        assert_eq!(
            message("tskey-auth-x"),
            "the auth key is malformed: expected ztna-auth- and 43 characters; copy the whole key"
        );
        let missing = std::fs::read("/nowhere/key").unwrap_err();
        assert!(message("file:/nowhere/key").starts_with(&format!(
            "cannot read the auth key's file /nowhere/key: {missing}"
        )));
    }
}
