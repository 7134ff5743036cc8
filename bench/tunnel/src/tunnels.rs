//! The tunnels that are measured: all stand at once in the two namespaces, and all but one are idle.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::load;
use crate::net::{ENDS, End, Net, OUTER, output, wait_for};

/// Where programs are.
#[derive(clap::Args)]
pub struct Programs {
    /// Directory of our own programs
    #[arg(long, default_value = "target/release", value_name = "DIR")]
    pub ztna: PathBuf,
    /// Our daemon without its cipher
    #[arg(long, default_value = "ztna-bench-null", value_name = "FILE")]
    pub null: PathBuf,
    /// wireguard-go
    #[arg(long, default_value = "wireguard-go", value_name = "FILE")]
    pub wireguard_go: PathBuf,
    /// boringtun's program
    #[arg(long, default_value = "boringtun-cli", value_name = "FILE")]
    pub boringtun: PathBuf,
    /// gotatun's program
    #[arg(long, default_value = "gotatun", value_name = "FILE")]
    pub gotatun: PathBuf,
    /// nebula
    #[arg(long, default_value = "nebula", value_name = "FILE")]
    pub nebula: PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Ztna,
    /// Our daemon with a cipher that does nothing
    Null,
    WireguardGo,
    Boringtun,
    Gotatun,
    Nebula,
    /// No tunnel at all: what the machine can do
    Veth,
}

/// In the order of the report; ours first.
pub const KINDS: &[Kind] = &[
    Kind::Ztna,
    Kind::Null,
    Kind::WireguardGo,
    Kind::Boringtun,
    Kind::Gotatun,
    Kind::Nebula,
    Kind::Veth,
];

impl Kind {
    /// As the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ztna => "ztna",
            Self::Null => "ztna, null cipher",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::Nebula => "nebula",
            Self::Veth => "plain veth",
        }
    }

    /// Whether the bars count it.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Ztna | Self::Null | Self::Veth)
    }
}

/// A tunnel that stands.
pub struct Tunnel {
    /// Which.
    pub kind: Kind,
    /// The addresses inside, of both ends.
    pub inner: [Ipv4Addr; 2],
    /// The daemons; none of plain veth.
    pub daemons: Vec<u32>,
}

impl Tunnel {
    /// Brings one up and waits until it carries packets.
    pub fn up(kind: Kind, net: &mut Net, programs: &Programs) -> Result<Self> {
        let tunnel = match kind {
            Kind::Ztna => ztna(kind, net, &programs.ztna, &programs.ztna.join("ztna"))?,
            Kind::Null => ztna(kind, net, &programs.ztna, &programs.null)?,
            Kind::WireguardGo => wireguard(kind, net, &programs.wireguard_go, &["-f"], "go", 51)?,
            Kind::Boringtun => {
                let args = ["-f", "--disable-drop-privileges"];
                wireguard(kind, net, &programs.boringtun, &args, "boring", 52)?
            }
            Kind::Gotatun => {
                let args = ["-f", "--disable-drop-privileges"];
                wireguard(kind, net, &programs.gotatun, &args, "gota", 53)?
            }
            Kind::Nebula => nebula(net, &programs.nebula)?,
            Kind::Veth => Self {
                kind,
                inner: OUTER,
                daemons: Vec::new(),
            },
        };
        let to = tunnel.inner[1].to_string();
        wait_for("the tunnel answers a ping", || {
            let mut ping = net.command(End::A, "ping");
            output(ping.args(["-n", "-c", "1", "-W", "1", &to])).ok()
        })?;
        Ok(tunnel)
    }

    /// CPU time of the daemons so far, in seconds.
    pub fn cpu_time(&self) -> Result<f64> {
        self.daemons.iter().map(|pid| load::cpu_time(*pid)).sum()
    }

    /// Resident memory of the larger daemon, in bytes.
    pub fn resident(&self) -> Result<f64> {
        let sizes: Result<Vec<f64>> = self
            .daemons
            .iter()
            .map(|pid| load::resident(*pid))
            .collect();
        Ok(sizes?.into_iter().fold(0.0, f64::max))
    }
}

/// WireGuard by a program that `wg` configures, with the MTU that its standard tools give it.
fn wireguard(
    kind: Kind,
    net: &mut Net,
    program: &Path,
    args: &[&str],
    device: &str,
    subnet: u8,
) -> Result<Tunnel> {
    let inner = [1, 2].map(|last| Ipv4Addr::new(10, 99, subnet, last));
    let port = 51_800 + u16::from(subnet);
    let mut daemons = Vec::new();
    let mut public = Vec::new();
    for end in ENDS {
        let key = net.path(&format!("{device}-{end:?}.key"));
        std::fs::write(&key, output(Command::new("wg").arg("genkey"))?)?;
        let file = std::fs::File::open(&key)?;
        public.push(output(Command::new("wg").arg("pubkey").stdin(file))?);
        let name = format!("{device}{end:?}");
        let mut command = net.command(end, program);
        command.args(args).arg(&name);
        daemons.push(net.start(&name, command)?);
    }
    for end in ENDS {
        let name = format!("{device}{end:?}");
        let other = 1 - end as usize;
        let key = net.path(&format!("{device}-{end:?}.key"));
        wait_for(&format!("{} takes its settings", kind.name()), || {
            let mut wg = net.command(end, "wg");
            wg.args(["set", &name, "listen-port", &port.to_string()])
                .arg("private-key")
                .arg(&key)
                .args(["peer", public[other].trim()])
                .args(["allowed-ips", &format!("{}/32", inner[other])])
                .args(["endpoint", &format!("{}:{port}", OUTER[other])]);
            output(&mut wg).ok()
        })?;
        net.ip(
            end,
            &format!("address add {}/24 dev {name}", inner[end as usize]),
        )?;
        net.ip(end, &format!("link set {name} mtu 1420 up"))?;
    }
    Ok(Tunnel {
        kind,
        inner,
        daemons,
    })
}

/// nebula with its defaults, without a firewall and without a lighthouse: both ends are known.
fn nebula(net: &mut Net, program: &Path) -> Result<Tunnel> {
    let inner = [1, 2].map(|last| Ipv4Addr::new(10, 99, 54, last));
    let cert = program.with_file_name(format!(
        "{}-cert",
        program.file_name().unwrap_or_default().to_string_lossy()
    ));
    let dir = net.path("nebula");
    std::fs::create_dir_all(&dir)?;
    output(
        Command::new(&cert)
            .args(["ca", "-name", "bench"])
            .current_dir(&dir),
    )?;
    let mut daemons = Vec::new();
    for end in ENDS {
        let (own, other) = (end as usize, 1 - end as usize);
        let name = format!("{end:?}");
        let address = format!("{}/24", inner[own]);
        output(
            Command::new(&cert)
                .args(["sign", "-name", &name, "-ip", &address])
                .current_dir(&dir),
        )?;
        let pki = |file: &str| dir.join(file).to_string_lossy().into_owned();
        let anything = json!([{ "port": "any", "proto": "any", "host": "any" }]);
        let mut hosts = serde_json::Map::new();
        hosts.insert(
            inner[other].to_string(),
            json!([format!("{}:4242", OUTER[other])]),
        );
        // JSON is YAML.
        let config = json!({
            "pki": { "ca": pki("ca.crt"), "cert": pki(&format!("{name}.crt")), "key": pki(&format!("{name}.key")) },
            "static_host_map": hosts,
            "lighthouse": { "am_lighthouse": false },
            "listen": { "host": "0.0.0.0", "port": 4242 },
            "tun": { "dev": format!("neb{name}") },
            "logging": { "level": "error" },
            "firewall": { "outbound": anything, "inbound": anything },
        });
        let file = dir.join(format!("{name}.yml"));
        std::fs::write(&file, config.to_string())?;
        let mut command = net.command(end, program);
        command.arg("-config").arg(&file);
        daemons.push(net.start(&format!("nebula-{name}"), command)?);
    }
    Ok(Tunnel {
        kind: Kind::Nebula,
        inner,
        daemons,
    })
}

/// `ztna-server` at the far end, and what enrols machines there.
pub struct Server {
    pub url: String,
    pub auth_key: String,
    pin: String,
}

/// Starts a server with an org.
pub fn server(net: &mut Net, programs: &Path) -> Result<Server> {
    let data = net.path("server");
    let mut command = net.command(End::B, programs.join("ztna-server"));
    command.arg("--data-dir").arg(&data).args([
        "--listen",
        "0.0.0.0:443",
        "--public-host",
        &OUTER[1].to_string(),
    ]);
    net.start("ztna-server", command)?;
    let ready: Value = wait_for("ztna-server is ready", || {
        serde_json::from_str(&std::fs::read_to_string(data.join("server.json")).ok()?).ok()
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (url, pin) = (text(&ready["url"]), text(&ready["pin"]));
    let post = |path: &str, token: Option<&str>, body: Value| -> Result<Value> {
        let mut curl = net.command(End::B, "curl");
        // The certificate is the server's own, and the network is ours.
        curl.args([
            "-sSk",
            "--noproxy",
            "*",
            "-H",
            "content-type: application/json",
        ])
        .args(["-d", &body.to_string()])
        .arg(format!("{url}{path}"));
        if let Some(token) = token {
            curl.args(["-H", &format!("authorization: Bearer {token}")]);
        }
        let answer: Value = serde_json::from_str(&output(&mut curl)?)?;
        let data = answer.get("data").cloned();
        data.with_context(|| format!("{path}: {answer}"))
    };
    let account = json!({ "email": "bench@example.com", "password": "correct horse battery" });
    post("/api/auth/signup", None, account.clone())?;
    let token = text(&post("/api/auth/login", None, account)?["access_token"]);
    let org = text(&post("/api/orgs", Some(&token), json!({ "name": "bench" }))?["id"]);
    let key = json!({ "reusable": true, "description": "bench" });
    let key = post(&format!("/api/orgs/{org}/auth-keys"), Some(&token), key)?;
    Ok(Server {
        auth_key: text(&key["key"]),
        url,
        pin,
    })
}

impl Server {
    /// Enrols the machine at this end, whose daemon runs. Gives its address.
    pub fn enrol(&self, net: &Net, end: End, program: &Path) -> Result<Ipv4Addr> {
        let mut up = ztna_command(net, end, program);
        up.args(["up", "--server", &self.url, "--server-pin", &self.pin])
            .args([
                "--auth-key",
                &self.auth_key,
                "--hostname",
                &format!("bench-{end:?}").to_lowercase(),
            ]);
        output(&mut up)?;
        let status = status(net, end, program)?;
        Ok(status["this"]["ipv4"]
            .as_str()
            .unwrap_or_default()
            .parse()?)
    }
}

/// Starts our daemon at this end and waits until it answers.
pub fn start_daemon(net: &mut Net, end: End, program: &Path) -> Result<u32> {
    let mut daemon = ztna_command(net, end, program);
    daemon
        .arg("daemon")
        .arg("--state-dir")
        .arg(net.path(&format!("ztna-{end:?}")))
        .args(["--tun", "ztna0"]);
    let pid = net.start(&format!("ztna-{end:?}"), daemon)?;
    let socket = socket(net, end);
    wait_for("the daemon opens its socket", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    })?;
    Ok(pid)
}

/// A server at the far end, and a daemon at each: `program`.
fn ztna(kind: Kind, net: &mut Net, programs: &Path, program: &Path) -> Result<Tunnel> {
    let server = server(net, programs)?;
    let mut daemons = Vec::new();
    let mut inner = Vec::new();
    for end in ENDS {
        daemons.push(start_daemon(net, end, program)?);
        inner.push(server.enrol(net, end, program)?);
    }
    let inner: [Ipv4Addr; 2] = [inner[0], inner[1]];
    wait_for("the path is direct", || {
        let mut ping = net.command(End::A, "ping");
        // Traffic makes the daemons look for a path; the first may be lost.
        let _ = output(ping.args(["-n", "-c", "1", "-W", "1", &inner[1].to_string()]));
        let status = status(net, End::A, program).ok()?;
        (status["peers"][0]["path"]["kind"] == "direct").then_some(())
    })?;
    Ok(Tunnel {
        kind,
        inner,
        daemons,
    })
}

/// Time from `ztna up` to the first answered ping, in milliseconds. Daemon and netmap are at hand.
pub fn first_ping(net: &Net, tunnel: &Tunnel, programs: &Path) -> Result<f64> {
    let program = &programs.join("ztna");
    output(ztna_command(net, End::A, program).arg("down"))?;
    let to = tunnel.inner[1].to_string();
    let start = Instant::now();
    // Standard output is for the report.
    let mut up = ztna_command(net, End::A, program)
        .arg("up")
        .stdout(Stdio::null())
        .spawn()?;
    wait_for("a ping after `ztna up`", || {
        let mut ping = net.command(End::A, "ping");
        output(ping.args(["-n", "-c", "1", "-W", "2", &to])).ok()
    })?;
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    up.wait()?;
    Ok(elapsed)
}

fn socket(net: &Net, end: End) -> PathBuf {
    net.path(&format!("ztna-{end:?}.sock"))
}

/// Our program, speaking with the daemon at this end.
fn ztna_command(net: &Net, end: End, program: &Path) -> Command {
    let mut command = net.command(end, program);
    command
        .env("NO_COLOR", "1")
        // Both ends share the machine's files.
        .env("ZTNA_RESOLV_CONF", "/dev/null")
        .arg("--socket")
        .arg(socket(net, end));
    command
}

/// What the daemon at this end says.
pub fn status(net: &Net, end: End, program: &Path) -> Result<Value> {
    let said = output(ztna_command(net, end, program).args(["status", "--json"]))?;
    Ok(serde_json::from_str(&said)?)
}
