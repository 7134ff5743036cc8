//! Socket options that relay and client want alike.

use tokio::net::TcpStream;

/// Unacknowledged bytes end a connection after this time (`derp/derpserver`), so that a peer that
/// vanished is noticed by the next frame and not by the kernel's patience of many minutes.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Has the kernel give up a peer that acknowledges nothing.
#[cfg(target_os = "linux")]
pub(crate) fn notice_vanished(stream: &TcpStream) {
    let set = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT");
    }
}

/// Other systems have no such option; silence deadlines notice it, later.
#[cfg(not(target_os = "linux"))]
pub(crate) fn notice_vanished(_stream: &TcpStream) {}
