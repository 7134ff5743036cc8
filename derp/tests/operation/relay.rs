//! A relay as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use ztna_derp::client::{ClientConfig, ConnectError, Receiver, Sender, connect};
use ztna_proto::WgPrivateKey;
use ztna_proto::relay::{CertificatePin, RelayNode};
use ztna_tls::{KeyExchange, client_config, parse_pin};

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Relay {
    _dir: TempDir,
    pub child: Child,
    pub ready: Value,
}

/// The program without the settings of whoever runs the tests.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztna-derp"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ZTNA_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

impl Relay {
    pub async fn start(flags: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", flags).await
    }

    pub async fn start_on(listen: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = program()
            .args(["--listen", listen, "--public-host", "127.0.0.1"])
            .arg("--data-dir")
            .arg(dir.path())
            .args(flags)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = dir.path().join("derp.json");
        let ready = until(async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}");
            }
            serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
        })
        .await;
        Self {
            _dir: dir,
            child,
            ready,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.ready["listen"].as_str().unwrap().parse().unwrap()
    }

    pub fn pin(&self) -> CertificatePin {
        parse_pin(self.ready["pin"].as_str().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub async fn join(
        &self,
        key: &WgPrivateKey,
        ticket: &str,
    ) -> Result<(Sender, Receiver), ConnectError> {
        let address = self.address();
        let node = RelayNode {
            name: "relay".into(),
            host: address.ip().to_string(),
            addresses: Vec::new(),
            derp_port: Some(address.port()),
            stun_port: None,
            quic_port: None,
            http_port: None,
            certificate: self.pin(),
        };
        connect(ClientConfig {
            node,
            key: key.clone(),
            ticket: ticket.to_owned(),
        })
        .await
    }

    /// `GET` over TLS.
    pub async fn get(&self, path: &str) -> String {
        self.get_with(path, &self.pin(), "").await.unwrap()
    }

    /// With this pin and more header lines.
    pub async fn get_with(
        &self,
        path: &str,
        pin: &CertificatePin,
        headers: &str,
    ) -> std::io::Result<String> {
        let stream = TcpStream::connect(self.address()).await?;
        let config = client_config(pin, KeyExchange::RequirePostQuantum).unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        get(stream, path, headers).await
    }

    /// `GET` without TLS at another of its ports.
    pub async fn get_plain(&self, address: SocketAddr, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(address).await.unwrap();
        get(stream, path, headers).await.unwrap()
    }
}

async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Waits until there is something.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap()
}

pub fn new_key() -> WgPrivateKey {
    WgPrivateKey::generate(&mut rand::rng())
}

/// A port that nobody has, and that the system gives to nobody who asks for any
/// (`net.ipv4.ip_local_port_range` begins at 32,768): it is still free when a program listens there later.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..32_768);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
