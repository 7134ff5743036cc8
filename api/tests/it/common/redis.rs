//! A Valkey or Redis of our own, on a loopback port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Longer than a start ever takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Redis {
    address: SocketAddr,
    server: Option<Child>,
    /// Where certificate and key are, if it speaks TLS.
    tls: Option<TempDir>,
}

impl Redis {
    pub fn start() -> Self {
        Self::begin(None)
    }

    /// One that speaks TLS alone, with a certificate for 127.0.0.1 of an authority of its own.
    pub fn start_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        write(
            AUTHORITY,
            &authority.self_signed(&authority_key).unwrap().pem(),
        );
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        write(
            CERTIFICATE,
            &certificate.signed_by(&key, &issuer).unwrap().pem(),
        );
        write(KEY, &key.serialize_pem());
        Self::begin(Some(folder))
    }

    /// The authority of its certificate.
    pub fn authority(&self) -> PathBuf {
        self.tls.as_ref().unwrap().path().join(AUTHORITY)
    }

    fn begin(tls: Option<TempDir>) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut redis = Self {
            address,
            server: None,
            tls,
        };
        redis.resume();
        redis
    }

    pub fn url(&self) -> String {
        match self.tls {
            Some(_) => format!("rediss://{}/0", self.address),
            None => format!("redis://{}/0", self.address),
        }
    }

    /// Ends the server, and with it what it held.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Starts it on the same port, empty.
    pub fn resume(&mut self) {
        let port = self.address.port().to_string();
        let arguments = match &self.tls {
            None => vec!["--port".into(), port],
            Some(folder) => {
                let file = |name: &str| folder.path().join(name).display().to_string();
                let option = |name: &str, value: String| [format!("--{name}"), value];
                [
                    option("port", "0".to_owned()),
                    option("tls-port", port),
                    option("tls-cert-file", file(CERTIFICATE)),
                    option("tls-key-file", file(KEY)),
                    option("tls-ca-cert-file", file(AUTHORITY)),
                    option("tls-auth-clients", "no".to_owned()),
                ]
                .concat()
            }
        };
        let server = ["valkey-server", "redis-server"]
            .iter()
            .find_map(|program| {
                Command::new(program)
                    .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                    .args(&arguments)
                    .stdout(Stdio::null())
                    .spawn()
                    .ok()
            })
            .expect("neither valkey-server nor redis-server is here; `./dev test` installs it");
        self.server = Some(server);
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
