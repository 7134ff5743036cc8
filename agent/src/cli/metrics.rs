//! `ztna metrics`

use std::fmt::{self, Display, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use ztna_local::{Client, ClientError, DaemonState, PathKind, PskState, Status, Traffic};

use super::{ask_status, ui};
use crate::daemon::replace_file;

/// What others may do with the file: read it, as node_exporter does.
const FILE_MODE: u32 = 0o644;

/// Gives the daemon's figures to Prometheus
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct MetricsArgs {
    #[command(subcommand)]
    command: MetricsCommand,
}

#[derive(Subcommand)]
enum MetricsCommand {
    Print(PrintArgs),
    Write(WriteArgs),
}

/// Prints the figures in Prometheus' text format
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct PrintArgs {}

/// Writes the figures to a file, whole or not at all
///
/// For the textfile collector of node_exporter, whose folder is where FILE belongs; its name has to
/// end in .prom. Have it done once a minute, by cron or a systemd timer. While no daemon runs,
/// the file says so (ztna_agent_up 0), and the exit status is 1.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct WriteArgs {
    /// The file
    file: PathBuf,
}

const EXAMPLES: &str = "Examples:
  ztna metrics print
  ztna metrics print | promtool check metrics
  sudo ztna metrics write /var/lib/prometheus/node-exporter/ztna.prom
  * * * * * root ztna metrics write /var/lib/prometheus/node-exporter/ztna.prom       in /etc/cron.d/ztna";

pub async fn run(socket: &Path, args: MetricsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        MetricsCommand::Print(PrintArgs {}) => {
            let page = page(Some(&ask_status(socket).await?));
            ui::line(page.trim_end())?;
        }
        MetricsCommand::Write(args) => write(socket, &args.file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn write(socket: &Path, file: &Path) -> anyhow::Result<()> {
    // Whoever tries this on /dev/null keeps it.
    if file.metadata().is_ok_and(|there| !there.is_file()) {
        bail!(
            "{} is there and no file, which is not for this to replace; name a file, or look at the figures with \
             `ztna metrics print`",
            file.display()
        );
    }
    let asked = async { Client::connect(socket).await?.status().await }.await;
    // What a monitoring should hear of; other errors are this command's own.
    let is_away = matches!(asked, Err(ClientError::NotRunning(_) | ClientError::Ended));
    let text = match &asked {
        Ok(status) => page(Some(status)),
        Err(_) if is_away => page(None),
        Err(_) => return Ok(asked.map(drop)?),
    };
    replace_file(file, text.as_bytes(), FILE_MODE)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(asked.map(drop)?)
}

/// What a figure may do.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// Prometheus' text format
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
#[derive(Default)]
struct Page(String);

impl Page {
    /// Figures of one name, by their labels.
    fn family<V: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(
            self.0,
            "# HELP ztna_agent_{name} {help}\n# TYPE ztna_agent_{name} {kind}"
        );
        for (labels, value) in samples {
            let _ = writeln!(self.0, "ztna_agent_{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(Kind::Gauge, name, help, [(Labels::default(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(Kind::Counter, name, help, [(Labels::default(), value)]);
    }
}

/// What tells figures of one name apart.
#[derive(Default)]
struct Labels(Vec<(&'static str, String)>);

impl Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |value: &str| {
            let value = value.replace('\\', "\\\\");
            value.replace('"', "\\\"").replace('\n', "\\n")
        };
        let pairs = self.0.iter();
        let texts: Vec<String> = pairs
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        match texts.is_empty() {
            true => Ok(()),
            false => write!(f, "{{{}}}", texts.join(",")),
        }
    }
}

fn label(name: &'static str, value: impl Into<String>) -> Labels {
    Labels(vec![(name, value.into())])
}

/// All figures. `None`: there is no daemon.
fn page(status: Option<&Status>) -> String {
    let mut page = Page::default();
    page.gauge(
        "up",
        "Whether the daemon answers.",
        u8::from(status.is_some()),
    );
    if let Some(status) = status {
        of_machine(&mut page, status);
        of_links(&mut page, status);
        of_peers(&mut page, status);
        of_traffic(&mut page, status);
    }
    page.0
}

fn of_machine(page: &mut Page, status: &Status) {
    let version = [(label("version", &status.version), 1)];
    page.family(Kind::Gauge, "build_info", "The daemon's version.", version);
    let states = STATES.iter().map(|(state, name)| {
        let is = u8::from(*state == status.state);
        (label("state", *name), is)
    });
    page.family(
        Kind::Gauge,
        "state",
        "What the daemon is about: 1 at its state.",
        states,
    );
    let warnings = status.warnings.len();
    page.gauge(
        "warnings",
        "What a person should look at (ztna status tells what).",
        warnings,
    );
    let failures = status.posture.len();
    page.gauge(
        "posture_failures",
        "Posture policies of the org that this machine fails.",
        failures,
    );
    if let Some(bytes) = status.totals.memory_bytes {
        page.gauge("resident_memory_bytes", "The daemon's memory.", bytes);
    }
    let expires = status.this.as_ref().and_then(|this| this.key_expires_at);
    if let Some(at) = expires {
        let help = "When this machine has to sign in again.";
        page.gauge("key_expiry_timestamp_seconds", help, at.as_second());
    }
}

fn of_links(page: &mut Page, status: &Status) {
    let (control, relay, totals) = (&status.control, &status.relay, &status.totals);
    let connected = u8::from(control.connected);
    page.gauge(
        "control_connected",
        "Whether the machine stream to the control plane stands.",
        connected,
    );
    let help = "How often the machine stream came to stand; each after the first was a reconnect.";
    page.counter("control_streams_total", help, totals.streams);
    if let Some(seq) = totals.netmap_seq {
        page.gauge(
            "netmap_seq",
            "Number of the last change in the netmap.",
            seq,
        );
    }
    let connected = u8::from(relay.connected);
    page.gauge(
        "relay_connected",
        "Whether the home region's relay has admitted this machine.",
        connected,
    );
    if let (Some(code), Some(ms)) = (&relay.home_code, relay.home_latency_ms) {
        let sample = [(label("region", code), ms / 1000.0)];
        page.family(
            Kind::Gauge,
            "relay_latency_seconds",
            "Round trip to the home region.",
            sample,
        );
    }
}

fn of_peers(page: &mut Page, status: &Status) {
    let count = |is: &dyn Fn(&ztna_local::PeerStatus) -> bool| {
        status.peers.iter().filter(|peer| is(peer)).count()
    };
    let paths = [
        ("direct", PathKind::Direct),
        ("relay", PathKind::Relay),
        ("none", PathKind::None),
    ];
    let paths =
        paths.map(|(name, kind)| (label("path", name), count(&|peer| peer.path.kind == kind)));
    page.family(
        Kind::Gauge,
        "peers",
        "Machines that policy joins with this one, by path.",
        paths,
    );
    page.gauge(
        "peers_online",
        "Those that the control plane hears of.",
        count(&|peer| peer.online),
    );
    let keys = [
        ("established", PskState::Established),
        ("pending", PskState::Pending),
        ("none", PskState::None),
    ];
    let keys =
        keys.map(|(name, state)| (label("psk", name), count(&|peer| peer.psk.state == state)));
    page.family(
        Kind::Gauge,
        "peers_psk",
        "Peers by the state of their preshared key.",
        keys,
    );
    let oldest = status
        .peers
        .iter()
        .filter_map(|peer| peer.psk.age_seconds)
        .max();
    let help = "Age of the oldest preshared key that is in use.";
    page.family(
        Kind::Gauge,
        "psk_oldest_seconds",
        help,
        oldest.map(|age| (Labels::default(), age)),
    );
    let help = "Preshared keys that hybrid handshakes made.";
    page.counter("handshakes_total", help, status.totals.epochs);
}

fn of_traffic(page: &mut Page, status: &Status) {
    let totals = &status.totals;
    let samples = |sent: fn(&Traffic) -> u64, received: fn(&Traffic) -> u64| {
        [("direct", &totals.direct), ("relay", &totals.relay)]
            .into_iter()
            .flat_map(move |(path, traffic)| {
                let labels = |way: &str| {
                    Labels(vec![
                        ("path", path.to_owned()),
                        ("direction", way.to_owned()),
                    ])
                };
                [
                    (labels("sent"), sent(traffic)),
                    (labels("received"), received(traffic)),
                ]
            })
    };
    let packets = samples(|it| it.sent_packets, |it| it.received_packets);
    page.family(
        Kind::Counter,
        "packets_total",
        "IP packets to and from peers.",
        packets,
    );
    let bytes = samples(|it| it.sent_bytes, |it| it.received_bytes);
    page.family(
        Kind::Counter,
        "traffic_bytes_total",
        "Bytes of IP packets to and from peers.",
        bytes,
    );
    let drops = totals.drops.iter();
    let drops = drops.map(|(reason, count)| (label("reason", reason), *count));
    page.family(
        Kind::Counter,
        "dropped_packets_total",
        "Packets that were dropped, by reason.",
        drops,
    );
}

const STATES: [(DaemonState, &str); 9] = [
    (DaemonState::Running, "running"),
    (DaemonState::Starting, "starting"),
    (DaemonState::Stopped, "stopped"),
    (DaemonState::NeedsLogin, "needs_login"),
    (DaemonState::Pending, "pending"),
    (DaemonState::Quarantined, "quarantined"),
    (DaemonState::Locked, "locked"),
    (DaemonState::Disabled, "disabled"),
    (DaemonState::Error, "error"),
];

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn busy() -> Status {
        let mut status = Status {
            state: DaemonState::Running,
            version: "0.1.0 \"x\"\\".to_owned(),
            ..Status::default()
        };
        status.totals.direct.sent_bytes = 7;
        status.totals.relay.received_packets = 8;
        status.totals.drops.insert("no_rule".to_owned(), 9);
        status.totals.netmap_seq = Some(10);
        status.totals.memory_bytes = Some(11);
        status.relay.home_code = Some("lon".to_owned());
        status.relay.home_latency_ms = Some(12.5);
        status
    }

    #[test]
    fn figures_are_what_the_daemon_says() {
        let text = page(Some(&busy()));
        for line in [
            "ztna_agent_up 1",
            "ztna_agent_state{state=\"running\"} 1",
            "ztna_agent_state{state=\"error\"} 0",
            "ztna_agent_build_info{version=\"0.1.0 \\\"x\\\"\\\\\"} 1",
            "ztna_agent_traffic_bytes_total{path=\"direct\",direction=\"sent\"} 7",
            "ztna_agent_packets_total{path=\"relay\",direction=\"received\"} 8",
            "ztna_agent_dropped_packets_total{reason=\"no_rule\"} 9",
            "ztna_agent_netmap_seq 10",
            "ztna_agent_resident_memory_bytes 11",
            "ztna_agent_relay_latency_seconds{region=\"lon\"} 0.0125",
            "ztna_agent_peers{path=\"direct\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("psk_oldest"), "there is none: {text}");
        let names = STATES
            .iter()
            .map(|(state, _)| serde_json::to_value(state).unwrap());
        let named: Vec<_> = STATES
            .iter()
            .map(|(_, name)| serde_json::Value::from(*name))
            .collect();
        assert_eq!(names.collect::<Vec<_>>(), named);
    }

    /// Where Prometheus' own tool is not here, the deployment's checks hold the page against it.
    #[test]
    fn prometheus_takes_the_page() {
        use std::io::Write;
        for text in [page(Some(&busy())), page(None)] {
            let tool = Command::new("promtool")
                .args(["check", "metrics"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            let Ok(mut tool) = tool else {
                return;
            };
            tool.stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            let done = tool.wait_with_output().unwrap();
            assert!(
                done.status.success() && done.stderr.is_empty(),
                "{done:?}\n{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_tells_that_no_daemon_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ztna.prom");
        let none = folder.path().join("none.sock");
        let error = write(&none, &file).await.unwrap_err();
        assert!(
            error.to_string().contains("no ztna daemon is running"),
            "{error}"
        );
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("ztna_agent_up 0\n"), "{text}");
        let error = write(&none, folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("name a file"), "{error}");
    }
}
