//! What a daemon listens at and a client connects to: a Unix socket, on Windows a named pipe.
//!
//! Either tells the daemon who connected, by the system's word.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{ClientStream, ServerStream, Socket, connect, own_user};
#[cfg(windows)]
pub use windows::{ClientStream, ServerStream, Socket, connect, own_user};

/// Where the daemon listens if nothing else is said.
#[cfg(target_os = "linux")]
pub const DEFAULT_SOCKET: &str = "/run/ztna/ztna.sock";
/// Where the daemon listens if nothing else is said.
#[cfg(all(unix, not(target_os = "linux")))]
pub const DEFAULT_SOCKET: &str = "/var/run/ztna/ztna.sock";
/// Where the daemon listens if nothing else is said.
#[cfg(windows)]
pub const DEFAULT_SOCKET: &str = r"\\.\pipe\ztna";

/// How a person starts a daemon.
pub const START: &str = if cfg!(windows) {
    "`ztna up`, in a terminal of an administrator"
} else {
    "`sudo ztna up`"
};
