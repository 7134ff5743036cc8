//! The daemon's socket API, spoken by the command line and the tray.
//!
//! A client connects to a Unix socket (on Windows a named pipe) and sends one [`Call`] as one line of JSON. The daemon answers
//! with one line per [`Answer`]; the last one [ends the call](Answer::ends_call), and the daemon
//! closes the connection. Both directions have a bound on the length of a line.
//!
//! Who may do what is decided by the kernel's word on who connected (`SO_PEERCRED`), not by the
//! socket's permissions: everybody on the machine may read, root and the operator whom root named
//! may change. On Windows administrators alone connect.

#[cfg(windows)]
pub mod access;
mod client;
mod netcheck;
mod paths;
mod protocol;
mod server;
mod status;
mod transport;

pub use client::{Answers, Client, ClientError};
pub use netcheck::{NatKind, NetcheckReport, PortMappings, RegionDistance, StunStatus};
pub use paths::{
    CandidateOrigin, CandidateState, CandidateStatus, Heard, PathsOptions, PathsReport,
};
pub use protocol::{
    Answer, Call, Failure, FailureKind, NetcheckOptions, PingOptions, Pong, Progress, Request,
    Secret, Step, StepState, UpOptions, VERSION, VersionAnswer,
};
pub use server::{
    Caller, Listener, ListenerError, MAX_CLIENTS, MAX_CLIENTS_PER_USER, Replies, Service,
};
pub use status::{
    AdvertisedRoute, ControlStatus, DaemonState, NetworkStatus, PathKind, PathStatus, PeerStatus,
    PostureStatus, PskState, PskStatus, RelayStatus, RelayTransport, Status, ThisMachine, Totals,
    Traffic,
};
pub use transport::{DEFAULT_SOCKET, START};

/// Longest request, in bytes. The longest holds an access token of a few KiB.
pub const MAX_REQUEST: usize = 64 * 1024;

/// Longest answer, in bytes: the status of a machine with some ten thousand peers.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
