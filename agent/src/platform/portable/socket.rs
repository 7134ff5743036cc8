//! Options of sockets.

use std::io;

use socket2::SockRef;

/// Least that is asked for, in bytes: what systems give without being asked.
const LEAST: usize = 256 << 10;

/// What a socket sends stays outside the tunnel anyway: nothing but the tailnet is routed into it.
///
/// # Errors
/// On Windows, the system refused an option.
pub fn keep_outside(socket: &SockRef<'_>) -> io::Result<()> {
    #[cfg(windows)]
    crate::platform::windows::ignore_unreachable(socket)?;
    #[cfg(not(windows))]
    let _ = socket;
    Ok(())
}

/// Asks for larger buffers, in bytes. macOS refuses what is more than it gives (`kern.ipc.maxsockbuf`), so less
/// is asked for then.
pub fn grow_buffers(socket: &SockRef<'_>, receive: usize, send: usize) {
    let halves = |wanted: usize| {
        let mut next = Some(wanted);
        std::iter::from_fn(move || {
            let size = next?;
            next = Some(size / 2).filter(|size| *size >= LEAST);
            Some(size)
        })
    };
    for size in halves(receive) {
        if socket.set_recv_buffer_size(size).is_ok() {
            break;
        }
    }
    for size in halves(send) {
        if socket.set_send_buffer_size(size).is_ok() {
            break;
        }
    }
}
