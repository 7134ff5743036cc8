//! Requests and answers.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};
use ztna_proto::{OrgId, RegionId};

use crate::netcheck::NetcheckReport;
use crate::paths::{PathsOptions, PathsReport};
use crate::status::{PathKind, PostureStatus, Status};

/// Version of this protocol. A daemon refuses other versions: both sides come from one package, and
/// a difference means that the daemon has to be restarted.
pub const VERSION: u32 = 1;

/// What a client sends: one line.
#[derive(Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What it wants.
    pub request: Request,
}

/// What a client wants.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// How things stand. Answer: [`Answer::Status`].
    Status,
    /// Registers if needed, brings the tunnel up and keeps it up. Answers: [`Answer::Progress`]…,
    /// then [`Answer::Status`].
    Up(UpOptions),
    /// Takes the tunnel down and keeps it down. Answers: [`Answer::Done`].
    Down,
    /// Takes the tunnel down and forgets the registration, keys included. Answer: [`Answer::Done`].
    Forget,
    /// Pings a peer through the tunnel. Answers: [`Answer::Pong`] per request, [`Answer::Done`].
    Ping(PingOptions),
    /// What the network lets through, and how far the relay regions are. Answer:
    /// [`Answer::Netcheck`].
    Netcheck(NetcheckOptions),
    /// Why packets to a peer go the way they go. Answer: [`Answer::Paths`].
    Paths(PathsOptions),
    /// What the machine tells of its own health. Answer: [`Answer::Posture`].
    Posture,
    /// Which build the daemon is. Answer: [`Answer::Version`].
    Version,
    /// Ends the daemon. The tunnel comes back at its next start. Answer: [`Answer::Done`].
    Shutdown,
}

impl Request {
    /// Whether only root and the operator may ask for it.
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Ping(_)
            | Self::Netcheck(_)
            | Self::Paths(_)
            | Self::Posture
            | Self::Version => false,
            Self::Up(_) | Self::Down | Self::Forget | Self::Shutdown => true,
        }
    }
}

/// A bearer secret on its way to the daemon. No `Debug`, wiped on drop.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes over a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What `up` is to use. What is not said stays as it was.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpOptions {
    /// URL of the control plane.
    #[serde(default)]
    pub server: Option<String>,
    /// Pin of its certificate: `sha256:` and 64 hex digits.
    #[serde(default)]
    pub server_pin: Option<String>,
    /// Whether plain HTTP is good enough for a server elsewhere than on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Auth key to register with.
    #[serde(default)]
    pub auth_key: Option<Secret>,
    /// A user's access token to register with.
    #[serde(default)]
    pub access_token: Option<Secret>,
    /// The org to join, with an access token.
    #[serde(default)]
    pub org: Option<OrgId>,
    /// Whether a machine that is registered registers again, so that its sign-in ends later.
    #[serde(default)]
    pub renew: bool,
    /// Wanted name in the org.
    #[serde(default)]
    pub hostname: Option<String>,
    /// User who may change things beside root, by name or number. Empty: nobody.
    #[serde(default)]
    pub operator: Option<String>,
    /// Networks that this machine offers to route, in place of those before.
    #[serde(default)]
    pub advertise_routes: Option<Vec<IpNet>>,
    /// Whether it offers to be an exit node.
    #[serde(default)]
    pub advertise_exit_node: Option<bool>,
    /// Whether it sends to networks that others route.
    #[serde(default)]
    pub accept_routes: Option<bool>,
    /// The peer that everything else goes through: name, DNS name or tailnet address. Empty: none.
    #[serde(default)]
    pub exit_node: Option<String>,
    /// Whether this machine's programs ask the tailnet's names.
    #[serde(default)]
    pub accept_dns: Option<bool>,
}

/// What `ping` is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingOptions {
    /// The peer: name, DNS name or tailnet address.
    pub peer: String,
    /// How many requests, 1 to [`PingOptions::MAX_COUNT`].
    pub count: u32,
    /// Milliseconds to wait for each answer, up to [`PingOptions::MAX_TIMEOUT_MS`].
    pub timeout_ms: u32,
}

impl PingOptions {
    /// Most requests of one call.
    pub const MAX_COUNT: u32 = 1000;
    /// Longest wait for an answer.
    pub const MAX_TIMEOUT_MS: u32 = 60_000;
}

/// Which network check is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetcheckOptions {
    /// The last one that the daemon made for itself. Else it makes one now, which takes up to five
    /// seconds.
    #[serde(default)]
    pub last: bool,
}

/// One line of the daemon's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum Answer {
    /// A step of `up`.
    Progress(Progress),
    /// How things stand.
    Status(Box<Status>),
    /// What became of one ping.
    Pong(Pong),
    /// What the network lets through.
    Netcheck(Box<NetcheckReport>),
    /// Why packets go the way they go.
    Paths(Box<PathsReport>),
    /// What the machine tells of its own health.
    Posture(Box<PostureStatus>),
    /// Which build the daemon is.
    Version(VersionAnswer),
    /// It is done.
    Done,
    /// It was not done.
    Failed(Failure),
}

impl Answer {
    /// Whether nothing follows.
    #[must_use]
    pub fn ends_call(&self) -> bool {
        !matches!(self, Self::Progress(_) | Self::Pong(_))
    }
}

/// How far `up` has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which step.
    pub step: Step,
    /// How it stands.
    pub state: StepState,
    /// For people, one line.
    pub message: String,
}

/// The steps of `up`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The machine has keys and a place in the org.
    Register,
    /// The TUN device is up with addresses and routes.
    Tunnel,
    /// The machine stream stands and the netmap has come.
    Control,
    /// What this machine routes for others, and sends to others, is in force.
    Network,
    /// A relay has admitted this machine.
    Relay,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has begun.
    Started,
    /// It is done.
    Done,
    /// It is not done, and the tunnel is up without it.
    Warning,
}

/// What became of one ping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    /// The peer's name.
    pub peer: String,
    /// The address that was pinged.
    pub address: std::net::IpAddr,
    /// Number of the request, from 1.
    pub seq: u32,
    /// Milliseconds until the answer. `None`: none came in time.
    pub latency_ms: Option<f64>,
    /// The path that the answer came by; without an answer, the one that the request went.
    pub path: PathKind,
    /// The peer's address on a direct path.
    pub addr: Option<std::net::SocketAddr>,
    /// The relay's region on a relayed path.
    pub region: Option<RegionId>,
    /// Its code.
    pub region_code: Option<String>,
}

/// Which build the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionAnswer {
    /// Version of the package.
    pub version: String,
    /// [`VERSION`] of its socket API.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub kind: FailureKind,
    /// For people: what happened, and what to do next. One line.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// Why something was not done, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Only root and the operator may do it.
    NotPermitted,
    /// The daemon does not understand the call.
    BadRequest,
    /// Too many clients at once.
    Busy,
    /// The machine has to register first, by auth key or sign-in.
    NeedsLogin,
    /// No such peer.
    NotFound,
    /// The tunnel is not up.
    NotRunning,
    /// Anything else; the message says it.
    #[serde(other)]
    Failed,
}
