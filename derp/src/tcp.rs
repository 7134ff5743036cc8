//! Socket options that relay and client want alike.

use tokio::net::TcpStream;

/// Unacknowledged bytes end a connection after this time (`derp/derpserver`), so that a peer that
/// vanished is noticed by the next frame and not by the kernel's patience of many minutes.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// Bytes that the kernel takes before it can send them. What waits there has no turn among others
/// and no bound on its delay, so it is to wait in our queues; the kernel needs enough to be busy
/// until we come again.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 32 * 1024;

/// Has the kernel give up a peer that acknowledges nothing, and queue little.
#[cfg(target_os = "linux")]
pub(crate) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let set = socket
        .set_tcp_user_timeout(Some(USER_TIMEOUT))
        .and_then(|()| socket.set_tcp_notsent_lowat(NOT_SENT));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT");
    }
}

/// Other systems have no such options; silence deadlines notice a vanished peer, later.
#[cfg(not(target_os = "linux"))]
pub(crate) fn tune(_stream: &TcpStream) {}
