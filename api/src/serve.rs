//! What programs around the control plane share: a listener without TLS, the ready file, the
//! address that others reach this machine by.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after the system refused to accept (out of descriptors, mostly): the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After shutdown, connections get this long to end by themselves.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves HTTP without TLS, for a proxy in front of it, until `shutdown`.
pub async fn serve_plain(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    ztna_tls::serve_http(stream, peer, router, &shutdown).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    // Those that have not ended by then are dropped with the process.
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}

/// Writes a JSON file that others wait for: whole or not at all, readable by all.
///
/// # Errors
/// The file system's.
pub fn write_ready_file(path: &Path, content: &impl Serialize) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, content)?;
    file.write_all(b"\n")?;
    let mode = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The address of the interface that the default route uses, else the loopback address.
#[must_use]
pub fn default_host() -> IpAddr {
    // Connecting a UDP socket sends nothing: the system only chooses a route. TEST-NET-1.
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match chosen {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        Ok(_) | Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

/// `https://host:port`, the way clients write it.
#[must_use]
pub fn url(scheme: &str, host: &str, address: SocketAddr) -> String {
    let host = match host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host.to_owned(),
    };
    format!("{scheme}://{host}:{}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_bracket_ipv6() {
        let address = "0.0.0.0:8443".parse().unwrap();
        assert_eq!(url("https", "a.example", address), "https://a.example:8443");
        assert_eq!(
            url("https", "2001:db8::1", address),
            "https://[2001:db8::1]:8443"
        );
    }

    #[test]
    fn a_ready_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        write_ready_file(&path, &serde_json::json!({"pid": 1})).unwrap();
        write_ready_file(&path, &serde_json::json!({"pid": 2})).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"pid\":2}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
